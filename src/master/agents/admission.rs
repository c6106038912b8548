//! How many may greet at one time: in all, and from one address, so that one host that only opens
//! connections does not keep everybody else's agents out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// Agent connections before their greeting is proven, at most; others wait before TLS.
const UNPROVEN_MAX: usize = 256;

/// Of those, from one address. A greeting takes milliseconds, so a fleet behind one NAT is through soon.
const UNPROVEN_OF_ADDRESS_MAX: usize = 64;

/// The places of those who are not proven yet.
#[derive(Debug)]
pub(super) struct Admissions {
    all: Arc<Semaphore>,
    /// Only of addresses from where somebody greets or waits.
    of_address: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// The right to greet: given back when the greeting is proven or the connection ends.
#[derive(Debug)]
pub struct Admission {
    _of_all: OwnedSemaphorePermit,
    _of_address: OwnedSemaphorePermit,
}

impl Admissions {
    pub(super) fn new() -> Admissions {
        Admissions {
            all: Arc::new(Semaphore::new(UNPROVEN_MAX)),
            of_address: Mutex::new(HashMap::new()),
        }
    }

    /// Waits until there is a place for one more of this address.
    ///
    /// # Panics
    /// Never: the semaphores are not closed.
    pub(super) async fn admit(&self, address: IpAddr) -> Admission {
        // Its own first: who waits for that takes no place of others.
        let of_address = self.of(address).acquire_owned().await;
        let of_all = self.all.clone().acquire_owned().await;
        let _of_address = of_address.expect("the semaphore is never closed");
        let _of_all = of_all.expect("the semaphore is never closed");
        Admission { _of_all, _of_address }
    }

    fn of(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut known = self.of_address.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        if let Some(places) = known.get(&network).and_then(Weak::upgrade) {
            return places;
        }
        known.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(UNPROVEN_OF_ADDRESS_MAX));
        known.insert(network, Arc::downgrade(&places));
        places
    }
}

/// What counts as one address: of IPv6 the first half, as every host has as many as it likes of the other.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;
    use std::task::Poll;
    use std::task::Waker;

    /// A place, if there is one now.
    fn admitted(admissions: &Admissions, address: &str) -> Option<Admission> {
        let admission = pin!(admissions.admit(address.parse().unwrap()));
        match admission.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(admission) => Some(admission),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_host_that_takes_all_it_can_keeps_only_itself_out() {
        let admissions = Admissions::new();
        let mut taken: Vec<Admission> =
            std::iter::from_fn(|| admitted(&admissions, "192.0.2.1")).collect();
        assert_eq!(taken.len(), UNPROVEN_OF_ADDRESS_MAX);
        assert!(admitted(&admissions, "192.0.2.2").is_some());
        taken.pop();
        assert!(admitted(&admissions, "::ffff:192.0.2.1").is_some(), "a place is free again");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_host() {
        let admissions = Admissions::new();
        let addresses = (0..=UNPROVEN_OF_ADDRESS_MAX).map(|host| format!("2001:db8::{host:x}"));
        let taken: Vec<_> = addresses.filter_map(|one| admitted(&admissions, &one)).collect();
        assert_eq!(taken.len(), UNPROVEN_OF_ADDRESS_MAX);
        assert!(admitted(&admissions, "2001:db8:0:1::1").is_some());
    }

    #[test]
    fn no_more_than_so_many_greet_at_one_time_from_wherever() {
        let admissions = Admissions::new();
        let addresses = (0..300).map(|host| format!("10.0.{}.{}", host / 250, host % 250));
        let taken: Vec<_> = addresses.filter_map(|one| admitted(&admissions, &one)).collect();
        assert_eq!(taken.len(), UNPROVEN_MAX);
        drop(taken);
        let _one = admitted(&admissions, "10.1.0.1").unwrap();
        let known = admissions.of_address.lock().unwrap().len();
        assert!(known < 10, "addresses that nobody greets from are forgotten: {known}");
    }
}
