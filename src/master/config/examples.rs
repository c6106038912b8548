//! What `busybee init` writes.

use std::path::Path;

/// A master's file to begin with: one machine, one project. `deploy/busybee.example.toml` has
/// every key.
pub fn example_config() -> &'static str {
    include_str!("example.toml")
}

/// Files that say how a repository is built, with the commands that people use there; the first
/// that is found counts.
const BUILDS: &[(&str, &[&str])] = &[
    ("Cargo.toml", &["cargo build --locked --all-targets", "cargo test --locked"]),
    ("go.mod", &["go build ./...", "go test ./..."]),
    ("package-lock.json", &["npm ci", "npm test"]),
    ("package.json", &["npm install", "npm test"]),
    (
        "pyproject.toml",
        &["python3 -m venv .venv", ".venv/bin/pip install .", ".venv/bin/python -m unittest"],
    ),
    ("mvnw", &["./mvnw --batch-mode verify"]),
    ("pom.xml", &["mvn --batch-mode verify"]),
    ("gradlew", &["./gradlew build"]),
    (
        "CMakeLists.txt",
        &["cmake -B build", "cmake --build build", "ctest --test-dir build --output-on-failure"],
    ),
    ("meson.build", &["meson setup build", "meson test -C build"]),
    ("configure", &["./configure", "make", "make check"]),
    ("autogen.sh", &["./autogen.sh", "./configure", "make", "make check"]),
    ("Makefile", &["make", "make test"]),
    ("makefile", &["make", "make test"]),
];

/// A pipeline for the repository in `folder`, with the commands that its files suggest.
pub fn example_pipeline(folder: &Path) -> String {
    let found = BUILDS.iter().find(|(file, _)| folder.join(file).exists());
    let (comment, commands) = match found {
        Some((file, commands)) => {
            (format!("as {file} suggests; change it to what you use"), *commands)
        }
        None => ("say here what builds and tests your software".to_owned(), &["echo hello"][..]),
    };
    let steps: String =
        commands.iter().map(|command| format!("      - run: {command}\n")).collect();
    format!(
        "# What Busybee builds at each push. `busybee pipeline check` looks for mistakes,\n\
         # `busybee pipeline plan` shows what a push would run.\n\
         version: 1\n\
         jobs:\n  \
           test:\n    \
             # worker: [linux]        # labels; without them the first pool of the master runs it\n    \
             # timeout: 30m\n    \
             steps:                   # {comment}\n{steps}"
    )
}
