//! What a spot instance costs just now: asked of EC2, and remembered for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tracing::debug;

use crate::master::provisioner::ec2::answers::SpotPrice;
use crate::master::provisioner::ec2::answers::SpotPrices as Answer;
use crate::master::provisioner::ec2::answers::Subnets;
use crate::master::provisioner::ec2::client::Client;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::settings::Candidate;
use crate::model::money::Money;
use crate::runtime::clock;

/// A price is asked for again after this: they change a few times a day.
const KEPT_FOR: Duration = Duration::from_secs(10 * 60);

/// The same where there was no answer.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// A launch does not wait longer than this for its price.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The system that our images run, as EC2's prices name it.
const PRODUCT: &str = "Linux/UNIX";

/// A type and a subnet, and when it was asked what was answered.
type Known = BTreeMap<(String, Option<String>), (Duration, Option<Money>)>;

/// Remembered prices. Clones share them.
#[derive(Clone, Default)]
pub(super) struct SpotPrices {
    known: Arc<Mutex<Known>>,
}

impl SpotPrices {
    /// For an hour; nothing where EC2 does not say so in time.
    pub(super) async fn per_hour(&self, client: &Client, candidate: &Candidate) -> Option<Money> {
        let key = (candidate.instance_type.clone(), candidate.subnet.clone());
        if let Some(price) = self.remembered(&key, clock::monotonic()) {
            return price;
        }
        let price = match tokio::time::timeout(WAIT_MAX, ask(client, candidate)).await {
            Ok(Ok(price)) => price,
            Ok(Err(why)) => {
                debug!("cannot learn the spot price of {candidate}: {why}");
                None
            }
            Err(_) => None,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, (clock::monotonic(), price));
        price
    }

    fn remembered(&self, key: &(String, Option<String>), now: Duration) -> Option<Option<Money>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked_at, price) = known.get(key)?;
        let lasts = if price.is_some() { KEPT_FOR } else { UNKNOWN_FOR };
        (now.saturating_sub(*asked_at) < lasts).then_some(*price)
    }
}

async fn ask(client: &Client, candidate: &Candidate) -> Result<Option<Money>, CallError> {
    let zone = match &candidate.subnet {
        None => None,
        Some(subnet) => {
            let query = Query::new("DescribeSubnets").with_list("SubnetId", [subnet.as_str()]);
            let found: Subnets = client.call(&query).await?;
            found.subnet_set.item.into_iter().next().map(|subnet| subnet.availability_zone)
        }
    };
    let query = Query::new("DescribeSpotPriceHistory")
        .with_list("InstanceType", [candidate.instance_type.as_str()])
        .with_list("ProductDescription", [PRODUCT])
        // From now on: that is the price of each zone as it is.
        .with("StartTime", clock::now().to_string())
        .with_opt("AvailabilityZone", zone.as_deref());
    let answer: Answer = client.call(&query).await?;
    Ok(highest(&answer.spot_price_history_set.item, zone.as_deref()))
}

/// The price of the zone, or the highest of all where EC2 chooses: better too much than too little.
fn highest(listed: &[SpotPrice], zone: Option<&str>) -> Option<Money> {
    let mut newest: BTreeMap<&str, &SpotPrice> = BTreeMap::new();
    let ours =
        listed.iter().filter(|price| zone.is_none_or(|zone| price.availability_zone == zone));
    for price in ours {
        let known = newest.entry(&price.availability_zone).or_insert(price);
        // Dates are RFC 3339 in UTC, so their order is that of their text.
        if known.timestamp < price.timestamp {
            *known = price;
        }
    }
    newest.values().filter_map(|price| Money::parse(&price.spot_price).ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(zone: &str, day: u32, dollars: &str) -> SpotPrice {
        SpotPrice {
            availability_zone: zone.to_owned(),
            spot_price: dollars.to_owned(),
            timestamp: format!("2026-01-{day:02}T00:00:00.000Z"),
        }
    }

    #[test]
    fn the_newest_price_of_the_zone_counts_and_the_dearest_zone_where_none_is_named() {
        let listed = [
            price("a", 2, "0.031300"),
            price("a", 1, "0.090000"),
            price("b", 1, "0.040000"),
            price("c", 1, "free"),
        ];
        assert_eq!(highest(&listed, Some("a")), Some(Money(31_300)));
        assert_eq!(highest(&listed, None), Some(Money(40_000)));
        assert_eq!(highest(&listed, Some("c")), None);
        assert_eq!(highest(&[], None), None);
    }

    #[test]
    fn a_price_is_remembered_for_a_while_and_its_lack_for_less() {
        let prices = SpotPrices::default();
        let key = |name: &str| (name.to_owned(), None);
        let at = |secs: u64| Duration::from_secs(secs);
        let mut known = prices.known.lock().expect("nobody else has it");
        known.insert(key("known"), (at(100), Some(Money(5))));
        known.insert(key("unknown"), (at(100), None));
        drop(known);
        assert_eq!(prices.remembered(&key("known"), at(699)), Some(Some(Money(5))));
        assert_eq!(prices.remembered(&key("known"), at(700)), None);
        assert_eq!(prices.remembered(&key("unknown"), at(159)), Some(None));
        assert_eq!(prices.remembered(&key("unknown"), at(160)), None);
    }
}
