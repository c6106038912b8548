//! Checkouts of real git repositories.

use std::path::Path;
use std::process::Command;

use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::CheckoutSpec;
use busybee::model::attempt::GitCredential;
use busybee::model::ids::Commit;
use busybee::model::ids::RefName;
use busybee::model::step::StepOutcome;

use crate::bench::Bench;
use crate::bench::step;

/// A repository with one file, to be changed.
pub(crate) struct Repository {
    pub(crate) dir: tempfile::TempDir,
}

impl Repository {
    pub(crate) fn new() -> Repository {
        Repository::at(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn at(dir: tempfile::TempDir) -> Repository {
        let this = Repository { dir };
        this.git(&["init", "-q", "-b", "main", "."]);
        this.commit("one");
        this
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(self.dir.path(), arguments)
    }

    /// Commits a file that holds this text.
    pub(crate) fn commit(&self, text: &str) -> Commit {
        std::fs::write(self.dir.path().join("file"), text).expect("write a file");
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", text]);
        Commit(self.git(&["rev-parse", "HEAD"]).trim().to_owned())
    }

    pub(crate) fn spec(&self, commit: &Commit) -> CheckoutSpec {
        CheckoutSpec {
            repo: self.dir.path().display().to_string(),
            commit: commit.clone(),
            ref_name: RefName::from("refs/heads/main"),
            credential: GitCredential::None,
        }
    }
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
        .args(["-c", "protocol.file.allow=always"])
        // Some tests give their repository to another user.
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("git prints text")
}

fn show() -> Bench {
    Bench::with(vec![step("cat file; ls -A")])
}

#[test]
fn the_commit_is_checked_out_and_the_log_shows_how() {
    let repository = Repository::new();
    let first = repository.commit("two");
    repository.commit("three");
    let done = show().checkout(repository.spec(&first), 1).into_done();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    assert_eq!(done.step(0), &StepOutcome::Exited(0));
    assert!(done.log(0).contains("$ git fetch"), "{}", done.log(0));
    assert!(done.log(1).starts_with("two"), "{}", done.log(1));
}

#[test]
fn a_warm_workspace_is_cleaned_unless_it_is_to_be_kept() {
    let repository = Repository::new();
    let first = repository.commit("two");
    let mut bench = Bench::with(vec![step("echo dirt > dirt; echo changed > file")])
        .checkout(repository.spec(&first), 1);
    bench.finish();
    let second = repository.commit("three");
    bench.spec = show().spec;
    let mut bench = bench.checkout(repository.spec(&second), 2);
    let done = bench.finish();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    assert!(done.log(1).starts_with("three") && !done.log(1).contains("dirt"), "{}", done.log(1));

    std::fs::write(bench.workspace().join("cache"), "warm").unwrap();
    let mut bench = bench.checkout(repository.spec(&second), 3);
    bench.spec.keep_workspace = true;
    assert!(bench.finish().log(1).contains("cache"));
}

#[test]
fn a_commit_that_was_pushed_over_is_still_built_while_the_server_has_it() {
    let repository = Repository::new();
    let gone = repository.commit("two");
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repository.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let done = show().checkout(repository.spec(&gone), 1).into_done();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    assert!(done.log(1).starts_with("two"));
}

#[test]
fn a_commit_that_nobody_has_is_the_infrastructures_fault_and_says_so() {
    let repository = Repository::new();
    let nowhere = Commit("1234567890123456789012345678901234567890".into());
    let done = show().checkout(repository.spec(&nowhere), 1).into_done();
    let AttemptOutcome::Infra(why) = &done.outcome else { panic!("{:?}", done.outcome) };
    assert!(why.contains("not on refs/heads/main") || why.contains("git fetch"), "{why}");
    assert_eq!(done.step(1), &StepOutcome::Skipped);
}

#[test]
fn a_broken_workspace_is_made_anew() {
    let repository = Repository::new();
    let first = repository.commit("two");
    let mut bench = show().checkout(repository.spec(&first), 1);
    bench.finish();
    let git_dir = bench.workspace().join(".git");
    std::fs::remove_dir_all(git_dir.join("objects")).unwrap();
    std::fs::write(git_dir.join("HEAD"), "nonsense").unwrap();
    let mut bench = bench.checkout(repository.spec(&first), 2);
    let done = bench.finish();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    assert!(done.log(0).contains("once more, in a fresh workspace"), "{}", done.log(0));
}

#[test]
fn submodules_come_along() {
    let part = Repository::new();
    let whole = Repository::new();
    let path = part.dir.path().display().to_string();
    whole.git(&["submodule", "add", "-q", "--", &path, "part"]);
    let commit = whole.commit("with a part");
    let bench = Bench::with(vec![step("cat part/file")]).checkout(whole.spec(&commit), 1);
    let done = bench.into_done();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    assert_eq!(done.log(1), "one");
}

#[test]
fn hooks_of_a_checkout_do_not_run_and_a_credential_stays_out_of_it() {
    let repository = Repository::new();
    let commit = repository.commit("two");
    let mut spec = repository.spec(&commit);
    let secret = busybee::model::secret::Secret::new("tok-4711".to_owned());
    spec.credential = GitCredential::Token(secret);
    let mut bench = show().checkout(spec, 1);
    let done = bench.finish();
    assert_eq!(done.outcome, AttemptOutcome::Passed, "{}", done.log(0));
    let found =
        Command::new("grep").args(["-rqE", "tok-4711"]).arg(bench.workspace()).status().unwrap();
    assert_eq!(found.code(), Some(1), "the token stands in no file of the workspace");
}

#[test]
fn a_submodule_whose_address_is_a_program_or_an_option_runs_nothing() {
    for address in [
        "ext::sh -c touch% @pwned@",
        "--upload-pack=touch @pwned@",
        "ssh://-oProxyCommand=touch%20@pwned@/x",
        "fd::17",
    ] {
        let repository = Repository::new();
        let pwned = repository.dir.path().join("pwned");
        let address = address.replace("@pwned@", &pwned.display().to_string());
        let module = format!("[submodule \"part\"]\n\tpath = part\n\turl = \"{address}\"\n");
        std::fs::write(repository.dir.path().join(".gitmodules"), module).expect("write a file");
        let head = repository.git(&["rev-parse", "HEAD"]);
        let link = format!("160000,{},part", head.trim());
        repository.git(&["update-index", "--add", "--cacheinfo", &link]);
        repository.git(&["add", ".gitmodules"]);
        repository.git(&["commit", "-q", "-m", "with an attack"]);
        let commit = Commit(repository.git(&["rev-parse", "HEAD"]).trim().to_owned());
        let done = show().checkout(repository.spec(&commit), 1).into_done();
        assert!(!pwned.exists(), "{address}: {}", done.log(0));
        let AttemptOutcome::Infra(why) = &done.outcome else {
            panic!("{address}: {}", done.log(0))
        };
        assert!(!why.is_empty());
        assert_eq!(done.step(1), &StepOutcome::Skipped);
    }
}
