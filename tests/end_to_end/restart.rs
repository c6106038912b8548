//! A master that ends, crashes or is upgraded while builds run: they go on, and whoever watches keeps
//! the place.

use std::collections::BTreeSet;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use busybee::runtime::clock;

use crate::HELLO;
use crate::POOL;
use crate::event_stream;
use crate::event_stream::Page;
use crate::house::BUSYBEE;
use crate::house::House;
use crate::house::Plan;
use crate::house::files_below;
use crate::numbered::Numbered;
use crate::numbered::assert_same;

/// Lines of a part: enough that something is always on its way.
const LINES: u32 = 3000;

fn serve(house: &House) -> Output {
    Command::new(BUSYBEE)
        .args(["serve", "--config"])
        .arg(house.path("busybee.toml"))
        .stdin(Stdio::null())
        .output()
        .expect("the master starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn builds_pages_and_followers_go_on_through_a_stop_and_a_crash_of_the_master() {
    let numbered = Numbered::new(4, LINES);
    let mut house = House::open(&Plan { pipeline: &numbered.pipeline(""), pool: POOL });
    let follower = std::fs::File::create(house.path("followed")).unwrap();
    let follower = Command::new(BUSYBEE)
        .args(["build", "start", "hello", "--follow", "--config"])
        .arg(house.path("busybee.toml"))
        .stdin(Stdio::null())
        .stdout(follower)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    numbered.await_part(&house, 1);
    let (port, address) = (house.master_port, event_stream::address_on_page(&house, "count", 1));
    let page = Page::open(port, address);
    house.eventually("the page is open", |_| page.calls() > 0);
    let calls_before = page.calls();
    let steps = house.processes("step-supervisor");
    assert_eq!(steps.len(), 1, "{steps:?}");

    // A stop, as for an upgrade: it ends in order, and the step prints on meanwhile.
    assert!(house.stop_master().success(), "{}", house.story());
    assert_eq!(house.processes("step-supervisor"), steps, "the step was not touched");
    numbered.open(1);
    let spool_has = |house: &House, parts: u32| {
        let whole = u64::try_from(numbered.expected(parts).len()).unwrap();
        let spools = files_below(&house.data_dir(), "1.log");
        spools.iter().any(|spool| std::fs::metadata(spool).is_ok_and(|file| file.len() >= whole))
    };
    house.eventually("part 2 is printed without a master", |house| spool_has(house, 2));
    house.start_master();
    numbered.await_part(&house, 2);
    house.eventually("the page has called again", |_| page.calls() > calls_before);

    // A crash.
    numbered.open(2);
    house.kill_master();
    house.eventually("part 3 is printed without a master", |house| spool_has(house, 3));
    house.start_master();
    numbered.await_part(&house, 3);
    numbered.open_all();

    let build = house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(build["jobs"][0]["attempts"], 1);
    let expected = numbered.expected(4);
    assert_same(&house.log(&["hello/1", "--step", "count"]), expected.as_bytes());
    let follower = follower.wait_with_output().unwrap();
    assert_eq!(follower.status.code(), Some(0), "{}", said(&follower));
    assert_same(&std::fs::read(house.path("followed")).unwrap(), &house.log(&["hello/1"]));
    let (lines, calls) = page.at_its_end();
    assert!(calls >= 3, "it was cut off twice: {calls} calls");
    assert_same(lines.text().as_bytes(), expected.as_bytes());
}

#[test]
fn a_log_of_two_jobs_side_by_side_breaks_off_at_a_stop_where_it_can_be_taken_up() {
    const TWO: &str = "version: 1
jobs:
  first: { steps: [{ name: wait, run: 'echo of the first; until [ -e $G ]; do sleep 0.05; done', env: { G: '@' } }] }
  second: { steps: [{ name: done, run: 'echo of the second' }] }
";
    let gates = tempfile::tempdir().unwrap();
    let gate = gates.path().join("open");
    let pipeline = TWO.replace('@', &gate.display().to_string());
    let mut house = House::open(&Plan { pipeline: &pipeline, pool: "max_instances = 2" });
    house.push(&[("more.txt", "more")], "two");
    house.eventually("the second has passed, the first waits", |house| {
        let build = house.busybee(&["build", "show", "hello/1", "--json"]).stdout;
        let build: serde_json::Value = serde_json::from_slice(&build).unwrap_or_default();
        let first = house.busybee(&["build", "logs", "hello/1", "--job", "first"]).stdout;
        build["jobs"][1]["status"] == "passed"
            && String::from_utf8_lossy(&first).contains("of the first\n")
    });
    let path = "/api/v1/projects/hello/builds/1/log?follow=true";
    let mut answer = event_stream::call(house.master_port, path, "").expect("it answers");
    let mut head = Vec::new();
    house.eventually("it has what the first has printed", |_| {
        head.extend(event_stream::chunk(&mut answer).expect("it goes on"));
        String::from_utf8_lossy(&head).contains("of the first\n")
    });
    assert!(house.stop_master().success());
    while let Some(more) = event_stream::chunk(&mut answer) {
        head.extend(more);
    }
    std::fs::write(&gate, "").unwrap();
    house.start_master();
    house.finished(1);
    let path = format!("/api/v1/projects/hello/builds/1/log?offset={}", head.len());
    let mut answer = event_stream::call(house.master_port, &path, "").expect("it answers");
    while let Some(more) = event_stream::chunk(&mut answer) {
        head.extend(more);
    }
    assert_same(
        &head,
        &[house.log(&["hello/1", "--job", "first"]), house.log(&["hello/1", "--job", "second"])]
            .concat(),
    );
}

#[test]
fn whatever_was_answered_before_a_stop_is_there_after_it() {
    let mut house = House::open(&Plan { pipeline: HELLO, pool: POOL });
    for is_crash in [false, true] {
        let is_over = AtomicBool::new(false);
        let before = house.json(&["build", "list", "--limit", "500"]);
        let before = before["builds"].as_array().unwrap().len();
        let mut answered: BTreeSet<u64> = BTreeSet::new();
        std::thread::scope(|scope| {
            let (toml, is_over) = (house.path("busybee.toml"), &is_over);
            let askers: Vec<_> = (0..3)
                .map(|_| {
                    let toml = toml.clone();
                    scope.spawn(move || {
                        let mut answered = Vec::new();
                        while !is_over.load(Ordering::Relaxed) {
                            let output = Command::new(BUSYBEE)
                                .args(["build", "start", "hello", "--json", "--config"])
                                .arg(&toml)
                                .output()
                                .unwrap();
                            let build: serde_json::Value =
                                serde_json::from_slice(&output.stdout).unwrap_or_default();
                            answered.extend(build["number"].as_u64());
                        }
                        answered
                    })
                })
                .collect();
            house.eventually("some are answered", |house| {
                let builds = house.json(&["build", "list", "--limit", "500"]);
                builds["builds"].as_array().unwrap().len() > before + 5
            });
            match is_crash {
                true => house.kill_master(),
                false => assert!(house.stop_master().success()),
            }
            is_over.store(true, Ordering::Relaxed);
            answered.extend(askers.into_iter().flat_map(|asker| asker.join().unwrap()));
        });
        house.start_master();
        let builds = house.json(&["build", "list", "--limit", "500"]);
        let there: BTreeSet<u64> = builds["builds"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|build| build["number"].as_u64())
            .collect();
        assert!(answered.len() >= 3, "{answered:?}");
        assert!(answered.is_subset(&there), "{:?}", answered.difference(&there));
    }
}

#[test]
fn a_stop_waits_for_nobody_who_does_not_answer() {
    // A repository that takes the connection and says nothing, a page that is never read, and a
    // connection that never says what it is.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let repository = format!("http://{}/hello.git", silent.local_addr().unwrap());
    let mut house = House::open(&Plan { pipeline: HELLO, pool: POOL });
    let file = house.path("busybee.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let more =
        format!("\n[[project]]\nname = \"silent\"\nrepo = \"{repository}\"\npoll = \"1s\"\n");
    std::fs::write(&file, text + &more).unwrap();
    assert!(house.stop_master().success());
    house.start_master();
    silent.accept().expect("it is polled");
    let _half_open = std::net::TcpStream::connect(("127.0.0.1", house.master_port)).unwrap();
    let _never_read = event_stream::call(house.master_port, "/api/v1/events", "").unwrap();

    let asked_at = clock::monotonic();
    assert!(house.stop_master().success());
    let took = clock::monotonic() - asked_at;
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_second_master_on_the_same_data_dir_says_so_and_does_not_harm_the_first() {
    let house = House::open(&Plan { pipeline: HELLO, pool: POOL });
    let refused = serve(&house);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let pid = format!("another (pid {}) runs on it", house.master_pid());
    assert!(said(&refused).contains(&pid), "{}", said(&refused));
    house.push(&[("more.txt", "more")], "the first works still");
    assert_eq!(house.finished(1)["status"], "passed", "{}", house.story());
}

#[test]
fn a_database_of_a_newer_master_is_refused_and_one_of_an_older_is_copied_and_taken_up() {
    let mut house = House::open(&Plan { pipeline: HELLO, pool: POOL });
    house.push(&[("more.txt", "more")], "a build");
    house.finished(1);
    house.kill_master();
    let file = house.data_dir().join("busybee.sqlite3");
    let schema = |set: Option<u32>| -> u32 {
        let database = rusqlite::Connection::open(&file).unwrap();
        if let Some(number) = set {
            database.pragma_update(None, "user_version", number).unwrap();
        }
        database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    let ours = schema(None);
    schema(Some(ours + 1));
    let refused = serve(&house);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let sentence = format!("was written by a newer busybee (schema {}", ours + 1);
    assert!(said(&refused).contains(&sentence), "{}", said(&refused));
    schema(Some(ours));
    house.start_master();
    assert_eq!(house.json(&["build", "show", "hello/1"])["status"], "passed");
    house.kill_master();

    // An older one, with much in it; and a disk that has no room for it twice.
    let older = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/db/0001.sql");
    for end in ["", "-wal", "-shm"] {
        let _not_there =
            std::fs::remove_file(house.data_dir().join(format!("busybee.sqlite3{end}")));
    }
    let database = rusqlite::Connection::open(&file).unwrap();
    database.execute_batch(&std::fs::read_to_string(older).unwrap()).unwrap();
    // What it has running is this file's, or the master would refuse to leave it behind.
    database.execute("UPDATE instances SET pool = 'local'", []).unwrap();
    database
        .execute("INSERT INTO meta (key, value) VALUES ('much', ?1)", ["x".repeat(4 << 20)])
        .unwrap();
    drop(database);
    let before = std::fs::read(&file).unwrap();
    let refused = Command::new("sh")
        // Files of this process may have 2 MiB: one that reaches the limit is told so, not killed.
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" serve --config \"$1\"", BUSYBEE])
        .arg(house.path("busybee.toml"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("is there room for it twice?"), "{}", said(&refused));
    assert_eq!(std::fs::read(&file).unwrap(), before, "it is as it was");
    let beside: Vec<_> = std::fs::read_dir(house.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("schema"))
        .collect();
    assert!(beside.is_empty(), "half a copy only fills the disk: {beside:?}");

    house.start_master();
    assert_eq!(schema(None), ours);
    assert_eq!(house.json(&["build", "list"])["builds"].as_array().unwrap().len(), 2);
    let copy =
        rusqlite::Connection::open(house.data_dir().join("busybee.sqlite3.schema-1")).unwrap();
    let kept: u32 = copy
        .query_row("SELECT length(value) FROM meta WHERE key = 'much'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 4 << 20);
}
