//! A change source over some repositories, with the inbox it sends to.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use busybee::master::change_source::ChangeSource;
use busybee::master::change_source::remote::Remote;
use busybee::master::change_source::source::CredentialFiles;
use busybee::master::change_source::source::Source;
use busybee::master::domain::decision::Unresolved;
use busybee::master::domain::decision::Wanted;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::Resolved;
use busybee::master::inbox::Inbox;
use busybee::master::inbox::Letter;
use busybee::model::ids::ChangeId;
use busybee::model::ids::ProjectName;
use busybee::runtime::config_file::globs::Pattern;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the project in every test.
pub(crate) const PROJECT: &str = "hello";

/// A source of one project.
pub(crate) struct House {
    pub(crate) changes: ChangeSource,
    letters: mpsc::Receiver<Letter>,
    pub(crate) data_dir: TempDir,
}

/// A source that watches everything, and asks so seldom that only pokes matter.
pub(crate) fn source(repo: &str) -> Source {
    let everything = || vec![Pattern::new("**").expect("a pattern")];
    Source {
        project: ProjectName::from(PROJECT),
        remote: Remote::parse(repo).expect("an address"),
        branches: everything(),
        tags: everything(),
        poll: Duration::from_secs(3600),
        credential: CredentialFiles::None,
        secret_files: BTreeMap::new(),
    }
}

impl House {
    /// A change source for one source.
    pub(crate) fn new(source: Source) -> House {
        let data_dir = tempfile::tempdir().expect("a scratch directory");
        let (inbox, letters) = Inbox::new();
        let changes = ChangeSource::new(vec![source], data_dir.path(), inbox);
        House { changes, letters, data_dir }
    }

    /// Starts polling, until the answer is dropped.
    pub(crate) fn start(&self) -> Polling {
        let changes = self.changes.clone();
        Polling(tokio::spawn(async move { changes.poll().await }))
    }

    /// The next listing: full refs with the first digits of their commits.
    pub(crate) async fn listing(&mut self) -> Vec<(String, String)> {
        let letter = tokio::time::timeout(PATIENCE, self.letters.recv()).await;
        match letter.expect("a listing comes").expect("the inbox is open") {
            Letter::Notice(Event::RefsListed { project, refs }) => {
                assert_eq!(project.as_str(), PROJECT);
                refs.into_iter().map(|(name, commit)| (name.0, commit.0)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Whether nothing has come.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.letters.try_recv().is_err()
    }

    /// Asks at once.
    pub(crate) fn poke(&self) {
        assert!(self.changes.poke(&ProjectName::from(PROJECT)));
    }

    /// Resolves a push.
    pub(crate) async fn push(&self, ref_name: &str, commit: &str) -> Result<Resolved, Failure> {
        let wanted = Wanted::Push { ref_name: ref_name.into(), commit: commit.into() };
        self.resolve(wanted).await
    }

    /// Resolves what somebody asked for.
    pub(crate) async fn manual(&self, wanted: Option<&str>) -> Result<Resolved, Failure> {
        self.manual_with(wanted, &[]).await
    }

    /// The same with inputs.
    pub(crate) async fn manual_with(
        &self,
        wanted: Option<&str>,
        inputs: &[(&str, &str)],
    ) -> Result<Resolved, Failure> {
        let inputs = inputs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.resolve(Wanted::Manual { reference: wanted.map(str::to_owned), inputs }).await
    }

    async fn resolve(&self, wanted: Wanted) -> Result<Resolved, Failure> {
        let change = ChangeId(7);
        let unresolved = Unresolved { change, project: PROJECT.into(), wanted };
        let event = tokio::time::timeout(PATIENCE, self.changes.resolved(unresolved)).await;
        match event.expect("an answer comes") {
            Event::ChangeResolved(ChangeId(7), resolved) => Ok(resolved),
            Event::ChangeUnresolved { change: ChangeId(7), sentence, worth_retrying } => {
                Err(Failure { sentence, worth_retrying })
            }
            other => panic!("{other:?}"),
        }
    }

    /// Why the repository does not answer, once it does not.
    pub(crate) async fn trouble(&self) -> String {
        let wait = async {
            loop {
                let health = self.changes.health();
                if let Some((_, why)) = health.get(&PROJECT.into()).and_then(|h| h.trouble.clone())
                {
                    return why;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("trouble comes")
    }

    /// Where a file of the master's would be.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.data_dir.path().join(name)
    }
}

/// Why a change could not be resolved.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) sentence: String,
    pub(crate) worth_retrying: bool,
}

/// Pollers that end with the test.
pub(crate) struct Polling(tokio::task::JoinHandle<()>);

impl Drop for Polling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("it can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
}
