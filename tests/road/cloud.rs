//! The cloud's road. What it does to a whole machine happens here to a directory: each absolute
//! path of the scripts is replaced by one in the scratch directory, and the test fails before
//! anything runs if one of them is not.

use crate::house::AGENT;
use crate::house::House;
use crate::house::PASSWORD;
use crate::house::here;
use crate::machine::Machine;
use crate::machine::Run;
use crate::machine::program;
use crate::machine::sha256;
use crate::machine::wait_until;
use busybee::master::user_data::Road;
use busybee::master::user_data::UserData;
use busybee::master::user_data::render;
use busybee::master::user_data::render_agent_sh;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Where the scripts touch the machine.
const PLACES: &[&str] = &[
    "/var/log",
    "/var/lib",
    "/run/busybee-deadman",
    "/run/systemd/system",
    "/dev/console",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/random/boot_id",
    "/usr/local/lib/busybee",
    "/etc/systemd/system",
    "/etc/needrestart",
];

/// Notes every call down; of apt's own units it says that they exist and are at rest.
const SYSTEMCTL: &str = "#!/bin/sh
echo \"$*\" >>\"$CALLS\"
[ \"$1\" != show ] || echo ActiveState=inactive
";

/// Knows root, and the user `builder` from the moment that a file of that name is there; its groups
/// stand in it, its own first.
const ID: &str = r#"#!/bin/sh
for user in "$@"; do :; done
case $user in -*) echo 0; exit ;; esac
[ -e "$ROOT/$user" ] || { echo "id: $user: no such user" >&2; exit 1; }
read -r groups <"$ROOT/$user"
case $1 in -u) echo 997 ;; -gn) echo "${groups%% *}" ;; -Gn) echo "$groups" ;; esac
"#;

/// Makes the user whose name comes last.
const USERADD: &str = r#"#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
for user in "$@"; do :; done
echo "$user" >"$ROOT/$user"
"#;

/// Takes a user (the last word but one) out of a group (the last).
const GPASSWD: &str = r#"#!/bin/sh
echo "gpasswd $*" >>"$CALLS"
sed -i "s/ $3\b//" "$ROOT/$2"
"#;

/// The text with every place moved under the machine's own root.
fn moved(machine: &Machine, text: &str) -> String {
    let root = machine.path("root");
    let root = root.to_string_lossy();
    let mut text = PLACES.iter().fold(text.to_owned(), |text, place| {
        text.replace(place, &format!("{root}{}", place.replace("/dev/", "/dev-")))
    });
    // The dead-man looks every 15 s, which a test has no patience for.
    text = text.replace("sleep 15", "sleep 0.1");
    let rest = text.replace(&*root, "ROOT");
    for line in rest.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for place in ["/var/", "/run/", "/etc/", "/usr/", "/proc/sys", "/dev/console"] {
            let real = line.match_indices(place).any(|(at, _)| !line[..at].ends_with("ROOT"));
            assert!(!real, "{place} of the real machine is left in {line:?}");
        }
    }
    text
}

/// A machine with a root of its own, and the commands of a system.
fn instance(shell: &'static str) -> Option<Machine> {
    let machine = Machine::new(shell, "curl")?;
    for dir in ["var/log", "var/lib", "run", "etc", "proc/sys/kernel/random", "usr/local/lib"] {
        fs::create_dir_all(machine.path("root").join(dir)).expect("a fresh directory");
    }
    machine.command_script("id", ID);
    machine.command_script("useradd", USERADD);
    machine.command_script("gpasswd", GPASSWD);
    for name in ["poweroff", "restorecon", "chcon"] {
        let text = format!("#!/bin/sh\necho \"{name} $*\" >>\"$CALLS\"\n");
        machine.command_script(name, &text);
    }
    machine.command_script("systemctl", SYSTEMCTL);
    Some(machine)
}

fn every_instance() -> impl Iterator<Item = Machine> {
    crate::machine::SHELLS.iter().filter_map(|shell| instance(shell))
}

fn with_systemd(machine: &Machine) {
    for dir in ["run/systemd/system", "etc/systemd/system", "etc/needrestart"] {
        fs::create_dir_all(machine.path("root").join(dir)).expect("a fresh directory");
    }
}

fn boot(house: &House, machine: &Machine, change: impl Fn(&mut UserData), plan: &str) -> Run {
    let agents = [(here(), sha256(AGENT.as_bytes()))];
    let agent_sh = moved(machine, &render_agent_sh(&agents));
    house.serve_agent_sh(&agent_sh);
    let mut told = house.user_data(&agent_sh);
    change(&mut told);
    let text = moved(machine, &render(&told, Road::Cloud, PASSWORD));
    let file = machine.write(&machine.path("user-data"), &text);
    let plan = machine.write(&machine.path("plan"), plan);
    machine
        .sh(&file)
        .env("PLAN", plan)
        .env("CALLS", machine.path("calls"))
        .env("ROOT", machine.path("root"))
        .env("RUNURL_DEADLINE", "0")
}

fn root_file(machine: &Machine, path: &str) -> String {
    fs::read_to_string(machine.path("root").join(path)).unwrap_or_default()
}

fn calls(machine: &Machine) -> String {
    fs::read_to_string(machine.path("calls")).unwrap_or_default()
}

/// `tee` may be a moment behind the script's end.
fn wait_until_logged(machine: &Machine, said: &str) {
    wait_until(said, || root_file(machine, "var/log/user-data.log").contains(said));
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it exists").permissions().mode() & 0o777
}

#[test]
fn an_instance_with_systemd_gets_units_and_user_data_ends() {
    let house = House::new();
    for machine in every_instance() {
        with_systemd(&machine);
        boot(&house, &machine, |_| (), "0\n").finish().expect(&machine, 0, &[]);
        let root = machine.path("root");
        let agent = root.join("usr/local/lib/busybee/busybee-agent");
        assert_eq!(fs::read_to_string(&agent).expect("installed"), AGENT);
        assert_eq!((mode(&agent), mode(agent.parent().expect("a directory"))), (0o755, 0o755));

        let settings = root.join("var/lib/busybee-agent/agent.env");
        assert_eq!(mode(&settings), 0o600);
        let text = fs::read_to_string(&settings).expect("settings");
        assert!(text.contains(PASSWORD) && text.contains("\nBB_ROAD=cloud\n"), "{text}");
        assert!(text.contains("\nBB_USER=builder\n"), "{text}");
        // The agent ends the machine by the same count as its timer does.
        let life = text.lines().find_map(|line| line.strip_prefix("BB_LIFE_LIMIT="));
        let life = life.expect("its life is limited");
        let lived = text.lines().find_map(|line| line.strip_prefix("BB_LIVED="));
        let lived = lived.expect("it is counted over boots");
        let deadman = root_file(&machine, "usr/local/lib/busybee/deadman");
        assert!(deadman.contains(&format!("-lt {life} ")), "{deadman}");
        assert!(deadman.contains(&format!("mv -f {lived}.new {lived};")), "{deadman}");

        let unit = root_file(&machine, "etc/systemd/system/busybee-agent.service");
        let start = format!("ExecStart={} run --config {}", agent.display(), settings.display());
        for line in [
            start.as_str(),
            "Restart=always",
            "RestartPreventExitStatus=0 3",
            "KillMode=process",
            "Delegate=yes",
            "OOMPolicy=continue",
            "OOMScoreAdjust=-1000",
        ] {
            assert!(unit.lines().any(|unit_line| unit_line == line), "no {line} in {unit}");
        }
        assert!(!unit.contains(PASSWORD) && !unit.contains("cloud-final"), "{unit}");

        let calls = calls(&machine);
        let units = "busybee-agent.service busybee-deadman.service";
        for call in [
            "mask apt-daily.timer apt-daily-upgrade.timer apt-daily.service",
            "stop apt-daily.timer",
            "daemon-reload",
            &format!("enable {units}"),
            &format!("start --no-block {units}"),
            "restorecon",
            "chcon -t bin_t",
            "useradd -r -M -d ",
        ] {
            assert!(calls.contains(call), "no {call:?} among the calls {calls}");
        }
        assert!(!calls.contains("poweroff"), "{calls}");
        assert!(root_file(&machine, "etc/needrestart/conf.d/busybee.conf").contains("busybee-"));
        assert_eq!(root_file(&machine, "proc/sys/kernel/panic"), "10\n");
    }
}

#[test]
fn the_units_are_what_systemd_understands() {
    let house = House::new();
    let Some(verify) = program("systemd-analyze") else { return };
    let Some(machine) = instance("dash") else { return };
    with_systemd(&machine);
    boot(&house, &machine, |_| (), "0\n").finish().expect(&machine, 0, &[]);
    for name in ["busybee-agent.service", "busybee-deadman.service"] {
        let unit = machine.path("root/etc/systemd/system").join(name);
        let output = Command::new(&verify).args(["--man=no", "verify"]).arg(&unit).output();
        let output = output.expect("systemd-analyze runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("busybee"), "{name}: {said}");
    }
}

#[test]
fn an_instance_without_systemd_keeps_the_agent_in_the_foreground() {
    let house = House::new();
    for machine in every_instance() {
        boot(&house, &machine, |_| (), "1\n0\n").finish().expect(&machine, 0, &[]);
        let home = machine.path("root/var/lib/busybee-agent");
        let starts = fs::read_to_string(home.join("starts")).expect("it was started");
        assert_eq!(starts.lines().count(), 2);
        let environ = fs::read_to_string(home.join("environ")).expect("noted by the agent");
        assert!(!environ.contains(PASSWORD), "{environ}");
    }
}

#[test]
fn the_user_for_steps_is_made_by_whatever_the_image_has() {
    let house = House::new();
    for machine in every_instance() {
        fs::remove_file(machine.path("bin/useradd")).expect("a command of this machine");
        for name in ["adduser", "addgroup"] {
            machine.command_script(name, USERADD);
        }
        boot(&house, &machine, |_| (), "0\n").finish().expect(&machine, 0, &[]);
        wait_until_logged(&machine, "making the user builder for checkouts and steps");
        let calls = calls(&machine);
        assert!(calls.contains("addgroup -S builder\nadduser -S -D -H -h "), "{calls}");
    }
    for machine in every_instance() {
        fs::remove_file(machine.path("bin/useradd")).expect("a command of this machine");
        boot(&house, &machine, |_| (), "0\n").finish().expect(&machine, 1, &[]);
        wait_until_logged(&machine, "there is neither useradd nor adduser");
        let home = machine.path("root/var/lib/busybee-agent");
        assert!(!home.join("starts").exists(), "no agent without a user for its steps");
    }
}

#[test]
fn a_user_of_that_name_that_is_there_loses_its_groups_or_is_refused() {
    let house = House::new();
    for machine in every_instance() {
        machine.write(&machine.path("root/builder"), "builder docker wheel\n");
        boot(&house, &machine, |_| (), "0\n").finish().expect(&machine, 0, &[]);
        let calls = calls(&machine);
        assert!(!calls.contains("useradd"), "{calls}");
        for group in ["docker", "wheel"] {
            assert!(calls.contains(&format!("gpasswd -d builder {group}")), "{calls}");
        }
        wait_until_logged(&machine, "taking the user builder out of the group docker");
    }
    for machine in every_instance() {
        machine.write(&machine.path("root/builder"), "wheel\n");
        boot(&house, &machine, |_| (), "0\n").finish().expect(&machine, 1, &[]);
        wait_until_logged(&machine, "the own group of the user builder is wheel");
    }
    for machine in every_instance() {
        machine.write(&machine.path("root/builder"), "builder docker\n");
        machine.command_script("gpasswd", "#!/bin/sh\nexit 1\n");
        boot(&house, &machine, |_| (), "0\n").finish().expect(&machine, 1, &[]);
        wait_until_logged(&machine, "the user builder is in the group docker");
    }
}

#[test]
fn what_was_said_before_the_agent_is_closed_to_others() {
    let house = House::new();
    for machine in every_instance() {
        let instance = machine.path("root/var/lib/cloud/instance");
        fs::create_dir_all(instance.join("scripts")).expect("a fresh directory");
        let open =
            [instance.join("user-data.txt"), machine.path("root/var/log/cloud-init-output.log")];
        for file in &open {
            machine.write(file, PASSWORD);
        }
        boot(&house, &machine, |_| (), "0\n").finish().expect(&machine, 0, &[]);
        for file in open {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        assert_eq!(mode(&instance.join("scripts")), 0o700);
    }
}

#[test]
fn what_is_said_goes_to_a_private_log_and_the_console() {
    let house = House::new();
    for machine in every_instance() {
        let console = machine.write(&machine.path("root/dev-console"), "");
        boot(&house, &machine, |_| (), "3\n").finish().expect(&machine, 3, &[]);
        let log = machine.path("root/var/log/user-data.log");
        assert_eq!(mode(&log), 0o600);
        let said = "agent.sh: the master has refused this worker for good";
        for file in [&log, &console] {
            // `tee` may be a moment behind the script's end.
            wait_until("the last line", || fs::read_to_string(file).expect("a log").contains(said));
            assert!(!fs::read_to_string(file).expect("a log").contains(PASSWORD));
        }
    }
}

#[test]
fn nobody_keeps_the_machine_alive_so_it_powers_off() {
    let house = House::new();
    type Change = fn(&mut UserData);
    let nobody: [Change; 2] = [|told| told.boot_limit_secs = 0, |told| told.life_limit_secs = 0];
    for change in nobody {
        for machine in every_instance() {
            let running = boot(&house, &machine, change, "stay\n").start();
            wait_until("the power to go", || calls(&machine).contains("poweroff"));
            running.kill_group();
        }
    }
}

#[test]
fn a_dead_man_whose_file_is_gone_or_spoiled_ends_the_machine_and_a_later_time_does_not() {
    let house = House::new();
    for spoiled in [None, Some("soon\n")] {
        for machine in every_instance() {
            let running = boot(&house, &machine, |_| (), "stay\n").start();
            let home = machine.path("root/var/lib/busybee-agent");
            wait_until("the agent to run", || home.join("umask").exists());
            assert!(!calls(&machine).contains("poweroff"), "nothing is wrong yet");
            let deadman = machine.path("root/run/busybee-deadman");
            match spoiled {
                None => fs::remove_file(&deadman).expect("it was armed"),
                Some(text) => drop(machine.write(&deadman, text)),
            }
            wait_until("the power to go", || calls(&machine).contains("poweroff"));
            running.kill_group();
        }
    }
}

#[test]
fn a_machines_life_is_what_it_runs_over_all_its_boots() {
    let house = House::new();
    for machine in every_instance() {
        with_systemd(&machine);
        boot(&house, &machine, |_| (), "0\n").finish().expect(&machine, 0, &[]);
        let deadman = machine.path("root/usr/local/lib/busybee/deadman");
        let lived = machine.path("root/usr/local/lib/busybee/lived");
        let boot_id = machine.path("root/proc/sys/kernel/random/boot_id");
        let panic = machine.path("root/proc/sys/kernel/panic");
        let boots = |before: &str, boot: &str| {
            machine.write(&lived, before);
            machine.write(&boot_id, &format!("{boot}\n"));
            machine.write(&panic, "0\n");
            machine.sh(&deadman).env("CALLS", machine.path("calls")).start()
        };
        // The second time it is only the unit that is started again, in the same boot.
        for before in ["100 first 50\n", "150 second 7\n"] {
            let running = boots(before, "second");
            wait_until("the count to go on", || {
                let text = fs::read_to_string(&lived).unwrap_or_default();
                text.starts_with("150 second ") && text != before
            });
            let said = fs::read_to_string(&panic).expect("it is there");
            assert_eq!(said, "10\n", "a kernel that panics in a later boot would hang");
            running.kill_group();
        }
        assert!(!calls(&machine).contains("poweroff"), "{}", calls(&machine));
        // House's limit, less a second that is long over in this boot.
        let running = boots("0 first 3999999999\n", "second");
        wait_until("the power to go", || calls(&machine).contains("poweroff"));
        running.kill_group();
    }
}
