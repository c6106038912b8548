//! Secrets in what a step prints, whatever the secrets and the output are.
//!
//! What is shown does not depend on where the reads were cut; no secret, base64 or URL form that is
//! hidden in one piece is shown in many; and where no secret is, every byte is shown as it was.

#![no_main]

use busybee::agent::domain::redactor::Redactor;
use busybee::model::secret::MASKED_BYTES_MIN;
use libfuzzer_sys::arbitrary;
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Step {
    secrets: Vec<String>,
    prints: Vec<Print>,
    /// How long the reads are, in turn.
    reads: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Print {
    Bytes(Vec<u8>),
    Secret(u8),
    /// Its beginning, up to here.
    Part(u8, u8),
}

fuzz_target!(|step: Step| {
    let printed = printed(&step);
    let redactor = Redactor::new(step.secrets.iter().map(String::as_str));
    let whole = shown(&redactor, &printed, &[]);
    assert_eq!(whole, shown(&redactor, &printed, &step.reads));
    let mut hidden = step.secrets.iter().map(|secret| secret.trim_end_matches(['\r', '\n']));
    // A mask can itself complete a secret that has stars in it.
    let told = hidden.clone().find(|secret| {
        secret.len() >= MASKED_BYTES_MIN && !secret.contains('*') && has(&whole, secret.as_bytes())
    });
    assert_eq!(told, None);
    if hidden.all(|secret| secret.len() < MASKED_BYTES_MIN) {
        assert_eq!(whole, printed);
    }
});

fn printed(step: &Step) -> Vec<u8> {
    let secret = |number: u8| {
        let count = step.secrets.len().max(1);
        step.secrets.get(usize::from(number) % count).map_or(&b""[..], |secret| secret.as_bytes())
    };
    let mut printed = Vec::new();
    for print in &step.prints {
        match print {
            Print::Bytes(bytes) => printed.extend(bytes),
            Print::Secret(number) => printed.extend(secret(*number)),
            Print::Part(number, len) => {
                let whole = secret(*number);
                printed.extend(&whole[..whole.len().min(usize::from(*len))]);
            }
        }
    }
    printed
}

fn shown(fresh: &Redactor, printed: &[u8], reads: &[u8]) -> Vec<u8> {
    let (mut redactor, mut shown) = (fresh.clone(), Vec::new());
    let (mut rest, mut reads) = (printed, reads.iter().cycle());
    while !rest.is_empty() {
        let len = reads.next().map_or(rest.len(), |len| usize::from(*len).max(1));
        let (read, after) = rest.split_at(len.min(rest.len()));
        redactor.pass(read, &mut shown);
        rest = after;
    }
    redactor.finish(&mut shown);
    shown
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
