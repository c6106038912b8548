//! A git repository that people push to, made by git itself in a scratch directory.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A pipeline that is right.
pub(crate) const PIPELINE: &str = "version: 1\njobs: { test: { steps: [{ run: make test }] } }\n";

/// A bare repository, and a clone in which commits are made.
pub(crate) struct Origin {
    folder: TempDir,
}

impl Origin {
    /// With one commit on `main`, which has a pipeline.
    pub(crate) fn new() -> Origin {
        let origin = Origin { folder: tempfile::tempdir().expect("a scratch directory") };
        std::fs::create_dir(origin.work()).expect("it can be made");
        git(origin.folder.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(&origin.work(), &["init", "-q", "-b", "main"]);
        git(&origin.work(), &["remote", "add", "origin", &origin.bare().display().to_string()]);
        origin.commit("main", "first", &[(".busybee.yaml", PIPELINE)]);
        origin
    }

    /// The repository itself.
    pub(crate) fn bare(&self) -> PathBuf {
        self.folder.path().join("origin.git")
    }

    /// The folder in which it stands.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Its address for this machine.
    pub(crate) fn file_url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    /// Commits files on a branch (made from where the clone stands, if it is new) and pushes.
    pub(crate) fn commit(&self, branch: &str, subject: &str, files: &[(&str, &str)]) -> String {
        let exists = Command::new("git")
            .args(["rev-parse", "--verify", "-q", &format!("refs/heads/{branch}")])
            .current_dir(self.work())
            .output()
            .is_ok_and(|output| output.status.success());
        let is_born = self.try_rev("HEAD").is_some();
        match (exists, is_born) {
            (true, _) => git(&self.work(), &["checkout", "-q", branch]),
            (false, true) => git(&self.work(), &["checkout", "-q", "-b", branch]),
            (false, false) => String::new(),
        };
        for (name, text) in files {
            std::fs::write(self.work().join(name), text).expect("it can be written");
        }
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "--allow-empty", "-m", subject]);
        self.push(&["HEAD"]);
        self.rev("HEAD")
    }

    /// `git push --force origin …`
    pub(crate) fn push(&self, what: &[&str]) {
        git(&self.work(), &[&["push", "-q", "--force", "origin"], what].concat());
    }

    /// Runs git in the clone.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.work(), arguments)
    }

    /// The commit that a name stands for in the clone.
    pub(crate) fn rev(&self, name: &str) -> String {
        self.try_rev(name).expect("the name stands for a commit")
    }

    fn try_rev(&self, name: &str) -> Option<String> {
        let output = Command::new("git")
            .args(["rev-parse", "--verify", "-q", name])
            .current_dir(self.work())
            .output()
            .expect("git runs");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }
}

/// Runs git as a person would, with an author.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
        .args(["-c", "commit.gpgsign=false", "-c", "gc.auto=0"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git runs");
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
