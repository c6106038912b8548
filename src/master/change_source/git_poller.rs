//! Asks a repository for its refs from time to time, and at once when poked.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::Semaphore;

use crate::master::change_source::health::HealthBoard;
use crate::master::change_source::repository::Repository;
use crate::master::domain::event::Event;
use crate::master::inbox::Inbox;
use crate::model::backoff::Backoff;
use crate::runtime::clock;
use crate::runtime::random;

/// How long a repository that is down is left alone, at most: a person who mends it can poke.
const BACKOFF_MAX: Duration = Duration::from_secs(10 * 60);

/// Between two questions to one repository, however often it is poked: each starts a git.
const GAP_MIN: Duration = Duration::from_millis(100);

/// What every poller needs.
pub(super) struct Polling<'p> {
    pub inbox: &'p Inbox,
    pub health: &'p HealthBoard,
    /// How many repositories are asked at the same time.
    pub turns: &'p Semaphore,
}

/// Polls one repository for ever.
pub(super) async fn poll(repository: &Repository, poked: &Notify, polling: Polling<'_>) {
    let source = repository.source();
    let mut failures = 0u32;
    let mut is_first = true;
    loop {
        let listed = {
            let _turn = polling.turns.acquire().await;
            repository.list().await
        };
        match listed {
            Ok(refs) => {
                if failures > 0 {
                    let address = source.remote.as_str();
                    tracing::info!(project = %source.project, "{address} answers again");
                }
                failures = 0;
                polling.health.answered(&source.project, clock::now());
                let refs = refs.watched(source);
                // Sent also when nothing moved: an earlier listing may have been lost with a
                // commit that failed. The domain knows what it has seen.
                let (project, count) = (source.project.clone(), refs.len());
                polling.inbox.send(Event::RefsListed { project, refs }).await;
                if std::mem::take(&mut is_first) {
                    let project = &source.project;
                    tracing::info!(project.name = %project, refs = count, "watching {project}");
                }
            }
            Err(sentence) => {
                if failures == 0 {
                    tracing::warn!(project = %source.project, "{sentence}");
                }
                failures = failures.saturating_add(1);
                polling.health.failed(&source.project, clock::now(), sentence);
            }
        }
        // The gap bounds how many gits a flood of pokes starts; a poke within it is not lost.
        tokio::time::sleep(GAP_MIN).await;
        let wait = delay(source.poll, failures, random::number()).saturating_sub(GAP_MIN);
        let _until_poked_or_due = tokio::time::timeout(wait, poked.notified()).await;
    }
}

/// Until the next question: about `poll`, longer and longer while there is no answer. Spread by a
/// tenth, or a hundred projects would ask their host at the same moment for ever.
fn delay(poll: Duration, failures: u32, random: u64) -> Duration {
    let tenth_ms = u64::try_from(poll.as_millis() / 10).unwrap_or(u64::MAX);
    let spread = Duration::from_millis(random % tenth_ms.saturating_add(1));
    let usual = poll.saturating_sub(poll / 20) + spread;
    let backoff = Backoff::new(poll, BACKOFF_MAX.max(poll));
    match (failures, backoff) {
        (1.., Some(backoff)) => usual.max(backoff.delay(failures, random)),
        _ => usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_asked_about_as_often_as_it_should_be() {
        let minute = Duration::from_secs(60);
        for random in [0, 1, u64::MAX / 3, u64::MAX] {
            let wait = delay(minute, 0, random);
            assert!(wait >= Duration::from_secs(57) && wait <= Duration::from_secs(63), "{wait:?}");
        }
    }

    #[test]
    fn a_repository_that_is_down_is_asked_less_and_less() {
        let second = Duration::from_secs(1);
        assert!(delay(second, 6, 0) > delay(second, 3, 0));
        assert!(delay(second, 1000, u64::MAX) <= BACKOFF_MAX);
        let hour = Duration::from_secs(3600);
        assert!(delay(hour, 50, 0) >= hour / 2, "never more often than it should be");
    }
}
