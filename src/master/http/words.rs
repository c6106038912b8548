//! Times and outcomes as people read them.

use std::time::Duration;

use crate::master::domain::entities::AttemptState;
use crate::model::step::StepOutcome;
use crate::model::time::Timestamp;

/// How long something took: `75 ms`, `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`.
pub fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 if ms < 100 => format!("{ms} ms"),
        0..10 => format!("{}.{} s", seconds, ms / 100 % 10),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How long ago something was: one unit is enough.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..5 => "just now".into(),
        5..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// A moment for a tooltip: `2026-01-31 09:15:02 UTC`.
pub fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    let date = text.get(..10).unwrap_or_default();
    let time = text.get(11..19).unwrap_or_default();
    format!("{date} {time} UTC")
}

/// A size in bytes: `312 B`, `4.2 KiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The status word of a step.
pub fn step_status(outcome: Option<&StepOutcome>) -> &'static str {
    match outcome {
        None => "running",
        Some(StepOutcome::Exited(0)) => "passed",
        Some(
            StepOutcome::Exited(_)
            | StepOutcome::Signalled(_)
            | StepOutcome::TimedOut
            | StepOutcome::OutOfMemory,
        ) => "failed",
        Some(StepOutcome::Cancelled) => "cancelled",
        Some(StepOutcome::Skipped) => "skipped",
        Some(StepOutcome::Infra(_)) => "infra",
    }
}

/// The word for where an attempt stands.
pub fn attempt_state(state: &AttemptState) -> &'static str {
    match state {
        AttemptState::Assigned => "assigned",
        AttemptState::Started => "started",
        AttemptState::Passed => "passed",
        AttemptState::Failed => "failed",
        AttemptState::Cancelled => "cancelled",
        AttemptState::Infra(_) => "infra",
    }
}

/// Why a step did not pass.
pub fn step_reason(outcome: Option<&StepOutcome>) -> Option<String> {
    match outcome? {
        StepOutcome::Exited(0) | StepOutcome::Skipped | StepOutcome::Cancelled => None,
        StepOutcome::Exited(code) => Some(format!("exit code {code}")),
        // Without cgroups nobody can tell the kernel's kill for memory from any other.
        StepOutcome::Signalled(9) => Some("killed by signal 9, perhaps for memory".into()),
        StepOutcome::Signalled(signal) => Some(format!("killed by signal {signal}")),
        StepOutcome::TimedOut => Some("ran out of time".into()),
        StepOutcome::OutOfMemory => Some("ran out of memory".into()),
        StepOutcome::Infra(sentence) => Some(sentence.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_the_precision_that_people_want_at_its_size() {
        let check = |ms: u64, text: &str| assert_eq!(duration(Duration::from_millis(ms)), text);
        check(0, "0 ms");
        check(75, "75 ms");
        check(420, "0.4 s");
        check(9_990, "9.9 s");
        check(12_999, "12 s");
        check(200_000, "3 min 20 s");
        check(7_500_000, "2 h 05 min");
        check(273_600_000, "3 d 4 h");
    }

    #[test]
    fn an_age_of_the_future_is_just_now() {
        assert_eq!(age(Timestamp(1_000), Timestamp(9_000)), "just now");
        assert_eq!(age(Timestamp(3_600_000 * 50), Timestamp(0)), "2 d ago");
    }

    #[test]
    fn a_size_is_cut_to_one_decimal_and_never_overflows() {
        let check = |bytes: u64, text: &str| assert_eq!(size(bytes), text);
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1_610_612_736, "1.5 GiB");
        assert!(size(u64::MAX).ends_with("TiB"));
    }

    #[test]
    fn a_moment_is_written_without_the_milliseconds() {
        assert_eq!(moment(Timestamp(1_767_225_600_001)), "2026-01-01 00:00:00 UTC");
    }
}
