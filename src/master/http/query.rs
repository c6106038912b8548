//! Reads queries, bodies and numbers of addresses strictly: what is not known is refused with a
//! sentence, never ignored.

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::http::Uri;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::master::http::error::Problem;
use crate::model::ids::BuildNumber;

/// Rows of a page of a list, at most: what one answer may cost.
pub const ROWS_MAX: u32 = 100;

/// A query string.
///
/// # Errors
/// An unknown key, or a value of the wrong kind.
pub fn parse<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    axum::extract::Query::try_from_uri(uri)
        .map(|axum::extract::Query(query)| query)
        .map_err(|error| Problem::invalid(format!("the query is wrong: {}", cause(&error))))
}

/// A JSON body; an empty one counts as `{}`.
///
/// # Errors
/// It is not JSON, has an unknown key, or a value of the wrong kind.
pub fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    let json: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(json)
        .map_err(|error| Problem::invalid(format!("the JSON body is wrong: {error}")))
}

/// What a form sent.
///
/// # Errors
/// It is no form, has an unknown key, or a value of the wrong kind.
pub fn form<T>(form: Result<Form<T>, FormRejection>) -> Result<T, Problem> {
    let wrong =
        |error: FormRejection| Problem::invalid(format!("the form is wrong: {}", cause(&error)));
    form.map(|Form(form)| form).map_err(wrong)
}

/// A build's number in an address.
///
/// # Errors
/// It is no number, so there is no such build.
pub fn build_number(text: &str) -> Result<BuildNumber, Problem> {
    let number = text.parse().map(BuildNumber);
    number.map_err(|_| Problem::not_found(format!("\"{text}\" is no build's number")))
}

/// How many rows a list may have.
///
/// # Errors
/// None, or more than [`ROWS_MAX`].
pub fn limit(asked: Option<u32>, usual: u32) -> Result<u32, Problem> {
    match asked.unwrap_or(usual) {
        limit @ 1..=ROWS_MAX => Ok(limit),
        limit => Err(Problem::invalid(format!("limit is {limit}; it goes from 1 to {ROWS_MAX}"))),
    }
}

/// The innermost reason, which names the key; the layers around it name only our types.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
