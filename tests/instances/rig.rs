//! The stand-in for EC2 of `tests/rig`: each test has one to itself.

use std::process::Command;
use std::process::Output;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::Value;

/// How many rigs there are at one time, counted from RIG_NUMBER, so that two runs of these tests can be on one
/// machine. Each has up to four instances, so more want more memory and cores.
const RIGS: usize = 2;

/// Whether a test has the rig of this number.
static TAKEN: Mutex<[bool; RIGS]> = Mutex::new([false; RIGS]);
static FREED: Condvar = Condvar::new();

/// The number of a rig, which one test has to itself. Is free again when dropped.
struct Number(usize);

impl Number {
    fn take() -> Number {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(number) = taken.iter().position(|is_taken| !is_taken) {
                taken[number] = true;
                return Number(number);
            }
            taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs a command of this rig.
    fn rig(&self, arguments: &[&str]) -> Output {
        let first = std::env::var("RIG_NUMBER").map_or(Ok(0), |first| first.parse::<usize>());
        let number = self.0 + first.expect("RIG_NUMBER is a number");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rig/rig");
        let mut command = Command::new(program);
        command.args(arguments).env("RIG_NUMBER", number.to_string());
        command.output().expect("the rig's script starts")
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner)[self.0] = false;
        FREED.notify_one();
    }
}

/// A rig that is up. Goes down when dropped.
pub(crate) struct Rig {
    facts: Value,
    number: Number,
}

/// Whether the tests that need root may run; says so by name where not.
pub(crate) fn may_run(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("BUSYBEE_REQUIRE_TOOLS").is_none(), "{test} needs root");
    println!("SKIPPED {test}: it boots instances, and needs root for that");
    false
}

/// Whether an image is there that the rig does not build by itself.
pub(crate) fn has_image(name: &str) -> bool {
    let var = std::env::var("RIG_VAR").unwrap_or_else(|_| "/var/tmp/busybee-rig".to_owned());
    std::path::Path::new(&var).join("images").join(name).join(".rig-image").exists()
}

impl Rig {
    /// Brings a rig up, with these ports of the loopback interface reachable from instances.
    pub(crate) fn up(exposed: &[u16], image: &str) -> Rig {
        let number = Number::take();
        let ports: Vec<String> = exposed.iter().map(ToString::to_string).collect();
        let mut arguments = vec!["up", "--image", image];
        for port in &ports {
            arguments.extend(["--expose", port]);
        }
        let output = number.rig(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the rig does not come up: {said}");
        let facts = serde_json::from_slice(&output.stdout).expect("the rig prints JSON");
        Rig { facts, number }
    }

    /// A fact of its JSON: `endpoint`, `host`, `gateway`.
    pub(crate) fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().expect("the rig tells it")
    }

    /// What the API says of every instance.
    pub(crate) fn instances(&self) -> Vec<Value> {
        let output = self.number.rig(&["instances"]);
        let said = String::from_utf8_lossy(&output.stderr);
        let list: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
        list.as_array().expect("a list").clone()
    }

    /// Those that somebody pays for.
    pub(crate) fn alive(&self) -> Vec<Value> {
        let is_alive = |one: &Value| one["state"] != "terminated";
        self.instances().into_iter().filter(is_alive).collect()
    }

    /// Everything that an instance has said.
    pub(crate) fn logs(&self, id: &str) -> String {
        String::from_utf8_lossy(&self.number.rig(&["logs", id]).stdout).into_owned()
    }

    /// Runs a command of the shell inside an instance, as root; whether it succeeded.
    pub(crate) fn exec(&self, id: &str, command: &str) -> bool {
        self.number.rig(&["exec", id, "--", "sh", "-c", command]).status.success()
    }

    /// A word to its fault layer.
    pub(crate) fn fault(&self, arguments: &[&str]) {
        let output = self.number.rig(&[&["fault"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rig fault {arguments:?}: {said}");
    }

    /// Its own log, a line of JSON for each thing that happened.
    pub(crate) fn events(&self) -> String {
        let path = self.facts["events"].as_str().expect("the rig tells it");
        std::fs::read_to_string(path).expect("it is there")
    }

    /// No namespace, no mount and no process of an instance is there.
    pub(crate) fn nothing_runs(&self) {
        let output = self.number.rig(&["left-over", "--of-instances"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "left over: {said}");
    }

    /// From now on nothing gets from instances to this computer, as without a way out in their group.
    pub(crate) fn cut_off(&self) {
        let link = ["-n", self.fact("namespace"), "link", "set", "host", "down"];
        let status = Command::new("ip").args(link).status().expect("ip is there");
        assert!(status.success());
    }

    /// Takes it down, and makes sure that nothing is left.
    pub(crate) fn down(self) {
        self.number.rig(&["down"]);
        let left = self.number.rig(&["left-over"]);
        let said = String::from_utf8_lossy(&left.stdout).into_owned();
        assert!(left.status.success(), "left over: {said}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.number.rig(&["down"]);
    }
}
