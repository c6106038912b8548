//! One listing for all who ask at the same time: pools of one account and region see the same instances.
//!
//! Whoever asks is answered by a listing that has begun after that, never by one that was under way: what
//! it leaves out may have been launched meanwhile, and the domain would take that for a proof.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::Mutex;

/// What was listed last, for those who have asked before that began.
pub(super) struct SharedListing<T> {
    n_asked: AtomicU64,
    last: Mutex<Last<T>>,
}

struct Last<T> {
    /// How many had asked when it began: it is for all of them.
    is_for: u64,
    answer: Option<T>,
}

impl<T> Default for SharedListing<T> {
    fn default() -> SharedListing<T> {
        let last = Last { is_for: 0, answer: None };
        SharedListing { n_asked: AtomicU64::default(), last: Mutex::new(last) }
    }
}

impl<T: Clone> SharedListing<T> {
    /// What `list` gives, which begins when it is awaited; or gave another who waited for the same.
    pub(super) async fn ask(&self, list: impl Future<Output = T>) -> T {
        let number = self.n_asked.fetch_add(1, Ordering::SeqCst) + 1;
        // The one that is under way ends first.
        let mut last = self.last.lock().await;
        if last.is_for >= number
            && let Some(answer) = &last.answer
        {
            return answer.clone();
        }
        let is_for = self.n_asked.load(Ordering::SeqCst);
        let answer = list.await;
        *last = Last { is_for, answer: Some(answer.clone()) };
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn who_asks_is_answered_by_a_listing_that_began_later_and_shares_it_with_others() {
        let listing: SharedListing<u32> = SharedListing::default();
        let (begun, may_end) = (AtomicU64::new(0), Semaphore::new(0));
        let list = async |number: u32| {
            listing
                .ask(async {
                    begun.fetch_add(1, Ordering::SeqCst);
                    may_end.acquire().await.expect("it is not closed").forget();
                    number
                })
                .await
        };
        let others = async {
            // The first one has begun: it is polled first.
            assert_eq!(begun.load(Ordering::SeqCst), 1);
            may_end.add_permits(2);
            tokio::join!(list(2), list(3), list(4))
        };
        let (first, others) = tokio::join!(list(1), others);
        assert_eq!(
            (first, others),
            (1, (2, 2, 2)),
            "one for all who asked while the first went on"
        );
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        may_end.add_permits(1);
        assert_eq!(list(5).await, 5, "what is over answers nobody who asks later");
    }

    #[tokio::test]
    async fn one_who_no_longer_waits_leaves_the_listing_to_the_next() {
        let listing: SharedListing<u32> = SharedListing::default();
        tokio::select! {
            biased;
            _ = listing.ask(std::future::pending()) => unreachable!("it never ends"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(listing.ask(std::future::ready(2)).await, 2);
    }
}
