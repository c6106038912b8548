//! How the values of every table are put into columns and taken out again.
//!
//! SQLite's integers are signed: ours are kept bit by bit, so that whatever number an agent sends
//! comes back as it was.

use std::collections::BTreeMap;
use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::Type;

use crate::model::time::Timestamp;

/// Puts a number.
pub(super) fn put(number: u64) -> i64 {
    number.cast_signed()
}

/// Puts a number that may be absent.
pub(super) fn put_opt(number: Option<u64>) -> Option<i64> {
    number.map(put)
}

/// Puts a time that may be absent.
pub(super) fn put_time_opt(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| put(time.0))
}

/// Takes a number.
pub(super) fn number(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// Takes a number that may be absent.
pub(super) fn number_opt(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
}

/// Takes a time.
pub(super) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    number(row, column).map(Timestamp)
}

/// Takes a time that may be absent.
pub(super) fn time_opt(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(number_opt(row, column)?.map(Timestamp))
}

/// Takes one of a set of words.
pub(super) fn word<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let word: String = row.get(column)?;
    word.parse().map_err(|error: T::Err| unreadable(row, column, error.into()))
}

/// Puts texts by their names.
pub(super) fn put_texts(texts: &BTreeMap<String, String>) -> String {
    let object = texts.iter().map(|(name, text)| (name.clone(), text.as_str().into()));
    serde_json::Value::Object(object.collect()).to_string()
}

/// Takes texts by their names.
pub(super) fn texts(row: &Row<'_>, column: &str) -> rusqlite::Result<BTreeMap<String, String>> {
    let json: String = row.get(column)?;
    serde_json::from_str(&json).map_err(|error| unreadable(row, column, error.into()))
}

/// The error for a column that holds what this program never wrote there.
pub(super) fn unreadable(
    row: &Row<'_>,
    column: &str,
    why: Box<dyn std::error::Error + Send + Sync>,
) -> rusqlite::Error {
    match row.as_ref().column_index(column) {
        Ok(index) => rusqlite::Error::FromSqlConversionFailure(index, Type::Text, why),
        Err(error) => error,
    }
}
