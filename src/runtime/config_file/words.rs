//! Words that people choose: names, labels, titles, variables. Each says what it may look like.

use serde::Deserialize;

/// Characters of a name or label, at most.
pub const NAME_CHARS_MAX: usize = 64;

/// Characters of a title, at most: what fits a line of a page.
pub const TITLE_CHARS_MAX: usize = 100;

/// A name that stands in URLs and file names: `[a-z0-9_-]{1,64}`.
///
/// # Errors
/// What is wrong with it, as `what\nhint`.
pub fn check_name(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if is_word(text, fits) {
        return Ok(());
    }
    let hint = "use up to 64 lower-case letters, digits, `-` and `_`";
    Err(format!("\"{text}\" is not a name\n{hint}"))
}

/// A name of a project: as [`check_name`], and capitals and dots within it.
///
/// # Errors
/// What is wrong with it, as `what\nhint`.
pub fn check_project_name(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if is_word(text, fits) && !text.starts_with(['.', '-']) && !text.ends_with(".git") {
        return Ok(());
    }
    let hint = "use up to 64 letters, digits, `-`, `_` and `.`, first a letter or digit, \
        not ending in .git";
    Err(format!("\"{text}\" is not a name for a project\n{hint}"))
}

/// The name of a variable: `[A-Za-z_][A-Za-z0-9_]*`.
///
/// # Errors
/// What is wrong with it, as `what\nhint`.
pub fn check_variable(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if is_word(text, fits) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    let hint = "use up to 64 letters, digits and `_`, first a letter or `_`";
    Err(format!("\"{text}\" is not a name for a variable\n{hint}"))
}

fn is_word(text: &str, fits: fn(char) -> bool) -> bool {
    !text.is_empty() && text.len() <= NAME_CHARS_MAX && text.chars().all(fits)
}

/// A label: `[A-Za-z0-9._+-]{1,64}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(pub String);

impl TryFrom<String> for Label {
    type Error = String;

    fn try_from(text: String) -> Result<Label, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        if is_word(&text, fits) {
            return Ok(Label(text));
        }
        let hint = "use up to 64 letters, digits, `.`, `_`, `+` and `-`";
        Err(format!("\"{text}\" is not a label\n{hint}"))
    }
}

/// A line of text for people.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Title(pub String);

impl TryFrom<String> for Title {
    type Error = String;

    fn try_from(text: String) -> Result<Title, String> {
        if text.trim().is_empty() {
            return Err("an empty name\ngive it one, or take the key out".to_owned());
        }
        if text.chars().any(char::is_control) || text.chars().count() > TITLE_CHARS_MAX {
            let hint = format!("use one line of up to {TITLE_CHARS_MAX} characters");
            return Err(format!("this name is too long or has more than one line\n{hint}"));
        }
        Ok(Title(text.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_urls_and_shells_take() {
        for name in ["a", "test-2", "x_y", &"n".repeat(64)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "Test", "a b", "a/b", "ä", &"n".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert_eq!(check_project_name("Hello.World"), Ok(()));
        for name in ["..", ".hidden", "-x", "a/b", "a.git"] {
            assert!(check_project_name(name).is_err(), "{name}");
        }
        assert_eq!(check_variable("_A1"), Ok(()));
        assert!(check_variable("1A").is_err() && check_variable("A-B").is_err());
    }
}
