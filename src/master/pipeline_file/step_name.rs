//! What a step is called: by its author, or after the first line of its script; once per job.

use std::collections::HashMap;
use std::collections::HashSet;

/// Characters of a name that is made from a script: what fits a row of a page.
const NAME_CHARS_MAX: usize = 60;

/// The name under which the results and the log of the checkout stand.
const CHECKOUT: &str = "checkout";

/// Names for the steps of a job, all different: the second `test` is `test (2)`.
pub(super) fn unique(wanted: impl Iterator<Item = String>, has_checkout: bool) -> Vec<String> {
    let mut taken = HashSet::new();
    if has_checkout {
        taken.insert(CHECKOUT.to_owned());
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    let name_one = |name: String| {
        let count = counts.entry(name.clone()).or_insert(0);
        loop {
            *count += 1;
            let candidate = if *count == 1 { name.clone() } else { format!("{name} ({count})") };
            if taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    };
    wanted.map(name_one).collect()
}

/// The first line of a script that says something, shortened.
pub(super) fn from_script(script: &str) -> String {
    let lines = || script.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| !line.starts_with('#')).or_else(|| lines().next());
    let clean: String =
        line.unwrap_or("step").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= NAME_CHARS_MAX {
        return clean;
    }
    let cut: String = clean.chars().take(NAME_CHARS_MAX - 1).collect();
    format!("{}…", cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_a_name_is_called_after_its_script() {
        assert_eq!(from_script("make test"), "make test");
        assert_eq!(from_script("\n# build it\n  make all \nmake test\n"), "make all");
        assert_eq!(from_script("# nothing"), "# nothing");
        let long = from_script(&"ä".repeat(200));
        assert_eq!(long.chars().count(), NAME_CHARS_MAX);
    }

    #[test]
    fn no_two_steps_of_a_job_have_one_name() {
        let names = ["a", "a", "a (2)", "checkout"].map(str::to_owned);
        assert_eq!(unique(names.into_iter(), true), ["a", "a (2)", "a (2) (2)", "checkout (2)"]);
    }
}
