//! What a plain (unquoted) scalar is, by YAML 1.2's core schema: `no` is text, `true` is not.

use crate::runtime::config_file::node::ScalarKind;

/// Its kind; nothing for YAML's null.
pub(super) fn kind(text: &str) -> Option<ScalarKind> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => None,
        "true" | "True" | "TRUE" => Some(ScalarKind::Bool(true)),
        "false" | "False" | "FALSE" => Some(ScalarKind::Bool(false)),
        text => Some(number(text).unwrap_or(ScalarKind::Text)),
    }
}

fn number(text: &str) -> Option<ScalarKind> {
    let parsed = |result: Result<i64, _>| {
        result.map_or(ScalarKind::Number, |number: i64| ScalarKind::Integer(number))
    };
    let is_all =
        |digits: &str, radix: u32| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && is_all(digits, radix)
        {
            return Some(parsed(i64::from_str_radix(digits, radix)));
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if is_all(unsigned, 10) {
        return Some(parsed(text.parse::<i64>()));
    }
    let is_special =
        matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    (is_special || is_decimal(unsigned)).then_some(ScalarKind::Number)
}

/// `1.`, `.5`, `1.5e3`, `1e3`; not `1.2.3`, not `.`.
fn is_decimal(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|text| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        !digits.is_empty() && is_digits(digits)
    });
    exponent_fits && is_digits(whole) && is_digits(part) && !(whole.is_empty() && part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_what_yaml_1_2_says() {
        let check =
            |text: &str, expected: Option<ScalarKind>| assert_eq!(kind(text), expected, "{text}");
        check("", None);
        check("~", None);
        check("true", Some(ScalarKind::Bool(true)));
        for text in
            ["yes", "no", "on", "off", "1.2.3", "30m", ".", "-", "e3", "1e", "0x", "1_000", "12:30"]
        {
            check(text, Some(ScalarKind::Text));
        }
        check("-7", Some(ScalarKind::Integer(-7)));
        check("0x1F", Some(ScalarKind::Integer(31)));
        check("0o17", Some(ScalarKind::Integer(15)));
        check("99999999999999999999", Some(ScalarKind::Number));
        for text in ["3.10", "1.", ".5", "-1.5e-3", "1e3", ".inf", "-.INF", ".nan"] {
            check(text, Some(ScalarKind::Number));
        }
    }
}
