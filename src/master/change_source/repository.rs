//! The master's bare copy of a project's repository: as much of it as plans need.

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::master::change_source::credential;
use crate::master::change_source::git;
use crate::master::change_source::git::FETCH_DEADLINE;
use crate::master::change_source::git::GitEnvironment;
use crate::master::change_source::git::GitFailure;
use crate::master::change_source::git::LIST_DEADLINE;
use crate::master::change_source::git::LOCAL_DEADLINE;
use crate::master::change_source::git::Limits;
use crate::master::change_source::refs::RemoteRefs;
use crate::master::change_source::remote::Transport;
use crate::master::change_source::source::Source;
use crate::master::pipeline_file;
use crate::model::ids::Commit;
use crate::model::ids::RefName;

/// A listing of refs, at most: half a million branches.
const LISTING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A commit's subject and author, at most; longer ones are cut for pages.
const SUBJECT_CHARS_MAX: usize = 500;

/// Tips that are kept, so that the next fetch has something to start from.
const TIPS_KEPT: u64 = 16;

/// After this many fetches, what no tip needs is thrown away.
const FETCHES_PER_CLEANING: u64 = 200;

/// What to fetch where nothing less helps.
const EVERYTHING: &[&str] =
    &["--prune", "+refs/heads/*:refs/busybee/heads/*", "+refs/tags/*:refs/busybee/tags/*"];

/// How git says that our copy is damaged.
const DAMAGED: &[&str] = &[
    ".lock",
    "not a git repository (or any",
    "not a git repository: '.'",
    "is corrupt",
    "bad object",
    "loose object",
    "packfile",
];

/// What a commit says of itself, and its pipeline file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommitFacts {
    pub subject: String,
    /// `Ada <ada@example.com>`
    pub author: String,
    pub pipeline: PipelineText,
}

/// The pipeline file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PipelineText {
    /// Its text.
    Text(String),
    /// Why there is none that could be read, for people.
    Unreadable(String),
}

/// Why a commit could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FetchFailure {
    /// The repository did not answer, or refused: it may do better later.
    Unreachable(String),
    /// It answered, and has no such commit any more.
    Gone,
}

/// The copy of one source's repository.
#[derive(Debug)]
pub(super) struct Repository {
    source: Source,
    data_dir: PathBuf,
    folder: PathBuf,
    fetches: AtomicU64,
    /// One fetch at a time; reading needs no turn.
    turn: tokio::sync::Mutex<()>,
}

impl Repository {
    pub(super) fn new(source: Source, data_dir: &Path) -> Repository {
        let folder = data_dir.join("git").join(format!("{}.git", source.project));
        let data_dir = data_dir.to_owned();
        let turn = tokio::sync::Mutex::new(());
        Repository { source, data_dir, folder, fetches: AtomicU64::new(0), turn }
    }

    /// Whose repository it is.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Asks the remote for its branches and tags.
    ///
    /// # Errors
    /// Why it did not answer, for people.
    pub(super) async fn list(&self) -> Result<RemoteRefs, String> {
        let environment = self.environment()?;
        let limits = Limits { deadline: LIST_DEADLINE, output_bytes_max: LISTING_BYTES_MAX };
        let arguments = ["ls-remote", "--quiet", "--symref", "--", self.source.remote.as_str()];
        // Anywhere but in a repository: its settings do not matter here.
        git::run(&environment, Path::new("/"), &arguments, limits)
            .await
            .map(|listing| RemoteRefs::parse(&listing))
            .map_err(|failure| self.sentence(&failure))
    }

    /// What a commit says, without asking the remote; nothing: it is not here.
    pub(super) async fn facts(&self, commit: &Commit) -> Option<CommitFacts> {
        if !self.folder.join("HEAD").exists() {
            return None;
        }
        let format = "--format=%s%x00%an <%ae>";
        let log = ["log", "-1", "--no-mailmap", format, commit.as_str(), "--"];
        let printed = self.local(&log, 64 * 1024).await.ok()?;
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let (subject, author) = printed.trim_end_matches('\n').split_once('\0')?;
        let pipeline = self.pipeline_text(commit).await.ok()?;
        Some(CommitFacts { subject: shorten(subject), author: shorten(author), pipeline })
    }

    async fn pipeline_text(&self, commit: &Commit) -> Result<PipelineText, GitFailure> {
        let name = pipeline_file::FILE_NAME;
        let listed = self.local(&["ls-tree", "-l", commit.as_str(), "--", name], 4096).await?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let mut words = listed.split_whitespace();
        let unreadable = |why: String| Ok(PipelineText::Unreadable(why));
        let (Some(mode), Some(kind), Some(hash), Some(size)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return unreadable(format!(
                "this commit has no {name}, so there is nothing to build; `busybee init`, \
                    run in the repository, writes one to begin with"
            ));
        };
        if kind != "blob" || mode == "120000" {
            return unreadable(format!(
                "{name} is not a file in this commit; a link or directory is not followed"
            ));
        }
        let most = pipeline_file::FILE_BYTES_MAX;
        if size.parse::<usize>().is_ok_and(|bytes| bytes > most) {
            return unreadable(format!(
                "{name}: the file has {size} bytes, more than {most}; move scripts into \
                    files of their own"
            ));
        }
        let bytes = self.local(&["cat-file", "blob", hash], most).await?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => PipelineText::Text(text),
            Err(error) => {
                let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                PipelineText::Unreadable(format!(
                    "{name}:{line}: this is not UTF-8; save the file in that encoding"
                ))
            }
        })
    }

    /// Gets a commit from the remote: by itself where the server serves it so, else with its ref,
    /// else with everything there is.
    pub(super) async fn fetch(&self, commit: &Commit, on: &RefName) -> Result<(), FetchFailure> {
        let _turn = self.turn.lock().await;
        let environment = self.environment().map_err(FetchFailure::Unreachable)?;
        self.prepare(&environment).await?;
        let count = self.fetches.fetch_add(1, Ordering::Relaxed);
        let kept = format!("refs/busybee/recent-{}", count % TIPS_KEPT);
        let alone = format!("+{commit}:{kept}");
        let with_ref = format!("+{on}:{kept}");
        let attempts: [&[&str]; 4] =
            [&["--depth=1", &alone], &["--depth=1", &with_ref], &[&with_ref], EVERYTHING];
        let mut last_failure = None;
        for attempt in attempts {
            match self.fetch_and_mend(&environment, attempt).await {
                Ok(()) => last_failure = None,
                Err(failure) if is_final(&failure) => {
                    return Err(FetchFailure::Unreachable(self.sentence(&failure)));
                }
                Err(failure) => last_failure = Some(failure),
            }
            if self.has(commit).await {
                self.clean(count).await;
                return Ok(());
            }
        }
        match last_failure {
            // Everything there is was fetched, and the commit is not in it.
            None => Err(FetchFailure::Gone),
            Some(failure) => Err(FetchFailure::Unreachable(self.sentence(&failure))),
        }
    }

    /// Fetches; where the copy is damaged (a lock that a power cut left behind), once more into a
    /// new one. It holds nothing that the remote does not.
    async fn fetch_and_mend(
        &self,
        environment: &GitEnvironment,
        what: &[&str],
    ) -> Result<(), GitFailure> {
        match self.fetch_once(environment, what).await {
            Err(failure) if failure.says(DAMAGED) => {
                let (folder, why) = (self.folder.display(), failure.sentence());
                tracing::warn!(project = %self.source.project, "makes {folder} anew: {why}");
                let cannot = |error: std::io::Error| GitFailure::NotStarted(error.to_string());
                tokio::fs::remove_dir_all(&self.folder).await.map_err(cannot)?;
                self.make(environment).await?;
                self.fetch_once(environment, what).await
            }
            result => result,
        }
    }

    /// The branch or tag that contains a commit: `preferred` if it does. Fetches all history.
    pub(super) async fn containing(
        &self,
        commit: &Commit,
        preferred: Option<&RefName>,
    ) -> Result<RefName, FetchFailure> {
        let _turn = self.turn.lock().await;
        let environment = self.environment().map_err(FetchFailure::Unreachable)?;
        self.prepare(&environment).await?;
        let is_shallow = self.folder.join("shallow").exists();
        let mut arguments: Vec<&str> = Vec::new();
        if is_shallow {
            arguments.push("--unshallow");
        }
        arguments.extend(EVERYTHING);
        self.fetch_and_mend(&environment, &arguments)
            .await
            .map_err(|failure| FetchFailure::Unreachable(self.sentence(&failure)))?;
        let contains = format!("--contains={commit}");
        let list = |under: &'static str| {
            let contains = contains.clone();
            async move {
                let arguments = ["for-each-ref", "--format=%(refname)", &contains, under];
                let printed = self.local(&arguments, LISTING_BYTES_MAX).await.unwrap_or_default();
                let printed = String::from_utf8_lossy(&printed).into_owned();
                let full = |line: &str| line.replacen("refs/busybee/", "refs/", 1);
                printed.lines().map(full).collect::<Vec<String>>()
            }
        };
        let branches = list("refs/busybee/heads").await;
        if let Some(preferred) = preferred
            && branches.iter().any(|branch| branch == preferred.as_str())
        {
            return Ok(preferred.clone());
        }
        let mut tags = list("refs/busybee/tags").await.into_iter();
        branches.into_iter().next().or_else(|| tags.next()).map(RefName).ok_or(FetchFailure::Gone)
    }

    async fn fetch_once(
        &self,
        environment: &GitEnvironment,
        what: &[&str],
    ) -> Result<(), GitFailure> {
        let (options, refspecs): (Vec<&str>, Vec<&str>) =
            what.iter().copied().partition(|word| word.starts_with("--"));
        // Never a repository that our folder happens to stand in.
        let mut arguments =
            vec!["--git-dir=.", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
        arguments.extend(["--no-auto-maintenance", "--no-recurse-submodules", "--force"]);
        arguments.extend(options);
        arguments.extend(["--", self.source.remote.as_str()]);
        arguments.extend(refspecs);
        let limits = Limits { deadline: FETCH_DEADLINE, output_bytes_max: 1024 * 1024 };
        git::run(environment, &self.folder, &arguments, limits).await.map(drop)
    }

    async fn has(&self, commit: &Commit) -> bool {
        let object = format!("{commit}^{{commit}}");
        self.local(&["cat-file", "-e", &object], 1024).await.is_ok()
    }

    /// Makes the copy, if it is not there.
    async fn prepare(&self, environment: &GitEnvironment) -> Result<(), FetchFailure> {
        if self.folder.join("HEAD").exists() {
            return Ok(());
        }
        self.make(environment).await.map_err(|failure| {
            let why = failure.sentence();
            FetchFailure::Unreachable(format!("cannot make {}: {why}", self.folder.display()))
        })
    }

    /// Makes the copy: whole, or not at all.
    async fn make(&self, environment: &GitEnvironment) -> Result<(), GitFailure> {
        let cannot = |error: std::io::Error| GitFailure::Failed(format!("error: {error}"));
        let half = self.folder.with_extension("half");
        let _there = tokio::fs::remove_dir_all(&half).await;
        let _half_made = tokio::fs::remove_dir_all(&self.folder).await;
        tokio::fs::create_dir_all(&half).await.map_err(cannot)?;
        let limits = Limits { deadline: LOCAL_DEADLINE, output_bytes_max: 64 * 1024 };
        let arguments = ["--git-dir=.", "init", "--quiet", "--bare", "--template="];
        git::run(environment, &half, &arguments, limits).await?;
        tokio::fs::rename(&half, &self.folder).await.map_err(cannot)
    }

    /// Throws away what no tip needs, now and then; the copy would grow for ever.
    async fn clean(&self, count: u64) {
        if (count + 1).is_multiple_of(FETCHES_PER_CLEANING) {
            let limits = Limits { deadline: FETCH_DEADLINE, output_bytes_max: 64 * 1024 };
            let arguments = ["--git-dir=.", "gc", "--quiet", "--prune=now"];
            let cleaned =
                git::run(&GitEnvironment::default(), &self.folder, &arguments, limits).await;
            if let Err(failure) = cleaned {
                let (folder, why) = (self.folder.display(), failure.sentence());
                tracing::warn!(project = %self.source.project, "cannot clean {folder}: {why}");
            }
        }
    }

    async fn local(&self, arguments: &[&str], most: usize) -> Result<Vec<u8>, GitFailure> {
        let limits = Limits { deadline: LOCAL_DEADLINE, output_bytes_max: most };
        let arguments = [&["--git-dir=."], arguments].concat();
        git::run(&GitEnvironment::default(), &self.folder, &arguments, limits).await
    }

    fn environment(&self) -> Result<GitEnvironment, String> {
        let environment = credential::environment(&self.source, &self.data_dir)?;
        if self.source.remote.transport() == Transport::File {
            let file = self.data_dir.join("git").join(format!("{}.config", self.source.project));
            let wanted = credential::safe_directory(&self.source.remote);
            // The address may have changed since the last start.
            if std::fs::read_to_string(&file).ok().as_ref() != Some(&wanted) {
                std::fs::create_dir_all(self.data_dir.join("git"))
                    .and_then(|()| std::fs::write(&file, wanted))
                    .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            }
        }
        Ok(environment)
    }

    fn sentence(&self, failure: &GitFailure) -> String {
        format!("cannot reach {}: {}", self.source.remote.as_str(), failure.sentence())
    }
}

/// Whether another way of asking cannot help.
fn is_final(failure: &GitFailure) -> bool {
    match failure {
        GitFailure::NotStarted(_) | GitFailure::TimedOut(_) => true,
        GitFailure::TooMuchOutput(_) => false,
        GitFailure::Failed(_) => failure.says(&[
            "Could not resolve host",
            "Failed to connect",
            "Couldn't connect",
            "Connection refused",
            "Connection timed out",
            "Authentication failed",
            "terminal prompts disabled",
            "Permission denied",
            "Host key verification failed",
            "does not appear to be a git repository",
            "No space left on device",
        ]),
    }
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SUBJECT_CHARS_MAX).collect()
}
