//! What machines cost and may cost: prices drawn for each, and the law that no budget is overrun by a launch.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::master::domain::billing;
use busybee::master::domain::budget::Scope;
use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::Instance;
use busybee::master::domain::settings::Settings;
use busybee::model::ids::PoolName;
use busybee::model::ids::ProjectName;
use busybee::model::money::Money;
use busybee::model::status::InstanceStatus;
use busybee::model::time::Timestamp;

use crate::planted::Planted;
use crate::world::World;

/// In each third history something has a budget.
const BUDGETS_EVERY: u64 = 3;

/// Of a day, in millionths of a dollar: an hour or so of one machine.
const BUDGET: u64 = 1_000_000;

/// What waits for a budget may wait for so long: each day has a new one.
const DAYS: Duration = Duration::from_secs(4 * 24 * 3600);

/// Whether pools have budgets in this history.
pub(crate) fn has_budgets(seed: u64) -> bool {
    seed.is_multiple_of(BUDGETS_EVERY)
}

/// When a history begins: those with budgets shortly before a midnight, which their faults mostly reach.
pub(crate) fn first_moment(seed: u64) -> Timestamp {
    let first = Timestamp(1_000_000_000_000);
    if !has_budgets(seed) {
        return first;
    }
    let midnight = billing::start_of(billing::day_of(first) + 1);
    midnight - Duration::from_secs(600 * (1 + seed / BUDGETS_EVERY % 9))
}

impl World {
    /// Of all pools, and of the cloud.
    pub(crate) fn draw_budgets(&mut self) -> (Option<Money>, Option<Money>) {
        let budget = Some(Money(BUDGET / 2 + self.random(2 * BUDGET)));
        match (self.has_budgets, self.random(3)) {
            (false, _) => (None, None),
            (true, 0) => (budget, None),
            (true, 1) => (None, budget),
            (true, _) => (budget, Some(Money(BUDGET))),
        }
    }

    /// For an hour of a machine, as far as anybody knows.
    pub(crate) fn price(&mut self, pool: &PoolName) -> Option<Money> {
        let price = Money(100_000 + self.random(4 * BUDGET));
        let is_known = pool.as_str() == "cloud" && self.random(5) > 0;
        is_known.then_some(price)
    }

    /// How much longer it may take until nothing waits.
    pub(crate) fn rest_waits_for_budgets(&self) -> Duration {
        if self.has_budgets { DAYS } else { Duration::ZERO }
    }

    /// What the domain is told of its settings.
    pub(crate) fn settings_for_domain(&self) -> Settings {
        let mut settings = self.settings.clone();
        if self.planted == Planted::BudgetForgotten {
            settings.daily_budget = None;
            settings.pools.iter_mut().for_each(|pool| pool.daily_budget = None);
        }
        settings
    }

    /// No launch is begun while a budget is spent, and nobody is told of one twice a day.
    pub(crate) fn budgets_are_kept(&mut self, records: &[Record]) {
        for record in records {
            match record {
                // A launch, or the start of what was stopped.
                Record::Instance(row) if row.status == InstanceStatus::Requested => {
                    let before = self.disk.instances.get(&row.id).map(|row| row.status);
                    if before != Some(InstanceStatus::Requested) {
                        self.has_room_for(row);
                    }
                }
                Record::BudgetTold(scope, day) => {
                    let told = self.disk.budgets_told.get(scope);
                    assert_ne!(told, Some(day), "told of {scope:?} twice a day");
                    *self.counts.entry("budget spent").or_default() += 1;
                }
                _ => {}
            }
        }
    }

    /// What projects have cost is what their attempts held by their rows, at the price of what they ran on;
    /// that those rows are right is the law of time.
    pub(crate) fn laws_of_costs(&self) {
        let mut expected: BTreeMap<(ProjectName, u64), (Money, bool)> = BTreeMap::new();
        for attempt in self.disk.attempts.values() {
            let worker = self.disk.workers.get(&attempt.worker).expect("an attempt has a worker");
            let row = worker.instance.and_then(|id| self.disk.instances.get(&id));
            let (Some(row), Some(ended)) = (row, attempt.finished_at) else { continue };
            if row.price_per_hour.is_none() && row.pool.as_str() != "cloud" {
                continue;
            }
            let job = self.disk.jobs.get(&attempt.job).expect("an attempt has a job");
            let build = self.disk.builds.get(&job.build).expect("a job has a build");
            let key = (build.project.clone(), billing::day_of(ended));
            let day = expected.entry(key).or_default();
            match row.price_per_hour {
                Some(price) => day.0 = day.0 + price.per_hour_for(ended.since(attempt.assigned_at)),
                None => day.1 = true,
            }
        }
        let days = self.disk.project_days.iter();
        let told = days.map(|(key, day)| (key.clone(), (day.cost, day.in_part))).collect();
        assert_eq!(expected, told, "what projects cost by their attempts, and by their days");
    }

    fn has_room_for(&self, row: &Instance) {
        let of_pool = self.settings.pools.iter().find(|pool| pool.name == row.pool);
        let own = of_pool.and_then(|pool| Some((Some(row.pool.clone()), pool.daily_budget?)));
        let all = self.settings.daily_budget.map(|budget| (None, budget));
        for (scope, budget) in own.into_iter().chain(all) {
            let spent = self.spent_today(&scope);
            assert!(spent < budget, "{row:?} is launched: {scope:?} has spent {spent} of {budget}");
        }
    }

    /// By all rows of the ledger, since midnight by the master's clock.
    fn spent_today(&self, scope: &Scope) -> Money {
        let now = self.master.now;
        let midnight = billing::start_of(billing::day_of(now));
        let rows = self.disk.instances.values();
        let rows = rows.filter(|row| scope.as_ref().is_none_or(|pool| *pool == row.pool));
        rows.map(|row| billing::cost_between(row, midnight, now)).sum()
    }
}
