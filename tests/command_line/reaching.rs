//! Reaching a master: by address, through its socket, with a token; and when there is none.

use std::net::TcpListener;

use serde_json::json;

use crate::fake_master::FakeMaster;
use crate::fake_master::Reply;
use crate::program::busybee;
use crate::program::run;

#[test]
fn a_master_that_is_not_there_ends_with_5_and_names_what_was_tried() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let ran = run(busybee(&["build", "list", "--url", &url])).ended_with(5);
    assert!(ran.err.contains(&url) && ran.err.contains("refused"), "{}", ran.err);
    assert!(ran.err.contains("is it running"), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn a_socket_that_is_not_there_ends_with_5_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("busybee.toml");
    std::fs::write(&config, format!("[master]\ndata_dir = {:?}\n", dir.path())).unwrap();
    let ran = run(busybee(&["pool", "list", "--config", config.to_str().unwrap()])).ended_with(5);
    assert!(ran.err.contains("busybee.sock"), "{}", ran.err);
}

#[test]
fn the_masters_own_file_leads_to_its_socket_without_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("busybee.toml");
    std::fs::write(&config, format!("[master]\ndata_dir = {:?}\n", dir.path())).unwrap();
    let master = FakeMaster::start_at_socket(&dir.path().join("busybee.sock"));
    master.has("GET /pools", &json!({"pools": []}));
    let mut command = busybee(&["pool", "list", "--json", "--config", config.to_str().unwrap()]);
    // The address of another master in the environment changes nothing.
    command.env("BUSYBEE_URL", "http://127.0.0.1:1");
    assert_eq!(run(command).ended_with(0).json(), json!({"pools": []}));
    assert!(!master.asked("GET /pools")[0].headers.contains_key("authorization"));
}

#[test]
fn the_token_of_the_environment_is_shown_and_a_typed_one_wins() {
    let master = FakeMaster::start();
    master.has("GET /pools", &json!({"pools": []}));
    let ask = |words: &[&str]| {
        let mut command = busybee(words);
        command.env("BUSYBEE_URL", &master.url).env("BUSYBEE_TOKEN", "from-environment");
        run(command).ended_with(0);
    };
    ask(&["pool", "list"]);
    ask(&["pool", "list", "--token", "typed"]);
    let shown =
        master.asked("GET /pools").into_iter().map(|one| one.headers["authorization"].clone());
    assert_eq!(shown.collect::<Vec<_>>(), ["Bearer from-environment", "Bearer typed"]);
}

#[test]
fn refusals_are_the_masters_own_words_and_end_by_their_kind() {
    let master = FakeMaster::start();
    for (status, kind, code) in [
        (400, "invalid", 1),
        (401, "unauthorized", 1),
        (404, "not_found", 1),
        (409, "conflict", 1),
        (500, "internal", 4),
        (503, "unavailable", 4),
        (418, "of_tomorrow", 4),
    ] {
        master.on("GET /workers", move |_| {
            let said = json!({"error": "because the token says so", "kind": kind});
            Reply::text(status, &said.to_string())
        });
        let ran = run(busybee(&["worker", "list", "--url", &master.url])).ended_with(code);
        let said = ran.err.strip_prefix("busybee: because the token says so").unwrap().trim_end();
        assert_eq!(said.contains("BUSYBEE_TOKEN"), kind == "unauthorized", "{kind}: {said}");
    }
}

#[test]
fn what_answers_but_is_no_master_is_not_taken_for_one() {
    let master = FakeMaster::start();
    for (reply, said) in [
        ((404, "<html>nothing here</html>"), "404"),
        ((200, "<html>hello</html>"), "not in JSON"),
        ((502, "bad gateway"), "502"),
    ] {
        let (status, text) = reply;
        master.on("GET /workers", move |_| Reply::text(status, text));
        let ran = run(busybee(&["worker", "list", "--url", &master.url])).ended_with(5);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    master.on("GET /workers", |_| {
        Reply::text(302, "").with_header("location", "https://login.example.com/")
    });
    let ran = run(busybee(&["worker", "list", "--url", &master.url])).ended_with(5);
    assert!(ran.err.contains("moved to https://login.example.com/"), "{}", ran.err);
}

#[test]
fn a_certificate_authority_that_is_none_is_told_by_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let ask = || {
        let ca = file.to_str().unwrap();
        run(busybee(&["pool", "list", "--url", "https://127.0.0.1:1", "--ca", ca]))
    };
    assert!(ask().ended_with(1).err.contains("ca.pem"));
    std::fs::write(&file, "not a certificate").unwrap();
    assert!(ask().ended_with(1).err.contains("no certificate"));
}

#[test]
fn over_tls_the_given_authority_is_trusted_and_nobody_else() {
    let (master, authority) = FakeMaster::start_with_tls();
    master.has("GET /pools", &json!({"pools": []}));
    let (_, other) = FakeMaster::start_with_tls();
    let dir = tempfile::tempdir().unwrap();
    let ask = |pem: Option<&str>| {
        let file = dir.path().join("ca.pem");
        let mut command = busybee(&["pool", "list", "--json", "--url", &master.url]);
        if let Some(pem) = pem {
            std::fs::write(&file, pem).unwrap();
            command.env("BUSYBEE_CA", &file);
        }
        run(command)
    };
    ask(Some(&authority)).ended_with(0);
    for nobody in [None, Some(other.as_str())] {
        let ran = ask(nobody).ended_with(5);
        assert!(ran.err.contains("certificate") && ran.err.contains("--ca FILE"), "{}", ran.err);
    }
    assert_eq!(master.asked("GET /pools").len(), 1);
}
