//! Amounts of the API, as people read them.

use crate::model::money::Money;

/// `$0.0413` for `0.04125`.
pub fn short(decimal: &str) -> String {
    Money::parse(decimal).map_or_else(|_| decimal.to_owned(), |money| money.to_string())
}

/// A cost that may be known in part; nothing where nothing was paid for.
pub fn cost(known: Option<&str>, in_part: bool) -> Option<String> {
    match (known, in_part) {
        (Some(known), false) => Some(short(known)),
        (Some(known), true) => Some(format!("at least {}", short(known))),
        (None, true) => Some("unknown".to_owned()),
        (None, false) => None,
    }
}
