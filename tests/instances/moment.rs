//! Moments as the API writes them.

use busybee::model::time::Timestamp;
use serde_json::Value;

/// Milliseconds since 1970 of `2026-01-31T12:00:00.000Z`; nothing where there is no moment.
pub(crate) fn millis(value: &Value) -> Option<i64> {
    let moment: Timestamp = value.as_str()?.parse().expect("the API writes moments");
    i64::try_from(moment.0).ok()
}
