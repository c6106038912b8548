//! What git prints when it fails → a sentence for people.

/// Characters of git's own words that are passed on.
const MESSAGE_CHARS_MAX: usize = 300;

/// What git says, and what is to be done about it.
const KNOWN: &[(&[&str], &str)] = &[
    (
        &["terminal prompts disabled", "could not read Username", "could not read Password"],
        "the repository wants a password; name a token_file for this project",
    ),
    (
        &["Authentication failed", "error: 401", "error: 403", "HTTP 401", "HTTP 403"],
        "the repository refuses the token; check what token_file holds, and what it may read",
    ),
    (
        &["Permission denied (publickey"],
        "the repository refuses the key; check ssh_key_file, and that its public half is \
            allowed there",
    ),
    (
        &["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"],
        "the host is not the one that known_hosts names; check it, then mend known_hosts_file",
    ),
    (
        &["dubious ownership"],
        "the repository belongs to another user; let the master's user own it, or reach it by ssh",
    ),
    (
        &["does not appear to be a git repository", "not found", "does not exist"],
        "there is no such repository, or it may not be seen; check repo",
    ),
];

/// Git's words in one line, and what to do where that is known.
pub(super) fn for_people(message: &str) -> String {
    let known = KNOWN.iter().find(|(words, _)| words.iter().any(|word| message.contains(word)));
    let own_words = own_words(message);
    match known {
        Some((_, advice)) => format!("{advice} (git says: {own_words})"),
        None => format!("git says: {own_words}"),
    }
}

/// The lines that say why, without tricks for a terminal.
fn own_words(message: &str) -> String {
    let lines = || message.lines().map(str::trim).filter(|line| !line.is_empty());
    let says_why = |line: &&str| {
        !line.starts_with("hint:")
            && !line.starts_with("Warning: Permanently added")
            && !line.starts_with('@')
    };
    let fatal = |line: &&str| {
        let words = ["fatal:", "error:", "remote:", "ssh:", "ERROR:"];
        words.iter().any(|word| line.starts_with(word))
    };
    let mut chosen: Vec<&str> = lines().filter(says_why).filter(fatal).collect();
    if chosen.is_empty() {
        chosen = lines().filter(says_why).collect();
    }
    let line: String = chosen.join("; ").chars().filter(|c| !c.is_control()).collect();
    if line.chars().count() <= MESSAGE_CHARS_MAX {
        return line;
    }
    let cut: String = line.chars().take(MESSAGE_CHARS_MAX).collect();
    format!("{cut}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_a_sentence_with_what_to_do() {
        let prompt = "fatal: could not read Username for 'http://h': terminal prompts disabled\n";
        let sentence = for_people(prompt);
        assert!(sentence.starts_with("the repository wants a password; name a token_file"));
        assert!(sentence.contains("git says: fatal: could not read"));
        assert_eq!(for_people("hint: x\nfatal: \u{1b}[31mbad\n"), "git says: fatal: [31mbad");
        assert!(for_people(&"x".repeat(5000)).chars().count() < 400);
    }
}
