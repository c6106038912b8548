//! `runurl` by itself: what it runs, and everything that it refuses to run.

use crate::machine::Finished;
use crate::machine::Machine;
use crate::machine::Run;
use crate::machine::sha256;
use crate::server::Authority;
use crate::server::Reply;
use crate::server::Server;
use busybee::master::user_data::RUNURL;

/// Says what it was given, and that it lies in a private place from which nothing can be executed.
const SCRIPT: &str = r#"#!/bin/sh
echo "args=$#:$1:$2 name=${0##*/}"
[ ! -x "$0" ] || echo executable
: >script-was-run
exit 42
"#;

/// A server, and the CA that belongs to it.
struct House {
    authority: Authority,
    server: Server,
}

impl House {
    fn new() -> House {
        let authority = Authority::new("CA of the master");
        let server = Server::start(&authority);
        server.serve("/s/script.sh", Reply::file(SCRIPT));
        House { authority, server }
    }

    /// `runurl` on the machine, told of this master.
    fn runurl(&self, machine: &Machine) -> Run {
        let program = machine.write(&machine.path("runurl"), RUNURL);
        let ca = machine.write(&machine.path("ca.pem"), &self.authority.pem());
        let run = machine.sh(&program).env("BB_CA", ca);
        run.env("BB_MASTER_URL", self.server.url("")).env("RUNURL_DEADLINE", "4")
    }

    fn run(&self, machine: &Machine, path: &str) -> Finished {
        self.runurl(machine).arg(&self.server.url(path)).finish()
    }
}

fn assert_untouched(machine: &Machine) {
    assert_eq!(machine.list("work"), Vec::<String>::new(), "nothing may have been run");
    assert_eq!(machine.list("tmp"), Vec::<String>::new(), "the private directory is gone");
}

#[test]
fn the_right_script_runs_with_its_arguments_and_its_status_is_passed_on() {
    let house = House::new();
    for machine in Machine::every() {
        let hash = sha256(SCRIPT.as_bytes()).to_uppercase();
        let run = house.runurl(&machine).arg("--sha256").arg(&hash);
        let done =
            run.arg(&house.server.url("/s/script.sh")).arg("two words").arg("$HOME").finish();
        done.expect(&machine, 42, &[]);
        assert_eq!(done.out, "args=2:two words:$HOME name=script.sh\n");
        assert_eq!(done.err, "");
        assert_eq!(machine.list("work"), ["script-was-run"]);
        assert_eq!(machine.list("tmp"), Vec::<String>::new());
    }
}

#[test]
fn a_script_that_changed_is_refused() {
    let house = House::new();
    for machine in Machine::every() {
        let run = house.runurl(&machine).arg("--sha256").arg(&sha256(b"another"));
        let done = run.arg(&house.server.url("/s/script.sh")).finish();
        done.expect(&machine, 125, &["refused", &sha256(SCRIPT.as_bytes()), "was announced"]);
        assert_untouched(&machine);
    }
}

#[test]
fn a_master_with_another_ca_is_refused_at_once_and_the_layer_is_named() {
    let house = House::new();
    let impostor = Server::start(&Authority::new("CA of somebody else"));
    impostor.serve("/s/script.sh", Reply::file(SCRIPT));
    for machine in Machine::every() {
        let run = house.runurl(&machine).env("BB_MASTER_URL", impostor.url(""));
        let done = run.arg(&impostor.url("/s/script.sh")).finish();
        done.expect(&machine, 125, &["runurl: tls: "]);
        assert!(!done.err.contains("trying again"), "{done:#?}");
        assert_untouched(&machine);
    }
    assert_eq!(impostor.asked("/s/script.sh"), 0);
}

#[test]
fn for_the_master_its_own_ca_is_trusted_and_not_the_system_s() {
    let house = House::new();
    let impostor_ca = Authority::new("CA that this system trusts");
    let impostor = Server::start(&impostor_ca);
    for machine in Machine::every() {
        let system = machine.write(&machine.path("system.pem"), &impostor_ca.pem());
        let run = house.runurl(&machine).env("SSL_CERT_FILE", system);
        let run = run.env("BB_MASTER_URL", impostor.url(""));
        run.arg(&impostor.url("/s/script.sh")).finish().expect(&machine, 125, &["runurl: tls: "]);
    }
    assert_eq!(impostor.asked("/s/script.sh"), 0);
}

#[test]
fn the_master_s_ca_is_worth_nothing_for_another_host() {
    let house = House::new();
    for machine in Machine::every() {
        let elsewhere = format!("https://localhost:{}/s/script.sh", house.server.port());
        let done = house.runurl(&machine).arg(&elsewhere).finish();
        done.expect(&machine, 125, &["runurl: tls: "]);
        assert_untouched(&machine);
        // Nor after a redirect from the master to that host.
        house.server.serve("/away", Reply::redirect(&elsewhere));
        let done = house.run(&machine, "/away");
        done.expect(&machine, 125, &["runurl: tls: ", "https://localhost:"]);
        assert_untouched(&machine);
    }
    assert_eq!(house.server.asked("/s/script.sh"), 0);
}

#[test]
fn a_redirect_is_followed_to_https_and_to_nothing_else() {
    let house = House::new();
    house.server.serve("/moved", Reply::redirect("/s/script.sh"));
    house.server.serve("/far", Reply::redirect(&house.server.url("/moved")));
    house.server.serve("/plain", Reply::redirect("http://127.0.0.1:1/s/script.sh"));
    house.server.serve("/file", Reply::redirect("file:///etc/passwd"));
    house.server.serve("/round", Reply::redirect("/round"));
    for machine in Machine::every() {
        house.run(&machine, "/far").expect(&machine, 42, &[]);
        std::fs::remove_file(machine.path("work/script-was-run")).expect("it was run");
        for path in ["/plain", "/file"] {
            let done = house.run(&machine, path);
            done.expect(&machine, 125, &["runurl: http: refused: ", "which is not https"]);
            assert_untouched(&machine);
        }
        house.run(&machine, "/round").expect(&machine, 125, &["more than 5 redirects"]);
    }
}

#[test]
fn half_a_script_is_never_run() {
    let house = House::new();
    house.server.serve("/half", Reply::cut(format!("{SCRIPT}{}", "# padding\n".repeat(100))));
    for machine in Machine::every() {
        let run = house.runurl(&machine).env("RUNURL_DEADLINE", "1");
        let done = run.arg(&house.server.url("/half")).finish();
        done.expect(&machine, 125, &["runurl: http: ", "gave up after 1 s"]);
        assert_untouched(&machine);
    }
}

#[test]
fn an_answer_other_than_the_script_is_not_run_and_only_a_passing_one_is_tried_again() {
    let house = House::new();
    let later = vec![Reply::status("503 Service Unavailable"), Reply::file(SCRIPT)];
    for machine in Machine::every() {
        let done = house.run(&machine, "/absent");
        done.expect(&machine, 125, &["runurl: http: the server answered 404"]);
        assert!(!done.err.contains("trying again"), "{done:#?}");
        assert_untouched(&machine);
        house.server.serve_in_turn("/later", later.clone());
        let words = ["runurl: http: the server answered 503", "trying again in 1 s"];
        house.run(&machine, "/later").expect(&machine, 42, &words);
    }
}

#[test]
fn a_server_that_is_down_is_tried_again_and_then_named_by_its_layer() {
    let house = House::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = format!("https://{}/s", free.local_addr().expect("bound"));
    drop(free);
    Machine::every_at_once(|machine| {
        let done = house.runurl(&machine).env("RUNURL_DEADLINE", "2").arg(&nobody).finish();
        done.expect(&machine, 125, &["runurl: tcp: ", "trying again in 1 s", "gave up after 2 s"]);
        let run = house.runurl(&machine).env("RUNURL_DEADLINE", "1");
        let done = run.arg("https://no-such-host.invalid/s").finish();
        done.expect(&machine, 125, &["runurl: dns: ", "gave up after 1 s"]);
    });
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let house = House::new();
    house.server.serve("/silent", Reply::silence());
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let no_tls = format!("https://{}/s", deaf.local_addr().expect("bound"));
    Machine::every_at_once(|machine| {
        let run = house.runurl(&machine).env("RUNURL_DEADLINE", "1");
        let done = run.arg(&house.server.url("/silent")).finish();
        done.expect(&machine, 125, &["runurl: http: "]);
        let run = house.runurl(&machine).env("RUNURL_DEADLINE", "1");
        run.arg(&no_tls).finish().expect(&machine, 125, &["runurl: tls: "]);
        assert_untouched(&machine);
    });
}

#[test]
fn a_wget_that_cannot_verify_is_refused_with_a_sentence() {
    let house = House::new();
    let Some(busybox) = crate::machine::program("busybox") else { return };
    for shell in crate::machine::SHELLS {
        let Some(machine) = Machine::new(shell, "") else { continue };
        let done = house.run(&machine, "/s/script.sh");
        done.expect(&machine, 125, &["needs curl, GNU wget or python3"]);
        machine.link("wget", &busybox);
        let words = ["needs curl, GNU wget or python3", "cannot verify"];
        house.run(&machine, "/s/script.sh").expect(&machine, 125, &words);
        assert_untouched(&machine);
    }
    assert_eq!(house.server.asked("/s/script.sh"), 0);
}

#[test]
fn what_is_not_plainly_https_is_refused_before_anything_is_fetched() {
    let house = House::new();
    let cases: &[(&[&str], &str)] = &[
        (&["http://127.0.0.1/s"], "is not an https:// URL"),
        (&["file:///etc/passwd"], "is not an https:// URL"),
        (&["https://127.0.0.1@example.com/s"], "no user or password"),
        (&["https://127.0.0.1\\@example.com/s"], "must be percent-encoded"),
        (&["https://127.0.0.1/a b"], "must be percent-encoded"),
        (&["https:///s"], "names no host"),
        (&["--sha256", "abc", "https://127.0.0.1/s"], "64 hexadecimal digits"),
        (&["--sha256=", "https://127.0.0.1/s"], "needs a value"),
        (&["--insecure", "https://127.0.0.1/s"], "unknown option"),
        (&[], "needs a URL"),
    ];
    for machine in Machine::every_shell() {
        for (args, words) in cases {
            let run = args.iter().fold(house.runurl(&machine), |run, arg| run.arg(arg));
            run.finish().expect(&machine, 125, &["runurl: ", words]);
        }
        let help = house.runurl(&machine).arg("--help").finish();
        assert!(help.code == 0 && help.out.starts_with("usage: runurl "), "{help:#?}");
    }
}

#[test]
fn a_script_is_run_by_what_its_first_line_asks_for() {
    let house = House::new();
    house.server.serve("/cat", Reply::file("#!/usr/bin/env cat\nshown\n"));
    house.server.serve("/e", Reply::file("#!/bin/sh -e\nfalse\necho not here\n"));
    house.server.serve("/none", Reply::file("echo by sh\n"));
    house.server.serve("/absent", Reply::file("#!/opt/no-such-thing\n"));
    house.server.serve("/crlf", Reply::file("#!/bin/sh\r\necho x\r\n"));
    house.server.serve("/elf", Reply::file(b"\x7fELF\x02\x01\x01".to_vec()));
    for machine in Machine::every_shell() {
        assert_eq!(house.run(&machine, "/cat").out, "#!/usr/bin/env cat\nshown\n");
        let strict = house.run(&machine, "/e");
        assert_eq!((strict.code, strict.out.as_str()), (1, ""), "{strict:#?}");
        assert_eq!(house.run(&machine, "/none").out, "by sh\n");
        house.run(&machine, "/absent").expect(&machine, 125, &["/opt/no-such-thing, which is not"]);
        house.run(&machine, "/crlf").expect(&machine, 125, &["Windows line ends"]);
        house.run(&machine, "/elf").expect(&machine, 125, &["a program, not a script"]);
        assert_untouched(&machine);
    }
}

#[test]
fn saving_writes_the_whole_file_and_runs_nothing() {
    let house = House::new();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    house.server.serve("/agent", Reply::file(bytes.clone()));
    for machine in Machine::every() {
        let file = machine.path("work/agent");
        let run = house.runurl(&machine).arg("--save").arg(&file.to_string_lossy());
        let run = run.arg("--sha256").arg(&sha256(&bytes)).arg(&house.server.url("/agent"));
        run.finish().expect(&machine, 0, &[]);
        assert_eq!(std::fs::read(file).expect("saved"), bytes);
        assert_eq!(machine.list("work"), ["agent"]);
    }
}
