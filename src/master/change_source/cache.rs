//! A bare repository per project, into which commits are fetched to read their pipeline file.

use std::path::PathBuf;

use crate::master::change_source::git::Git;
use crate::model::ids::Commit;
use crate::model::ids::RefName;

/// What the master reads of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommitFacts {
    /// Its subject line.
    pub(super) subject: String,
    /// Its author, as git prints it.
    pub(super) author: String,
    /// The pipeline file's text; nothing: there is none.
    pub(super) pipeline: Option<String>,
}

/// A commit's subject and author, at most.
const LINE_CHARS_MAX: usize = 500;

/// A pipeline file that is longer is not read further: its size alone is the mistake to report.
const PIPELINE_BYTES_MAX: usize = 512 * 1024;

/// Why a commit could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// For people.
    pub(super) sentence: String,
    /// Whether the repository may answer better later.
    pub(super) worth_retrying: bool,
}

/// A project's cache.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    repo: String,
    git: Git,
}

impl Cache {
    /// The cache in `dir`, which need not exist yet.
    pub(super) fn new(dir: PathBuf, repo: String, git: Git) -> Cache {
        Cache { dir, repo, git }
    }

    /// Fetches a commit where it is not here yet, and reads it.
    ///
    /// # Errors
    /// When the repository does not answer, or has no such commit any more.
    pub(super) async fn read(
        &self,
        ref_name: &RefName,
        commit: &Commit,
        file_name: &str,
    ) -> Result<CommitFacts, Unreadable> {
        let broken = |sentence| Unreadable { sentence, worth_retrying: true };
        self.create().await.map_err(broken)?;
        if !self.has(commit).await {
            self.fetch(ref_name, commit).await?;
        }
        let format =
            ["log", "-1", "--no-show-signature", "--format=%s%n%an <%ae>", commit.as_str()];
        let said = self.git.run(&self.dir, &format).await.map_err(broken)?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let (subject, author) = said.split_once('\n').unwrap_or((&said, ""));
        let line = |text: &str| text.trim().chars().take(LINE_CHARS_MAX).collect::<String>();
        Ok(CommitFacts {
            subject: line(subject),
            author: line(author),
            pipeline: self.file(commit, file_name).await.map_err(broken)?,
        })
    }

    async fn create(&self) -> Result<(), String> {
        if self.dir.join("HEAD").exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.dir)
            .map_err(|why| format!("cannot create {}: {why}", self.dir.display()))?;
        self.git.run(&self.dir, &["init", "--quiet", "--bare", "."]).await.map(|_| ())
    }

    async fn has(&self, commit: &Commit) -> bool {
        let object = format!("{commit}^{{tree}}");
        self.git.run(&self.dir, &["cat-file", "-e", &object]).await.is_ok()
    }

    /// By commit where the server allows it, else the ref, else everything.
    async fn fetch(&self, ref_name: &RefName, commit: &Commit) -> Result<(), Unreadable> {
        // Only what the pipeline file needs, where the server can leave out the rest.
        const THIN: [&str; 6] =
            ["fetch", "--quiet", "--no-tags", "--depth=1", "--filter=blob:limit=512k", "--"];
        let thin = [&THIN[..], &[&self.repo, commit.as_str()]].concat();
        let by_ref = ["fetch", "--quiet", "--no-tags", "--", &self.repo, ref_name.as_str()];
        let all = ["fetch", "--quiet", "--", &self.repo, "+refs/heads/*:refs/heads/*"];
        let mut complaint = String::new();
        for way in [&thin[..], &by_ref[..], &all[..]] {
            match self.git.run(&self.dir, way).await {
                Ok(_) if self.has(commit).await => return Ok(()),
                Ok(_) => {}
                Err(why) => complaint = why,
            }
        }
        let answers = self.git.run(&self.dir, &["ls-remote", "--", &self.repo, "HEAD"]).await;
        Err(match answers {
            Ok(_) => Unreadable {
                sentence: format!("commit {commit} is not in the repository (any more)"),
                worth_retrying: false,
            },
            Err(_) => Unreadable { sentence: complaint, worth_retrying: true },
        })
    }

    async fn file(&self, commit: &Commit, name: &str) -> Result<Option<String>, String> {
        let listed = self.git.run(&self.dir, &["ls-tree", commit.as_str(), "--", name]).await?;
        if listed.is_empty() {
            return Ok(None);
        }
        let object = format!("{commit}:{name}");
        let mut text = self.git.run(&self.dir, &["show", "--no-textconv", &object]).await?;
        text.truncate(PIPELINE_BYTES_MAX);
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }
}
