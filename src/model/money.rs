//! Money, in whole millionths of a US dollar: what is counted is never a float.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::time::Duration;

/// Millionths in a dollar.
const MICROS: u64 = 1_000_000;

/// Digits behind the point that are kept: as many as EC2 gives of a spot price.
const DIGITS_MAX: usize = 6;

/// Below this much, people are shown four digits behind the point: a job costs less than a cent.
const SMALL: u64 = MICROS;

/// An amount, in millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(pub u64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);

    /// Dollars as people and EC2 write them: `0.10`, `5`, `0.031300`.
    ///
    /// # Errors
    /// What it is instead, and how an amount is written.
    pub fn parse(text: &str) -> Result<Money, String> {
        let wrong = |what: &str| {
            Err(format!(
                "\"{text}\" {what}\nwrite dollars, up to six digits after the point, as in \"0.10\""
            ))
        };
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let has_point = text.contains('.');
        if whole.is_empty()
            || (has_point && part.is_empty())
            || !is_digits(whole)
            || !is_digits(part)
        {
            return wrong("is not an amount");
        }
        let part = part.trim_end_matches('0');
        if part.len() > DIGITS_MAX {
            return wrong("has too many digits");
        }
        let micros = format!("{part:0<DIGITS_MAX$}").parse::<u64>().ok();
        let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(MICROS));
        match whole.zip(micros).and_then(|(whole, micros)| whole.checked_add(micros)) {
            Some(micros) => Ok(Money(micros)),
            None => wrong("is too much"),
        }
    }

    /// Dollars for programs: exact, with as many digits as it takes, two at least.
    pub fn decimal(self) -> String {
        let digits = format!("{:06}", self.0 % MICROS);
        let (cents, rest) = digits.split_at(2);
        format!("{}.{cents}{}", self.0 / MICROS, rest.trim_end_matches('0'))
    }

    /// What so much time costs at this price for an hour, to the nearest millionth.
    pub fn per_hour_for(self, time: Duration) -> Money {
        const HOUR_MS: u128 = 3_600_000;
        let micros =
            u128::from(self.0).saturating_mul(time.as_millis()).saturating_add(HOUR_MS / 2)
                / HOUR_MS;
        Money(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// What is left after this is taken; nothing where it is not enough.
    #[must_use]
    pub fn less(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }
}

impl Add for Money {
    type Output = Money;

    fn add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(amounts: I) -> Money {
        amounts.fold(Money::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// For people: `$5.02`, `$0.0413`. Never `$0.0000` for what is more than nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.0 != 0 && self.0 < SMALL { 4 } else { 2 };
        let unit = 10_u64.pow(6 - digits);
        let rounded = self.0.saturating_add(unit / 2) / unit;
        if rounded == 0 && self.0 > 0 {
            return write!(f, "less than $0.0001");
        }
        let scale = 10_u64.pow(digits);
        let width = digits as usize;
        write!(f, "${}.{:0width$}", rounded / scale, rounded % scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_exactly_or_not_at_all() {
        let check = |text: &str, micros: Option<u64>| {
            assert_eq!(Money::parse(text).ok(), micros.map(Money), "{text}");
        };
        check("0.10", Some(100_000));
        check("5", Some(5_000_000));
        check("0.0313000000", Some(31_300));
        check("0.000001", Some(1));
        check("0.0000001", None);
        for wrong in ["", ".", "5.", ".5", "-1", "1e3", "1,5", "$1", " 1", "99999999999999"] {
            check(wrong, None);
        }
    }

    #[test]
    fn it_is_written_exactly_for_programs_and_shortly_for_people() {
        let check = |micros: u64, exact: &str, short: &str| {
            assert_eq!(
                (Money(micros).decimal().as_str(), Money(micros).to_string().as_str()),
                (exact, short)
            );
            assert_eq!(Money::parse(exact), Ok(Money(micros)));
        };
        check(0, "0.00", "$0.00");
        check(1, "0.000001", "less than $0.0001");
        check(41_250, "0.04125", "$0.0413");
        check(999_999, "0.999999", "$1.0000");
        check(5_019_999, "5.019999", "$5.02");
        check(1_234_500_000, "1234.50", "$1234.50");
    }

    #[test]
    fn time_costs_its_part_of_an_hour() {
        let check = |secs: u64, micros: u64| {
            let cost = Money(89_250).per_hour_for(Duration::from_secs(secs));
            assert_eq!(cost, Money(micros), "{secs} s");
        };
        check(0, 0);
        check(60, 1_488);
        check(3600, 89_250);
        check(24 * 3600, 2_142_000);
        assert_eq!(Money(u64::MAX).per_hour_for(Duration::MAX), Money(u64::MAX));
    }
}
