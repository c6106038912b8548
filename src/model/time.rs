//! The only time the domain knows, and how it is written.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

/// Milliseconds since 1970-01-01 UTC. Written as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How long ago `earlier` was; zero if it is not in the past (clocks step).
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, delay: Duration) -> Timestamp {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(delay_ms))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, delay: Duration) -> Timestamp {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(delay_ms))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0 / 1000, self.0 % 1000);
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// Reads what [`Timestamp`]'s `Display` writes, with or without milliseconds.
impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Timestamp, String> {
        let wrong = || format!("\"{text}\" is no moment, as in 2026-01-31T23:59:59.000Z");
        let (seconds, ms) = match text.strip_suffix('Z').ok_or_else(wrong)?.split_once('.') {
            Some((seconds, ms)) if ms.len() == 3 => (seconds, ms),
            Some(_) => return Err(wrong()),
            None => (text.trim_end_matches('Z'), "000"),
        };
        let is_shaped = seconds.len() == "2026-01-31T23:59:59".len()
            && seconds.bytes().zip("0000-00-00T00:00:00".bytes()).all(|(byte, wanted)| {
                if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted }
            });
        if !is_shaped {
            return Err(wrong());
        }
        let number = |from: usize, until: usize| seconds.get(from..until)?.parse::<u64>().ok();
        let parts = (|| Some((number(0, 4)?, number(5, 7)?, number(8, 10)?)))();
        let time = (|| Some(number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?))();
        let days = parts.and_then(|(year, month, day)| days_until(year, month, day));
        let (days, time) = days.zip(time).ok_or_else(wrong)?;
        let ms: u64 = ms.parse().map_err(|_| wrong())?;
        Ok(Timestamp((days * 86_400 + time) * 1000 + ms))
    }
}

/// The days from 1970-01-01 until a Gregorian date; nothing: there is no such date.
fn days_until(year: u64, month: u64, day: u64) -> Option<u64> {
    // Days before a March that begins the year, so that the leap day is its last.
    let (march_year, since_march) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let leap_days = march_year / 4 - march_year / 100 + march_year / 400;
    let days = 365 * march_year + leap_days + (153 * since_march + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    (civil_date(days) == (year, month, day)).then_some(days)
}

/// The Gregorian date `days` after 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Whole cycles of 400 years first, so that the loop below is short whatever the clock says.
    let mut year = 1970 + days / 146_097 * 400;
    let mut rest = days % 146_097;
    loop {
        let year_days = if is_leap(year) { 366 } else { 365 };
        if rest < year_days {
            break;
        }
        rest -= year_days;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for month_days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < month_days {
            break;
        }
        rest -= month_days;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_rfc_3339_in_utc_with_milliseconds() {
        let check = |ms: u64, text: &str| assert_eq!(Timestamp(ms).to_string(), text);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z");
        check(1_767_225_600_001, "2026-01-01T00:00:00.001Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn reads_what_it_writes_and_no_date_that_does_not_exist() {
        for ms in [0, 951_782_400_000, 1_709_251_199_999, 1_767_225_600_001, 4_107_542_400_000] {
            assert_eq!(Timestamp(ms).to_string().parse(), Ok(Timestamp(ms)));
        }
        assert_eq!("2024-02-29T23:59:59Z".parse(), Ok(Timestamp(1_709_251_199_000)));
        for wrong in [
            "",
            "2026-02-29T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "1969-12-31T23:59:59.000Z",
            "0000-01-01T00:00:00.000Z",
            "2026-01-01T00:00:00.000",
            "2026-01-01T00:00:00.00Z",
            "2026-01-01 00:00:00.000Z",
            "2026-01-01T00:00:00.0é0Z",
        ] {
            assert!(wrong.parse::<Timestamp>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_counts_as_no_time_at_all() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }
}
