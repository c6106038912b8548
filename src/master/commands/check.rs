//! `busybee check`: the master's file, without starting anything.

use std::path::Path;

use crate::master::commands::findings::Findings;
use crate::master::config::Config;

/// What is wrong with a master's file.
pub fn check(file: &Path) -> Findings {
    let problems = Config::load(file).err();
    Findings { file: file.display().to_string(), problems, warnings: None }
}
