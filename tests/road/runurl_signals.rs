//! `runurl` and signals: the script hears of them, and nothing stays behind.

use crate::machine::Machine;
use crate::machine::Run;
use crate::machine::wait_until;
use crate::server::Authority;
use crate::server::Reply;
use crate::server::Server;
use busybee::master::user_data::RUNURL;
use rustix::process::Signal;

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
    wait_until("its last process to end", || machine.processes().is_empty());
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
            running.signal(signal);
            running.finish().expect(&machine, 7, &[]);
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
        running.signal(Signal::TERM);
        running.finish().expect(&machine, 143, &[]);
        assert_nothing_left(&machine);

        let running = runurl(&machine, &authority, &server, "/down").start();
        wait_until("a long pause", || running.said().contains("trying again in 2 s"));
        running.signal(Signal::HUP);
        running.finish().expect(&machine, 129, &[]);
        assert_nothing_left(&machine);
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
