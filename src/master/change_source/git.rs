//! Runs the `git` program: nobody's settings, no prompts, no hooks, no helpers, and a deadline.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::model::attempt::GitCredential;
use crate::runtime::private_file;

/// A git command that has not ended by then never will.
pub const GIT_TIMEOUT: Duration = Duration::from_secs(120);

/// What is read of a command's output, at most: a hundred thousand refs and more.
const OUTPUT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What of its complaints is shown to people, at most.
const COMPLAINT_CHARS_MAX: usize = 400;

/// How git is to be run for one project.
#[derive(Clone, Debug)]
pub struct Git {
    env: Vec<(String, String)>,
}

impl Git {
    /// Prepares the environment; a private key goes into a file below `dir`, which is private.
    ///
    /// # Errors
    /// When the key file cannot be written.
    pub fn new(dir: &Path, repo: &str, credential: &GitCredential) -> anyhow::Result<Git> {
        let fixed = [
            ("GIT_ALLOW_PROTOCOL", "file:https:http:ssh"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ASKPASS", "/bin/false"),
            ("LC_ALL", "C.UTF-8"),
        ];
        let own = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
        let mut env: Vec<(String, String)> = ["PATH", "HOME"].into_iter().filter_map(own).collect();
        env.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut settings = vec![
            ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
            ("safe.directory".to_owned(), "*".to_owned()),
            // Housekeeping in the background would outlive the command.
            ("gc.auto".to_owned(), "0".to_owned()),
            ("maintenance.auto".to_owned(), "false".to_owned()),
        ];
        match credential {
            GitCredential::None => {}
            GitCredential::Token(token) => {
                let pair = format!("x-access-token:{}", token.reveal());
                let header = format!("Authorization: Basic {}", base64(pair.as_bytes()));
                settings.push((format!("http.{}.extraHeader", origin(repo)), header));
            }
            GitCredential::SshKey { key, known_hosts } => {
                env.push(("GIT_SSH_COMMAND".to_owned(), ssh(dir, key.reveal(), known_hosts)?));
            }
        }
        // In the environment, not among the arguments, where every user could read them.
        env.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()));
        for (index, (name, value)) in settings.into_iter().enumerate() {
            env.push((format!("GIT_CONFIG_KEY_{index}"), name));
            env.push((format!("GIT_CONFIG_VALUE_{index}"), value));
        }
        Ok(Git { env })
    }

    /// Runs a command and gives what it printed.
    ///
    /// # Errors
    /// What git complained about, for people; also when it took too long.
    pub async fn run(&self, dir: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let what = format!("git {}", arguments.first().copied().unwrap_or_default());
        let mut child = Command::new("git")
            .args(arguments)
            .current_dir(dir)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|why| format!("cannot start git: {why}"))?;
        let group = child.id();
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(format!("{what}: its pipes are missing"));
        };
        let work = async {
            let (mut said, mut complained) = (Vec::new(), Vec::new());
            let mut stdout = stdout.take(OUTPUT_BYTES_MAX);
            let mut stderr = stderr.take(64 * 1024);
            let (read, complaint, status) = tokio::join!(
                stdout.read_to_end(&mut said),
                stderr.read_to_end(&mut complained),
                child.wait()
            );
            read.and(complaint).map_err(|why| format!("{what}: {why}"))?;
            let status = status.map_err(|why| format!("{what}: {why}"))?;
            if status.success() {
                return Ok(said);
            }
            let complaint = shorten(&String::from_utf8_lossy(&complained));
            Err(match complaint.is_empty() {
                true => format!("{what} ended with {status}"),
                false => complaint,
            })
        };
        let done = tokio::time::timeout(GIT_TIMEOUT, work).await;
        done.unwrap_or_else(|_| {
            // Its ssh or http helper must not live on.
            if let Some(group) = group.and_then(|id| i32::try_from(id).ok()) {
                let group = rustix::process::Pid::from_raw(group);
                let kill = rustix::process::Signal::KILL;
                let _gone = group.map(|group| rustix::process::kill_process_group(group, kill));
            }
            Err(format!("{what} did not end within {} s", GIT_TIMEOUT.as_secs()))
        })
    }
}

/// The ssh command for a key of our own and nothing else.
fn ssh(dir: &Path, key: &str, known_hosts: &str) -> anyhow::Result<String> {
    let key_file = dir.join("ssh-key");
    private_file::write(&key_file, key.as_bytes())?;
    let hosts = dir.join("known-hosts");
    let strict = if known_hosts.is_empty() {
        "accept-new"
    } else {
        private_file::write(&hosts, known_hosts.as_bytes())?;
        "yes"
    };
    Ok(format!(
        "ssh -F none -i '{}' -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20 \
         -o StrictHostKeyChecking={strict} -o UserKnownHostsFile='{}'",
        key_file.display(),
        hosts.display()
    ))
}

/// What git says, without its prefixes, on one line.
fn shorten(complaint: &str) -> String {
    let lines = complaint.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines
        .map(|line| line.strip_prefix("fatal: ").unwrap_or(line))
        .filter(|line| !line.starts_with("hint:"))
        .collect();
    lines.join("; ").chars().take(COMPLAINT_CHARS_MAX).collect()
}

/// `https://host/` of a repository's URL: a token goes nowhere else.
fn origin(repo: &str) -> String {
    let Some((scheme, rest)) = repo.split_once("://") else { return repo.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/")
}

/// Base64 (RFC 4648), for one header.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..4 {
            match index <= three.len() {
                true => text.push(char::from(LETTERS[(bits >> (18 - 6 * index)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}
