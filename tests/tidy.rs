//! The architecture, as a test: who may name whom, how each file begins, how large one may grow.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Each room and the rooms it may name in `crate::…` paths (it may always name itself).
/// The longest prefix wins. This table is the dependency diagram of ARCHITECTURE.md.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &["model"]),
    ("runtime", &["model"]),
    ("api", &["model"]),
    ("client", &["model", "api", "runtime"]),
    ("master/domain", &["model"]),
    ("master/inbox", &["model", "master/domain"]),
    ("master/notices", &["model"]),
    ("master/caller", &["model"]),
    ("master/pipeline_file", &["model", "runtime", "master/domain"]),
    (
        "master/config",
        &[
            "model",
            "runtime",
            "master/domain",
            "master/change_source",
            "master/mail",
            "master/pipeline_file",
            "master/provisioner",
            "master/user_data",
        ],
    ),
    ("master/user_data", &["model"]),
    ("master/mail", &["model", "runtime", "master/domain"]),
    ("master/certificates", &["model", "runtime"]),
    ("master/keys", &["model", "runtime"]),
    ("master/store", &["model", "runtime", "master/domain"]),
    ("master/disk_room", &[]),
    ("master/logs", &["model", "runtime", "master/disk_room"]),
    ("master/provisioner", &["model", "runtime", "master/domain"]),
    (
        "master/agents",
        &[
            "model",
            "runtime",
            "wire",
            "master/domain",
            "master/inbox",
            "master/keys",
            "master/store",
            "master/logs",
        ],
    ),
    (
        "master/change_source",
        &["model", "runtime", "master/domain", "master/inbox", "master/pipeline_file"],
    ),
    ("master/listener", &["model", "runtime", "master/agents", "master/caller"]),
    (
        "master/http",
        &[
            "model",
            "runtime",
            "api",
            "master/domain",
            "master/inbox",
            "master/notices",
            "master/caller",
            "master/store",
            // The stair for watching logs.
            "master/logs",
        ],
    ),
    ("master", &["model", "wire", "runtime", "api", "client", "master"]),
    ("agent/domain", &["model", "wire"]),
    ("agent", &["model", "wire", "runtime", "agent"]),
    ("bin/busybee.rs", &[]),
    ("bin/busybee-agent.rs", &[]),
];

/// Words that a pure room must not contain, each with what to do instead.
const PURE: &[&str] = &["master/domain", "agent/domain", "model", "wire"];
const NEVER_IN_PURE: &[&str] = &["tokio", "async ", ".await", "::now()", "std::net", "std::fs"];

/// File names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "manager", "helper", "helpers", "misc", "common"];

/// Lines of a file, at most. Data tables and generated code stand in `MAY_BE_LONG`.
const FILE_LINES_MAX: usize = 500;
const MAY_BE_LONG: &[&str] = &["wire/generated.rs"];

#[test]
fn every_import_goes_downstairs() {
    let mut errors = Vec::new();
    for (file, here) in source_files() {
        let Some((room, allowed)) = room_of(&here) else {
            continue;
        };
        for (number, line) in lines_of(&file) {
            let at = format!("{}:{number}", file.display());
            if line.contains("crate::{") || is_partial_super(&line) {
                errors.push(format!(
                    "{at}: write the full path, one import per line: `use crate::room::file::Name;`"
                ));
                continue;
            }
            for (start, _) in line.match_indices("crate::") {
                let target = path_after(&line[start + "crate::".len()..]);
                let fits =
                    |prefix: &str| target == prefix || target.starts_with(&format!("{prefix}/"));
                if !fits(room) && !allowed.iter().any(|room| fits(room)) {
                    errors.push(format!(
                        "{at}: `{room}` may not use `{target}` (it may use {allowed:?}). Move the \
                         shared type down to `model`, or pass the value in from `master/app.rs`."
                    ));
                }
            }
        }
    }
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

#[test]
fn what_is_pure_stays_pure() {
    let mut errors = Vec::new();
    for (file, here) in source_files() {
        let is_pure = PURE.iter().any(|room| here.starts_with(&format!("{room}/")));
        if !is_pure || here == "wire/generated.rs" {
            continue;
        }
        for (number, line) in lines_of(&file) {
            if let Some(word) = NEVER_IN_PURE.iter().find(|word| line.contains(**word)) {
                errors.push(format!(
                    "{}:{number}: `{word}` has no place here: time, randomness and bytes are given \
                     to the domain, and an adapter acts",
                    file.display()
                ));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

#[test]
fn every_file_says_what_lives_in_it_and_none_is_too_long() {
    let mut errors = Vec::new();
    let mut sizes = Vec::new();
    for (file, here) in source_files() {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if !text.starts_with("//!") && !MAY_BE_LONG.contains(&here.as_str()) {
            errors.push(format!("{}: begin with `//!`: what lives here, what does not", here));
        }
        if EMPTY_NAMES.contains(&name) {
            errors.push(format!("{here}: this name says nothing; which noun lives here?"));
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX && !MAY_BE_LONG.contains(&here.as_str()) {
            errors.push(format!("{here}: {lines} lines; which noun wants a file of its own?"));
        }
        sizes.push(lines);
    }
    sizes.sort_unstable();
    let (median, p90) = (sizes[sizes.len() / 2], sizes[sizes.len() * 9 / 10]);
    println!("{} files, median {median} lines, p90 {p90}, longest {:?}", sizes.len(), sizes.last());
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

#[test]
fn tests_do_not_sleep() {
    let mut errors = Vec::new();
    for file in rust_files(Path::new("tests")) {
        if file.ends_with("tidy.rs") {
            continue;
        }
        for (number, line) in lines_of(&file) {
            if line.contains("thread::sleep") || line.contains("time::sleep(") {
                errors.push(format!(
                    "{}:{number}: wait for a condition with a deadline instead",
                    file.display()
                ));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

#[test]
fn the_map_names_only_what_exists() {
    let map = fs::read_to_string("ARCHITECTURE.md").expect("ARCHITECTURE.md is there");
    let mut missing = Vec::new();
    for word in map.split('`').skip(1).step_by(2) {
        let looks_like_path = word.contains('/') && !word.contains([' ', '<', '*', '{', ':', '$']);
        let found = || Path::new(word).exists() || Path::new("src").join(word).exists();
        if looks_like_path && !word.starts_with('/') && !found() {
            missing.push(word.to_owned());
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
}

#[test]
fn every_attack_has_a_test_that_exists() {
    let table = fs::read_to_string("docs/security.md").expect("docs/security.md is there");
    let files = rust_files(Path::new("src")).into_iter().chain(rust_files(Path::new("tests")));
    let code: String = files.map(|file| fs::read_to_string(file).expect("it is text")).collect();
    let mut errors = Vec::new();
    let rows = table.lines().filter(|line| line.starts_with('|'));
    let rows = rows.filter(|row| row[1..].trim_start().starts_with(|c: char| c.is_ascii_digit()));
    let mut count = 0;
    for row in rows {
        count += 1;
        let names: Vec<&str> = row.rsplit('|').nth(1).unwrap_or_default().split('`').collect();
        let names: Vec<&str> = names.into_iter().skip(1).step_by(2).collect();
        if names.is_empty() && !row.contains("not built yet") {
            errors.push(format!("no test tries this: {row}"));
        }
        let missing = names.iter().filter(|name| !code.contains(&format!("fn {name}()")));
        errors.extend(missing.map(|name| format!("docs/security.md: there is no test {name}")));
    }
    assert_eq!(count, 16, "the rows of the table");
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

/// Every file below `src` with its path from there.
fn source_files() -> Vec<(PathBuf, String)> {
    let files = rust_files(Path::new("src")).into_iter();
    files
        .map(|file| {
            let here = file.strip_prefix("src").expect("it was found there").to_owned();
            (file, here.to_str().expect("our names are ASCII").to_owned())
        })
        .collect()
}

fn room_of(here: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let fits = |room: &str| {
        here == room || here.starts_with(&format!("{room}/")) || here == format!("{room}.rs")
    };
    MAY_USE.iter().filter(|(room, _)| fits(room)).max_by_key(|(room, _)| room.len())
}

/// The lines that are code, counted from 1.
fn lines_of(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).expect("a source file is readable");
    let numbered =
        text.lines().enumerate().map(|(index, line)| (index + 1, line.trim().to_owned()));
    numbered.filter(|(_, line)| !line.starts_with("//")).collect()
}

fn is_partial_super(line: &str) -> bool {
    line.contains("super::super") || (line.starts_with("use super::") && line != "use super::*;")
}

/// `master::domain::event::Event` → `master/domain/event/Event`.
fn path_after(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    text[..end.unwrap_or(text.len())].replace("::", "/")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("the directory is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
