//! The local road, whole: user-data → runurl → agent.sh → agent, as an ordinary process in one
//! directory.

use crate::house::House;
use crate::house::PASSWORD;
use crate::house::agent_path;
use crate::house::here;
use crate::house::worker_file;
use crate::machine::Machine;
use crate::machine::program;
use crate::machine::sha256;
use crate::machine::wait_until;
use crate::server::Reply;
use busybee::master::user_data::UserData;
use busybee::master::user_data::render_agent_sh;
use std::os::unix::fs::PermissionsExt;

fn assert_kept_to_its_directory(machine: &Machine) {
    for dir in ["home", "tmp", "work"] {
        assert_eq!(machine.list(dir), Vec::<String>::new(), "{dir} is not the worker's");
    }
}

#[test]
fn user_data_ends_in_a_running_agent_that_is_started_again_when_it_crashes() {
    let house = House::new();
    Machine::every_at_once(|machine| {
        let done = house.local(&machine, "1\nkilled\n0\n").finish();
        let words = ["ended with status 1; starting it again in 1 s", "ended with status 137"];
        done.expect(&machine, 0, &words);
        let settings = machine.path("the worker/agent.env");
        let start = format!("run --config {}\n", settings.display());
        assert_eq!(worker_file(&machine, "starts"), start.repeat(3));
        assert_eq!(worker_file(&machine, "umask").trim_start_matches('0'), "22\n");
        assert_kept_to_its_directory(&machine);
        assert!(machine.processes().is_empty(), "{:?}", machine.processes());
    });
}

#[test]
fn the_password_goes_to_the_agent_in_a_private_file_and_nowhere_else() {
    let house = House::new();
    for machine in Machine::every_shell() {
        let done = house.local(&machine, "0\n").finish();
        done.expect(&machine, 0, &[]);
        let home = machine.path("the worker");
        let settings = home.join("agent.env");
        let mode = settings.metadata().expect("the settings").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let (port, url) = (house.server.port(), house.server.url(""));
        let expected = format!(
            "BB_MASTER=127.0.0.1:{port}\nBB_MASTER_URL={url}\nBB_NAME=it's $(echo a) `worker`\n\
             BB_PASSWORD={PASSWORD}\nBB_CA={home}/ca.pem\nBB_ROAD=local\nBB_RUNURL={home}/runurl\n",
            home = home.display()
        );
        assert_eq!(worker_file(&machine, "agent.env"), expected);
        assert_eq!(worker_file(&machine, "ca.pem"), house.authority.pem());
        for name in ["environ", "cmdline"] {
            let text = worker_file(&machine, name);
            assert!(text.contains("the worker") && !text.contains(PASSWORD), "{name}: {text}");
        }
        assert!(!done.out.contains(PASSWORD) && !done.err.contains(PASSWORD), "{done:#?}");
        assert!(!worker_file(&machine, "environ").contains("BB_PASSWORD"));
    }
}

#[test]
fn an_agent_that_is_refused_for_good_is_not_started_again() {
    let house = House::new();
    for machine in Machine::every_shell() {
        let done = house.local(&machine, "3\n0\n").finish();
        done.expect(&machine, 3, &["refused this worker for good"]);
        assert_eq!(worker_file(&machine, "starts").lines().count(), 1);
    }
}

#[test]
fn one_signal_to_the_first_process_ends_the_agent_and_everything_between() {
    let house = House::new();
    for machine in Machine::every_shell() {
        let running = house.local(&machine, "stay\n0\n").start();
        wait_until("the agent to run", || !worker_file(&machine, "umask").is_empty());
        running.signal(rustix::process::Signal::TERM);
        running.finish().expect(&machine, 143, &[]);
        wait_until("the last process to end", || machine.processes().is_empty());
        assert_eq!(worker_file(&machine, "starts").lines().count(), 1, "not started again");
        assert_kept_to_its_directory(&machine);
    }
}

#[test]
fn all_of_it_is_one_process_group_that_the_provisioner_can_kill() {
    let house = House::new();
    for machine in Machine::every_shell() {
        let running = house.local(&machine, "stay\n").start();
        wait_until("the agent to run", || !worker_file(&machine, "umask").is_empty());
        running.kill_group();
        wait_until("the last process to end", || machine.processes().is_empty());
    }
}

#[test]
fn whatever_is_not_what_user_data_announced_is_refused() {
    let house = House::new();
    let told = house.user_data(&house.agent_sh());
    let other_runurl = UserData { runurl_sha256: sha256(b"other"), ..told.clone() };
    let other_agent_sh = UserData { agent_sh_sha256: sha256(b"other"), ..told };
    for machine in Machine::every() {
        let done = house.local_with(&machine, &other_runurl, "0\n").finish();
        done.expect(&machine, 1, &["user-data: ", " is not what the master announced"]);
        let done = house.local_with(&machine, &other_agent_sh, "0\n").finish();
        done.expect(
            &machine,
            125,
            &["runurl: refused: ", "/bootstrap/agent.sh?sha256=", " has SHA-256"],
        );
        assert_eq!(worker_file(&machine, "starts"), "");
    }
    house.server.serve(&agent_path(), Reply::file("#!/bin/sh\n: >\"$BB_HOME/starts\"\n"));
    for machine in Machine::every_shell() {
        let done = house.local(&machine, "0\n").finish();
        done.expect(&machine, 1, &["refused", "cannot fetch the agent; the reason stands above"]);
        assert!(!machine.path("the worker/starts").exists());
    }
}

#[test]
fn a_master_without_an_agent_for_this_machine_says_which_it_has() {
    let house = House::new();
    for (agents, words) in [
        (vec![("s390x".to_owned(), "00".repeat(32))], "(it has: s390x)"),
        (vec![], "(it has: none)"),
    ] {
        let agent_sh = render_agent_sh(&agents);
        house.serve_agent_sh(&agent_sh);
        let told = house.user_data(&agent_sh);
        for machine in Machine::every_shell() {
            let done = house.local_with(&machine, &told, "0\n").finish();
            done.expect(&machine, 1, &[&format!("the master has no agent for {}", here()), words]);
        }
    }
    house.serve_agent_sh(&house.agent_sh());
    for machine in Machine::every_shell() {
        machine.command_script("uname", "#!/bin/sh\necho mips\n");
        let done = house.local(&machine, "0\n").finish();
        done.expect(&machine, 1, &["there is no agent for a mips machine"]);
    }
}

#[test]
fn the_first_fetch_is_tried_again_while_the_master_restarts() {
    let house = House::new();
    Machine::every_at_once(|machine| {
        let done = house.local(&machine, "0\n").env("RUNURL_DEADLINE", "0").finish();
        done.expect(&machine, 0, &[]);
    });
    let later = vec![Reply::status("503 Later"), Reply::file(busybee::master::user_data::RUNURL)];
    for tool in crate::machine::TOOLS {
        let Some(machine) = Machine::new("dash", tool) else { continue };
        house.server.serve_in_turn("/runurl", later.clone());
        let done = house.local(&machine, "0\n").env("RUNURL_DEADLINE", "60").finish();
        done.expect(&machine, 0, &["503"]);
        // And not for ever.
        house.server.serve("/runurl", Reply::status("503 Later"));
        let done = house.local(&machine, "0\n").finish();
        done.expect(&machine, 1, &["503", "user-data: cannot fetch https://", "stands above"]);
    }
}

#[test]
fn an_image_with_nothing_that_verifies_gets_a_sentence() {
    let house = House::new();
    let Some(busybox) = program("busybox") else { return };
    for shell in crate::machine::SHELLS {
        let Some(machine) = Machine::new(shell, "") else { continue };
        machine.link("wget", &busybox);
        let done = house.local(&machine, "0\n").finish();
        done.expect(&machine, 1, &["user-data: needs curl, GNU wget or python3", "busybox"]);
    }
    assert_eq!(house.server.asked("/runurl"), 0);
}

#[test]
fn an_impostor_gets_no_further_than_its_certificate() {
    let house = House::new();
    let impostor = House::new();
    for machine in Machine::every() {
        let mut told = house.user_data(&house.agent_sh());
        told.master_url = impostor.server.url("");
        house.local_with(&machine, &told, "0\n").finish().expect(&machine, 1, &["cannot fetch"]);
    }
    assert_eq!(impostor.server.asked("/runurl"), 0);
}

#[test]
fn without_a_directory_to_work_in_nothing_is_done() {
    let house = House::new();
    for machine in Machine::every_shell() {
        let run = house.local(&machine, "0\n").env("BB_HOME", "");
        let done = run.finish();
        assert!(done.code != 0 && done.err.contains("BB_HOME"), "{done:#?}");
        assert_kept_to_its_directory(&machine);
    }
}
