//! `busybee check`: the master's file, without starting anything.

use std::path::Path;

use crate::master::commands::findings::Findings;
use crate::master::config::Config;

/// What is wrong with a master's file.
pub fn check(file: &Path) -> Findings {
    let file_name = file.display().to_string();
    match Config::load(file) {
        Ok(config) => {
            let warnings = Some(config.warnings).filter(|found| found.list().next().is_some());
            Findings { file: file_name, problems: None, warnings }
        }
        Err(problems) => Findings { file: file_name, problems: Some(problems), warnings: None },
    }
}
