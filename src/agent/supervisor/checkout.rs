//! Step 0: the commit into the workspace, with the `git` program.
//!
//! A warm workspace is fetched into and cleaned; a broken one is made anew. Shallow by commit where the
//! server allows it, else the ref, else everything. The credential is used for the fetches alone and
//! stands in no file of the checkout.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::agent::domain::bounds::Ending;
use crate::agent::supervisor::command;
use crate::agent::supervisor::run::Attempt;
use crate::agent::supervisor::spool::Spool;
use crate::model::attempt::CheckoutSpec;
use crate::model::attempt::GitCredential;
use crate::model::step::StepOutcome;

/// Fetches that fail are tried this often: a forge hiccups.
const FETCH_TRIES: u32 = 3;

/// And this long after one another.
const FETCH_PAUSE: Duration = Duration::from_secs(2);

/// The name that goes with a token: code hosts look at the token alone, but want some name.
const TOKEN_USER: &str = "x-access-token";

/// Answers git's question for a password from the environment. It is asked for the repository's host
/// alone; a header (`http.….extraHeader`) would be sent on to whatever host git is redirected to.
const TOKEN_HELPER: &str = "!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \
     \"$BUSYBEE_GIT_USER\" \"$BUSYBEE_GIT_PASSWORD\"; }; f";

/// How a git command went: well, badly (worth another way), or the attempt is over.
enum Went {
    Well,
    Badly(String),
    Over(StepOutcome, Option<Ending>),
}

struct Checkout<'a> {
    attempt: &'a Attempt,
    spec: &'a CheckoutSpec,
    /// For git: the attempt's, what keeps git harmless, and the credential.
    env: Vec<(String, String)>,
    /// Private files that go away with the checkout.
    secrets: Vec<PathBuf>,
}

/// Carries out the checkout.
pub(super) fn run(attempt: &Attempt, spool: &mut Spool) -> (StepOutcome, Option<Ending>) {
    let Some(spec) = &attempt.spec.checkout else {
        return (StepOutcome::Skipped, None);
    };
    let mut checkout = Checkout { attempt, spec, env: Vec::new(), secrets: Vec::new() };
    if let Err(why) = checkout.prepare() {
        return (StepOutcome::Infra(format!("cannot prepare the checkout: {why}")), None);
    }
    let mut went = checkout.all(spool);
    if let Went::Badly(why) = &went
        && attempt.stage.has(&attempt.stage.workspace.join(".git"))
    {
        spool.say(&format!("{why}; once more, in a fresh workspace"));
        if let Err(why) = attempt.stage.remove_workspace() {
            spool.say(&format!("cannot remove the workspace: {why}"));
        }
        went = checkout.all(spool);
    }
    checkout.forget_secrets();
    match went {
        Went::Well => (StepOutcome::Exited(0), None),
        Went::Badly(why) => (StepOutcome::Infra(why), None),
        Went::Over(outcome, ending) => (outcome, ending),
    }
}

impl Checkout<'_> {
    /// The environment of git: no settings of anybody's, no prompts, no helpers.
    fn prepare(&mut self) -> std::io::Result<()> {
        let mut env = self.attempt.env.clone();
        let fixed = [
            ("GIT_ALLOW_PROTOCOL", "file:https:http:ssh"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ASKPASS", "/bin/false"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
        ];
        env.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut settings = vec![
            ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
            ("advice.detachedHead".to_owned(), "false".to_owned()),
            // A workspace on a mounted disk may belong to another user id than ours.
            ("safe.directory".to_owned(), "*".to_owned()),
            // What a step may have put into a warm workspace's settings runs no program here, where
            // the credential is: no monitor, and no helper but the one that follows.
            ("core.fsmonitor".to_owned(), "false".to_owned()),
            ("credential.helper".to_owned(), String::new()),
        ];
        match &self.spec.credential {
            GitCredential::None => {}
            GitCredential::Token(token) => {
                // A token file may name its user as well.
                let (user, password) =
                    token.reveal().split_once(':').unwrap_or((TOKEN_USER, token.reveal()));
                let key = format!("credential.{}.helper", origin(&self.spec.repo));
                settings.push((key, TOKEN_HELPER.to_owned()));
                env.push(("BUSYBEE_GIT_USER".to_owned(), user.to_owned()));
                env.push(("BUSYBEE_GIT_PASSWORD".to_owned(), password.to_owned()));
            }
            GitCredential::SshKey { key, known_hosts } => {
                let stage = &self.attempt.stage;
                let key_file = stage.write_private("ssh-key", key.reveal().as_bytes())?;
                self.secrets.push(key_file.clone());
                let mut ssh = format!(
                    "ssh -F none -i '{}' -o IdentitiesOnly=yes -o BatchMode=yes",
                    key_file.display()
                );
                if known_hosts.is_empty() {
                    ssh.push_str(" -o StrictHostKeyChecking=accept-new");
                } else {
                    let hosts = stage.write_private("known-hosts", known_hosts.as_bytes())?;
                    ssh.push_str(&format!(
                        " -o StrictHostKeyChecking=yes -o UserKnownHostsFile='{}'",
                        hosts.display()
                    ));
                    self.secrets.push(hosts);
                }
                env.push(("GIT_SSH_COMMAND".to_owned(), ssh));
            }
        }
        // In the environment, not among the arguments, where every user could read them.
        env.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()));
        for (index, (name, value)) in settings.into_iter().enumerate() {
            env.push((format!("GIT_CONFIG_KEY_{index}"), name));
            env.push((format!("GIT_CONFIG_VALUE_{index}"), value));
        }
        self.env = env;
        Ok(())
    }

    fn forget_secrets(&self) {
        for file in &self.secrets {
            let _was_never_written = self.attempt.stage.act(|| std::fs::remove_file(file));
        }
    }

    fn all(&self, spool: &mut Spool) -> Went {
        let (stage, workspace) = (&self.attempt.stage, &self.attempt.stage.workspace);
        if !stage.has(&workspace.join(".git")) {
            if let Err(why) = stage.act(|| std::fs::create_dir_all(workspace)) {
                return Went::Badly(format!("cannot make the workspace: {why}"));
            }
            match self.git(&["init", "--quiet", "."], spool) {
                Went::Well => {}
                other => return other,
            }
        }
        // A lock that a killed git left behind would stop every later one.
        for lock in [".git/index.lock", ".git/shallow.lock"] {
            let _not_there = stage.act(|| std::fs::remove_file(workspace.join(lock)));
        }
        match self.fetch(spool) {
            Went::Well => {}
            other => return other,
        }
        let commit = self.spec.commit.as_str();
        let mut steps: Vec<Vec<&str>> =
            vec![vec!["checkout", "--quiet", "--force", "--detach", commit]];
        if !self.attempt.spec.keep_workspace {
            steps.push(vec!["clean", "-ffdxq"]);
        }
        for step in steps {
            match self.git(&step, spool) {
                Went::Well => {}
                other => return other,
            }
        }
        self.submodules(workspace, spool)
    }

    fn submodules(&self, workspace: &Path, spool: &mut Spool) -> Went {
        if !self.attempt.stage.has(&workspace.join(".gitmodules")) {
            return Went::Well;
        }
        let sync = self.git(&["submodule", "--quiet", "sync", "--recursive"], spool);
        if !matches!(sync, Went::Well) {
            return sync;
        }
        let shallow = ["submodule", "update", "--init", "--recursive", "--force", "--depth", "1"];
        match self.git(&shallow, spool) {
            Went::Badly(_) => {
                self.git(&["submodule", "update", "--init", "--recursive", "--force"], spool)
            }
            other => other,
        }
    }

    /// Gets the commit, by the cheapest way that the server allows.
    fn fetch(&self, spool: &mut Spool) -> Went {
        if self.has_commit() {
            return Went::Well;
        }
        let (repo, commit) = (self.spec.repo.as_str(), self.spec.commit.as_str());
        let ref_name = self.spec.ref_name.as_str();
        let everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        let ways: [Vec<&str>; 3] = [
            vec!["fetch", "--quiet", "--no-tags", "--depth", "1", "--", repo, commit],
            vec!["fetch", "--quiet", "--no-tags", "--", repo, ref_name],
            vec!["fetch", "--quiet", "--", repo, everything[0], everything[1]],
        ];
        let mut why = String::new();
        for attempt in 0..FETCH_TRIES {
            if attempt > 0 {
                spool.say(&format!("trying again in {} s", FETCH_PAUSE.as_secs()));
                self.attempt.waiting.wait(None, FETCH_PAUSE);
            }
            for way in &ways {
                match self.git(way, spool) {
                    Went::Well if self.has_commit() => return Went::Well,
                    Went::Well => {
                        why = format!("commit {commit} is not on {ref_name} of {repo} any more");
                    }
                    Went::Badly(failed) => why = failed,
                    over @ Went::Over(..) => return over,
                }
            }
        }
        Went::Badly(why)
    }

    fn has_commit(&self) -> bool {
        let object = format!("{}^{{tree}}", self.spec.commit);
        let mut command = Command::new("git");
        self.attempt.stage.adopt(&mut command);
        let status = command
            .args(["cat-file", "-e", &object])
            .current_dir(&self.attempt.stage.workspace)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    fn git(&self, arguments: &[&str], spool: &mut Spool) -> Went {
        spool.write(format!("$ git {}\n", arguments.join(" ")).as_bytes());
        let mut command = Command::new("git");
        command.args(arguments);
        self.attempt.stage.adopt(&mut command);
        let watched = self.attempt.watched(None, true);
        match command::run(command, &self.attempt.stage.workspace, &self.env, &watched, spool) {
            (StepOutcome::Exited(0), _) => Went::Well,
            (StepOutcome::Exited(code), None) => {
                let what = arguments.first().copied().unwrap_or_default();
                Went::Badly(format!("git {what} ended with {code}"))
            }
            (StepOutcome::Infra(why), None) => Went::Badly(why),
            (outcome, ending) => Went::Over(outcome, ending),
        }
    }
}

/// `https://host` of a repository's URL.
fn origin(repo: &str) -> String {
    let Some((scheme, rest)) = repo.split_once("://") else { return repo.to_owned() };
    format!("{scheme}://{}", rest.split('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_the_repositorys_host_alone() {
        assert_eq!(origin("https://git.example.com/a/b.git"), "https://git.example.com");
        assert_eq!(
            origin("https://user@git.example.com:8443/a"),
            "https://user@git.example.com:8443"
        );
    }
}
