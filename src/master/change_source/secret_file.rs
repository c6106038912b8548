//! A project's secrets: a file each, read anew for every job that gets it.

use std::path::Path;

use crate::model::secret::Secret;

/// Bytes of a secret. Linux takes 128 KiB for one variable at most.
const SECRET_BYTES_MAX: u64 = 32 * 1024;

/// The secret that a file holds: all of it, without the line break at its end.
///
/// # Errors
/// Why it cannot be a variable, as a sentence without the secret.
pub fn read(file: &Path) -> Result<Secret<String>, String> {
    let cannot = |why: &str| format!("the secret in {} cannot be used: {why}", file.display());
    let metadata = std::fs::metadata(file).map_err(|error| cannot(&error.to_string()))?;
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(cannot(&format!("it has more than {SECRET_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(file).map_err(|error| cannot(&error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| cannot("it is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.contains('\0') {
        return Err(cannot("it is empty, or holds the character NUL"));
    }
    Ok(Secret::new(text.to_owned()))
}
