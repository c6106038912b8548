//! Secrets in what a step prints → `***`, as a stream.
//!
//! Whatever is found is hidden wherever the borders of reads lie: what could be the beginning of a
//! secret is held back until more has come. Hidden are the values themselves, the longer lines of
//! those that have several, and what base64 and URLs make of them. Nobody can hide what a step turns
//! about or takes apart on purpose.

use std::sync::Arc;

use aho_corasick::AhoCorasick;
use aho_corasick::MatchKind;

use crate::agent::domain::secret_forms;

/// What stands for a secret.
const MASK: &[u8] = b"***";

/// Hides secrets in a stream of bytes. Made once for all streams of an attempt: a copy of a fresh one
/// is as good as another.
#[derive(Clone)]
pub struct Redactor {
    /// Nothing: there is nothing to hide.
    search: Option<Arc<Search>>,
    /// The end of what came, as it may be the beginning of a secret.
    held: Vec<u8>,
    /// How much of `held`, from its start, belongs to a secret whose mask is out already.
    hidden: usize,
}

struct Search {
    automaton: AhoCorasick,
    patterns: Vec<Vec<u8>>,
    /// The bytes that some pattern begins with.
    first: [bool; 256],
    longest: usize,
}

impl Redactor {
    /// Hides these values. Too short ones are not looked for (`secret::MASKED_BYTES_MIN`).
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Redactor {
        let mut patterns: Vec<Vec<u8>> =
            secrets.into_iter().flat_map(secret_forms::of).map(String::into_bytes).collect();
        patterns.sort();
        patterns.dedup();
        Redactor { search: Search::new(patterns).map(Arc::new), held: Vec::new(), hidden: 0 }
    }

    /// Takes what was printed, and adds to `shown` what can be shown of it by now.
    pub fn pass(&mut self, printed: &[u8], shown: &mut Vec<u8>) {
        let Some(search) = &self.search else { return shown.extend_from_slice(printed) };
        if self.held.is_empty() {
            // The usual case: no byte is copied but to where it belongs.
            let keep_from = search.open_from(printed);
            self.hidden = search.hide(printed, 0, keep_from, shown);
            self.held.extend_from_slice(&printed[keep_from..]);
            return;
        }
        self.held.extend_from_slice(printed);
        let keep_from = search.open_from(&self.held);
        self.hidden = search.hide(&self.held, self.hidden, keep_from, shown);
        self.held.drain(..keep_from);
    }

    /// Nothing more will be printed: adds what is held back.
    pub fn finish(&mut self, shown: &mut Vec<u8>) {
        if let Some(search) = &self.search {
            search.hide(&self.held, self.hidden, self.held.len(), shown);
        }
        self.held.clear();
        self.hidden = 0;
    }
}

impl Search {
    fn new(patterns: Vec<Vec<u8>>) -> Option<Search> {
        let longest = patterns.iter().map(Vec::len).max()?;
        let mut first = [false; 256];
        for pattern in &patterns {
            first[usize::from(*pattern.first()?)] = true;
        }
        // Overlapping matches are wanted as well: of two secrets that share a part, neither may show.
        // It fails for more patterns than fit into 32 bits, which no message can bring.
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns).ok()?;
        Some(Search { automaton, patterns, first, longest })
    }

    /// Where in `text` that begins which more bytes could make a pattern; its end, if nothing does.
    fn open_from(&self, text: &[u8]) -> usize {
        let earliest = text.len() - text.len().min(self.longest - 1);
        let is_open = |at: &usize| {
            let rest = &text[*at..];
            self.first[usize::from(text[*at])]
                && self.patterns.iter().any(|one| one.len() > rest.len() && one.starts_with(rest))
        };
        (earliest..text.len()).find(is_open).unwrap_or(text.len())
    }

    /// Shows `text` up to `keep_from`, with a mask for each secret that begins there. The first
    /// `hidden` bytes belong to one that has its mask. Returns how much of what is kept does.
    fn hide(&self, text: &[u8], hidden: usize, keep_from: usize, shown: &mut Vec<u8>) -> usize {
        let mut at = hidden;
        for (start, end) in self.secret_parts(text, hidden) {
            if start >= keep_from {
                // It may be longer than it looks by now.
                break;
            }
            if start >= hidden {
                shown.extend_from_slice(&text[at..start]);
                shown.extend_from_slice(MASK);
            }
            at = end;
        }
        if at < keep_from {
            shown.extend_from_slice(&text[at..keep_from]);
        }
        at.saturating_sub(keep_from)
    }

    /// Where secrets stand, in order; those that overlap as one.
    fn secret_parts(&self, text: &[u8], hidden: usize) -> Vec<(usize, usize)> {
        // With few patterns this is much the faster way to see that there is none.
        if !self.automaton.is_match(text) {
            return Vec::new();
        }
        let found = self.automaton.find_overlapping_iter(text);
        let mut all: Vec<(usize, usize)> = found.map(|one| (one.start(), one.end())).collect();
        if hidden > 0 {
            all.push((0, hidden));
        }
        all.sort_unstable();
        let mut parts: Vec<(usize, usize)> = Vec::new();
        for (start, end) in all {
            match parts.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => parts.push((start, end)),
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(secrets: &[&str], pieces: &[&[u8]]) -> String {
        shown_by(&Redactor::new(secrets.iter().copied()), pieces)
    }

    fn shown_by(fresh: &Redactor, pieces: &[&[u8]]) -> String {
        let (mut redactor, mut shown) = (fresh.clone(), Vec::new());
        for piece in pieces {
            redactor.pass(piece, &mut shown);
        }
        redactor.finish(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// The same, however the text is cut into two or three, or into bytes.
    fn shown_however_cut(secrets: &[&str], text: &str) -> String {
        let text = text.as_bytes();
        let fresh = Redactor::new(secrets.iter().copied());
        let whole = shown_by(&fresh, &[text]);
        for first in 0..=text.len() {
            let (head, rest) = text.split_at(first);
            assert_eq!(shown_by(&fresh, &[head, rest]), whole, "cut at {first}");
            for second in 0..=rest.len() {
                let (middle, tail) = rest.split_at(second);
                let found = shown_by(&fresh, &[head, middle, tail]);
                assert_eq!(found, whole, "cut at {first} and {second} behind it");
            }
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(shown_by(&fresh, &bytes), whole, "byte by byte");
        whole
    }

    #[test]
    fn redacts_a_secret_split_across_two_chunks() {
        let check = |secrets: &[&str], text: &str, expected: &str| {
            assert_eq!(shown_however_cut(secrets, text), expected);
        };
        check(&["hunter2"], "a hunter2, hunterhunter2 and hunter", "a ***, hunter*** and hunter");
        check(&["aaaa"], "aaa aaaa aaaaa", "aaa *** ***");
        // One begins within the other, and one is a part of the other.
        check(&["abcdef", "defghi"], "-abcdefghi-abcdef-defghi-", "-***-***-***-");
        check(&["hunter", "hunter2hunter2"], "hunter2hunter2 hunter2", "*** ***2");
        check(&[], "nothing to hide", "nothing to hide");
        check(&["abc"], "abc is too short", "abc is too short");
    }

    #[test]
    fn redacts_a_key_of_several_lines_as_a_whole_and_line_by_line() {
        let key = "-----BEGIN KEY-----\nc2VjcmV0LWxpbmUtMQ\n}\n-----END KEY-----\n";
        let text = format!("cat:\n{key}sed: c2VjcmV0LWxpbmUtMQ }}\n");
        assert_eq!(shown_however_cut(&[key], &text), "cat:\n***\nsed: *** }\n");
    }

    #[test]
    fn redacts_what_base64_and_urls_make_of_a_secret() {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let secret = "p?ss w>rd/7~ü";
        for around in ["", "u", "me:", "user"] {
            let pair = format!("{around}{secret}{around}");
            for encoded in [STANDARD.encode(&pair), URL_SAFE_NO_PAD.encode(&pair)] {
                let found = shown_however_cut(&[secret], &format!("<{encoded}>"));
                // At most what one byte before and behind has a share in.
                assert!(found.contains("***") && found.len() < 22, "{around}: {found}");
            }
        }
        let url = "https://x/?t=p%3Fss%20w%3Erd%2F7~%C3%BC&u=p%3fss+w%3erd%2f7%7e%c3%bc";
        assert_eq!(shown_however_cut(&[secret], url), "https://x/?t=***&u=***");
        let long = "x1".repeat(100);
        let wrapped = STANDARD.encode(&long).into_bytes();
        let wrapped: Vec<_> =
            wrapped.chunks(76).map(|line| String::from_utf8_lossy(line)).collect();
        let lines = wrapped.join("\n");
        assert_eq!(shown(&[&long], &[lines.as_bytes()]), "***\n***\n***\n***=");
    }

    #[test]
    fn what_cannot_be_a_secret_is_shown_at_once() {
        let mut redactor = Redactor::new(["hunter2"]);
        let mut shown = Vec::new();
        redactor.pass(b"Password: ", &mut shown);
        assert_eq!(shown, b"Password: ");
        redactor.pass(b"hunt", &mut shown);
        assert_eq!(shown, b"Password: ");
        redactor.pass(b"ing\n", &mut shown);
        assert_eq!(shown, b"Password: hunting\n");
    }
}
