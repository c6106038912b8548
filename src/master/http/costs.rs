//! What instances, jobs, builds and pools have cost, as pages and API tell it: an estimate, and never a
//! nought for what is not known.

use std::collections::BTreeMap;

use crate::master::domain::billing;
use crate::master::domain::budget::BudgetHold;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::ProjectDay;
use crate::master::http::HttpConfig;
use crate::master::http::PoolView;
use crate::master::store::spending::Held;
use crate::model::ids::JobId;
use crate::model::ids::PoolName;
use crate::model::money::Money;
use crate::model::time::Timestamp;

/// An amount, and how far it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// What is known of it; nothing: nothing is.
    pub known: Option<Money>,
    /// Whether there is more, and nobody knows how much.
    pub in_part: bool,
}

impl Cost {
    /// For people; nothing where nothing was paid for.
    pub fn text(&self) -> Option<String> {
        match (self.known, self.in_part) {
            (None, false) => None,
            (None, true) => Some("unknown".to_owned()),
            (Some(known), false) => Some(known.to_string()),
            (Some(known), true) => Some(format!("at least {known}")),
        }
    }

    /// For programs: dollars, exact.
    pub fn decimal(&self) -> Option<String> {
        self.known.map(Money::decimal)
    }

    fn add(&mut self, amount: Option<Money>) {
        match amount {
            Some(amount) => self.known = Some(self.known.unwrap_or_default() + amount),
            None => self.in_part = true,
        }
    }
}

/// Whether somebody pays for the instances of a pool.
fn is_paid(config: &HttpConfig, pool: &PoolName) -> bool {
    let view = config.pools.iter().find(|view| view.name == *pool);
    view.is_some_and(PoolView::is_paid)
}

/// What an instance has cost so far.
pub fn of_instance(config: &HttpConfig, instance: &Instance, now: Timestamp) -> Cost {
    let mut cost = Cost::default();
    let known = billing::cost(instance, now);
    if instance.accepted_at.is_some() && (known.is_some() || is_paid(config, &instance.pool)) {
        cost.add(known);
    }
    cost
}

/// What the jobs of a build have cost so far, each by itself and all together.
pub fn of_build(
    config: &HttpConfig,
    held: &[Held],
    now: Timestamp,
) -> (BTreeMap<JobId, Cost>, Cost) {
    let mut jobs: BTreeMap<JobId, Cost> = BTreeMap::new();
    let mut all = Cost::default();
    for one in held {
        let time = one.until.unwrap_or(now).since(one.from);
        let amount = one.price_per_hour.map(|price| price.per_hour_for(time));
        if amount.is_some() || is_paid(config, &one.pool) {
            jobs.entry(one.job).or_default().add(amount);
            all.add(amount);
        }
    }
    (jobs, all)
}

/// What a project's jobs have cost on these days.
pub fn of_days<'d>(days: impl Iterator<Item = &'d ProjectDay>) -> Cost {
    let mut cost = Cost::default();
    for day in days {
        if day.cost > Money::ZERO {
            cost.add(Some(day.cost));
        }
        cost.in_part |= day.in_part;
    }
    cost
}

/// What pools have spent today (UTC).
#[derive(Clone, Debug)]
pub struct SpentToday {
    pools: BTreeMap<PoolName, Cost>,
    /// All together.
    pub all: Cost,
    until: Timestamp,
}

impl SpentToday {
    /// Of the instances that are there and those that have ended today.
    pub fn of(config: &HttpConfig, instances: &[Instance], now: Timestamp) -> SpentToday {
        let today = billing::day_of(now);
        let until = billing::start_of(today + 1);
        let mut spent = SpentToday { pools: BTreeMap::new(), all: Cost::default(), until };
        for instance in instances {
            let is_known = instance.price_per_hour.is_some();
            if instance.accepted_at.is_none() || !(is_known || is_paid(config, &instance.pool)) {
                continue;
            }
            let amount = billing::cost_between(instance, billing::start_of(today), now);
            let amount = is_known.then_some(amount);
            spent.pools.entry(instance.pool.clone()).or_default().add(amount);
            spent.all.add(amount);
        }
        spent
    }

    /// What one pool has spent.
    pub fn pool(&self, name: &PoolName) -> Cost {
        self.pools.get(name).copied().unwrap_or_default()
    }

    /// The budget that keeps a pool from launching, in words.
    pub fn hold(&self, config: &HttpConfig, pool: &PoolView) -> Option<String> {
        let own = pool.daily_budget.map(|budget| (Some(&pool.name), self.pool(&pool.name), budget));
        let all = config.daily_budget.map(|budget| (None, self.all, budget));
        let (scope, cost, budget) = own
            .into_iter()
            .chain(all)
            .find(|(_, cost, budget)| cost.known.is_some_and(|spent| spent >= *budget))?;
        let spent = cost.known.unwrap_or_default();
        let hold = BudgetHold { scope: scope.cloned(), spent, budget, until: self.until };
        Some(hold.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_never_nought() {
        let check = |amounts: &[Option<u64>], text: Option<&str>| {
            let mut cost = Cost::default();
            amounts.iter().for_each(|amount| cost.add(amount.map(Money)));
            assert_eq!(cost.text().as_deref(), text, "{amounts:?}");
        };
        check(&[], None);
        check(&[None], Some("unknown"));
        check(&[Some(0)], Some("$0.00"));
        check(&[Some(1_500_000), Some(500_000)], Some("$2.00"));
        check(&[Some(12_300), None], Some("at least $0.0123"));
    }
}
