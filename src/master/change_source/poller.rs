//! Asks one project's repository regularly, or when poked, and tells the domain what it has.

use std::sync::Mutex;
use std::time::Duration;

use tracing::info;
use tracing::warn;

use crate::master::change_source::ChangeSource;
use crate::master::change_source::Project;
use crate::master::change_source::remote;
use crate::master::domain::event::Event;
use crate::model::backoff::Backoff;
use crate::model::ids::Commit;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::runtime::config_file::globs;
use crate::runtime::random;

/// A repository that does not answer is asked less and less often, up to this.
const SILENT_MAX: Duration = Duration::from_secs(10 * 60);

/// Pokes that come together are one: a push of many refs calls the hook for each.
const POKE_PAUSE: Duration = Duration::from_millis(50);

/// Whether a repository answers.
#[derive(Debug, Default)]
pub(super) struct Health {
    trouble: Mutex<Option<String>>,
}

impl Health {
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("nothing panics with the lock held").clone()
    }

    fn set(&self, trouble: Option<String>) {
        *self.trouble.lock().expect("nothing panics with the lock held") = trouble;
    }
}

/// Polls until the process ends.
pub(super) async fn run(source: ChangeSource, name: ProjectName) {
    let Some(project) = source.inner.projects.get(&name) else { return };
    let mut failures = 0;
    let mut has_answered = false;
    loop {
        match ask(project).await {
            Ok(refs) => {
                if !has_answered {
                    info!(project.name = %name, "watching {name}: {} refs", refs.len());
                }
                (failures, has_answered) = (0, true);
                project.health.set(None);
                let project = name.clone();
                source.inner.inbox.send(Event::RefsListed { project, refs }).await;
            }
            Err(why) => {
                if failures == 0 {
                    warn!(project.name = %name, "the repository of {name} does not answer: {why}");
                }
                failures += 1;
                project.health.set(Some(why));
            }
        }
        let pause = pause_after(project.watched.poll, failures);
        let poked = tokio::time::timeout(pause, project.poke.notified()).await.is_ok();
        if poked {
            tokio::time::sleep(POKE_PAUSE).await;
        }
    }
}

/// The next poll, a little early or late, so that projects do not all ask at once.
fn pause_after(poll: Duration, failures: u32) -> Duration {
    match Backoff::new(poll, SILENT_MAX.max(poll)) {
        Some(backoff) if failures > 0 => backoff.delay(failures, random::number()),
        Some(_) | None => {
            let tenth_ms = u64::try_from(poll.as_millis() / 10).unwrap_or(0);
            poll + Duration::from_millis(random::number() % (tenth_ms + 1))
        }
    }
}

/// The watched refs, as the repository has them.
async fn ask(project: &Project) -> Result<Vec<(RefName, Commit)>, String> {
    let remote = remote::list(&project.git, &project.dir, &project.watched.repo).await?;
    let is_watched = |name: &RefName| match (name.branch(), name.tag()) {
        (Some(branch), _) => globs::any_matches(&project.watched.branches, branch),
        (None, Some(tag)) => globs::any_matches(&project.watched.tags, tag),
        (None, None) => false,
    };
    Ok(remote.refs.into_iter().filter(|(name, _)| is_watched(name)).collect())
}
