//! The repositories that commands make: the sample of `busybee demo`, small, real, and pleasant to watch,
//! and that of a trial launch.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// Its pipeline: three jobs, one after the other, with a little colour.
const PIPELINE: &str = r#"version: 1
name: hello
env: { GREETING: Hello }
jobs:
  lint:
    steps:
      - name: check the scripts
        run: |
          for script in *.sh; do sh -n "$script" && printf '\033[32mok\033[0m  %s\n' "$script"; done
  test:
    needs: [lint]
    steps:
      - name: unit tests
        run: sh test.sh
      - name: on what it ran
        when: always()
        run: uname -a && git log -1 --oneline
  package:
    needs: [test]
    steps:
      - name: make the archive
        run: |
          git archive --prefix=hello/ -o hello.tar HEAD
          tar -tf hello.tar
"#;

const HELLO_SH: &str = r#"# Greets whoever is named, or the world.
greeting=${GREETING:-Hello}
printf '%s, %s!\n' "$greeting" "${1:-world}"
"#;

const TEST_SH: &str = r#"# Runs hello.sh and compares what it says.
failed=0
check() {
    said=$(sh hello.sh ${2:+"$2"})
    if [ "$said" = "$1" ]; then
        printf '\033[32mpassed\033[0m  %s\n' "$1"
    else
        printf '\033[31mFAILED\033[0m  wanted "%s", got "%s"\n' "$1" "$said"
        failed=1
    fi
}
check "Hello, world!"
check "Hello, Ada!" Ada
check "Hello, busy bee!" "busy bee"
exit $failed
"#;

/// A bare repository, and a work tree to push from.
pub(super) struct Sample {
    bare: std::path::PathBuf,
    work: std::path::PathBuf,
}

impl Sample {
    /// Makes both below `dir`, with a first commit that has no pipeline yet.
    ///
    /// # Errors
    /// When git is missing or fails; the message holds what it said.
    pub(super) fn create(dir: &Path) -> anyhow::Result<Sample> {
        let sample = Sample { bare: dir.join("hello.git"), work: dir.join("hello") };
        for (path, kind) in [(&sample.bare, "--bare"), (&sample.work, "--quiet")] {
            let path = path.to_str().context("the demo's directory is not named in UTF-8")?;
            git(dir, &["init", "--quiet", kind, "--initial-branch=main", path])?;
        }
        sample.write("hello.sh", HELLO_SH)?;
        sample.commit("Greet whoever is named")?;
        git(&sample.work, &["remote", "add", "origin", "../hello.git"])?;
        sample.push()?;
        Ok(sample)
    }

    /// The bare repository: what the master watches.
    pub(super) fn repository(&self) -> &Path {
        &self.bare
    }

    /// Adds tests and pipeline, and pushes: this is the change that is built.
    ///
    /// # Errors
    /// When git fails.
    pub(super) fn push_the_change(&self) -> anyhow::Result<()> {
        self.write("test.sh", TEST_SH)?;
        self.write(".busybee.yaml", PIPELINE)?;
        self.commit("Test every greeting, and build on each push")?;
        self.push()
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.work.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    fn commit(&self, subject: &str) -> anyhow::Result<()> {
        git(&self.work, &["add", "--all"])?;
        git(&self.work, &["commit", "--quiet", "-m", subject])
    }

    fn push(&self) -> anyhow::Result<()> {
        git(&self.work, &["push", "--quiet", "origin", "main"])
    }
}

/// The pipeline of a trial launch: nothing that a bare machine could lack.
const TRIAL_PIPELINE: &str = "version: 1
jobs:
  trial:
    checkout: false
    steps: [{ run: \"true\" }]
";

/// Makes a repository below `dir` whose only job is `true`, and says where it is.
///
/// # Errors
/// When git is missing or fails; the message holds what it said.
pub(super) fn trial_repository(dir: &Path) -> anyhow::Result<std::path::PathBuf> {
    let work = dir.join("trial");
    let path = work.to_str().context("its directory is not named in UTF-8")?;
    git(dir, &["init", "--quiet", "--initial-branch=main", path])?;
    let file = work.join(".busybee.yaml");
    std::fs::write(&file, TRIAL_PIPELINE).with_context(|| format!("write {}", file.display()))?;
    git(&work, &["add", "--all"])?;
    git(&work, &["commit", "--quiet", "-m", "Try a machine"])?;
    Ok(work)
}

/// Runs git without anybody's settings.
fn git(dir: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("git")
        .args(["-c", "user.name=Busy Bee", "-c", "user.email=bee@example.com"])
        .args(["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"])
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .context("start git (it is needed here: install the package \"git\")")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "git {}: {}", arguments.join(" "), said.trim());
    Ok(())
}
