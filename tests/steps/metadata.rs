//! The cloud's metadata service, which steps must not reach: two networks of the test's own, in one the
//! agent and its steps, in the other a listener that has the service's addresses.

use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use busybee::model::attempt::AttemptOutcome;
use busybee::model::step::Shell;
use busybee::runtime::random;

use crate::bench::Bench;
use crate::bench::eventually;
use crate::bench::step;
use crate::test_user::TestUser;
use crate::test_user::passes;
use crate::test_user::skipped;

/// bash's way to connect; needs no program.
const CONNECT: &str = "for host in 169.254.169.254 fd00:ec2::254; do \
    if exec 3<>/dev/tcp/$host/80; then echo \"reached $host\"; else echo \"refused $host\"; fi; done";

/// Two networks with a cable between them; gone when dropped.
struct Networks {
    inside: String,
    outside: String,
}

impl Networks {
    fn new() -> Option<Networks> {
        let number = u32::from_le_bytes(random::bytes());
        let this =
            Networks { inside: format!("bbi-{number:08x}"), outside: format!("bbo-{number:08x}") };
        let (inside, outside) = (this.inside.as_str(), this.outside.as_str());
        let service = ["169.254.169.254/24", "fd00:ec2::254/64"];
        let machine = ["169.254.169.1/24", "fd00:ec2::1/64"];
        let mut commands: Vec<Vec<&str>> = vec![
            vec!["netns", "add", inside],
            vec!["netns", "add", outside],
            vec![
                "-n", inside, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns",
                outside,
            ],
        ];
        for (space, addresses) in [(inside, machine), (outside, service)] {
            for address in addresses {
                let mut add = vec!["-n", space, "addr", "add", address, "dev", "eth0"];
                // An address that is still looked for elsewhere could not be bound yet.
                add.extend(address.contains("::").then_some("nodad"));
                commands.push(add);
            }
            commands.push(vec!["-n", space, "link", "set", "eth0", "up"]);
            commands.push(vec!["-n", space, "link", "set", "lo", "up"]);
        }
        let made = commands.iter().all(|words| passes(&[&["ip"], words.as_slice()].concat()));
        if !made {
            skipped("networks of one's own need iproute2 and the right to make some");
            return None;
        }
        Some(this)
    }

    /// Serves the addresses for as long as the tests run.
    fn listen(&self) {
        let space = std::fs::File::open(format!("/run/netns/{}", self.outside)).expect("a network");
        let listening = std::thread::spawn(move || {
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&space),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .expect("root may enter it");
            ["169.254.169.254:80", "[fd00:ec2::254]:80"].map(|address| {
                let address: SocketAddr = address.parse().expect("an address");
                TcpListener::bind(address).expect("an address of this network")
            })
        });
        // A connection is made by the kernel: nobody needs to accept it.
        std::mem::forget(listening.join().expect("it listens"));
    }

    fn within(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.inside].map(str::to_owned).to_vec()
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for space in [&self.inside, &self.outside] {
            let _best_effort = passes(&["ip", "netns", "del", space]);
        }
    }
}

/// An agent on a cloud instance whose master nobody is, and which could power nothing off.
fn agent(networks: &Networks, user: &TestUser, home: &Path, path: &str) -> Child {
    agent_with(networks, user, home, path, "")
}

fn agent_with(
    networks: &Networks,
    user: &TestUser,
    home: &Path,
    path: &str,
    step_metadata: &str,
) -> Child {
    let bin = home.join("bin");
    std::fs::create_dir_all(&bin).expect("a fresh directory");
    let poweroff = bin.join("poweroff");
    std::fs::write(&poweroff, "#!/bin/sh\n").expect("a fresh file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&poweroff, mode).expect("our own file");
    let within = networks.within();
    let mut command = Command::new(&within[0]);
    // Its PATH is not for `ip`, which may be one that this test has broken.
    let path = format!("PATH={}:{path}", bin.display());
    command.args(&within[1..]).args(["env", &path, env!("CARGO_BIN_EXE_busybee-agent"), "run"]);
    for (name, value) in [
        ("BB_MASTER", "127.0.0.1:9"),
        ("BB_MASTER_URL", "https://127.0.0.1:9"),
        ("BB_NAME", "w-1"),
        ("BB_ROAD", "cloud"),
        ("BB_USER", &*user.name),
        ("BB_STEP_METADATA", step_metadata),
    ] {
        command.env(name, value);
    }
    command.env("BB_HOME", home).stdin(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("it starts")
}

#[test]
fn a_step_does_not_reach_the_metadata_service_and_root_does() {
    let Some(user) = TestUser::new() else { return };
    let Some(networks) = Networks::new() else { return };
    networks.listen();
    let try_it = || {
        let mut connect = step(CONNECT);
        connect.shell = Shell::Bash;
        let mut bench = user.on(Bench::with(vec![connect]));
        bench.within = networks.within();
        let done = bench.into_done();
        assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(1));
        done.log(1)
    };
    assert_eq!(
        try_it().matches("reached").count(),
        2,
        "before the agent's start nothing is refused"
    );

    let home = tempfile::tempdir().expect("a temporary directory");
    // Twice: an agent that starts again finds its rules, and adds none.
    for _ in 0..2 {
        let _fresh = std::fs::remove_dir(home.path().join("attempts"));
        let mut agent = agent(&networks, &user, home.path(), "/usr/sbin:/usr/bin:/sbin:/bin");
        eventually("the agent is ready", || home.path().join("attempts").exists());
        agent.kill().expect("it runs");
        agent.wait().expect("our child");
    }
    let log = try_it();
    assert_eq!(log.matches("refused").count(), 2, "{log}");
    assert!(!log.contains("reached"), "{log}");
    let within = networks.within();
    let root = |arguments: &[&str]| {
        let output = Command::new(&within[0]).args(&within[1..]).args(arguments).output();
        String::from_utf8(output.expect("ip runs").stdout).expect("text")
    };
    assert_eq!(root(&["bash", "-c", CONNECT]).matches("reached").count(), 2);
    assert_eq!(root(&["ip", "rule", "show"]).matches("prohibit").count(), 1);
    assert!(!home.path().join("boot.log").exists(), "there is nothing to warn of");
}

#[test]
fn where_the_pool_allows_it_nothing_is_refused() {
    let Some(user) = TestUser::new() else { return };
    let Some(networks) = Networks::new() else { return };
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let mut agent = agent_with(&networks, &user, home.path(), path, "yes");
    eventually("the agent is ready", || home.path().join("attempts").exists());
    agent.kill().expect("it runs");
    agent.wait().expect("our child");
    let within = networks.within();
    let rules = Command::new(&within[0]).args(&within[1..]).args(["ip", "rule", "show"]).output();
    let rules = String::from_utf8(rules.expect("ip runs").stdout).expect("text");
    assert!(rules.contains("lookup main") && !rules.contains("prohibit"), "{rules}");
}

#[test]
fn a_machine_that_cannot_refuse_it_says_so_in_the_boot_log() {
    let Some(user) = TestUser::new() else { return };
    let Some(networks) = Networks::new() else { return };
    let home = tempfile::tempdir().expect("a temporary directory");
    let broken = home.path().join("broken");
    std::fs::create_dir(&broken).expect("a fresh directory");
    for name in ["ip", "iptables", "ip6tables", "nft"] {
        let path = broken.join(name);
        let text = format!("#!/bin/sh\necho no {name} here >&2\nexit 1\n");
        std::fs::write(&path, text).expect("a fresh file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("our own file");
    }
    let path = format!("{}:/usr/bin:/bin", broken.display());
    let mut agent = agent(&networks, &user, home.path(), &path);
    eventually("the agent is ready", || home.path().join("attempts").exists());
    agent.kill().expect("it runs");
    agent.wait().expect("our child");
    let log = std::fs::read_to_string(home.path().join("boot.log")).expect("a boot log");
    for word in
        ["steps could reach", "no ip here", "no iptables here", "no nft here", "step_metadata"]
    {
        assert!(log.contains(word), "no {word:?} in {log}");
    }
}
