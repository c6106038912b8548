//! Steps as a user without rights: what they are, what they cannot reach, and that nothing of them is
//! there when the next job comes. All of it needs root.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::GitCredential;
use busybee::model::secret::Secret;
use busybee::model::step::StepOutcome;

use crate::bench::Bench;
use crate::bench::eventually;
use crate::bench::step;
use crate::checkouts::Repository;
use crate::test_user::TestUser;
use crate::test_user::passes;
use crate::test_user::skipped;

/// Whoever prints this has read what it must not.
const SECRET: &str = "5ec2e7-4711";

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("our own file");
}

fn a_repository_of(user: &TestUser) -> Repository {
    // Not below /tmp: there it would not survive a sweep.
    let dir = tempfile::tempdir_in(&user.home).expect("a temporary directory");
    let repository = Repository::at(dir);
    mode(repository.dir.path(), 0o755);
    user.own(repository.dir.path());
    repository
}

#[test]
fn a_step_is_the_user_and_nothing_else_and_its_workspace_is_its_own() {
    let Some(user) = TestUser::new() else { return };
    let who =
        "id -u; id -G; umask; echo \"$HOME $USER $LOGNAME\"; grep NoNewPrivs /proc/self/status";
    let mut writes =
        step("echo made > made; mktemp > /dev/null; touch \"$HOME/own\"; stat -c %u made .");
    writes.env = vec![("OWN".into(), "1".into())];
    let done = user.on(Bench::with(vec![step(who), writes])).into_done();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}{}", done.log(1), done.log(2));
    let TestUser { uid, gid, name, home } = &user;
    let home = home.display();
    let is = format!("{uid}\n{gid}\n0022\n{home} {name} {name}\nNoNewPrivs:\t1\n");
    assert_eq!(done.log(1), is);
    assert_eq!(done.log(2), format!("{uid}\n{uid}\n"));
    assert!(!user.home.join("busybee/attempt").exists(), "scripts and TMPDIR go with the attempt");
}

#[test]
fn a_step_reads_nothing_of_the_agents() {
    let Some(user) = TestUser::new() else { return };
    let mut bench = user.on(Bench::with(Vec::new()));
    let home = bench.home.path().display().to_string();
    // The agent closes it at its start; then even careless modes below do no harm.
    mode(bench.home.path(), 0o700);
    for name in ["identity.key", "agent.env", "boot.log"] {
        let path = bench.home.path().join(name);
        std::fs::write(&path, SECRET).expect("our own home");
        mode(&path, 0o644);
    }
    let attempt = bench.dir().path().display().to_string();
    let tries = format!(
        "set +e; for file in {home}/identity.key {home}/agent.env {home}/boot.log {attempt}/spec \
         {attempt}/1.log /proc/$PPID/environ /proc/$PPID/mem /etc/shadow; do \
         if cat $file; then echo \"READ $file\"; fi; done; \
         ls {home} {attempt} && echo LISTED; ls /proc/$PPID/fd && echo LISTED; \
         echo x > {attempt}/cancel && echo WRITTEN; kill $PPID && echo KILLED; \
         setpriv --reuid 0 id -u && echo ROOT; true"
    );
    bench.spec.steps = vec![step(&tries)];
    bench.spec.env.push(("OTHER".into(), "1".into()));
    let done = bench.into_done();
    let log = done.log(1);
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{log}");
    for word in [SECRET, "READ", "LISTED", "WRITTEN", "KILLED", "ROOT"] {
        assert!(!log.contains(word), "{word} in {log}");
    }
}

#[test]
fn a_step_reads_neither_settings_nor_environment_of_a_running_agent() {
    let Some(user) = TestUser::new() else { return };
    let home = tempfile::tempdir().expect("a temporary directory");
    // Open to all, as a directory of the admin's could be.
    mode(home.path(), 0o755);
    let mut agent =
        agent(home.path(), &user.name).env("BB_PASSWORD", SECRET).spawn().expect("starts");
    eventually("the agent is ready", || home.path().join("attempts").exists());
    let pid = agent.id();
    let path = home.path().display();
    let tries = format!(
        "set +e; cat /proc/{pid}/environ; ls {path}; ls {path}/attempts; cat {path}/identity.key; true"
    );
    let done = user.on(Bench::with(vec![step(&tries)])).into_done();
    agent.kill().expect("it runs");
    agent.wait().expect("our child");
    assert_eq!(done.log(1).matches("Permission denied").count(), 4, "{}", done.log(1));
    assert!(!done.log(1).contains(SECRET));
}

/// An agent of one's own machine whose master nobody is.
fn agent(home: &Path, user: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_busybee-agent"));
    command.arg("run").env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    for (name, value) in [
        ("BB_MASTER", "127.0.0.1:9"),
        ("BB_MASTER_URL", "https://127.0.0.1:9"),
        ("BB_NAME", "w-1"),
        ("BB_USER", user),
    ] {
        command.env(name, value);
    }
    command.env("BB_HOME", home).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn an_agent_says_which_user_it_cannot_use_and_why() {
    let Some(user) = TestUser::new() else { return };
    let home = user.home.join("agent");
    std::fs::create_dir(&home).expect("a fresh directory");
    user.own(&home);
    let mut unprivileged = agent(&home, &user.name);
    // The program may lie where only root may look.
    std::fs::copy(env!("CARGO_BIN_EXE_busybee-agent"), home.join("program")).expect("a copy");
    let mut copy = user.command(&home.join("program").display().to_string());
    copy.arg("run").envs(unprivileged.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unprivileged = copy;
    for (mut command, why) in [
        (agent(&home, "root"), "root has the rights of root"),
        (agent(&home, "bbtest-nobody"), "there is no user bbtest-nobody"),
        (unprivileged, "only root can run steps as another user"),
    ] {
        let output = command.stderr(Stdio::piped()).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_warm_checkout_is_fetched_into_and_cleaned_and_a_locked_one_made_anew() {
    let Some(user) = TestUser::new() else { return };
    let repository = a_repository_of(&user);
    let first = repository.commit("two");
    user.own(repository.dir.path());
    let dirty = step("echo dirt > dirt; echo changed > file; stat -c %u file .git/config");
    let mut bench = user.on(Bench::with(vec![dirty])).checkout(repository.spec(&first), 1);
    let done = bench.finish();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    assert_eq!(done.log(1), format!("{0}\n{0}\n", user.uid));

    let second = repository.commit("three");
    user.own(repository.dir.path());
    bench.spec.steps = vec![step("cat file; ls -A; mkdir -p deep/er; chmod -R a-w deep .git")];
    let mut bench = bench.checkout(repository.spec(&second), 2);
    let done = bench.finish();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    assert_eq!(done.log(1), "three.git\nfile\n");
    assert!(!done.log(0).contains("init"), "it was warm: {}", done.log(0));
    std::fs::write(user.workspace().join(".git/HEAD"), "nonsense").expect("root may");
    std::fs::remove_dir_all(user.workspace().join(".git/objects")).expect("root may");

    bench.spec.steps = vec![step("cat file; ls -A")];
    let done = bench.checkout(repository.spec(&second), 3).into_done();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    assert!(done.log(0).contains("once more, in a fresh workspace"), "{}", done.log(0));
    assert_eq!(done.log(1), "three.git\nfile\n");
}

#[test]
fn a_key_reaches_git_for_the_fetch_and_is_gone_before_the_first_step() {
    let Some(user) = TestUser::new() else { return };
    let repository = a_repository_of(&user);
    let commit = repository.commit("two");
    user.own(repository.dir.path());
    // An `ssh` that shows the key it was given, and runs what it should on this machine.
    let bin = tempfile::tempdir().expect("a temporary directory");
    mode(bin.path(), 0o755);
    let ssh = bin.path().join("ssh");
    let text = "#!/bin/sh\nfor word; do [ \"$last\" != -i ] || { cat \"$word\" && echo key read; } >&2\n\
        last=$word; done\neval \"exec $last\"\n";
    std::fs::write(&ssh, text).expect("a fresh file");
    mode(&ssh, 0o755);
    let mut spec = repository.spec(&commit);
    spec.repo = format!("ssh://git.example.com{}", spec.repo);
    let key = Secret::new(SECRET.to_owned());
    spec.credential = GitCredential::SshKey { key, known_hosts: "git.example.com x".into() };
    let look = format!(
        "set +e; cat file; grep -rl {SECRET} \"$HOME\" . \"$TMPDIR\"; env | grep {SECRET}; true"
    );
    let mut bench = user.on(Bench::with(vec![step(&look)])).checkout(spec, 1);
    let path = std::env::var("PATH").expect("a PATH");
    bench.spec.env.push(("PATH".into(), format!("{}:{path}", bin.path().display())));
    let done = bench.finish();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    assert!(done.log(0).contains("key read"), "{}", done.log(0));
    // The step's own script has the word in it, as what it looks for.
    let found: Vec<String> = done.log(1).lines().map(str::to_owned).collect();
    let script = user.home.join("busybee/attempt/1.sh").display().to_string();
    assert_eq!(found, ["two".to_owned() + &script]);
}

#[test]
fn what_runs_in_the_users_name_elsewhere_is_ended_and_its_files_are_gone() {
    let Some(user) = TestUser::new() else { return };
    let name = &user.name;
    let script = format!(
        "(setsid sh -c 'sleep 1000 & echo $! > pid' > /dev/null 2>&1 &); \
         touch /tmp/{name} /dev/shm/{name}; mkdir -p /var/tmp/{name}/deep; ln -s /etc /tmp/{name}.link; \
         chmod -R a-w /var/tmp/{name}; echo begun; while [ ! -e go ]; do sleep 0.05; done; cat pid"
    );
    let mut bench = user.on(Bench::with(vec![step(&script)]));
    bench.start();
    bench.wait_for_log(1, "begun");
    // As cron and at would: no child of the supervisor. One heeds TERM, the other does not.
    let mut polite = user.command("sleep").arg("1000").spawn().expect("it starts");
    let stubborn = "trap '' TERM; touch \"$1\"; while :; do sleep 1; done";
    let ready = user.home.join("ready");
    let mut stubborn =
        user.command("sh").args(["-c", stubborn, "sh"]).arg(&ready).spawn().expect("it starts");
    eventually("the trap is set", || ready.exists());
    std::fs::write(user.workspace().join("go"), "").expect("root may");
    let done = bench.finish();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(1));
    let pid = done.log(1).lines().nth(1).expect("its number").to_owned();
    assert!(!crate::bench::lives(&pid));
    let by = |child: &mut std::process::Child| child.wait().expect("our child").signal();
    assert_eq!((by(&mut polite), by(&mut stubborn)), (Some(15), Some(9)));
    for place in ["/tmp", "/dev/shm", "/var/tmp"] {
        assert!(!Path::new(place).join(name).exists(), "{place}");
    }
    assert!(Path::new(&format!("/tmp/{name}.link")).symlink_metadata().is_err());
    assert!(Path::new("/etc/passwd").exists() && ready.exists(), "what is no leftover stays");
    assert_eq!(bench.dir().unclean(), None);
}

#[test]
fn a_job_begins_with_what_its_forerunner_should_have_done() {
    let Some(user) = TestUser::new() else { return };
    let leftover = Path::new("/tmp").join(&user.name);
    std::fs::write(&leftover, "").expect("a fresh file");
    user.own(&leftover);
    let mut stray = user.command("sleep").arg("1000").spawn().expect("it starts");
    let done = user.on(Bench::with(vec![step("ls /tmp")])).into_done();
    assert_eq!(done.outcome, AttemptOutcome::Passed);
    assert!(!done.log(1).contains(&user.name), "{}", done.log(1));
    assert_eq!(stray.wait().expect("our child").signal(), Some(15));
}

#[test]
fn what_cannot_be_removed_is_noted_and_the_next_job_does_not_begin() {
    let Some(user) = TestUser::new() else { return };
    let leftover = Path::new("/tmp").join(&user.name);
    let path = leftover.display().to_string();
    let mut bench = user.on(Bench::with(vec![step(&format!(
        "mkdir {path}; echo made; while [ ! -e go ]; do sleep 0.05; done"
    ))]));
    bench.start();
    bench.wait_for_log(1, "made");
    // A folder with something mounted on it is there to stay.
    let mounted = passes(&["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", &path]);
    user.own(&leftover);
    std::fs::write(user.workspace().join("go"), "").expect("root may");
    let done = bench.finish();
    let unclean = bench.dir().unclean();
    let mut next = user.on(Bench::with(vec![step("echo never")]));
    let second = next.finish();
    if mounted {
        assert!(passes(&["umount", &path]) && std::fs::remove_dir(&leftover).is_ok());
    } else {
        return skipped("an obstacle needs the right to mount one");
    }
    assert_eq!(done.outcome, AttemptOutcome::Passed, "the job itself is not to blame");
    let unclean = unclean.expect("it is noted");
    assert!(unclean.contains("files of a job could not be removed") && unclean.contains(&path));
    let AttemptOutcome::Infra(why) = second.outcome else { panic!("{:?}", second.outcome) };
    assert!(why.contains(&path), "{why}");
    assert!(next.dir().unclean().is_some() && next.dir().step_result(1).is_none());
}

#[test]
fn a_cancel_and_a_time_out_reach_what_another_user_runs() {
    let Some(user) = TestUser::new() else { return };
    let mut slow = step("sleep 1000 & exec sleep 1000");
    slow.timeout = Some(Duration::from_secs(1));
    let done = user.on(Bench::with(vec![slow])).into_done();
    assert_eq!(done.step(1), &StepOutcome::TimedOut);
    // The sweep of a machine with much in /tmp may take longer than the step.
    assert!(done.step_took(1) < Duration::from_secs(8), "{:?}", done.step_took(1));
}
