//! `--input KEY=VALUE`, as `build start` and `pipeline plan` take it.

use crate::model::inputs::GivenInputs;

/// Splits `KEY=VALUE` at its first `=`.
pub(super) fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("an input is KEY=VALUE, such as dry_run=true".to_owned()),
    }
}

/// The inputs by name.
///
/// # Errors
/// One is given twice: which of the two is meant, nobody knows.
pub fn by_name(typed: Vec<(String, String)>) -> Result<GivenInputs, String> {
    let mut inputs = GivenInputs::new();
    for (key, value) in typed {
        if inputs.contains_key(&key) {
            return Err(format!("the input \"{key}\" is given twice; keep one of them"));
        }
        inputs.insert(key, value);
    }
    Ok(inputs)
}
