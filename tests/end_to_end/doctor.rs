//! `busybee doctor` and its trial launch, with a master that runs and with none.

use std::io::Read;
use std::io::Write;
use std::process::Command;
use std::process::Output;

use crate::HELLO;
use crate::house::BUSYBEE;
use crate::house::House;
use crate::house::Plan;

/// Runs the doctor with a directory of its own for scratch files.
fn doctor(house: &House, arguments: &[&str]) -> Output {
    let scratch = house.path("scratch");
    std::fs::create_dir_all(&scratch).expect("a directory");
    let output = Command::new(BUSYBEE)
        .arg("doctor")
        .args(arguments)
        .arg("--config")
        .arg(house.path("busybee.toml"))
        .env("TMPDIR", &scratch)
        .output()
        .expect("busybee starts");
    let left: Vec<_> = std::fs::read_dir(&scratch).expect("it is there").collect();
    assert!(left.is_empty(), "the doctor leaves nothing: {left:?}");
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn a_doctor_sees_that_the_master_answers_and_launches_only_when_it_does_not_run() {
    let mut house = House::open(&Plan { pipeline: HELLO, pool: "max_instances = 2" });
    let well = doctor(&house, &[]);
    assert!(well.status.success(), "{}", said(&well));
    assert!(said(&well).contains("as agents need it"), "{}", said(&well));
    assert!(said(&well).contains("1 of 1 branches and tags are watched"), "{}", said(&well));
    let refused = doctor(&house, &["--launch", "local"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("stop the master"), "{}", said(&refused));

    house.kill_master();
    let unknown = doctor(&house, &["--launch", "linux"]);
    assert!(said(&unknown).contains("no pool \"linux\""), "{}", said(&unknown));
    let launched = doctor(&house, &["--launch", "local", "--json"]);
    assert!(launched.status.success(), "{}", said(&launched));
    let lines = String::from_utf8_lossy(&launched.stdout).into_owned();
    let report = lines.lines().nth(1).expect("the findings, then the report");
    let report: serde_json::Value = serde_json::from_str(report).expect("JSON");
    assert_eq!(report["ok"], true, "{report:#}");
    let moments: Vec<&str> = report["moments"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|moment| moment["what"].as_str().expect("a word"))
        .collect();
    let expected = ["requested", "accepted", "called", "ready", "job", "done", "ending", "gone"];
    assert_eq!(moments, expected);
    assert!(house.processes("busybee-agent").is_empty());
}

#[test]
fn a_trial_whose_bootstrap_script_fails_says_its_last_lines_and_leaves_nothing() {
    let pool = "max_instances = 2\nbootstrap = \"fails.sh\"";
    // Not opened as others are: its master would not start without its script.
    let scripts = tempfile::tempdir().expect("a directory");
    std::fs::write(scripts.path().join("fails.sh"), "echo no such package: gcc-99 >&2; exit 7\n")
        .expect("write a script");
    let mut house = House::open(&Plan { pipeline: HELLO, pool: "max_instances = 2" });
    house.kill_master();
    let file = house.path("busybee.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let text = text
        .replace("max_instances = 2", pool)
        .replace("\n\n[[pool]]", &format!("\nbootstrap_dir = {:?}\n\n[[pool]]", scripts.path()));
    std::fs::write(&file, text).expect("write busybee.toml");
    let failed = doctor(&house, &["--launch", "local"]);
    assert_eq!(failed.status.code(), Some(4), "{}", said(&failed));
    assert!(said(&failed).contains("no such package: gcc-99"), "{}", said(&failed));
    assert!(house.processes("busybee-agent").is_empty());
}

#[test]
fn a_doctor_tells_a_port_that_something_else_has_from_one_that_is_silent() {
    let mut house = House::open(&Plan { pipeline: HELLO, pool: "max_instances = 2" });
    house.kill_master();
    // The wire accepts still, and closes what it cannot pass on.
    let silent = doctor(&house, &[]);
    assert!(silent.status.success(), "{}", said(&silent));
    assert!(said(&silent).contains("nothing answers"), "{}", said(&silent));

    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let port = other.local_addr().expect("it has an address").port();
    let talking = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().expect("the doctor calls");
        stream.write_all(b"220 mail.example.com ESMTP\r\n").expect("it listens");
        let mut hello = [0; 4096];
        let _closed = stream.read(&mut hello);
    });
    let file = house.path("busybee.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let url = |port: u16| format!("url = \"https://127.0.0.1:{port}\"");
    std::fs::write(&file, text.replace(&url(house.wire.port()), &url(port))).expect("write it");
    let foreign = doctor(&house, &[]);
    assert_eq!(foreign.status.code(), Some(1), "{}", said(&foreign));
    assert!(said(&foreign).contains("is not this master"), "{}", said(&foreign));
    talking.join().expect("it was called");
}
