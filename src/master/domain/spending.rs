//! What has been spent: today by pools, day by day by the jobs of projects. Running totals, so that
//! nothing is read anew.

use std::collections::BTreeMap;

use crate::master::domain::billing;
use crate::master::domain::budget::BudgetHold;
use crate::master::domain::budget::Scope;
use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Record;
use crate::master::domain::entities::Attempt;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::ProjectDay;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::domain::snapshot::Snapshot;
use crate::model::ids::InstanceId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::money::Money;
use crate::model::time::Timestamp;

/// Totals of the present day (UTC), and what they are made of.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// Which day it is.
    day: u64,
    /// What has ended has cost so much of it, by pool.
    ended: BTreeMap<PoolName, Money>,
    /// What ended later than now, before the clock was set back: it may have cost something tomorrow, too.
    ahead: Vec<Instance>,
    /// What machines cost that may still have jobs to account for: an attempt can end after its machine.
    prices: BTreeMap<InstanceId, Money>,
    /// What the jobs of projects have cost today; and later, where the clock was set back.
    projects: BTreeMap<(u64, ProjectName), ProjectDay>,
    /// The budgets that are spent.
    pub(super) holds: BTreeMap<Scope, BudgetHold>,
    /// On which day somebody was last told that a budget is spent.
    pub(super) told: BTreeMap<Scope, u64>,
}

impl Spending {
    /// What a store knows of this day.
    pub(super) fn load(snapshot: &mut Snapshot, now: Timestamp) -> Spending {
        let day = billing::day_of(now);
        let mut spending = Spending {
            day,
            told: std::mem::take(&mut snapshot.budgets_told),
            ..Spending::default()
        };
        for instance in &snapshot.ended_instances {
            spending.instance_ended(instance);
            if instance.ended_at > Some(now) {
                spending.ahead.push(instance.clone());
            }
        }
        for known in std::mem::take(&mut snapshot.project_days) {
            if known.day >= day {
                spending.projects.insert((known.day, known.project.clone()), known);
            }
        }
        spending
    }

    /// When this day began.
    pub(super) fn midnight(&self) -> Timestamp {
        billing::start_of(self.day)
    }

    /// When the next one begins.
    pub(super) fn next_midnight(&self) -> Timestamp {
        billing::start_of(self.day + 1)
    }

    /// What has ended today has cost so much, of one pool or of all.
    pub(super) fn ended(&self, pool: Option<&PoolName>) -> Money {
        let ended = self.ended.iter().filter(|(name, _)| pool.is_none_or(|pool| pool == *name));
        ended.map(|(_, cost)| *cost).sum()
    }

    /// A price became known.
    pub(super) fn priced(&mut self, instance: &Instance) {
        if let Some(price) = instance.price_per_hour {
            self.prices.insert(instance.id, price);
        }
    }

    /// A row of the ledger is final.
    pub(super) fn instance_ended(&mut self, instance: &Instance) {
        let cost = billing::cost_between(instance, self.midnight(), self.next_midnight());
        if cost > Money::ZERO {
            let total = self.ended.entry(instance.pool.clone()).or_default();
            *total = *total + cost;
        }
    }
}

impl Coordinator {
    /// A new day begins with nothing spent.
    pub(super) fn turn_day(&mut self) {
        let day = billing::day_of(self.now);
        if self.spending.day == day {
            return;
        }
        self.spending.day = day;
        self.spending.ended.clear();
        self.spending.projects.retain(|(known, _), _| *known >= day);
        self.spending.holds.clear();
        for instance in std::mem::take(&mut self.spending.ahead) {
            self.spending.instance_ended(&instance);
        }
        let instances = &self.instances;
        self.spending.prices.retain(|id, _| instances.contains_key(id));
    }

    /// An attempt has held its worker's machine until now: that is what its job has cost.
    pub(super) fn account_for(&mut self, attempt: &Attempt) {
        let Some(worker) = self.workers.get(&attempt.worker).map(|live| &live.worker) else {
            return;
        };
        let Some(instance) = worker.instance else { return };
        let price = self.spending.prices.get(&instance).copied();
        let provisioner = self.pools.get(&worker.pool).map(|pool| pool.settings.provisioner);
        if price.is_none() && provisioner != Some(ProvisionerKind::Ec2) {
            return; // Nobody pays for it by the hour.
        }
        let build = self.jobs.get(&attempt.job).map(|job| job.build);
        let Some(build) = build.and_then(|build| self.builds.get(&build)) else { return };
        let project = build.project.clone();
        self.turn_day();
        let day = self.spending.day;
        let today = self.spending.projects.entry((day, project.clone()));
        let today = today.or_insert(ProjectDay { project, day, cost: Money::ZERO, in_part: false });
        match price {
            Some(price) => {
                let held = self.now.since(attempt.assigned_at);
                today.cost = today.cost + price.per_hour_for(held);
            }
            None => today.in_part = true,
        }
        let today = today.clone();
        self.remember(Record::ProjectDay(today));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::master::domain::event::Event;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::model::attempt::AttemptOutcome;

    fn days(rig: &Rig) -> Vec<(u64, u64, bool)> {
        let days = rig.written.iter().filter_map(|record| match record {
            Record::ProjectDay(day) => Some((day.day, day.cost.0, day.in_part)),
            _ => None,
        });
        days.collect()
    }

    fn house(price: Option<Money>) -> Rig {
        let ec2 = PoolSettings { provisioner: ProvisionerKind::Ec2, ..rig::pool("linux") };
        let mut rig = Rig::new(vec![ec2]);
        rig.price = price;
        rig.build("app", vec![rig::job("a", &[]), rig::job("b", &["a"])]);
        rig
    }

    #[test]
    fn a_job_costs_what_its_attempts_held_also_when_its_machine_goes_first() {
        let mut rig = house(Some(Money(3_600_000)));
        let (instance, worker, _) = rig.arrive();
        let first = rig.given();
        rig.now = rig.now + Duration::from_secs(10);
        rig.finish(&worker, first, AttemptOutcome::Passed);
        let today = billing::day_of(rig.now);
        assert_eq!(days(&rig), [(today, 10_000, false)]);
        rig.now = rig.now + Duration::from_secs(5);
        rig.say(Event::InstanceEnded { instance, sentence: None });
        assert_eq!(days(&rig).last(), Some(&(today, 15_000, false)), "lost, and paid for");
    }

    #[test]
    fn a_job_whose_instance_has_no_known_price_is_not_free() {
        let mut rig = house(None);
        let (_, worker, _) = rig.arrive();
        let first = rig.given();
        rig.finish(&worker, first, AttemptOutcome::Passed);
        assert_eq!(days(&rig), [(billing::day_of(rig.now), 0, true)]);
    }

    #[test]
    fn a_new_day_begins_at_nothing() {
        let mut rig = house(Some(Money(3_600_000)));
        let (_, worker, connection) = rig.arrive();
        let first = rig.given();
        rig.start(&worker, first);
        rig.wait_beating(60, &[(&worker, connection)]);
        rig.finish(&worker, first, AttemptOutcome::Passed);
        let second = rig.given();
        let before = days(&rig);
        rig.now = billing::start_of(billing::day_of(rig.now) + 1);
        rig.finish(&worker, second, AttemptOutcome::Passed);
        let after = days(&rig);
        assert_eq!((before.len(), after.len()), (1, 2));
        assert_eq!(after[1].0, before[0].0 + 1);
    }
}
