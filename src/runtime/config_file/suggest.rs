//! "Did you mean": the known word that a mistyped one most likely is.

/// The known word nearest to `typed`, if one is near enough to be meant.
pub fn nearest<'w>(typed: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let typed = plain(typed);
    // Comparing takes the product of the lengths; nobody mistypes a word into hundreds of letters.
    if typed.len() > 100 {
        return None;
    }
    let far = (typed.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&typed, &plain(word)), word))
        .filter(|(distance, _word)| *distance <= far)
        .min_by_key(|(distance, _word)| *distance)
        .map(|(_distance, word)| word)
}

/// A hint for a word that is not among the known ones.
pub fn hint(typed: &str, known: &[&str]) -> Option<String> {
    if let Some(word) = nearest(typed, known.iter().copied()) {
        return Some(format!("did you mean \"{word}\"?"));
    }
    match known {
        [] => None,
        words => Some(format!("known here: {}", words.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["idle_timeout", "boot_timeout", "labels"];
        assert_eq!(nearest("idel_timeout", known), Some("idle_timeout"));
        assert_eq!(nearest("Idle-Timeout", known), Some("idle_timeout"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
