//! What users' steps really do, each with its status, exit, log and time; and checkouts of real
//! repositories. The supervisor is the real one; there is no master. As root also: steps that run as a
//! user without rights.

use std::time::Duration;

use busybee::model::attempt::AttemptOutcome;
use busybee::model::step::RunsAfter;
use busybee::model::step::Shell;
use busybee::model::step::StepOutcome;
use busybee::runtime::clock;

use crate::bench::Bench;
use crate::bench::eventually;
use crate::bench::lives;
use crate::bench::step;

mod bench;
mod builder_user;
mod checkouts;
mod metadata;
mod secrets;
mod test_user;

/// Longer than a grace for strays, much shorter than what a test would otherwise wait for.
const SOON: Duration = Duration::from_secs(8);

#[test]
fn a_step_that_passes_has_its_output_as_it_was_written() {
    let done = Bench::run("echo out; echo err >&2; printf 'no newline'");
    assert_eq!(done.outcome, AttemptOutcome::Passed);
    assert_eq!(done.step(1), &StepOutcome::Exited(0));
    assert_eq!(done.log(1), "out\nerr\nno newline");
    assert!(done.took < SOON);
}

#[test]
fn a_background_child_that_holds_the_pipe_is_ended_with_its_step() {
    let done = Bench::run("sleep 1000 & echo $!");
    assert_eq!(done.step(1), &StepOutcome::Exited(0));
    let pid = done.log(1).lines().next().unwrap().to_owned();
    assert!(!lives(&pid));
    assert!(done.log(1).contains("ending what the step left behind: sleep"), "{}", done.log(1));
    assert!(done.took < SOON, "{:?}", done.took);
}

#[test]
fn a_child_in_a_session_of_its_own_is_ended_with_its_step() {
    let done = Bench::run(
        "setsid sleep 1000 > /dev/null 2>&1 & sleep 0.2; pgrep -s 0 > /dev/null; echo done",
    );
    assert_eq!(done.step(1), &StepOutcome::Exited(0));
    let log = done.log(1);
    assert!(log.starts_with("done\n") && log.contains("left behind: sleep"), "{log}");
    assert!(done.took < SOON, "{:?}", done.took);
}

#[test]
fn a_step_that_closes_its_output_is_waited_for_all_the_same() {
    let done = Bench::run("echo before; exec >&- 2>&-; sleep 1; exit 3");
    assert_eq!(done.step(1), &StepOutcome::Exited(3));
    assert_eq!(done.log(1), "before\n");
    assert!(done.took >= Duration::from_secs(1));
    assert_eq!(done.outcome, AttemptOutcome::Failed);
}

#[test]
fn bytes_that_are_not_utf_8_stay_what_they_are() {
    let done = Bench::run(r"printf '\377\376\000\001 caf\351\n'");
    assert_eq!(done.step(1), &StepOutcome::Exited(0));
    assert_eq!(done.bytes(1), b"\xff\xfe\x00\x01 caf\xe9\n");
}

#[test]
fn a_line_of_a_gigabyte_is_whole() {
    let bench = Bench::with(vec![step("head -c 1000000000 /dev/zero | tr '\\0' x")]);
    let done = bench.into_done();
    assert_eq!(done.step(1), &StepOutcome::Exited(0));
    assert_eq!(done.bytes(1).len(), 1_000_000_000);
    assert!(done.bytes(1).iter().all(|byte| *byte == b'x'));
    assert!(done.took < Duration::from_secs(90), "{:?}", done.took);
}

#[test]
fn a_step_that_a_signal_ends_says_which() {
    let done = Bench::run("echo here; kill -SEGV $$");
    assert_eq!(done.step(1), &StepOutcome::Signalled(11));
    assert_eq!(done.log(1), "here\n");
    assert_eq!(done.outcome, AttemptOutcome::Failed);
    let done = Bench::run("kill -KILL $$");
    assert_eq!(done.step(1), &StepOutcome::Signalled(9));
    assert!(done.log(1).contains("perhaps for memory"), "{}", done.log(1));
}

#[test]
fn a_step_that_runs_out_of_memory_fails_and_nothing_else_does() {
    // Bounded by a limit of its own, so that the test's computer is not what runs out.
    let hungry = "ulimit -v 300000; exec python3 -c 'x = bytearray(2 * 1000**3)'";
    let mut after = step("echo the worker goes on");
    after.when = RunsAfter { success: true, failure: true, cancel: false };
    let done = Bench::with(vec![step(hungry), after]).into_done();
    assert_eq!(done.step(1), &StepOutcome::Exited(1));
    assert!(done.log(1).contains("MemoryError"), "{}", done.log(1));
    assert_eq!(done.log(2), "the worker goes on\n");
    assert_eq!(done.outcome, AttemptOutcome::Failed);
}

#[test]
fn a_full_disk_under_the_log_ends_the_step_as_the_workers_fault() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: a full disk needs root, to mount a small one");
        return;
    }
    let mut bench = Bench::with(vec![step("yes 'a line that fills the disk' | head -c 50000000")]);
    let home = bench.home.path().to_owned();
    let mount = |arguments: &[&str]| {
        std::process::Command::new(arguments[0]).args(&arguments[1..]).arg(&home).status()
    };
    let mounted = mount(&["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
    if !mounted.is_ok_and(|status| status.success()) {
        println!("SKIPPED: a full disk needs the right to mount a small one");
        return;
    }
    bench.start();
    let dir = bench.dir();
    eventually("the step ends", || dir.step_result(1).is_some() || dir.result().is_some());
    let result = dir.step_result(1);
    let unmounted = mount(&["umount", "--lazy"]);
    assert!(unmounted.is_ok_and(|status| status.success()));
    // The results go where the log went; a few kilobytes are found for them, or the agent says so.
    if let Some(busybee::wire::message::FromAgent::StepResult(result)) = result {
        let StepOutcome::Infra(why) = result.outcome else { panic!("{:?}", result.outcome) };
        assert!(why.contains("cannot write the step's log on the worker"), "{why}");
    }
}

#[test]
fn a_step_that_ignores_term_is_killed_ten_seconds_later() {
    let mut stubborn = step("trap '' TERM; echo stubborn; while :; do sleep 1000; done");
    stubborn.timeout = Some(Duration::from_secs(1));
    let done = Bench::with(vec![stubborn]).into_done();
    assert_eq!(done.step(1), &StepOutcome::TimedOut);
    let log = done.log(1);
    assert!(log.starts_with("stubborn\n"), "{log}");
    assert!(log.contains("the step ran out of time: ending") && log.contains("sleep ("), "{log}");
    assert!(log.contains("killing it"), "{log}");
    let between = Duration::from_secs(10)..Duration::from_secs(25);
    assert!(between.contains(&done.took), "{:?}", done.took);
}

#[test]
fn a_step_that_heeds_term_is_over_at_once() {
    let mut polite = step("echo polite; exec sleep 1000");
    polite.timeout = Some(Duration::from_secs(1));
    let done = Bench::with(vec![polite]).into_done();
    assert_eq!(done.step(1), &StepOutcome::TimedOut);
    assert!(done.took < SOON, "{:?}", done.took);
}

#[test]
fn a_step_that_forks_five_thousand_times_leaves_none_behind() {
    let done = Bench::run(
        "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); (exit 0) & [ $((i % 200)) -ne 0 ] || wait; done; \
         wait; echo forked $i times",
    );
    assert_eq!(done.step(1), &StepOutcome::Exited(0));
    assert_eq!(done.log(1), "forked 5000 times\n");
    assert!(done.took < Duration::from_secs(60), "{:?}", done.took);
}

#[test]
fn two_million_lines_arrive_each_once_and_in_order() {
    let done = Bench::run("seq -f 'line %.0f of a long log' 2000000");
    assert_eq!(done.step(1), &StepOutcome::Exited(0));
    let log = done.bytes(1);
    let mut lines = 0_u64;
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        lines += 1;
        assert_eq!(line, format!("line {lines} of a long log").as_bytes());
    }
    assert_eq!(lines, 2_000_000);
    assert!(done.took < Duration::from_secs(60), "{:?}", done.took);
}

#[test]
fn a_cancel_ends_the_step_and_only_steps_that_always_run_follow() {
    let mut always = step("echo tidied");
    always.when = RunsAfter { success: true, failure: true, cancel: true };
    let mut bench = Bench::with(vec![step("echo begun; sleep 1000"), step("echo never"), always]);
    bench.start();
    bench.wait_for_log(1, "begun");
    bench.dir().set_cancelled().unwrap();
    bench.dir().wake_supervisor();
    let done = bench.into_done();
    assert_eq!(done.outcome, AttemptOutcome::Cancelled);
    assert_eq!(done.step(1), &StepOutcome::Cancelled);
    assert!(done.log(1).contains("the job was cancelled: ending"), "{}", done.log(1));
    assert_eq!(done.step(2), &StepOutcome::Skipped);
    assert_eq!(done.log(3), "tidied\n");
    assert!(done.took < SOON, "{:?}", done.took);
}

#[test]
fn a_lease_that_is_not_renewed_ends_the_step_and_the_attempt() {
    let mut always = step("echo never");
    always.when = RunsAfter { success: true, failure: true, cancel: true };
    let mut bench = Bench::with(vec![step("echo begun; exec sleep 1000"), always]);
    bench.spec.lease = Duration::from_secs(1);
    let done = bench.into_done();
    let AttemptOutcome::Infra(why) = &done.outcome else { panic!("{:?}", done.outcome) };
    assert!(why.contains("master was not heard of"), "{why}");
    assert_eq!(done.step(2), &StepOutcome::Skipped);
    assert!(done.took < SOON, "{:?}", done.took);
}

#[test]
fn a_lease_that_is_renewed_lets_the_step_go_on() {
    let mut bench = Bench::with(vec![step("echo begun; sleep 2; echo done")]);
    bench.spec.lease = Duration::from_secs(1);
    bench.start();
    bench.wait_for_log(1, "begun");
    bench.dir().set_lease(clock::monotonic() + Duration::from_secs(60)).unwrap();
    let done = bench.into_done();
    assert_eq!(done.log(1), "begun\ndone\n");
    assert_eq!(done.outcome, AttemptOutcome::Passed);
}

#[test]
fn a_job_that_runs_out_of_time_ends_its_step() {
    let mut bench = Bench::with(vec![step("exec sleep 1000"), step("echo never")]);
    bench.spec.timeout = Duration::from_secs(1);
    let done = bench.into_done();
    assert_eq!(done.step(1), &StepOutcome::TimedOut);
    assert_eq!(done.step(2), &StepOutcome::Skipped);
    assert_eq!(done.outcome, AttemptOutcome::Failed);
    assert!(done.took < SOON, "{:?}", done.took);
}

#[test]
fn a_step_sees_its_own_environment_and_nothing_of_the_agents() {
    let mut show = step("env | sort");
    show.env = vec![("OWN".into(), "1".into()), ("CI".into(), "mine".into())];
    let done = Bench::with(vec![show]).into_done();
    let log = done.log(1);
    assert!(
        log.contains("CI=mine\n") && log.contains("OWN=1\n") && log.contains("TMPDIR="),
        "{log}"
    );
    for foreign in ["BB_", "CARGO"] {
        let ours = |line: &str| line.starts_with(foreign);
        assert!(!log.lines().any(ours), "{foreign} in {log}");
    }
}

#[test]
fn a_step_hears_signals_that_the_agent_was_started_deaf_to() {
    let heard = "for name in HUP INT QUIT TERM; do trap \"echo $name\" $name; kill -$name $$; done";
    let mut bench = Bench::with(vec![step(heard)]);
    let deaf = ["sh", "-c", "trap '' HUP INT QUIT TERM; exec \"$@\"", "sh"];
    bench.within = deaf.map(str::to_owned).to_vec();
    assert_eq!(bench.into_done().log(1), "HUP\nINT\nQUIT\nTERM\n");
}

#[test]
fn bash_stops_at_the_first_failure_in_a_pipe_and_sh_at_the_first_command() {
    let mut bash = step("false | true; echo not reached");
    bash.shell = Shell::Bash;
    assert_eq!(Bench::with(vec![bash]).into_done().step(1), &StepOutcome::Exited(1));
    let done = Bench::run("false; echo not reached");
    assert_eq!((done.step(1), done.log(1).as_str()), (&StepOutcome::Exited(1), ""));
}

#[test]
fn what_one_step_leaves_in_the_workspace_the_next_one_finds() {
    let done = Bench::with(vec![step("echo made > file"), step("cat file")]).into_done();
    assert_eq!(done.log(2), "made\n");
}
