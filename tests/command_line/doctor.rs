//! `busybee doctor` about what is not the cloud's: this machine, its address, the repositories. Each finding
//! is made true; those about EC2 stand in tests/provisioners/doctor.rs.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;

use crate::program::busybee;
use crate::program::run;

/// What the doctor says of a file with this text: all its findings.
fn doctor(directory: &Path, text: &str) -> Vec<Value> {
    std::fs::write(directory.join("busybee.toml"), text).unwrap();
    let mut command = busybee(&["doctor", "--config", "busybee.toml", "--json"]);
    command.current_dir(directory);
    let told = run(command).json();
    let parts = told["parts"].as_array().unwrap().iter();
    parts.flat_map(|part| part["findings"].as_array().unwrap()).cloned().collect()
}

/// The finding that says these words, which has this verdict, and these words in its fix.
#[track_caller]
fn finds(findings: &[Value], verdict: &str, what: &str, fix: &str) {
    let says = |one: &&Value| one["what"].as_str().unwrap().contains(what);
    let found = findings.iter().find(says).unwrap_or_else(|| panic!("{what}: {findings:#?}"));
    assert_eq!(found["verdict"], verdict, "{found:#}");
    assert!(found["fix"].as_str().unwrap().contains(fix), "{found:#}");
}

fn master(url: &str) -> String {
    format!("[master]\nurl = \"{url}\"\ndata_dir = \"data\"\n")
}

#[test]
fn an_address_that_leads_nowhere_and_one_where_nobody_listens_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let found = doctor(dir.path(), &master("https://nowhere.invalid:8443"));
    finds(&found, "bad", "nowhere.invalid:8443 leads nowhere", "DNS");
    finds(&found, "good", "MiB free", "");
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let found = doctor(dir.path(), &master(&format!("https://127.0.0.1:{port}")));
    finds(&found, "look", "was not looked at", "start the master once");
}

#[test]
fn a_proxy_that_ends_tls_is_found_by_what_it_does_not_speak() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, stream);
        let _it_hangs_up = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let files = "cert_file = \"cert.pem\"\nkey_file = \"key.pem\"\nca_file = \"cert.pem\"\n";
    let text = format!("{}{files}", master(&format!("https://127.0.0.1:{port}")));
    let found = doctor(dir.path(), &text);
    finds(&found, "bad", "not busybee/1 (ALPN): a proxy or load balancer ends TLS", "ends TLS");
    proxy.join().unwrap();
}

#[test]
fn a_disk_without_room_is_told_before_a_log_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    // A file system without a single block.
    let text = "[master]\nurl = \"https://nowhere.invalid\"\ndata_dir = \"/proc/busybee\"\n";
    let found = doctor(dir.path(), text);
    finds(&found, "look", "/proc/busybee has 0 MiB free", "2 GiB");
}

#[test]
fn a_ledger_that_cannot_be_read_is_told_and_keeps_nothing_else_from_being_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data/busybee.sqlite3"), "no database at all").unwrap();
    let found = doctor(dir.path(), &master("https://nowhere.invalid"));
    finds(&found, "look", "the ledger of instances was not looked at", "start the master once");
    finds(&found, "bad", "leads nowhere", "DNS");
}

#[test]
fn a_repository_that_is_not_there_and_one_without_anything_to_watch_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let git = |directory: &str, arguments: &[&str]| {
        let run = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"])
            .arg(dir.path().join(directory))
            .args(arguments)
            .output()
            .unwrap();
        assert!(run.status.success(), "{run:?}");
    };
    for name in ["empty", "other"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        git(name, &["init", "-q", "-b", "trunk"]);
    }
    git("other", &["commit", "-q", "--allow-empty", "-m", "one"]);
    let here = dir.path().display();
    let project = |name: &str| {
        format!("[[project]]\nname = \"{name}\"\nrepo = \"{here}/{name}\"\nbranches = [\"main\"]\n")
    };
    let projects = ["empty", "other", "gone"].map(project).concat();
    let found = doctor(dir.path(), &format!("{}{projects}", master("https://nowhere.invalid")));
    finds(&found, "look", "empty answers, and is empty", "busybee init");
    finds(&found, "look", "none of them is watched", "patterns");
    finds(&found, "bad", "gone", "see the address");
}
