//! Connections that are nobody's yet: as many as may be, and the oldest gives way to the newest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::Notify;

/// Connections before the end of TLS, at most: a few KiB each. An honest one is past it within a
/// few round trips, so among so many the oldest is most likely not honest.
pub(crate) const HALF_OPEN_MAX: usize = 4096;

/// The connections before the end of TLS, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct HalfOpen {
    places: Arc<Mutex<Places>>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, Arc<Notify>>,
}

impl HalfOpen {
    /// A place for a new connection; the oldest loses its own if there are too many.
    pub(crate) fn enter(&self) -> Place {
        let eviction = Arc::new(Notify::new());
        let mut places = self.lock();
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, eviction.clone());
        if places.taken.len() > HALF_OPEN_MAX {
            places.evict_oldest();
        }
        drop(places);
        Place { all: self.clone(), number, eviction }
    }

    /// Takes the oldest's place away.
    pub(crate) fn evict_oldest(&self) {
        self.lock().evict_oldest();
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn evict_oldest(&mut self) {
        if let Some((_, eviction)) = self.taken.pop_first() {
            eviction.notify_one();
        }
    }
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    all: HalfOpen,
    number: u64,
    eviction: Arc<Notify>,
}

impl Place {
    /// Comes true when the place was taken away.
    pub(crate) async fn evicted(&self) {
        self.eviction.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;
    use std::task::Waker;

    fn is_evicted(place: &Place) -> bool {
        pin!(place.evicted()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_gives_way_when_there_are_too_many_and_who_is_done_counts_no_more() {
        let half_open = HalfOpen::default();
        let places: Vec<Place> = (0..HALF_OPEN_MAX).map(|_| half_open.enter()).collect();
        assert!(!is_evicted(&places[0]));
        let newest = half_open.enter();
        assert!(is_evicted(&places[0]));
        assert!(!is_evicted(&places[1]) && !is_evicted(&newest));
        drop(newest);
        let _another = half_open.enter();
        assert!(!is_evicted(&places[1]), "there was room again");
    }
}
