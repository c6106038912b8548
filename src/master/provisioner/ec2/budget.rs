//! How fast EC2 may be called: an account has a budget for each kind of action in each region (EC2
//! developer guide, "Request throttling"). One for all pools that share them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;

use crate::master::provisioner::ec2::listing::Listing;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::runtime::clock;

/// Calls under way at one time, in one region of one account.
const CALLS_MAX: usize = 4;

/// After a refusal a bucket fills at half its rate, and never at less than this part of it.
const SLOWEST: f64 = 1.0 / 16.0;

/// A bucket that was slowed down fills twice as fast again after so long without a refusal.
const RECOVERS_AFTER: Duration = Duration::from_secs(60);

/// The budgets of a master, by region and by where its credentials come from.
#[derive(Default)]
pub struct Budgets(Mutex<BTreeMap<Key, Shared>>);

/// What pools share that are in one region of one account.
#[derive(Clone, Default)]
pub(super) struct Shared {
    /// What they may call.
    pub(super) budget: Arc<Budget>,
    /// What exists: one call for those that ask at the same time.
    pub(super) listing: Arc<Listing>,
}

/// A region, and whose it is.
type Key = (String, Option<String>, Option<PathBuf>, Option<String>);

impl Budgets {
    /// The budget that a pool's calls come from, and the listing that it takes part in.
    pub(super) fn of(&self, settings: &Ec2Settings) -> Shared {
        let key = (
            settings.region.clone(),
            settings.endpoint.clone(),
            settings.credentials_file.clone(),
            settings.profile.clone(),
        );
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.entry(key).or_default().clone()
    }
}

/// What may be called in a region of an account.
pub(super) struct Budget {
    turns: Semaphore,
    buckets: Mutex<BTreeMap<Kind, Bucket>>,
    is_limited: bool,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { turns: Semaphore::new(CALLS_MAX), buckets: Mutex::default(), is_limited: true }
    }
}

impl Budget {
    /// For stand-ins of EC2 that have no budgets.
    pub(super) fn without_limits() -> Budget {
        Budget { is_limited: false, ..Budget::default() }
    }

    /// Waits until a call of this action may be made; what it gives is held while it is.
    pub(super) async fn turn(&self, action: &str) -> Option<SemaphorePermit<'_>> {
        let wait = self.with_bucket(action, Bucket::take);
        if !wait.is_zero() && self.is_limited {
            tokio::time::sleep(wait).await;
        }
        // Never closed.
        self.turns.acquire().await.ok()
    }

    /// EC2 says that it is too much: nothing of this kind for a while, and then less of it.
    pub(super) fn slow_down(&self, action: &str, pause: Duration) {
        self.with_bucket(action, |bucket, now| bucket.slow_down(now, pause));
    }

    fn with_bucket<T>(&self, action: &str, what: impl FnOnce(&mut Bucket, Duration) -> T) -> T {
        let (kind, now) = (Kind::of(action), clock::monotonic());
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        what(buckets.entry(kind).or_insert_with(|| Bucket::new(kind, now)), now)
    }
}

/// Actions that share a bucket of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Launch,
    Look,
    End,
    Other,
}

impl Kind {
    fn of(action: &str) -> Kind {
        match action {
            "RunInstances" | "StartInstances" => Kind::Launch,
            "TerminateInstances" => Kind::End,
            _ if action.starts_with("Describe") => Kind::Look,
            _ => Kind::Other,
        }
    }

    /// Calls at once, and calls per second after that.
    fn limits(self) -> (f64, f64) {
        match self {
            Kind::Launch => (5.0, 2.0),
            Kind::Look => (100.0, 20.0),
            Kind::End => (100.0, 5.0),
            Kind::Other => (50.0, 5.0),
        }
    }
}

/// A bucket of tokens: a call takes one, and they come back by and by.
#[derive(Debug)]
struct Bucket {
    burst: f64,
    rate_max: f64,
    rate: f64,
    /// Below zero: so many calls wait.
    tokens: f64,
    filled_at: Duration,
    slowed_at: Duration,
    closed_until: Duration,
}

impl Bucket {
    fn new(kind: Kind, now: Duration) -> Bucket {
        let (burst, rate) = kind.limits();
        Bucket {
            burst,
            rate_max: rate,
            rate,
            tokens: burst,
            filled_at: now,
            slowed_at: now,
            closed_until: now,
        }
    }

    fn fill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.filled_at);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.rate).min(self.burst);
        self.filled_at = now;
        if now.saturating_sub(self.slowed_at) >= RECOVERS_AFTER && self.rate < self.rate_max {
            self.rate = (self.rate * 2.0).min(self.rate_max);
            self.slowed_at = now;
        }
    }

    /// Takes a token, and says how long to wait for it.
    fn take(&mut self, now: Duration) -> Duration {
        self.fill(now);
        self.tokens -= 1.0;
        let owed = (-self.tokens).max(0.0) / self.rate;
        Duration::from_secs_f64(owed).max(self.closed_until.saturating_sub(now))
    }

    fn slow_down(&mut self, now: Duration, pause: Duration) {
        self.fill(now);
        self.rate = (self.rate / 2.0).max(self.rate_max * SLOWEST);
        self.tokens = self.tokens.min(0.0);
        self.slowed_at = now;
        self.closed_until = self.closed_until.max(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::ec2::settings::tests::sample;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn five_launches_may_be_made_at_once_and_then_two_a_second() {
        let mut bucket = Bucket::new(Kind::of("RunInstances"), s(100.0));
        let waits: Vec<Duration> = (0..8).map(|_| bucket.take(s(100.0))).collect();
        assert_eq!(waits[..5], [Duration::ZERO; 5]);
        assert_eq!(waits[5..], [s(0.5), s(1.0), s(1.5)]);
        assert_eq!(bucket.take(s(110.0)), Duration::ZERO, "they come back");
    }

    #[test]
    fn a_region_that_refuses_is_called_less_until_it_has_recovered() {
        let mut bucket = Bucket::new(Kind::of("DescribeInstances"), s(0.0));
        bucket.slow_down(s(0.0), s(7.0));
        assert_eq!(bucket.take(s(0.0)), s(7.0), "not before the pause is over");
        assert_eq!(bucket.rate, 10.0);
        for _ in 0..9 {
            bucket.slow_down(s(1.0), s(1.0));
        }
        assert_eq!(bucket.rate, 20.0 / 16.0, "but never not at all");
        for minute in 1..9 {
            bucket.fill(s(1.0 + 60.0 * f64::from(minute)));
        }
        assert_eq!(bucket.rate, 20.0);
    }

    #[test]
    fn pools_of_one_account_and_region_share_a_budget_and_others_do_not() {
        let budgets = Budgets::default();
        let of = |settings: &Ec2Settings| budgets.of(settings).budget;
        let one = of(&sample());
        assert!(Arc::ptr_eq(&one, &of(&sample())));
        let there = Ec2Settings { region: "eu-west-2".to_owned(), ..sample() };
        assert!(!Arc::ptr_eq(&one, &of(&there)));
        let others = Ec2Settings { profile: Some("theirs".to_owned()), ..sample() };
        assert!(!Arc::ptr_eq(&one, &of(&others)));
    }
}
