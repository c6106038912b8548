//! Attacks on a whole house: what lies on its disk and in its processes, and names that want to be
//! options or programs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::HELLO;
use crate::POOL;
use crate::house::BUSYBEE;
use crate::house::House;
use crate::house::Plan;
use crate::house::SECRET;
use crate::secrets::files_with;

/// A step with the secret in its hands, which waits for a gate.
const GATED: &str = "version: 1
jobs:
  deploy:
    secrets: [DEPLOY_TOKEN]
    steps:
      - name: wait
        run: |
          env; cat /proc/self/environ /proc/$PPID/environ /proc/$PPID/cmdline || true
          echo ready
          until [ -e \"$GATE\" ]; do sleep 0.05; done
        env: { GATE: \"@gate@\" }
";

fn mode(path: &Path) -> u32 {
    let metadata = path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o777
}

#[test]
fn a_password_is_in_no_environment_command_line_log_or_table_and_the_keys_in_their_files_alone() {
    let gate = tempfile::tempdir().unwrap();
    let gate = gate.path().join("gate");
    let pipeline = GATED.replace("@gate@", &gate.display().to_string());
    let mut house = House::open(&Plan { pipeline: &pipeline, pool: POOL });
    house.push(&[("more.txt", "more")], "deploy");
    house.eventually("the step runs", |house| {
        let output = house.busybee(&["build", "logs", "hello/1", "--step", "wait"]);
        output.stdout.ends_with(b"ready\n")
    });

    // It lies in what the machine was started with; the agent took it out of its own settings.
    let told: Vec<PathBuf> = files_with("BB_PASSWORD=", &house.data_dir())
        .into_iter()
        .filter(|path| path.ends_with("user-data"))
        .collect();
    let [told] = &told[..] else { panic!("one machine, not {told:?}") };
    let text = std::fs::read_to_string(told).unwrap();
    let password = text.lines().find_map(|line| line.strip_prefix("BB_PASSWORD=")).unwrap();
    let password = password.trim_matches('\'');
    assert_eq!(password.len(), 64, "the password as it was given");

    // Everybody on a machine can list command lines. (The shell that fetched the agent was told the
    // password in its environment: only its own user reads that, and in a cloud that is root.)
    let all = house.processes("");
    let agents = house.processes("busybee-agent");
    assert!(agents.len() >= 2 && all.len() > agents.len(), "agent and supervisor: {all:?}");
    for pid in &all {
        let line = text_of(&format!("/proc/{pid}/cmdline"));
        assert!(!line.contains(password) && !line.contains(SECRET), "process {pid}: {line}");
    }
    for pid in agents {
        let environment = text_of(&format!("/proc/{pid}/environ"));
        assert!(!environment.contains(password), "process {pid}: {environment}");
        assert!(!environment.contains(SECRET), "process {pid}: {environment}");
    }
    // While its agent lives, it lies in files that only the owner reads.
    for path in files_with(password, &house.data_dir()) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        assert!(!path.ends_with("console.log"), "{}", path.display());
    }
    let log = house.log(&["hello/1", "--step", "wait"]);
    let log = String::from_utf8_lossy(&log);
    assert!(!log.contains(password) && !log.contains("BB_PASSWORD"), "{log}");
    assert!(!house.said_by_master().contains(password));

    std::fs::write(&gate, "").unwrap();
    assert_eq!(house.finished(1)["status"], "passed", "{}", house.story());
    house.eventually("the worker is gone", |house| {
        let instances = house.json(&["instance", "list", "--all"]);
        let instances = instances["instances"].as_array().unwrap();
        instances.iter().all(|instance| instance["status"] == "terminated")
    });
    house.kill_master(); // So that the write-ahead log is looked through as well.
    let data_dir = house.data_dir();
    assert_eq!(files_named("-wal", &data_dir), 1);
    assert_eq!(files_with(password, &data_dir), Vec::<PathBuf>::new());
    assert_eq!(files_with(SECRET, &data_dir), Vec::<PathBuf>::new());
    let token = std::fs::read_to_string(data_dir.join("token")).unwrap();
    assert_eq!(files_with(token.trim(), &data_dir), [data_dir.join("token")]);
    assert_eq!(mode(&data_dir.join("token")), 0o600);
    assert_eq!(mode(&data_dir), 0o700);
    assert_eq!(mode(&data_dir.join("keys")), 0o700);
}

fn text_of(path: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// How many files of a directory have a name that ends so.
fn files_named(end: &str, dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(end)).count()
}

#[test]
fn serve_refuses_a_local_pool_that_nobody_called_unsafe_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("busybee.toml"), dir.path().join("data"));
    let config = format!(
        "[master]\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n\
         [[pool]]\nname = \"p\"\nprovisioner = \"local\"\n",
        data.display()
    );
    std::fs::write(&file, config).unwrap();
    let output = Command::new(BUSYBEE).args(["serve", "--config"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("unsafe_local = true"), "{said}");
    assert!(!data.exists());
}

#[test]
fn the_socket_is_the_owners_alone_and_asks_who_calls_even_where_its_file_lets_everybody() {
    let house = House::open(&Plan { pipeline: HELLO, pool: POOL });
    let socket = house.data_dir().join("busybee.sock");
    assert_eq!((mode(&socket), mode(&house.data_dir())), (0o600, 0o700));
    if !rustix::process::geteuid().is_root() {
        let required = std::env::var("BUSYBEE_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "calling as another user needs root");
        println!("SKIPPED: calling as another user needs root");
        return;
    }
    // A careless admin opens everything on the way.
    let mut open = Some(socket.as_path());
    while let Some(path) = open.filter(|path| *path != Path::new("/tmp") && path.parent().is_some())
    {
        let wider = mode(path) | 0o777;
        std::fs::set_permissions(path, PermissionsExt::from_mode(wider)).unwrap();
        open = path.parent().filter(|parent| parent.starts_with(house.path("")));
    }
    let call = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["-sS", "--max-time", "20", "--unix-socket"]);
        let output = command.arg(&socket).arg("http://localhost/api/v1/builds").output();
        let output = output.expect("curl starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "curl"];
    let (status, said) = call(&as_nobody);
    // As early as that, curl may think that it never got through; so the file is asked as well.
    assert!(matches!(status, Some(7 | 52 | 56)), "hung up on without a word: {status:?} {said}");
    let mut may_write = Command::new("setpriv");
    may_write.args(&as_nobody[1..4]).args(["test", "-w"]).arg(&socket);
    assert!(may_write.status().expect("setpriv starts").success(), "the file was the obstacle");
    let (status, said) = call(&["curl"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("\"builds\""), "{said}");
}

#[test]
fn branches_and_refs_that_are_options_or_commands_are_names_and_nothing_more() {
    const OPTIONS: [&str; 2] = ["--upload-pack=touch${IFS}pwned", "--output=pwned"];
    const COMMAND: &str = "$(touch${IFS}pwned);`touch${IFS}pwned`";
    const SHOWS: &str = "version: 1
jobs:
  test:
    steps:
      - name: show
        run: printf '%s\\n' \"$BUSYBEE_BRANCH\"
";
    let house = House::open(&Plan { pipeline: SHOWS, pool: POOL });
    // An option is no branch to us; what only a shell would run is one.
    for name in OPTIONS.iter().chain([&COMMAND]) {
        house.git(Path::new("work"), &["commit", "-q", "--allow-empty", "-m", name]);
        house.git(Path::new("work"), &["push", "-q", "origin", &format!("HEAD:refs/heads/{name}")]);
    }
    let build = house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(build["branch"], COMMAND);
    let log = house.log(&["hello/1", "--step", "show"]);
    assert_eq!(String::from_utf8_lossy(&log), format!("{COMMAND}\n"));
    assert_eq!(house.json(&["build", "list"])["builds"].as_array().unwrap().len(), 1);

    for name in ["--upload-pack=touch pwned", "ext::sh -c touch% pwned", "-x", "main..pwned"] {
        let output = house.busybee(&["build", "start", "hello", &format!("--ref={name}")]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
    }
    assert_eq!(files_called_pwned(&house.path("")), Vec::<PathBuf>::new());
    assert!(!Path::new("pwned").exists(), "nor where the tests run");
}

fn files_called_pwned(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_called_pwned(&path));
        } else if path.file_name().is_some_and(|name| name == "pwned") {
            found.push(path);
        }
    }
    found
}
