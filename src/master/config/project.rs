//! `[[project]]`: what was typed → what it means.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::master::change_source::remote::Remote;
use crate::master::change_source::remote::Transport;
use crate::master::change_source::secret_file;
use crate::master::change_source::source::CredentialFiles;
use crate::master::change_source::source::Source;
use crate::master::config::ProjectConfig;
use crate::master::config::meaning::Reading;
use crate::master::config::typed::ProjectFile;
use crate::model::ids::ProjectName;
use crate::model::secret::MASKED_BYTES_MIN;
use crate::runtime::config_file::globs::Pattern;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::Entries;
use crate::runtime::config_file::words;

/// How often a repository is asked, where the file does not say.
const POLL_DEFAULT: Duration = Duration::from_secs(60);

/// No repository is asked more often than this: each time starts a git.
const POLL_MIN: Duration = Duration::from_millis(200);

/// What a project means; nothing where git cannot be given its repository.
pub(super) fn of(reading: &mut Reading<'_>, typed: At<ProjectFile>) -> Option<ProjectConfig> {
    let typed = typed.value;
    reading.refuse(typed.name.id, words::check_project_name(&typed.name.value));
    let remote = reading.refuse(typed.repo.id, Remote::parse(&typed.repo.value));
    let credential = credential(reading, &typed, remote.as_ref());
    let everything = || Pattern::new("**").into_iter().collect();
    let hook_token_file = typed.hook_token_file.as_ref().map(|path| reading.existing(path));
    let poll = reading.duration(typed.poll, POLL_MIN, POLL_DEFAULT);
    let source = Source {
        project: ProjectName(typed.name.value),
        remote: remote?,
        branches: typed.branches.unwrap_or_else(everything),
        tags: typed.tags.unwrap_or_default(),
        poll,
        credential,
        secret_files: secret_files(reading, typed.secret_files),
    };
    Some(ProjectConfig { source, hook_token_file })
}

fn secret_files(
    reading: &mut Reading<'_>,
    typed: Option<Entries<At<String>>>,
) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    for (name, typed) in typed.unwrap_or_default().0 {
        reading.refuse(name.id, words::check_variable(&name.value));
        let file = reading.path(&typed);
        // It is read anew for each job, and may change; what is wrong with it now is only told.
        match secret_file::read(&file) {
            Ok(secret) if secret.reveal().len() < MASKED_BYTES_MIN => {
                let what = format!("{} is too short to be hidden in logs", name.value);
                let hint = format!("let it have {MASKED_BYTES_MIN} bytes or more");
                reading.warn(typed.id, what, hint);
            }
            Ok(_) => {}
            Err(why) => {
                reading.warn(typed.id, why, "jobs that list it cannot run until it is there")
            }
        }
        files.insert(name.value, file);
    }
    files
}

fn credential(
    reading: &mut Reading<'_>,
    typed: &ProjectFile,
    remote: Option<&Remote>,
) -> CredentialFiles {
    let transport = remote.map(Remote::transport);
    let mut only_for = |key: &Option<At<String>>, name: &str, wanted: Transport, scheme: &str| {
        if let Some(key) = key
            && transport.is_some_and(|transport| transport != wanted)
        {
            let what = format!("{name} is for repositories that are reached by {scheme}");
            reading.wrong(key.id, what, "take it out, or change repo");
        }
    };
    only_for(&typed.token_file, "token_file", Transport::Http, "https");
    only_for(&typed.ssh_key_file, "ssh_key_file", Transport::Ssh, "ssh");
    only_for(&typed.known_hosts_file, "known_hosts_file", Transport::Ssh, "ssh");
    if let Some(token_file) = &typed.token_file {
        if remote.is_some_and(Remote::is_unprotected) {
            let hint = "use https://";
            reading.wrong(token_file.id, "the token would be sent where anyone can read it", hint);
        }
        return CredentialFiles::Token(reading.existing(token_file));
    }
    match transport {
        Some(Transport::Ssh) => CredentialFiles::SshKey {
            key_file: typed.ssh_key_file.as_ref().map(|path| reading.existing(path)),
            known_hosts_file: typed.known_hosts_file.as_ref().map(|path| reading.existing(path)),
        },
        Some(Transport::Http | Transport::File) | None => CredentialFiles::None,
    }
}
