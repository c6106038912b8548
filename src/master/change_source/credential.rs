//! Key and token files → what a git of ours gets, and what a worker is given for one fetch.
//!
//! Files are read at each use: a changed token needs no restart.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

use crate::master::change_source::git::GitEnvironment;
use crate::master::change_source::remote::Remote;
use crate::master::change_source::remote::Transport;
use crate::master::change_source::source::CredentialFiles;
use crate::master::change_source::source::Source;
use crate::model::attempt::GitCredential;
use crate::model::secret::Secret;

/// A key, token or known_hosts file, at most.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The name that goes with a token. Code hosts look at the token alone, but want some name; a
/// GitHub App's tokens want this one.
const TOKEN_USER: &str = "x-access-token";

/// The file in `data_dir` that keeps the first key of each ssh host, where the project names none.
pub(super) const KNOWN_HOSTS: &str = "known_hosts";

/// What a git of ours gets to reach a source.
///
/// # Errors
/// A file that cannot be read, as a sentence.
pub(super) fn environment(source: &Source, data_dir: &Path) -> Result<GitEnvironment, String> {
    let mut environment = GitEnvironment::default();
    match &source.credential {
        CredentialFiles::None => {}
        CredentialFiles::Token(file) => {
            let token = read_token(file)?;
            // A file may name its user as well.
            let (user, password) =
                token.reveal().split_once(':').unwrap_or((TOKEN_USER, token.reveal()));
            environment.settings.push((helper_key(&source.remote), HELPER.to_owned()));
            environment.variables.push(("BUSYBEE_GIT_USER", user.into()));
            environment.variables.push(("BUSYBEE_GIT_PASSWORD", password.into()));
        }
        CredentialFiles::SshKey { key_file, known_hosts_file } => {
            let command = ssh_command(key_file.as_deref(), known_hosts_file.as_deref(), data_dir);
            environment.variables.push(("GIT_SSH_COMMAND", command));
            environment.variables.push(("GIT_SSH_VARIANT", "ssh".into()));
        }
    }
    if source.remote.transport() == Transport::File {
        // Git serves a directory of another user only if it is named in a file of ours.
        let file = data_dir.join("git").join(format!("{}.config", source.project));
        environment.variables.push(("GIT_CONFIG_GLOBAL", file.into_os_string()));
    }
    Ok(environment)
}

/// The git configuration that lets git serve a repository of this machine, whoever owns it.
pub(super) fn safe_directory(remote: &Remote) -> String {
    let path = remote.as_str().strip_prefix("file://").unwrap_or(remote.as_str());
    let quoted = path.replace('\\', "\\\\").replace('"', "\\\"");
    format!("[safe]\n\tdirectory = \"{quoted}\"\n\tdirectory = \"{quoted}/.git\"\n")
}

/// What a worker is given to fetch one commit.
///
/// # Errors
/// A file that cannot be read, as a sentence.
pub(super) fn for_worker(source: &Source, data_dir: &Path) -> Result<GitCredential, String> {
    match &source.credential {
        CredentialFiles::None => Ok(GitCredential::None),
        CredentialFiles::Token(file) => Ok(GitCredential::Token(read_token(file)?)),
        // The keys of the master's own user stay here.
        CredentialFiles::SshKey { key_file: None, .. } => Ok(GitCredential::None),
        CredentialFiles::SshKey { key_file: Some(key_file), known_hosts_file } => {
            let key = read(key_file)?;
            let known_hosts = match known_hosts_file {
                Some(file) => read(file)?,
                // What the master has seen itself is the best that a worker can be told.
                None => read(&data_dir.join(KNOWN_HOSTS)).unwrap_or_default(),
            };
            Ok(GitCredential::SshKey { key: Secret::new(key), known_hosts })
        }
    }
}

fn read(file: &Path) -> Result<String, String> {
    let cannot = |why: String| format!("cannot read {}: {why}", file.display());
    let metadata = std::fs::metadata(file).map_err(|error| cannot(error.to_string()))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(cannot(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(file).map_err(|error| cannot(error.to_string()))
}

fn read_token(file: &Path) -> Result<Secret<String>, String> {
    let text = read(file)?;
    let token = text.trim();
    if token.is_empty() || token.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("{} does not hold a token: one line, nothing else", file.display()));
    }
    Ok(Secret::new(token.to_owned()))
}

/// Answers git when a server wants a password. Git runs it in a shell.
const HELPER: &str = "!f() { test \"$1\" = get && \
    printf 'username=%s\\npassword=%s\\n' \"$BUSYBEE_GIT_USER\" \"$BUSYBEE_GIT_PASSWORD\"; }; f";

/// The setting that asks [`HELPER`] for this host alone.
///
/// Not `http.….extraHeader`: git sends that on to whatever host it is redirected to.
fn helper_key(remote: &Remote) -> String {
    let (scheme, rest) = remote.as_str().split_once("://").unwrap_or(("https", ""));
    let authority = rest.split('/').next().unwrap_or_default();
    format!("credential.{scheme}://{authority}.helper")
}

/// How git calls ssh. It is read by a shell, so paths are quoted.
fn ssh_command(key_file: Option<&Path>, known_hosts: Option<&Path>, data_dir: &Path) -> OsString {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    let mut command = String::from("ssh -o BatchMode=yes -o ConnectTimeout=20");
    command.push_str(" -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ControlMaster=no");
    command.push_str(" -o ControlPath=none -o ForwardAgent=no -o PermitLocalCommand=no");
    if let Some(key_file) = key_file {
        command.push_str(" -F /dev/null -o IdentitiesOnly=yes -o IdentityAgent=none -i ");
        command.push_str(&quoted(key_file));
    }
    let (file, checking): (PathBuf, &str) = match known_hosts {
        Some(file) => (file.to_owned(), "yes"),
        None => (data_dir.join(KNOWN_HOSTS), "accept-new"),
    };
    command.push_str(&format!(" -o StrictHostKeyChecking={checking} -o UserKnownHostsFile="));
    command.push_str(&quoted(&file));
    command.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_trusts_the_named_hosts_alone_and_asks_nothing() {
        let data_dir = Path::new("/data");
        let strict = ssh_command(Some(Path::new("/k's")), Some(Path::new("/kh")), data_dir);
        let strict = strict.into_string().expect("it is text");
        assert!(strict.contains("-i '/k'\\''s'") && strict.contains("IdentitiesOnly=yes"));
        assert!(strict.contains("StrictHostKeyChecking=yes -o UserKnownHostsFile='/kh'"));
        let first_use = ssh_command(None, None, data_dir).into_string().expect("it is text");
        assert!(first_use.contains("accept-new -o UserKnownHostsFile='/data/known_hosts'"));
        assert!(first_use.contains("BatchMode=yes") && !first_use.contains("-F /dev/null"));
    }

    #[test]
    fn a_token_is_bound_to_its_host() {
        let remote = Remote::parse("https://git.example.com:444/a/b.git").unwrap();
        assert_eq!(helper_key(&remote), "credential.https://git.example.com:444.helper");
    }
}
