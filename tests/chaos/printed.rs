//! What a step prints: numbered lines with a checksum, in bursts, halves and pauses, some of it
//! bytes that compress badly. Made from dice, so that it can be made again and compared; and what
//! a log that differs has lost, doubled or reordered, in words.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use crate::dice::Dice;

/// Longest line of random bytes.
const NOISE_BYTES_MAX: u64 = 6000;

/// What one step prints, piece by piece, and how long it pauses after each.
#[derive(Clone, Debug)]
pub(crate) struct Printed {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// To stderr, which is the same pipe.
    is_error: bool,
    pause_ms: u64,
}

impl Printed {
    /// What the dice say. `name` stands in each line, so that a log of another step is told apart.
    pub(crate) fn new(name: &str, dice: &mut Dice) -> Printed {
        let mut text = Vec::new();
        let mut number = 0;
        for _ in 0..dice.between(2, 6) {
            match dice.below(4) {
                // A burst of short lines.
                0 => {
                    for _ in 0..dice.between(200, 4000) {
                        line(&mut text, name, &mut number, b"built");
                    }
                }
                // Bytes that compress badly, of all values but the line's end.
                1 => {
                    for _ in 0..dice.between(5, 60) {
                        let length = dice.below(NOISE_BYTES_MAX);
                        line(&mut text, name, &mut number, &noise(length, dice));
                    }
                }
                // What a build prints.
                2 => {
                    for _ in 0..dice.between(20, 300) {
                        let said = format!("   Compiling crate-{} v0.{}", dice.below(500), number);
                        line(&mut text, name, &mut number, said.as_bytes());
                    }
                }
                // Little, slowly.
                _ => {
                    for _ in 0..dice.between(1, 12) {
                        line(&mut text, name, &mut number, b"progress");
                    }
                }
            }
        }
        // The last line has no end, now and then.
        if dice.percent(30) {
            text.pop();
        }
        Printed { pieces: cut(&text, dice) }
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect()
    }

    /// Writes the script that prints it, and what it prints, into a folder. Returns the script.
    pub(crate) fn write_script(&self, folder: &Path) -> PathBuf {
        std::fs::create_dir_all(folder).expect("make a folder for a step");
        // Where one command is killed, the step must not pass without what that would have printed.
        let mut script = "set -e\n".to_owned();
        for (number, piece) in self.pieces.iter().enumerate() {
            std::fs::write(folder.join(number.to_string()), &piece.bytes).expect("write a piece");
            let whereto = if piece.is_error { " >&2" } else { "" };
            script.push_str(&format!("cat '{}/{number}'{whereto}\n", folder.display()));
            if piece.pause_ms > 0 {
                script.push_str(&format!("sleep 0.{:03}\n", piece.pause_ms));
            }
        }
        let path = folder.join("step.sh");
        std::fs::write(&path, script).expect("write a step's script");
        path
    }
}

/// Appends one line: whose, its number, the checksum of what follows, and that.
fn line(text: &mut Vec<u8>, name: &str, number: &mut u64, said: &[u8]) {
    *number += 1;
    let head = format!("{name} {number:06} {:08x} ", checksum(said));
    text.extend_from_slice(head.as_bytes());
    text.extend_from_slice(said);
    text.push(b'\n');
}

/// So many bytes of all values but the line's end.
pub(crate) fn noise(length: u64, dice: &mut Dice) -> Vec<u8> {
    let bytes = (0..length).map(|_| dice.number().to_le_bytes()[0]);
    bytes.map(|byte| if byte == b'\n' { b' ' } else { byte }).collect()
}

/// FNV-1a, enough to tell a line that was mended by chance.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Cuts a text into what is printed at once: anywhere, also within a line.
fn cut(text: &[u8], dice: &mut Dice) -> Vec<Piece> {
    let count = dice.between(6, 24);
    let mut ends: Vec<usize> =
        (1..count).map(|_| dice.below(text.len() as u64 + 1) as usize).collect();
    ends.push(text.len());
    ends.sort_unstable();
    let mut from = 0;
    let mut pieces = Vec::new();
    for end in ends {
        let pause_ms = if dice.percent(60) { dice.between(1, 180) } else { 0 };
        let bytes = text[from..end].to_vec();
        pieces.push(Piece { bytes, is_error: dice.percent(25), pause_ms });
        from = end;
    }
    pieces
}

/// How a log differs from what was printed; nothing: not at all.
pub(crate) fn difference(expected: &[u8], found: &[u8]) -> Option<String> {
    if expected == found {
        return None;
    }
    let same = expected.iter().zip(found).take_while(|(left, right)| left == right).count();
    let mut said = vec![format!(
        "{} bytes instead of {}; the same up to byte {same}",
        found.len(),
        expected.len()
    )];
    let (was, is) = (count_lines(expected), count_lines(found));
    let lost = was.iter().filter(|(line, _)| !is.contains_key(*line)).count();
    let doubled = is.iter().filter(|(line, times)| was.get(*line) < Some(*times)).count();
    said.push(format!("{lost} of {} lines lost, {doubled} doubled or strange", was.len()));
    if lost == 0 && doubled == 0 {
        said.push("all lines are there, in another order".to_owned());
    }
    if expected.starts_with(found) {
        said.push("what is there is the beginning".to_owned());
    }
    let around = |bytes: &[u8]| {
        let (from, to) = (same.saturating_sub(60), (same + 60).min(bytes.len()));
        String::from_utf8_lossy(&bytes[from.min(to)..to]).into_owned()
    };
    said.push(format!("there it was {:?}", around(expected)));
    said.push(format!("and is {:?}", around(found)));
    Some(said.join("\n  "))
}

fn count_lines(text: &[u8]) -> BTreeMap<&[u8], u32> {
    let mut lines = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        *lines.entry(line).or_default() += 1;
    }
    lines
}

#[test]
fn a_log_that_differs_says_what_it_has_lost_doubled_or_reordered() {
    let printed = Printed::new("a", &mut Dice::new(7)).bytes();
    assert_eq!(difference(&printed, &printed), None);
    let lines: Vec<&[u8]> = printed.split_inclusive(|byte| *byte == b'\n').collect();
    let check = |found: Vec<&[u8]>, said: &str| {
        let told = difference(&printed, &found.concat()).expect("it differs");
        assert!(told.contains(said), "{said}: {told}");
    };
    let mut without = lines.clone();
    without.remove(3);
    check(without, "1 of ");
    let mut twice = lines.clone();
    twice.insert(3, lines[3]);
    check(twice, "0 of ");
    check(vec![lines[0]], "what is there is the beginning");
    let mut turned = lines.clone();
    turned.swap(1, 2);
    check(turned, "in another order");
}
