//! Software that this project did not write, built with its own tests: the source release of a crate
//! that cargo has fetched already, as it is one of our dependencies.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::house::House;
use crate::house::Plan;

const PIPELINE: &str = r#"version: 1
name: strsim
jobs:
  test:
    steps:
      - run: cargo test --offline
        env: { CARGO_NET_OFFLINE: "true", CARGO_TARGET_DIR: target }
"#;

#[test]
fn a_crate_of_other_people_passes_its_own_tests_on_a_worker_started_for_it() {
    let Some(source) = source_of("strsim") else {
        panic!("cargo has fetched strsim: busybee depends on it");
    };
    let pool = "max_instances = 1\nidle_timeout = \"1s\"";
    let house = House::open(&Plan { pipeline: PIPELINE, pool });
    copy(&source, &house.path("work"));
    house.push(&[(".busybee.yaml", PIPELINE)], "the source release of strsim");
    let build = house.finished(1);
    let log = String::from_utf8_lossy(&house.log(&["hello/1"])).into_owned();
    assert_eq!(build["status"], "passed", "{build:#}\n{log}");
    assert!(
        log.contains("test result: ok.") && !log.contains("running 0 tests\n\ntest result: ok. 0"),
        "{log}"
    );
}

/// Where cargo has unpacked a crate.
fn source_of(name: &str) -> Option<PathBuf> {
    // Other platforms' crates were not fetched: leave them out.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("cargo metadata: {said}"));
    let package =
        metadata["packages"].as_array()?.iter().find(|package| package["name"] == name)?;
    Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned())
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the crate's folder is there").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).expect("make a folder");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copy a file");
        }
    }
}
