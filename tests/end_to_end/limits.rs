//! Disks that fill up, readers that do not read, and steps that print more than anybody wants: memory is
//! bounded, what is cut says so, and nobody waits for ever.

use std::io::Read;
use std::path::Path;
use std::process::Command;

use crate::POOL;
use crate::event_stream;
use crate::event_stream::Page;
use crate::house::BUSYBEE;
use crate::house::House;
use crate::house::Plan;
use crate::house::files_below;
use crate::numbered::Numbered;
use crate::numbered::assert_same;

/// What a process may grow by while much goes through it: some windows of each connection, and what an
/// allocator keeps. Far less than what goes through.
const GROWTH_KIB_MAX: u64 = 48 * 1024;

/// Whether small disks can be made for this test; says so if not.
fn has_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("BUSYBEE_REQUIRE_TOOLS").is_none(), "{test} needs root");
    println!("SKIPPED {test}: it mounts a small disk, and needs root for that");
    false
}

/// Takes up all room on a disk but some KiB.
fn fill_up(disk: &Path, name: &str) -> std::path::PathBuf {
    let file = disk.join(name);
    let all = std::fs::File::create(&file).unwrap();
    let whole = rustix::fs::FallocateFlags::empty();
    let mut length = 0;
    for step in [1 << 20, 64 << 10, 4 << 10] {
        while rustix::fs::fallocate(&all, whole, length, step).is_ok() {
            length += step;
        }
    }
    file
}

/// A line of `/proc/PID/status`, in KiB.
fn memory_kib(pid: i32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux has it");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The size of the agent that workers fetch, in MiB: a debug build is large.
fn agent_mib() -> u64 {
    let agent = std::fs::metadata(env!("CARGO_BIN_EXE_busybee-agent")).unwrap();
    agent.len().div_ceil(1 << 20)
}

#[test]
fn a_full_disk_of_the_master_stops_new_work_says_so_and_loses_nothing() {
    if !has_root("a_full_disk_of_the_master") {
        return;
    }
    let numbered = Numbered::new(3, 20_000);
    let pool = "max_instances = 1\nreconnect_grace = \"10m\"";
    let mut house = House::prepare(&Plan { pipeline: &numbered.pipeline(""), pool });
    let disk = house.data_dir();
    // Each master keeps the agent that it serves.
    house.mount(&disk, 96 + agent_mib());
    // Workers have a disk of their own.
    house.mount(&disk.join("machines"), 3 * agent_mib() + 64);
    house.start_master();
    house.push(&[("more.txt", "more")], "count");
    numbered.await_part(&house, 1);

    let filling = fill_up(&disk, "somebody-elses");
    numbered.open(1);
    house.eventually("whoever wants more work is told why there is none", |house| {
        let refused = house.busybee(&["build", "start", "hello"]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        refused.status.code() != Some(0) && told.contains("no new work begins")
    });
    house.eventually("pages say so", |house| {
        let page = event_stream::page(house, "/");
        page.contains("role=\"alert\"") && page.contains("no new work begins")
    });
    house.push(&[("more.txt", "even more")], "while it is full");
    numbered.open_all();
    house.eventually("the step has ended on the worker", |house| {
        house.processes("step-supervisor").is_empty()
    });
    // Its log is not here, so its end is not told: nobody may take a part for all of it.
    let build = house.json(&["build", "show", "hello/1"]);
    assert_eq!(build["status"], "running", "{build:#}");
    let log = house.log(&["hello/1", "--step", "count"]);
    assert!(numbered.expected(3).as_bytes().starts_with(&log), "what is here is right");
    assert!(log.len() >= numbered.expected(1).len());
    // It is started anew in the middle of it, when even what it has thrown off is used up, and finds it so.
    house.kill_master();
    let the_rest = fill_up(&disk, "another-one-s");
    house.start_master();
    assert_eq!(house.json(&["build", "show", "hello/1"])["status"], "running");

    std::fs::remove_file(filling).unwrap();
    std::fs::remove_file(the_rest).unwrap();
    let build = house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(build["jobs"][0]["attempts"], 1);
    let step = build["jobs"][0]["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(step["log_incomplete"], false, "{step:#}");
    let log = house.log(&["hello/1", "--step", "count"]);
    assert_same(&log, numbered.expected(3).as_bytes());
    assert_eq!(house.finished(2)["status"], "passed", "what was pushed meanwhile is built");
    assert!(house.data_dir().join("ballast").exists(), "it is aboard again");
}

#[test]
fn a_full_disk_of_a_worker_ends_the_step_with_what_was_printed_and_the_reason() {
    if !has_root("a_full_disk_of_a_worker") {
        return;
    }
    const FILLS: &str = r#"version: 1
jobs:
  fill:
    retry: { infra: 0 }
    checkout: false
    steps:
      - name: fill
        run: |
          echo before
          dd if=/dev/zero of=everything bs=64k 2>/dev/null || echo there is no more room
          seq -f "line %.0f behind it" 1000000
          exec sleep 1000
"#;
    let mut house = House::prepare(&Plan { pipeline: FILLS, pool: "max_instances = 1" });
    house.mount(&house.data_dir().join("machines"), 2 * agent_mib() + 24);
    house.start_master();
    house.push(&[("more.txt", "more")], "fill it");
    let build = house.finished(1);
    let job = &build["jobs"][0];
    assert_eq!(job["status"], "infra", "{build:#}\n{}", house.story());
    let reason = job["reason"].as_str().unwrap();
    assert!(
        reason.contains("cannot write the step's log on the worker: No space left"),
        "{reason}"
    );
    let log = String::from_utf8(house.log(&["hello/1", "--step", "fill"])).unwrap();
    assert!(log.starts_with("before\n"), "{log}");
    assert!(log.contains("busybee: the log ends here: the worker's disk takes no more"), "{log}");
    assert!(house.processes("sleep 1000").is_empty());
}

#[test]
fn readers_that_do_not_read_cost_little_and_miss_nothing() {
    const READERS: usize = 40;
    // What waits for one: some pieces of 64 KiB, as lines of HTML several times that, and what its
    // connection gathers.
    const READER_KIB_MAX: u64 = 2 * 1024;
    let numbered = Numbered::new(2, 200_000);
    let house = House::open(&Plan { pipeline: &numbered.pipeline(""), pool: POOL });
    house.push(&[("more.txt", "more")], "print much");
    let address = event_stream::address_on_page(&house, "count", 1);
    let raw = "/api/v1/projects/hello/builds/1/log?job=count&step=count&follow=true";
    let mut lazy: Vec<_> = (0..READERS)
        .map(|number| {
            let path = if number % 2 == 0 { raw } else { &address };
            event_stream::call(house.master_port, path, "").expect("it answers")
        })
        .collect();
    let before = memory_kib(house.master_pid(), "VmHWM");
    numbered.await_part(&house, 1);
    // Somebody who reads is not kept waiting by those who do not.
    let page = Page::open(house.master_port, address);
    numbered.open_all();
    let build = house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    let expected = numbered.expected(2);
    let (lines, _) = page.at_its_end();
    assert_same(lines.text().as_bytes(), expected.as_bytes());
    let grown = memory_kib(house.master_pid(), "VmHWM") - before;
    println!("{} MiB of log, {READERS} readers: grown by {grown} KiB", expected.len() >> 20);
    assert!(grown < READERS as u64 * READER_KIB_MAX, "grown by {grown} KiB");
    // Late, they get what waits in the connection. Whose connection was given up meanwhile (the kernel
    // does after 30 s without a byte taken) calls again, as `busybee build logs` and browsers do.
    let (mut late, mut answer) = (Vec::new(), lazy.swap_remove(0));
    house.eventually("a late reader has all of it", |house| {
        while let Some(bytes) = event_stream::chunk(&mut answer) {
            late.extend(bytes);
        }
        let rest = format!("{raw}&offset={}", late.len());
        answer = event_stream::call(house.master_port, &rest, "").expect("it answers");
        late.len() >= expected.len()
    });
    assert_same(&late, expected.as_bytes());
}

#[test]
fn bursts_of_a_hundred_thousand_lines_at_once_are_all_there_and_pass_through_little_memory() {
    const BURSTS: &str = "version: 1
defaults: { retry: { infra: 0 } }
jobs:
  one: { steps: [{ name: burst, run: 'seq -f \"one %.0f xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" 100000' }] }
  two: { steps: [{ name: burst, run: 'seq -f \"two %.0f xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" 100000' }] }
  six: { steps: [{ name: burst, run: 'seq -f \"six %.0f xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" 100000' }] }
";
    let house = House::open(&Plan { pipeline: BURSTS, pool: "max_instances = 3" });
    let before = memory_kib(house.master_pid(), "VmHWM");
    house.push(&[("more.txt", "more")], "three bursts");
    let build = house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    let grown = memory_kib(house.master_pid(), "VmHWM") - before;
    assert!(grown < GROWTH_KIB_MAX, "the master has grown by {grown} KiB");
    for agent in house.processes("busybee-agent run") {
        let peak = memory_kib(agent, "VmHWM");
        println!("an agent: {peak} KiB");
        assert!(peak < GROWTH_KIB_MAX, "an agent took {peak} KiB");
    }
    for job in ["one", "two", "six"] {
        let log = house.log(&["hello/1", "--job", job, "--step", "burst"]);
        let expected: String = (1..=100_000)
            .map(|line| format!("{job} {line} xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"))
            .collect();
        assert_same(&log, expected.as_bytes());
    }
}

#[test]
fn a_spool_that_the_master_is_too_slow_for_grows_and_the_step_is_not_slowed() {
    // The master is there, and takes nothing: stopped as a disk that hangs would stop it.
    let numbered = Numbered::new(2, 300_000);
    let house = House::open(&Plan { pipeline: &numbered.pipeline(""), pool: POOL });
    house.push(&[("more.txt", "more")], "print much");
    let spool = |house: &House| {
        let spools = files_below(&house.data_dir(), "1.log");
        spools.iter().filter_map(|spool| Some(std::fs::metadata(spool).ok()?.len())).sum::<u64>()
    };
    house.eventually("it prints", |house| spool(house) > 0);
    crate::house::signal(house.master_pid(), rustix::process::Signal::STOP);
    numbered.open_all();
    let whole = u64::try_from(numbered.expected(2).len()).unwrap();
    house.eventually("the step has printed all of it", |house| spool(house) >= whole);
    crate::house::signal(house.master_pid(), rustix::process::Signal::CONT);
    assert_eq!(house.finished(1)["status"], "passed", "{}", house.story());
    let log = house.log(&["hello/1", "--step", "count"]);
    assert_same(&log, numbered.expected(2).as_bytes());
}

#[test]
fn a_bootstrap_script_that_prints_without_end_is_cut_where_it_says_so() {
    let pool = "max_instances = 1\nbootstrap = \"talks.sh\"";
    let mut house = House::prepare(&Plan { pipeline: crate::HELLO, pool });
    let scripts = house.path("scripts");
    std::fs::create_dir(&scripts).unwrap();
    let script = "yes 'a line of the bootstrap script' | head -c 90000000\n";
    std::fs::write(scripts.join("talks.sh"), script).unwrap();
    let file = house.path("busybee.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let dir = format!("\nbootstrap_dir = {scripts:?}\n\n[[pool]]");
    std::fs::write(&file, text.replacen("\n\n[[pool]]", &dir, 1)).unwrap();
    house.start_master();
    house.push(&[("more.txt", "more")], "build");
    assert_eq!(house.finished(1)["status"], "passed", "{}", house.story());
    let workers = house.json(&["worker", "list"]);
    let name = workers["workers"][0]["name"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/workers/{name}/log");
    let mut answer = event_stream::call(house.master_port, &path, "").expect("it answers");
    let (mut length, mut end) = (0, Vec::new());
    while let Some(bytes) = event_stream::chunk(&mut answer) {
        length += bytes.len();
        end = bytes;
    }
    let end = String::from_utf8_lossy(&end).into_owned();
    assert!(
        end.ends_with("\nbusybee: the log ends here: the master keeps no more than 64 MiB of it\n")
    );
    assert!(length > 60 << 20 && length < 65 << 20, "{length}");
}

/// Takes minutes in a debug build: `cargo test --release --test end_to_end -- --ignored`.
#[test]
#[ignore = "prints 1.2 GB"]
fn a_step_that_prints_more_than_a_gigabyte_keeps_its_head_and_its_end() {
    const FLOOD: &str = "version: 1
jobs:
  flood:
    checkout: false
    timeout: 20m
    steps: [{ name: flood, run: 'echo begin; yes \"a line of which there are far too many\" | head -n 30769231; echo end' }]
";
    let house = House::open(&Plan { pipeline: FLOOD, pool: POOL });
    let master = memory_kib(house.master_pid(), "VmHWM");
    let waited = house.busybee(&["build", "start", "hello", "--wait"]);
    assert_eq!(waited.status.code(), Some(0), "{}", house.story());
    for agent in house.processes("busybee-agent run") {
        let peak = memory_kib(agent, "VmHWM");
        println!("an agent: {peak} KiB");
        assert!(peak < GROWTH_KIB_MAX, "an agent took {peak} KiB");
    }
    let grown = memory_kib(house.master_pid(), "VmHWM") - master;
    println!("the master has grown by {grown} KiB");
    assert!(grown < GROWTH_KIB_MAX, "the master has grown by {grown} KiB");
    let path = "/api/v1/projects/hello/builds/1/log?job=flood&step=flood";
    let mut answer = event_stream::call(house.master_port, path, "").expect("it answers");
    let (mut length, mut head, mut tail) = (0, Vec::new(), Vec::new());
    while let Some(bytes) = event_stream::chunk(&mut answer) {
        length += bytes.len();
        if head.is_empty() {
            head.clone_from(&bytes);
        }
        tail.extend(bytes);
        tail.drain(..tail.len().saturating_sub(100 << 10));
    }
    let (head, tail) = (String::from_utf8_lossy(&head), String::from_utf8_lossy(&tail));
    assert!(head.starts_with("begin\n") && tail.ends_with("\nend\n"));
    assert!(tail.contains("bytes are left out here: a step's log holds at most 1073741824 bytes"));
    assert!(length > 1 << 30 && length < (1 << 30) + (70 << 10), "{length}");
}

#[test]
fn a_reader_that_goes_away_in_the_middle_is_let_go() {
    let numbered = Numbered::new(2, 50_000);
    let house = House::open(&Plan { pipeline: &numbered.pipeline(""), pool: POOL });
    house.push(&[("more.txt", "more")], "print");
    numbered.await_part(&house, 1);
    let open = |house: &House| {
        std::fs::read_dir(format!("/proc/{}/fd", house.master_pid())).unwrap().count()
    };
    let before = open(&house);
    let raw = "/api/v1/projects/hello/builds/1/log?job=count&step=count&follow=true";
    for _ in 0..50 {
        let mut answer = event_stream::call(house.master_port, raw, "").expect("it answers");
        answer.read_exact(&mut [0; 64]).unwrap();
    }
    let piped = Command::new("sh")
        .args(["-c", "\"$0\" build logs hello/1 --config \"$1\" | head -n 1", BUSYBEE])
        .arg(house.path("busybee.toml"))
        .output()
        .unwrap();
    assert!(piped.status.success());
    house.eventually("their connections are closed", |house| open(house) <= before + 5);
    numbered.open_all();
    assert_eq!(house.finished(1)["status"], "passed", "{}", house.story());
}
