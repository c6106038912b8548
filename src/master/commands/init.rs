//! `busybee init`: a first file to begin with, and never over one that is there.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;

/// The master's file, with a comment at each key.
const MASTER_FILE: &str = include_str!("busybee.toml");

/// A pipeline file, with a comment at each key.
const PIPELINE_FILE: &str = include_str!("busybee.yaml");

/// What a repository with this file at its top most likely wants to run.
const TEST_COMMANDS: &[(&str, &str)] = &[
    ("Cargo.toml", "cargo test"),
    ("go.mod", "go test ./..."),
    ("package.json", "npm ci && npm test"),
    ("pyproject.toml", "python3 -m pytest"),
    ("meson.build", "meson setup build && meson test -C build"),
    ("CMakeLists.txt", "cmake -B build && cmake --build build && ctest --test-dir build"),
    ("configure", "./configure && make check"),
    ("Makefile", "make test"),
];

/// What to run where nothing tells.
const NO_COMMAND: &str = "echo \"put your own tests here\"";

/// Writes a file for the directory: `.busybee.yaml` at the top of the git repository that it lies
/// in, or else `busybee.toml`. Answers with what to do next.
///
/// # Errors
/// There is such a file already, or it cannot be written; the sentence says so.
pub fn init(directory: &Path) -> Result<String, String> {
    match directory.ancestors().find(|one| one.join(".git").exists()) {
        Some(top) => {
            let file = top.join(".busybee.yaml");
            let is_there = |(name, _): &&(&str, &str)| top.join(name).exists();
            let command = TEST_COMMANDS.iter().find(is_there).map_or(NO_COMMAND, |(_, run)| run);
            write_new(&file, &PIPELINE_FILE.replace("@COMMAND@", command))?;
            let shown = file.display();
            Ok(format!("{shown} is written: look at it, then `busybee pipeline check {shown}`"))
        }
        None => {
            let file = directory.join("busybee.toml");
            let data_dir = directory.join("busybee-data");
            let data_dir = toml::Value::from(data_dir.to_string_lossy().as_ref()).to_string();
            write_new(&file, &MASTER_FILE.replace("@DATA_DIR@", &data_dir))?;
            let shown = file.display();
            Ok(format!("{shown} is written: look at it, then `busybee serve --config {shown}`"))
        }
    }
}

/// Writes a file that is not there yet.
fn write_new(file: &Path, text: &str) -> Result<(), String> {
    let shown = file.display();
    let written = File::create_new(file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{shown} is there already and stays as it is; move it away to get a new one")
        }
        _ => format!("cannot write {shown}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_gets_a_pipeline_file_at_its_top_with_its_own_test_command() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("src/deep");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        std::fs::write(dir.path().join("go.mod"), "").unwrap();
        let said = init(&below).unwrap();
        assert!(said.contains("pipeline check"), "{said}");
        let text = std::fs::read_to_string(dir.path().join(".busybee.yaml")).unwrap();
        assert!(text.contains("run: go test ./...\n") && !text.contains('@'), "{text}");
    }

    #[test]
    fn elsewhere_there_is_a_masters_file_whose_data_lie_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a \"quoted\" \\ place");
        std::fs::create_dir(&odd).unwrap();
        init(&odd).unwrap();
        let text = std::fs::read_to_string(odd.join("busybee.toml")).unwrap();
        let file: toml::Table = text.parse().unwrap();
        let data_dir = file["master"]["data_dir"].as_str().unwrap();
        assert_eq!(Path::new(data_dir), odd.join("busybee-data"));
    }

    #[test]
    fn a_file_that_is_there_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("busybee.toml");
        std::fs::write(&file, "mine").unwrap();
        assert!(init(dir.path()).unwrap_err().contains("stays as it is"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }
}
