//! How long this machine may still run. Its life is the time that it runs, over all its boots; the machine's
//! own timer counts it in a file (bootstrap/agent.sh), and this reads that, to end before the timer does.

use std::path::Path;
use std::time::Duration;

use crate::agent::config::Config;
use crate::agent::dead_man;
use crate::agent::machine;

/// What is left of this machine's life now; nothing: nobody has limited it.
pub(crate) fn left(config: &Config) -> Option<Duration> {
    let limit = config.life_limit?;
    let counted = config.lived.as_deref().map(read).unwrap_or_default();
    let up = Duration::from_secs(dead_man::uptime_secs());
    Some(limit.saturating_sub(ran_before(&counted, &machine::boot_id())).saturating_sub(up))
}

/// Before its timer's first look there is nothing to read.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What earlier boots ran, by the timer's file: that sum, the boot it was written in, and what that one had
/// run by then.
fn ran_before(counted: &str, boot: &str) -> Duration {
    let mut words = counted.split_whitespace();
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let (before, written_in) = (number(words.next()), words.next());
    let ran = if written_in == Some(boot) { 0 } else { number(words.next()) };
    Duration::from_secs(before.saturating_add(ran))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_boots_ran_is_counted_once() {
        let check = |counted: &str, expected: u64| {
            assert_eq!(ran_before(counted, "b2"), Duration::from_secs(expected), "{counted:?}");
        };
        check("", 0);
        check("100 b2 30\n", 100);
        check("100 b1 30\n", 130);
        check("0 b1 30\n", 30);
        check("spoiled", 0);
    }
}
