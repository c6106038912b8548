//! `debian.sh` with an apt of the test's own, which notes down what it is asked for.

use crate::machine::Machine;
use crate::machine::Run;
use std::fs;

const DEBIAN_SH: &str = include_str!("../../bootstrap/debian.sh");

/// Fails as often as the file `fail` says.
const APT_GET: &str = r#"#!/bin/sh
echo "apt-get $* DEBIAN_FRONTEND=$DEBIAN_FRONTEND NEEDRESTART_SUSPEND=$NEEDRESTART_SUSPEND" >>"$NOTES/calls"
left=$(cat "$NOTES/fail")
[ "$left" -gt 0 ] || exit 0
echo $((left - 1)) >"$NOTES/fail"
echo "E: Could not get lock /var/lib/apt/lists/lock" >&2
exit 100
"#;

const DPKG_QUERY: &str = r#"#!/bin/sh
for package; do :; done
grep -qx "$package" "$NOTES/installed" && echo 'install ok installed'
"#;

fn debian(shell: &'static str, user: u32, installed: &str) -> Option<Machine> {
    let machine = Machine::new(shell, "")?;
    machine.command_script("id", &format!("#!/bin/sh\necho {user}\n"));
    machine.command_script("apt-get", APT_GET);
    machine.command_script("dpkg-query", DPKG_QUERY);
    machine.command_script("dpkg", "#!/bin/sh\necho \"dpkg $*\" >>\"$NOTES/calls\"\n");
    machine.write(&machine.path("home/installed"), installed);
    machine.write(&machine.path("home/fail"), "0\n");
    fs::create_dir_all(machine.path("apt/sources.list.d")).expect("a fresh directory");
    Some(machine)
}

fn every_debian(user: u32, installed: &str) -> impl Iterator<Item = Machine> {
    crate::machine::SHELLS.iter().filter_map(move |shell| debian(shell, user, installed))
}

fn debian_sh(machine: &Machine, args: &[&str]) -> Run {
    let script = machine.write(&machine.path("debian.sh"), DEBIAN_SH);
    let run = machine.sh(&script).env("NOTES", machine.path("home"));
    let run = run.env("DEBIAN_APT_DIR", machine.path("apt")).env("DEBIAN_PAUSE", "0");
    args.iter().fold(run, |run, arg| run.arg(arg))
}

fn calls(machine: &Machine) -> Vec<String> {
    let text = fs::read_to_string(machine.path("home/calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn without_arguments_it_installs_git_and_ca_certificates_and_asks_nothing() {
    for machine in every_debian(0, "") {
        debian_sh(&machine, &[]).finish().expect(&machine, 0, &[]);
        let calls = calls(&machine);
        assert_eq!(calls.len(), 3, "{calls:#?}");
        assert!(calls[0].starts_with("dpkg --configure -a"), "{calls:#?}");
        assert!(calls[1].contains(" update "), "{calls:#?}");
        assert!(calls[2].contains(" install "), "{calls:#?}");
        assert!(calls[2].contains(" -- git ca-certificates DEBIAN"), "{calls:#?}");
        for word in ["DPkg::Lock::Timeout=300", "--force-confdef", "--force-confold", " -y "] {
            assert!(calls[2].contains(word), "no {word} in {calls:#?}");
        }
        assert!(calls[2].ends_with("DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1"));
    }
}

#[test]
fn where_everything_is_there_it_needs_neither_root_nor_apt() {
    for machine in every_debian(1000, "git\nca-certificates\nmake\n") {
        let done = debian_sh(&machine, &["make"]).finish();
        done.expect(&machine, 0, &[]);
        assert!(done.out.contains("everything is installed already"), "{done:#?}");
        let done = debian_sh(&machine, &["make", "gcc"]).finish();
        done.expect(&machine, 1, &["must be root to install", "gcc"]);
        assert_eq!(calls(&machine), Vec::<String>::new());
    }
}

#[test]
fn arguments_and_the_pool_s_env_say_the_same() {
    for machine in every_debian(0, "") {
        debian_sh(&machine, &["make", "build-dep", "hello"]).finish().expect(&machine, 0, &[]);
        let by_arguments = calls(&machine);
        fs::remove_file(machine.path("home/calls")).expect("calls");
        let run = debian_sh(&machine, &[]).env("DEBIAN_PACKAGES", "make");
        run.env("DEBIAN_BUILD_DEP", "hello").finish().expect(&machine, 0, &[]);
        assert_eq!(calls(&machine), by_arguments);
        let last = by_arguments.last().expect("calls");
        assert!(last.contains(" build-dep ") && last.contains(" -- hello DEBIAN"), "{last}");
    }
}

#[test]
fn a_lock_that_another_holds_is_waited_for_and_not_for_ever() {
    for machine in every_debian(0, "") {
        machine.write(&machine.path("home/fail"), "3\n");
        let done = debian_sh(&machine, &[]).finish();
        done.expect(&machine, 0, &["Could not get lock"]);
        assert!(done.out.contains("apt-get update failed; trying again"), "{done:#?}");
        machine.write(&machine.path("home/fail"), "99\n");
        let done = debian_sh(&machine, &[]).finish();
        done.expect(&machine, 1, &["apt-get update failed 6 times; apt's own words stand above"]);
    }
}

#[test]
fn sources_are_switched_on_in_both_forms_and_only_once() {
    let deb822 = "Types: deb\nURIs: http://mirror/debian\nSuites: stable\n";
    let list = "deb [signed-by=/k] http://mirror/debian stable main\n# deb-src http://x y z\n";
    for machine in every_debian(0, "") {
        let dir = machine.path("apt/sources.list.d");
        machine.write(&dir.join("debian.sources"), deb822);
        machine.write(&dir.join("other.list"), "deb http://m s c\ndeb-src http://m s c\n");
        machine.write(&machine.path("apt/sources.list"), list);
        for _ in 0..2 {
            debian_sh(&machine, &["build-dep", "hello"]).finish().expect(&machine, 0, &[]);
            let sources = fs::read_to_string(dir.join("debian.sources")).expect("deb822");
            assert_eq!(sources, deb822.replace("deb\n", "deb deb-src\n"));
            let ours = fs::read_to_string(dir.join("busybee-src.list")).expect("ours");
            assert_eq!(ours, "deb-src [signed-by=/k] http://mirror/debian stable main\n");
            assert_eq!(machine.list("apt/sources.list.d").len(), 3);
        }
    }
}

#[test]
fn a_name_that_is_an_option_or_a_command_is_refused() {
    for machine in every_debian(0, "") {
        for bad in ["--allow-unauthenticated", "-o", "a;b", "$(id)", "a b"] {
            let done = debian_sh(&machine, &[bad]).finish();
            done.expect(&machine, 1, &["is no name of a package"]);
        }
        let done = debian_sh(&machine, &["build-dep"]).finish();
        done.expect(&machine, 1, &["needs the name of a source package"]);
        assert_eq!(calls(&machine), Vec::<String>::new());
    }
}

#[test]
fn another_distribution_gets_a_sentence() {
    for machine in Machine::every_shell() {
        debian_sh(&machine, &[]).finish().expect(&machine, 1, &["has no apt-get"]);
    }
}
