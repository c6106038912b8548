//! What keeps a master or an agent from beginning: each says what, which and what to do.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::program::Ran;
use crate::program::busybee;
use crate::program::run;

/// A master's file with this `listen` and `data_dir`, and what else it should say.
fn write_file(dir: &Path, listen: &str, data_dir: &str, more: &str) -> String {
    let text = format!(
        "[master]\nurl = \"https://localhost:1\"\nlisten = \"{listen}\"\ndata_dir = \"{data_dir}\"\n{more}"
    );
    let file = dir.join("busybee.toml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn serve(file: &str) -> Ran {
    run(busybee(&["serve", "--config", file])).ended_with(1)
}

#[test]
fn a_data_dir_that_is_none_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("taken"), "a file").unwrap();
    let refused = serve(&write_file(dir.path(), "127.0.0.1:0", "taken", ""));
    let path = dir.path().join("taken").display().to_string();
    assert!(refused.err.contains("failed to use data_dir"), "{}", refused.err);
    assert!(refused.err.contains(&path) && refused.err.contains("may write to"), "{}", refused.err);
}

#[test]
fn a_place_where_one_cannot_listen_says_why_and_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let refused = serve(&write_file(dir.path(), &taken, "data", ""));
    assert!(refused.err.contains(&format!("listen on {taken}: ")), "{}", refused.err);
    assert!(refused.err.contains("another program has this port"), "{}", refused.err);
    drop(holder);
    // An address for examples, which no machine has.
    let refused = serve(&write_file(dir.path(), "203.0.113.9:8443", "data", ""));
    assert!(refused.err.contains("no such address"), "{}", refused.err);
    assert!(!refused.err.contains("another program"), "{}", refused.err);
}

#[test]
fn a_bootstrap_script_that_is_not_there_is_found_by_check_and_not_only_by_serve() {
    let dir = tempfile::tempdir().unwrap();
    let pool = "[[pool]]\nname = \"own\"\nprovisioner = \"none\"\nbootstrap = \"debain.sh\"\n";
    let check = |file: &str| run(busybee(&["check", "--config", file]));
    let file = write_file(dir.path(), "127.0.0.1:0", "data", pool);
    let found = check(&file).ended_with(1);
    assert!(found.text().contains(":8:13: no bootstrap script \"debain.sh\""), "{}", found.text());
    assert!(found.text().contains("did you mean \"debian.sh\"?"), "{}", found.text());
    std::fs::create_dir(dir.path().join("scripts")).unwrap();
    let with_dir = format!("bootstrap_dir = \"scripts\"\n{pool}");
    let file = write_file(dir.path(), "127.0.0.1:0", "data", &with_dir);
    let found = check(&file).ended_with(1);
    assert!(
        found.text().contains("there is no \"debain.sh\" in bootstrap_dir"),
        "{}",
        found.text()
    );
    std::fs::write(dir.path().join("scripts/debain.sh"), "true").unwrap();
    check(&file).ended_with(0);
}

#[test]
fn what_is_no_master_s_file_at_all_gets_a_hint_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    let junk = dir.path().join("junk");
    std::fs::write(&junk, [0xff, 0xfe, 0x00]).unwrap();
    let folder = dir.path().display().to_string();
    for (file, hint) in [
        ("/dev/zero", "more than 1048576 bytes; is it the right file?"),
        (folder.as_str(), "name the file in it"),
        (&junk.display().to_string(), "is no UTF-8 text; is it the right file?"),
    ] {
        let found = run(busybee(&["check", "--config", file])).ended_with(1);
        assert!(found.text().contains(hint), "{file}: {}", found.text());
        assert!(!found.text().contains("busybee init"), "{file}: {}", found.text());
    }
}

#[test]
fn an_agent_says_what_it_lacks_whatever_else_is_in_its_environment() {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_busybee-agent"));
    agent.arg("run").env_clear().env("NOT_TEXT", OsStr::from_bytes(&[0xff, 0xfe]));
    let ran = run(agent).ended_with(1);
    let said = "failed to read the agent's settings from its environment: BB_HOME is not set";
    assert!(ran.err.contains(said), "{}", ran.err);
}
