//! Patterns for branch and tag names: `main`, `release/*`, `v*`.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;
use serde::de::Visitor;

/// One pattern. `*` stands for anything within a part of the name, `**` also for `/`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    matcher: globset::GlobMatcher,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Why it is not one, as `what\nhint`.
    pub fn new(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err("an empty pattern matches nothing\nto match everything write \"**\"".into());
        }
        if let Some(short) = text.strip_prefix("refs/heads/").or(text.strip_prefix("refs/tags/")) {
            return Err(format!("patterns match short names\nwrite \"{short}\""));
        }
        if text.starts_with('!') {
            return Err("a pattern cannot exclude\nlist the names that are meant".into());
        }
        globset::GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map(|glob| Pattern { text: text.to_owned(), matcher: glob.compile_matcher() })
            .map_err(|error| {
                format!(
                    "\"{text}\" is not a pattern: {}\n`*` stands for anything but `/`, `**` \
                        for anything",
                    error.kind()
                )
            })
    }

    /// Whether a short name (`main`, `v1.0`) fits.
    pub fn matches(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether a short name fits one of the patterns.
pub fn any_matches(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        struct PatternVisitor;

        impl Visitor<'_> for PatternVisitor {
            type Value = Pattern;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pattern such as \"release/*\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Pattern, E> {
                Pattern::new(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(PatternVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_part_of_the_name() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        };
        check("main", "main", true);
        check("main", "mainly", false);
        check("release/*", "release/1.0", true);
        check("release/*", "release/1/0", false);
        check("release/**", "release/1/0", true);
        check("*", "feature/x", false);
        check("**", "feature/x", true);
        check("v*", "v1.2.3", true);
    }

    #[test]
    fn slips_in_patterns_are_refused_with_a_hint() {
        for pattern in ["", "refs/heads/main", "!main", "a[", "{a"] {
            assert!(Pattern::new(pattern).unwrap_err().contains('\n'), "{pattern}");
        }
    }
}
