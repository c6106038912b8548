//! Inputs: what whoever starts a build by hand may choose, by name.
//!
//! Which there are, and what fits them, the pipeline file says (`master/pipeline_file`). Here are the
//! limits that hold before it is read.

use std::collections::BTreeMap;

/// Inputs of a pipeline, and of a start. Each is a row that a person fills in.
pub const INPUTS_MAX: usize = 32;

/// Bytes of an input's name.
pub const INPUT_NAME_BYTES_MAX: usize = 64;

/// Bytes of an input's value: it becomes a variable of processes, and stands on pages.
pub const INPUT_VALUE_BYTES_MAX: usize = 1024;

/// Values by the names of their inputs, as somebody typed them.
pub type GivenInputs = BTreeMap<String, String>;

/// Whether these are values that a pipeline could take at all.
///
/// # Errors
/// Which is not, and why.
pub fn check(given: &GivenInputs) -> Result<(), String> {
    if given.len() > INPUTS_MAX {
        let n = given.len();
        return Err(format!("{n} inputs are more than a pipeline can have, which is {INPUTS_MAX}"));
    }
    for (name, value) in given {
        if name.len() > INPUT_NAME_BYTES_MAX {
            let shown: String = name.chars().take(INPUT_NAME_BYTES_MAX).collect();
            return Err(format!(
                "the name of the input \"{shown}…\" has more than {INPUT_NAME_BYTES_MAX} bytes"
            ));
        }
        check_value(value).map_err(|why| format!("the value of the input \"{name}\" {why}"))?;
    }
    Ok(())
}

/// Whether a text can be the value of an input.
///
/// # Errors
/// Why not, as the rest of a sentence.
pub fn check_value(value: &str) -> Result<(), String> {
    if value.len() > INPUT_VALUE_BYTES_MAX {
        return Err(format!("has {} bytes, more than {INPUT_VALUE_BYTES_MAX}", value.len()));
    }
    // No variable can hold one: the kernel takes it for the end.
    if value.contains('\0') {
        return Err("holds the character NUL".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_pipeline_could_take_is_refused() {
        let check = |name: &str, value: &str, expected: &str| {
            let given = GivenInputs::from([(name.to_owned(), value.to_owned())]);
            let found = super::check(&given).err().unwrap_or_default();
            assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
        };
        check("target", "staging", "");
        check("target", &"x".repeat(1024), "");
        check("target", &"x".repeat(1025), "\"target\" has 1025 bytes, more than 1024");
        check("target", "a\0b", "NUL");
        check(&"é".repeat(33), "x", "more than 64 bytes");
        let many = |n: usize| (0..n).map(|n| (format!("i{n}"), String::new())).collect();
        assert_eq!(super::check(&many(32)), Ok(()));
        assert!(super::check(&many(33)).is_err_and(|why| why.contains("33 inputs")));
    }
}
