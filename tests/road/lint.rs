//! What a reader of shell would say without running anything.

use crate::machine::program;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

fn scripts() -> Vec<PathBuf> {
    let bootstrap = Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstrap");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(bootstrap)
        .expect("bootstrap/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_none_or(|extension| extension == "sh"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 4, "{scripts:?}");
    scripts
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let Some(shellcheck) = program("shellcheck") else { return };
    let output = Command::new(shellcheck).args(scripts()).output().expect("shellcheck runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_shell_can_parse_every_script() {
    for shell in crate::machine::SHELLS {
        let Some(path) = program(shell) else { continue };
        for script in scripts() {
            let mut command = Command::new(&path);
            if *shell == "busybox" {
                command.arg("sh");
            }
            let output = command.arg("-n").arg(&script).output().expect("the shell runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{shell} cannot read {}: {said}", script.display());
        }
    }
}

#[test]
fn every_script_is_for_posix_sh_and_says_so_in_its_first_line() {
    for script in scripts() {
        let text = std::fs::read_to_string(&script).expect("a text file");
        assert!(text.starts_with("#!/bin/sh\n"), "{}", script.display());
        let mut code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(!code.any(|l| l.contains("set -x")), "{} would print secrets", script.display());
    }
}
