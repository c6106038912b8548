//! Which versions of the protocol we speak, and the sentences for too old and too new.

/// The oldest version this program speaks.
pub const PROTO_MIN: u32 = 1;
/// The newest version this program speaks.
pub const PROTO_MAX: u32 = 1;

/// The version to speak with an agent that speaks `theirs_min` to `theirs_max`: the newest both know.
///
/// # Errors
/// A sentence for people when there is none. It is said before any work is assigned.
pub fn agree(worker: &str, theirs_min: u32, theirs_max: u32) -> Result<u32, String> {
    if theirs_min > theirs_max || theirs_max == 0 {
        return Err(format!(
            "agent {worker} names no protocol version that could be ({theirs_min} to {theirs_max})"
        ));
    }
    let newest = theirs_max.min(PROTO_MAX);
    if newest >= theirs_min.max(PROTO_MIN) {
        return Ok(newest);
    }
    let theirs = range(theirs_min, theirs_max);
    let ours = range(PROTO_MIN, PROTO_MAX);
    let remedy = if theirs_max < PROTO_MIN {
        "start it anew with the agent that this master serves"
    } else {
        "upgrade the master, or use the agent that it serves"
    };
    Err(format!("agent {worker} speaks protocol {theirs}, this master speaks {ours}: {remedy}"))
}

fn range(min: u32, max: u32) -> String {
    if min == max { min.to_string() } else { format!("{min} to {max}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_both_know_is_spoken() {
        assert_eq!(agree("w", PROTO_MIN, PROTO_MAX), Ok(PROTO_MAX));
        assert_eq!(agree("w", 1, u32::MAX), Ok(PROTO_MAX));
    }

    #[test]
    fn without_a_common_version_the_sentence_says_what_to_do() {
        assert_eq!(
            agree("w-17", PROTO_MAX + 1, PROTO_MAX + 2).unwrap_err(),
            "agent w-17 speaks protocol 2 to 3, this master speaks 1: upgrade the master, or use \
             the agent that it serves"
        );
        for (min, max) in [(0, 0), (2, 1)] {
            assert!(agree("w", min, max).unwrap_err().contains("no protocol version"));
        }
    }
}
