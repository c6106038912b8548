//! What it costs to hide secrets: `cargo bench --bench masking`. Prints MB/s for one core, of build
//! output in the pieces that a pipe gives.

use std::fmt::Write;

use busybee::agent::domain::redactor::Redactor;
use busybee::runtime::clock;

const TEXT_BYTES: usize = 64 * 1024 * 1024;
const PIECE_BYTES: usize = 64 * 1024;
/// Of several rounds the fastest counts: what slows one down is not ours.
const ROUNDS: usize = 5;

fn main() {
    let mut text = String::with_capacity(TEXT_BYTES + 200);
    let mut number = 0_u32;
    while text.len() < TEXT_BYTES {
        number += 1;
        writeln!(
            text,
            "   Compiling some-crate-{number} v1.{}.0 (/home/builder/work/crates/some-crate)\n\
             warning: unused variable: `token` --> src/lib.rs:{number}:9 = note: `#[warn]` on by default",
            number % 40,
        )
        .expect("a string takes it");
    }
    let token =
        |number: u32| format!("ghp_{:036x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15_f39c);
    let key = (0..38).fold("-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned(), |mut key, line| {
        writeln!(key, "{:0>70}", token(line)).expect("a string takes it");
        key
    });
    let tokens = |count| (1..=count).map(token).collect::<Vec<String>>();
    let sets = [
        ("no secret", Vec::new()),
        ("1 token of 40 bytes", tokens(1)),
        ("8 tokens", tokens(8)),
        ("32 tokens", tokens(32)),
        ("1 key of 39 lines", vec![key]),
        ("1 that is in every line", vec!["some-crate".to_owned()]),
    ];
    for (name, secrets) in sets {
        let began = clock::monotonic();
        let fresh = Redactor::new(secrets.iter().map(String::as_str));
        let made = clock::monotonic() - began;
        let best = (0..ROUNDS).map(|_| speed(&fresh, text.as_bytes())).fold(0.0, f64::max);
        println!("{name:28} {best:6.0} MB/s   made in {:.1} ms", made.as_secs_f64() * 1000.0);
    }
}

/// Megabytes in a second.
fn speed(fresh: &Redactor, text: &[u8]) -> f64 {
    let (mut redactor, mut shown) = (fresh.clone(), Vec::with_capacity(2 * PIECE_BYTES));
    let began = clock::monotonic();
    let mut total = 0;
    for piece in text.chunks(PIECE_BYTES) {
        shown.clear();
        redactor.pass(piece, &mut shown);
        total += shown.len();
    }
    let took = clock::monotonic() - began;
    assert!(total > 0, "something is shown");
    text.len() as f64 / 1e6 / took.as_secs_f64()
}
