//! What was found in a file: as text for people, as JSON for scripts.

use serde_json::Value;
use serde_json::json;

use crate::runtime::config_file::problem::Problem;
use crate::runtime::config_file::problem::Problems;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Which file.
    pub file: String,
    /// What makes it wrong; nothing: it is right.
    pub problems: Option<Problems>,
    /// What works, but is probably not meant.
    pub warnings: Option<Problems>,
}

impl Findings {
    /// Whether the file can be used.
    pub fn is_right(&self) -> bool {
        self.problems.is_none()
    }

    /// What people read: each finding with its place, or that there is none.
    pub fn text(&self) -> String {
        let warnings = self.warnings.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut text = String::new();
        if let Some(problems) = &self.problems {
            text.push_str(&problems.to_string());
        }
        if !warnings.is_empty() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("Warnings:\n{warnings}"));
        }
        if self.problems.is_none() {
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}{}: no mistakes", self.file));
        }
        text.trim_end().to_owned()
    }

    /// The same as one JSON document.
    pub fn json(&self) -> String {
        let list = |problems: &Option<Problems>| -> Vec<Value> {
            problems.iter().flat_map(|problems| problems.list().map(problem)).collect()
        };
        json!({
            "file": self.file,
            "ok": self.is_right(),
            "problems": list(&self.problems),
            "warnings": list(&self.warnings),
        })
        .to_string()
    }
}

/// Line and column count from 1; both are 0 where it is about the file as a whole.
fn problem(problem: &Problem) -> Value {
    json!({
        "line": problem.place.line,
        "column": problem.place.column,
        "what": problem.what,
        "hint": problem.hint,
    })
}
