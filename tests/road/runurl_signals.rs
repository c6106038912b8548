//! `runurl` and signals: the script hears of them, and nothing stays behind.

use crate::machine::Machine;
use crate::machine::Run;
use crate::machine::wait_until;
use crate::server::Authority;
use crate::server::Reply;
use crate::server::Server;
use busybee::master::user_data::RUNURL;
use busybee::runtime::clock::monotonic;
use rustix::process::Signal;
use std::time::Duration;

/// Ends in its own way when it is told to, and says when it is ready for that: not before its child is a
/// program of its own. Between fork and exec a child has its parent's trap still, and a signal is lost on it.
const PATIENT: &str = "#!/bin/sh
trap 'kill $nap; echo told >told; exit 7' TERM
sh -c 'echo here >napping; exec sleep 600' &
nap=$!
until [ -s napping ]; do sleep 0.01; done
echo ready >ready
while :; do wait $nap; done
";

fn runurl(machine: &Machine, authority: &Authority, server: &Server, path: &str) -> Run {
    let program = machine.write(&machine.path("runurl"), RUNURL);
    let ca = machine.write(&machine.path("ca.pem"), &authority.pem());
    let run = machine.sh(&program).env("BB_CA", ca).env("BB_MASTER_URL", server.url(""));
    run.env("RUNURL_DEADLINE", "120").arg(&server.url(path))
}

fn assert_nothing_left(machine: &Machine) {
    assert_eq!(machine.list("tmp"), Vec::<String>::new(), "the private directory is gone");
    let shell = machine.shell;
    wait_until(&format!("the last process to end under {shell}"), || {
        machine.processes().is_empty()
    });
}

#[test]
fn the_script_is_told_and_its_own_status_is_passed_on() {
    let authority = Authority::new("CA of the master");
    let server = Server::start(&authority);
    server.serve("/patient", Reply::file(PATIENT));
    for signal in [Signal::TERM, Signal::INT] {
        for machine in Machine::every_shell() {
            let running = runurl(&machine, &authority, &server, "/patient").start();
            wait_until("the script to be ready", || machine.path("work/ready").exists());
            running.end_by(signal).expect(&machine, 7, &[]);
            assert!(machine.path("work/told").exists());
            assert_nothing_left(&machine);
        }
    }
}

#[test]
fn a_script_that_a_signal_killed_is_told_apart_from_one_that_ended() {
    let authority = Authority::new("CA of the master");
    let server = Server::start(&authority);
    server.serve("/killed", Reply::file("kill -9 $$\n"));
    for machine in Machine::every_shell() {
        let done = runurl(&machine, &authority, &server, "/killed").finish();
        done.expect(&machine, 137, &[]);
        assert_nothing_left(&machine);
    }
}

#[test]
fn a_signal_ends_a_fetch_and_a_pause_at_once() {
    let authority = Authority::new("CA of the master");
    let server = Server::start(&authority);
    server.serve("/silent", Reply::silence());
    server.serve("/down", Reply::status("503 Service Unavailable"));
    for machine in Machine::every() {
        let before = server.asked("/silent");
        let running = runurl(&machine, &authority, &server, "/silent").start();
        wait_until("the fetch to begin", || server.asked("/silent") > before);
        running.end_by(Signal::TERM).expect(&machine, 143, &[]);
        assert_nothing_left(&machine);

        let running = runurl(&machine, &authority, &server, "/down").start();
        wait_until("a long pause", || running.said().contains("trying again in 2 s"));
        running.end_by(Signal::HUP).expect(&machine, 129, &[]);
        assert_nothing_left(&machine);
    }
}

/// A child of a shell has its parent's traps until it becomes a program of its own: a signal that comes
/// then is lost on it, whoever sent it. The moment is short, so it is aimed at and tried again and again:
/// before runurl took care of it, these tries met it in nearly every run under dash and busybox.
const TRIES: u32 = 25;

/// Where in the moment a try's signal comes: spread over the time that a start takes.
fn aim(step: u32) {
    let until = monotonic() + Duration::from_micros(u64::from(step) * 100);
    while monotonic() < until {
        std::hint::spin_loop();
    }
}

/// Looks without a pause, so that the moment is not slept through.
fn spin_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = monotonic() + Duration::from_secs(60);
    while !holds() {
        assert!(monotonic() < until, "waited 60 s for {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_in_the_moment_in_which_a_script_starts_is_not_lost() {
    let authority = Authority::new("CA of the master");
    let server = Server::start(&authority);
    server.serve("/long", Reply::file("exec sleep 600\n"));
    for machine in Machine::every_shell() {
        for step in 0..TRIES {
            let running = runurl(&machine, &authority, &server, "/long").start();
            spin_until("the script to be about to start", || {
                let place = machine.list("tmp").pop();
                place.is_some_and(|place| machine.path("tmp").join(place).join("run").exists())
            });
            aim(step);
            running.end_by(Signal::TERM).expect(&machine, 143, &[]);
            assert_nothing_left(&machine);
        }
    }
}

#[test]
fn a_signal_in_the_moment_in_which_a_pause_starts_leaves_nothing_behind() {
    let authority = Authority::new("CA of the master");
    let server = Server::start(&authority);
    server.serve("/down", Reply::status("503 Service Unavailable"));
    for machine in Machine::every_shell() {
        // A pause that is left behind must not end before somebody looks.
        let sleep = crate::machine::program("sleep").expect("every machine has it");
        machine.command_script("sleep", &format!("#!/bin/sh\nexec {} 600\n", sleep.display()));
        for step in 0..TRIES {
            let running = runurl(&machine, &authority, &server, "/down").start();
            spin_until("a pause", || running.said().contains("trying again in 1 s"));
            aim(step);
            running.end_by(Signal::HUP).expect(&machine, 129, &[]);
            assert_nothing_left(&machine);
        }
    }
}

#[test]
fn the_script_reads_the_stdin_that_runurl_was_given() {
    let authority = Authority::new("CA of the master");
    let server = Server::start(&authority);
    server.serve("/read", Reply::file("read -r line; echo \"got $line\"\n"));
    for machine in Machine::every_shell() {
        let wrapper = "echo 'some words' | sh \"$RUNURL\" \"$1\"\n";
        let wrapper = machine.write(&machine.path("wrapper"), wrapper);
        let ca = machine.write(&machine.path("ca.pem"), &authority.pem());
        let program = machine.write(&machine.path("runurl"), RUNURL);
        let run = machine.sh(&wrapper).env("RUNURL", program).env("BB_CA", ca);
        let done = run.env("BB_MASTER_URL", server.url("")).arg(&server.url("/read")).finish();
        assert_eq!(done.out, "got some words\n", "{done:#?}");
    }
}
