//! The road to EC2, on a stand-in whose instances boot: vanilla image, user-data, bootstrap, build,
//! terminated. Needs root; `tests/rig` says what is real and what is not.

use std::io::Write;

use serde_json::Value;

use crate::gate::Cut;
use crate::house::House;
use crate::house::Plan;
use crate::rig::may_run;

#[expect(dead_code, reason = "the tests of the channel use more of it")]
#[path = "../chaos/dice.rs"]
mod dice;
mod gate;
mod git_server;
mod house;
mod images;
mod killers;
mod moment;
mod rig;
mod spot;
mod stop_and_start;
mod told;
mod weather;

/// Ends idle instances soon, so that a test sees their end. No bootstrap: ready on connect.
pub(crate) const POOL: &str = "max_instances = 3\nidle_timeout = \"5s\"\nboot_timeout = \"5m\"";

pub(crate) const TRUE: &str = "version: 1
jobs:
  test:
    worker: [cloud]
    checkout: false
    steps:
      - run: id -un
";

/// Jobs that are alike.
fn many_jobs(count: usize) -> String {
    let mut text = "version: 1\njobs:\n".to_owned();
    for index in 0..count {
        text.push_str(&format!(
            "  job{index}:\n    worker: [cloud]\n    checkout: false\n    steps:\n      - run: sleep 1\n"
        ));
    }
    text
}

/// The most rows of the ledger that were open at one moment.
fn most_at_once(ledger: &[Value]) -> usize {
    let mut moments: Vec<(&str, i32)> = Vec::new();
    for row in ledger {
        moments.push((row["requested_at"].as_str().expect("a time"), 1));
        moments.push((row["ended_at"].as_str().expect("it has ended"), -1));
    }
    moments.sort();
    let mut open = 0;
    let most = moments.iter().map(|(_, change)| {
        open += change;
        open
    });
    usize::try_from(most.max().unwrap_or(0)).unwrap_or(0)
}

#[test]
fn a_push_builds_debian_packages_on_an_instance_that_is_gone_afterwards() {
    if !may_run("a_push_builds_debian_packages_on_an_instance_that_is_gone_afterwards") {
        return;
    }
    const PACKAGES: &str = "version: 1
jobs:
  packages:
    worker: [cloud]
    steps:
      - name: sources
        run: apt-get -q source hello bc
      - name: hello
        run: cd hello-*/ && dpkg-buildpackage -us -uc -b
      - name: bc
        run: cd bc-*/ && dpkg-buildpackage -us -uc -b
      - name: result
        run: ls *.deb && id
";
    let pool = format!(
        "{POOL}\nbootstrap = \"debian.sh\"\n\
         env = {{ DEBIAN_PACKAGES = \"build-essential fakeroot\", DEBIAN_BUILD_DEP = \"hello bc\" }}"
    );
    let house = House::open(&Plan { pipeline: PACKAGES, pool: &pool, ..Plan::default() });
    house.push(&[("more.txt", "more")], "build the packages");
    let build = house.finished(1, 400);

    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    let logs = |step: &str| {
        let output = house.busybee(&["build", "logs", "hello/1", "--step", step]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(logs("hello").contains("PASS"), "its own tests ran: {}", logs("hello"));
    let result = logs("result");
    assert!(result.contains("hello_") && result.contains("bc_"), "{result}");
    assert!(result.contains("(builder)") && !result.contains("sudo"), "{result}");
    house.everything_has_ended(120);
    let row = &house.ledger()[0];
    assert_eq!(row["why_ended"], "idle");
    let boot = house.boot_log_of_first(&build);
    assert!(boot.contains("user-data of Busybee"), "user-data's own log comes first: {boot}");
    assert!(boot.contains("Setting up"), "and then apt's lines");
    house.close();
}

#[test]
fn a_trial_launch_takes_the_whole_road_and_says_how_long_and_for_how_much() {
    if !may_run("a_trial_launch_takes_the_whole_road_and_says_how_long_and_for_how_much") {
        return;
    }
    let pool = format!("{POOL}\nbootstrap = \"debian.sh\"");
    let mut house = House::open(&Plan { pipeline: TRUE, pool: &pool, ..Plan::default() });
    house.kill_master();
    let trial = house.busybee(&["doctor", "--launch", "cloud"]);
    let told = String::from_utf8_lossy(&trial.stdout).into_owned();
    let said = String::from_utf8_lossy(&trial.stderr).into_owned();
    assert!(trial.status.success(), "{told}\n{said}\n{}", house.story());
    for part in
        ["ran `true`, and is gone", "ready", "paid for   ", "about $0.00", "$0.0416 an hour"]
    {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(house.rig().alive().is_empty());
    println!("{told}");
    house.close();
}

#[test]
fn never_more_instances_live_than_the_pool_may_have() {
    if !may_run("never_more_instances_live_than_the_pool_may_have") {
        return;
    }
    let jobs = many_jobs(20);
    let house = House::open(&Plan { pipeline: &jobs, pool: POOL, ..Plan::default() });
    house.push(&[("more.txt", "more")], "twenty jobs");
    let build = house.finished(1, 400);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    house.everything_has_ended(120);
    assert_eq!(most_at_once(&house.ledger()), 3);
    assert_eq!(house.rig().instances().len(), house.ledger().len());
    house.close();
}

#[test]
fn a_fresh_instance_for_each_job_and_all_of_them_ended() {
    if !may_run("a_fresh_instance_for_each_job_and_all_of_them_ended") {
        return;
    }
    let (jobs, pool) = (many_jobs(20), format!("{POOL}\njobs_per_instance = 1"));
    let house = House::open(&Plan { pipeline: &jobs, pool: &pool, ..Plan::default() });
    house.push(&[("more.txt", "more")], "twenty jobs");
    let build = house.finished(1, 400);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    house.everything_has_ended(120);
    assert_eq!(house.ledger().len(), 20);
    assert!(most_at_once(&house.ledger()) <= 3);
    house.close();
}

#[test]
fn what_goes_wrong_in_a_bootstrap_script_is_told_and_ends_the_instance() {
    if !may_run("what_goes_wrong_in_a_bootstrap_script_is_told_and_ends_the_instance") {
        return;
    }
    let scripts = [
        ("fails.sh", "echo installing the compiler; echo no such package: gcc-99 >&2; exit 7\n"),
        ("hangs.sh", "echo waiting for nothing; sleep 1000\n"),
        ("reboots.sh", "echo rebooting; systemctl reboot; sleep 1000\n"),
        ("fills.sh", "echo filling; cat /dev/zero >/var/zeros\n"),
        ("fills_and_goes_on.sh", "echo filling; cat /dev/zero >/var/zeros || true\n"),
    ];
    for (script, pool, expected) in [
        ("fails.sh", "boot_timeout = \"1m\"", vec!["ended with 7", "no such package: gcc-99"]),
        ("hangs.sh", "boot_timeout = \"15s\"", vec!["did not end within 15 s"]),
        ("reboots.sh", "boot_timeout = \"25s\"", vec!["within 25 s"]),
        ("fills.sh", "boot_timeout = \"1m\"", vec!["ended with 1", "no space is left"]),
        ("fills_and_goes_on.sh", "boot_timeout = \"1m\"", vec!["no room on the disk"]),
    ] {
        let pool = format!("max_instances = 1\nbootstrap = \"{script}\"\n{pool}");
        // A small disk, so that it is soon full.
        let ec2 = "volumes = [{ device = \"root\", size_gb = 1 }]";
        let plan = Plan { pipeline: TRUE, pool: &pool, ec2, scripts: &scripts, ..Plan::default() };
        let house = House::open(&plan);
        house.push(&[("more.txt", "more")], "try it");
        house.eventually(70, &format!("the reason of {script} is told"), |house| {
            let reason = house.reason(1);
            expected.iter().all(|part| reason.contains(part))
        });
        house.eventually(30, "the instance is ended", |house| {
            let first = house.ledger().pop().expect("there is a row");
            first["status"] == "terminated"
        });
        house.busybee(&["build", "cancel", "hello/1"]);
        house.everything_has_ended(120);
        house.close();
    }
}

#[test]
fn a_bootstrap_that_takes_curl_away_breaks_nothing() {
    if !may_run("a_bootstrap_that_takes_curl_away_breaks_nothing") {
        return;
    }
    let scripts = [("removes.sh", "rm -f \"$(command -v curl)\" \"$(command -v wget)\"\n")];
    let pool = format!("{POOL}\nbootstrap = \"removes.sh\"");
    let plan = Plan { pipeline: TRUE, pool: &pool, scripts: &scripts, ..Plan::default() };
    let house = House::open(&plan);
    house.push(&[("more.txt", "more")], "try it");
    let build = house.finished(1, 180);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    house.everything_has_ended(120);
    house.close();
}

#[test]
fn an_instance_that_never_calls_is_ended_and_its_console_kept() {
    if !may_run("an_instance_that_never_calls_is_ended_and_its_console_kept") {
        return;
    }
    let pool = "max_instances = 1\nboot_timeout = \"12s\"";
    let house = House::open(&Plan { pipeline: TRUE, pool, ..Plan::default() });
    house.push(&[("more.txt", "more")], "try it");
    house.launch_is_accepted();
    // As a security group without a way out: nothing gets from the instance to the master.
    house.rig().cut_off();
    house.eventually(60, "it is given up", |house| {
        house.reason(1).contains("its agent never called within 12 s")
    });
    let row = house.ledger().pop().expect("there is a row");
    let worker = row["worker"].as_str().expect("it was for a worker").to_owned();
    house.eventually(30, "its console is kept", |house| {
        let boot = house.busybee(&["worker", "show", &worker]);
        let boot = String::from_utf8_lossy(&boot.stdout).into_owned();
        boot.contains("No agent called from this machine") && boot.contains("Started")
    });
    house.busybee(&["build", "cancel", "hello/1"]);
    house.everything_has_ended(120);
    house.close();
}

#[test]
fn a_master_killed_at_any_point_of_a_launch_adopts_or_ends_what_it_started() {
    if !may_run("a_master_killed_at_any_point_of_a_launch_adopts_or_ends_what_it_started") {
        return;
    }
    for cut in [
        Cut::Before("DescribeImages"),
        Cut::After("DescribeImages"),
        Cut::Before("RunInstances"),
        Cut::After("RunInstances"),
    ] {
        let mut house = House::open(&Plan { pipeline: TRUE, pool: POOL, ..Plan::default() });
        house.gate.stop_at(cut);
        house.push(&[("more.txt", "more")], "try it");
        house.gate.wait_for_it();
        house.kill_master();
        house.start_master();
        let build = house.finished(1, 180);
        assert_eq!(build["status"], "passed", "{cut:?} {build:#}\n{}", house.story());
        assert_eq!(house.rig().instances().len(), 1, "{cut:?}: it was adopted, not doubled");
        house.everything_has_ended(120);
        house.close();
    }
}

#[test]
fn a_master_killed_while_its_instance_boots_adopts_it() {
    if !may_run("a_master_killed_while_its_instance_boots_adopts_it") {
        return;
    }
    let mut house = House::open(&Plan { pipeline: TRUE, pool: POOL, ..Plan::default() });
    house.push(&[("more.txt", "more")], "try it");
    house.launch_is_accepted();
    house.kill_master();
    house.start_master();
    let build = house.finished(1, 180);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(house.rig().instances().len(), 1);
    house.everything_has_ended(120);
    house.close();
}

#[test]
fn an_instance_that_boots_while_its_master_is_upgraded_finds_what_it_was_told_of() {
    if !may_run("an_instance_that_boots_while_its_master_is_upgraded_finds_what_it_was_told_of") {
        return;
    }
    let agents = tempfile::tempdir().expect("a directory");
    let agent = agents.path().join("busybee-agent");
    std::fs::copy(env!("CARGO_BIN_EXE_busybee-agent"), &agent).expect("copy the agent");
    let plan = Plan { pipeline: TRUE, pool: POOL, agents: Some(agents.path()), ..Plan::default() };
    let mut house = House::open(&plan);
    house.push(&[("more.txt", "more")], "try it");
    house.launch_is_accepted();
    house.kill_master();
    // Another one, which runs as well.
    let mut file = std::fs::File::options().append(true).open(&agent).expect("open the agent");
    file.write_all(b"\n").expect("write to it");
    house.start_master();
    let build = house.finished(1, 180);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(house.rig().instances().len(), 1);
    house.everything_has_ended(120);
    house.close();
}

#[test]
fn an_instance_of_an_earlier_life_of_the_master_is_ended() {
    if !may_run("an_instance_of_an_earlier_life_of_the_master_is_ended") {
        return;
    }
    let mut house = House::open(&Plan { pipeline: TRUE, pool: POOL, ..Plan::default() });
    house.push(&[("more.txt", "more")], "try it");
    house.launch_is_accepted();
    house.kill_master();
    std::fs::remove_dir_all(house.path("data")).expect("the master's memory is lost");
    std::fs::remove_file(house.path("master.log")).expect("its log too");
    house.start_master();
    house.eventually(60, "the orphan is ended", |house| house.rig().alive().is_empty());
    house.eventually(60, "its row is over", |house| {
        house.ledger().first().is_some_and(|row| row["status"] == "terminated")
    });
    let ledger = house.ledger();
    assert_eq!(ledger.len(), 1, "{ledger:#?}");
    assert_eq!(ledger[0]["why_ended"], "an earlier life of this master has left it");
    house.close();
}
