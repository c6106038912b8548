//! What may be spent in a day (UTC), by a pool and by all: once it is, launches stop until midnight.
//!
//! What runs goes on. What costs nobody knows how much counts as nothing; `check` says so.

use std::time::Duration;

use crate::master::domain::billing;
use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Record;
use crate::master::domain::mail::Recipients;
use crate::master::domain::timers::Timer;
use crate::model::ids::PoolName;
use crate::model::money::Money;
use crate::model::time::Timestamp;

/// Whose budget it is: a pool's, or that of all.
pub type Scope = Option<PoolName>;

/// When a budget will be spent is a guess: seconds are billed whole, and a minute at least.
const GUESS_MARGIN: Duration = Duration::from_secs(1);

/// A budget that is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetHold {
    /// Whose.
    pub scope: Scope,
    /// How much had been spent when that was seen.
    pub spent: Money,
    /// How much may be.
    pub budget: Money,
    /// When launches go on.
    pub until: Timestamp,
}

impl BudgetHold {
    /// In words.
    pub fn sentence(&self) -> String {
        let BudgetHold { scope, spent, budget, until: _ } = self;
        let whose = match scope {
            Some(pool) => format!("pool {pool} has spent {spent} of its {budget}"),
            None => format!("all pools have spent {spent} of their {budget}"),
        };
        // Midnight it is always, so the moment has no date.
        format!("{whose} for today; launches go on at 00:00 UTC")
    }
}

impl Coordinator {
    /// The budget that keeps a pool from launching, if one does.
    pub(super) fn budget_hold(&mut self, pool: &PoolName) -> Option<BudgetHold> {
        self.spent_up(Some(pool.clone())).or_else(|| self.spent_up(None))
    }

    /// Timer: looks at every budget again.
    pub(super) fn look_at_budgets(&mut self) {
        for scope in self.scopes() {
            let _if_so_it_is_told = self.spent_up(scope);
        }
        self.unsettled.extend(self.pools.keys().cloned());
    }

    /// Sets the moment at which budgets are worth another look: when what runs will have spent one, and the
    /// next midnight at the latest while one is spent or something runs.
    pub(super) fn plan_budgets(&mut self) {
        let scopes = self.scopes();
        if scopes.is_empty() {
            return;
        }
        self.turn_day();
        let midnight = self.spending.next_midnight();
        let held = (!self.spending.holds.is_empty()).then_some(midnight);
        let spent = scopes.iter().filter_map(|scope| self.spent_at(scope));
        match spent.chain(held).min() {
            // The next day has a budget of its own: what spends that is guessed then.
            Some(at) => self.timers.set(Timer::Budget, at.min(midnight)),
            None => self.timers.clear(&Timer::Budget),
        }
    }

    /// Every budget there is.
    fn scopes(&self) -> Vec<Scope> {
        let pools = self.pools.values().filter(|pool| pool.settings.daily_budget.is_some());
        let pools = pools.map(|pool| Some(pool.settings.name.clone()));
        self.settings.daily_budget.map(|_| None).into_iter().chain(pools).collect()
    }

    fn budget_of(&self, scope: &Scope) -> Option<Money> {
        match scope {
            None => self.settings.daily_budget,
            Some(pool) => self.pools.get(pool)?.settings.daily_budget,
        }
    }

    /// Whether a budget is spent. Who first sees it tells it; it stays so until midnight.
    fn spent_up(&mut self, scope: Scope) -> Option<BudgetHold> {
        let budget = self.budget_of(&scope)?;
        self.turn_day();
        if let Some(hold) = self.spending.holds.get(&scope) {
            return Some(hold.clone());
        }
        let spent = self.spent_today(&scope);
        if spent < budget {
            return None;
        }
        let hold = BudgetHold { scope, spent, budget, until: self.spending.next_midnight() };
        self.spending.holds.insert(hold.scope.clone(), hold.clone());
        self.tell_of_budget(&hold);
        Some(hold)
    }

    /// What has been spent since midnight: by what has ended, and by what runs so far.
    fn spent_today(&self, scope: &Scope) -> Money {
        let midnight = self.spending.midnight();
        let running = self.instances.values().map(|live| &live.instance);
        let running = running.filter(|row| scope.as_ref().is_none_or(|pool| *pool == row.pool));
        let running = running.map(|row| billing::cost_between(row, midnight, self.now));
        running.sum::<Money>() + self.spending.ended(scope.as_ref())
    }

    /// When a budget will be spent if all goes on as it does; nothing: it is, or will not be.
    fn spent_at(&self, scope: &Scope) -> Option<Timestamp> {
        if self.spending.holds.contains_key(scope) {
            return None;
        }
        const HOUR: Duration = Duration::from_secs(3600);
        let left = self.budget_of(scope)?.less(self.spent_today(scope));
        let running = self.instances.values().map(|live| &live.instance);
        let running = running.filter(|row| scope.as_ref().is_none_or(|pool| *pool == row.pool));
        let hour = running.map(|row| billing::cost_between(row, self.now, self.now + HOUR));
        let hour = hour.sum::<Money>();
        let ms = (left.0.saturating_mul(3_600_000)).checked_div(hour.0)?;
        Some(self.now + Duration::from_millis(ms) + GUESS_MARGIN)
    }

    /// Once a day for each budget, whatever is started again.
    fn tell_of_budget(&mut self, hold: &BudgetHold) {
        let day = billing::day_of(self.now);
        if self.spending.told.insert(hold.scope.clone(), day) == Some(day) {
            return;
        }
        self.remember(Record::BudgetTold(hold.scope.clone(), day));
        self.mail_budget(hold);
    }

    fn mail_budget(&mut self, hold: &BudgetHold) {
        let (whose, key) = match &hold.scope {
            Some(pool) => (format!("pool {pool} has"), format!("pool {pool}")),
            None => ("all pools have".to_owned(), "[master]".to_owned()),
        };
        let subject = format!("{whose} spent the budget of today");
        let text = format!(
            "{}.\n\nWhat runs goes on, and what idles is used. To launch more today, raise daily_budget of \
             {key} in the master's file and start the master again.\n\nThe machines: {}/instances\n",
            hold.sentence(),
            self.settings.url
        );
        self.mail(Recipients::Admins, subject, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::decision::Action;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::master::domain::settings::ProvisionerKind;
    use crate::master::domain::snapshot::Snapshot;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::status::JobStatus;

    const DOLLAR: Option<Money> = Some(Money(1_000_000));

    fn pool(name: &str, cents: u64) -> PoolSettings {
        let daily_budget = (cents > 0).then_some(Money(cents * 10_000));
        let provisioner = ProvisionerKind::Ec2;
        PoolSettings { daily_budget, provisioner, ..rig::pool(name) }
    }

    /// Machines for a dollar an hour, and ten cents a day.
    fn poor() -> Rig {
        let mut rig = Rig::new(vec![pool("linux", 10)]);
        rig.price = DOLLAR;
        rig.build("app", vec![rig::job("runs", &[])]);
        rig
    }

    fn told(actions: &[Action]) -> usize {
        let budget = |action: &&Action| matches!(action, Action::Mail { subject, .. } if subject.contains("the budget of today"));
        actions.iter().filter(budget).count()
    }

    #[test]
    fn a_pool_that_has_spent_its_budget_launches_nothing_more_and_what_runs_goes_on() {
        let mut rig = poor();
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        assert_eq!(told(&rig.wait_beating(350, &[(&worker, connection)])), 0, "nine cents");
        assert_eq!(told(&rig.wait_beating(20, &[(&worker, connection)])), 1, "once, and by itself");
        rig.build("app", vec![rig::job("waits", &[])]);
        assert!(rig.launches().is_empty());
        let why =
            "pool linux has spent $0.1003 of its $0.1000 for today; launches go on at 00:00 UTC";
        assert_eq!(rig.reason("waits"), why);
        assert_eq!(told(&rig.wait_beating(600, &[(&worker, connection)])), 0);
        assert_eq!(rig.reason("waits"), why, "it is not told again with each cent");

        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert_eq!(rig.status("runs"), JobStatus::Passed);
        let second = rig.given();
        rig.start(&worker, second);
        assert_eq!(rig.status("waits"), JobStatus::Running, "what is there is used");
    }

    #[test]
    fn what_is_on_its_way_comes_and_no_more() {
        let mut rig = poor();
        let (instance, _, _) = rig.launches()[0].clone();
        rig.comes_up(instance);
        rig.wait(400);
        rig.build("app", vec![rig::job("waits", &[])]);
        assert!(rig.launches().is_empty());
        let why = rig.reason("waits");
        let begin = "starting 1 worker in pool \"linux\": it, asked for at 1970-01-12 13:46:40 UTC, boots; no more now: \
                     pool linux has spent $0.1";
        assert!(why.starts_with(begin), "{why}");
    }

    #[test]
    fn launches_go_on_by_themselves_when_the_day_is_over() {
        let mut rig = poor();
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.comes_up(instance);
        rig.wait(400);
        rig.ask(Request::StopWorker(worker));
        rig.say(Event::InstanceEnded { instance, sentence: None });
        assert!(rig.launches().is_empty());
        assert!(
            rig.reason("runs").contains("launches go on at 00:00 UTC"),
            "{}",
            rig.reason("runs")
        );
        let midnight = billing::start_of(billing::day_of(rig.now) + 1);
        rig.done = rig.wait(midnight.since(rig.now).as_secs() - 1);
        assert!(rig.launches().is_empty());
        rig.done = rig.wait(1);
        assert_eq!(rig.launches().len(), 1);
        assert!(rig.reason("runs").starts_with("starting 1 worker"), "{}", rig.reason("runs"));
    }

    #[test]
    fn what_is_spent_the_next_day_is_told_when_it_is_though_nothing_happens_at_night() {
        let max_lifetime = Duration::from_secs(48 * 3600);
        let kept = PoolSettings { min_idle: 1, max_lifetime, ..pool("linux", 1200) };
        let mut rig = Rig::new(vec![kept]);
        rig.price = DOLLAR;
        let (_, worker, connection) = rig.arrive();
        let midnight = billing::start_of(billing::day_of(rig.now) + 1);
        let beats = [(&worker, connection)];
        let evening = rig.wait_beating(midnight.since(rig.now).as_secs(), &beats);
        let morning = rig.wait_beating(12 * 3600 - 60, &beats);
        assert_eq!((told(&evening), told(&morning)), (0, 0), "ten dollars, and not quite twelve");
        assert_eq!(told(&rig.wait_beating(120, &beats)), 1, "at noon");
    }

    #[test]
    fn the_budget_of_all_counts_every_pool_and_stops_what_is_kept_ready_too() {
        let kept = PoolSettings { min_idle: 1, ..pool("big", 0) };
        let budget = Some(Money(100_000));
        let mut rig = Rig::budgeted(vec![pool("linux", 0), kept], budget, Snapshot::default());
        rig.price = DOLLAR;
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.comes_up(instance);
        rig.wait(370);
        rig.ask(Request::StopWorker(worker));
        rig.say(Event::InstanceEnded { instance, sentence: None });
        assert!(rig.launches().is_empty(), "none is kept ready");
        rig.build("app", vec![rig::job("waits", &[])]);
        assert!(rig.launches().is_empty());
        assert!(
            rig.reason("waits").starts_with("all pools have spent $0.1"),
            "{}",
            rig.reason("waits")
        );
    }

    #[test]
    fn a_master_that_starts_again_knows_what_was_spent_and_who_was_told() {
        let mut rig = poor();
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.comes_up(instance);
        assert_eq!(told(&rig.wait(400)), 1);
        rig.ask(Request::StopWorker(worker));
        rig.say(Event::InstanceEnded { instance, sentence: None });
        let mut snapshot = rig.launched();
        snapshot.ended_instances = rig.rows();
        snapshot.instances.clear();
        snapshot.workers.clear();
        let say = rig.written.iter().filter_map(|record| match record {
            Record::BudgetTold(scope, day) => Some((scope.clone(), *day)),
            _ => None,
        });
        snapshot.budgets_told = say.collect();
        assert_eq!(snapshot.budgets_told.len(), 1);

        let mut next = Rig::load(vec![pool("linux", 10)], snapshot);
        next.build("app", vec![rig::job("waits", &[])]);
        assert!(next.launches().is_empty());
        assert_eq!(told(&next.done), 0, "they know");
        assert!(next.reason("waits").contains("has spent"), "{}", next.reason("waits"));
    }

    #[test]
    fn what_nobody_knows_the_price_of_spends_nothing() {
        let mut rig = Rig::new(vec![pool("linux", 10)]);
        rig.build("app", vec![rig::job("runs", &[])]);
        rig.arrive();
        rig.wait(400);
        rig.build("app", vec![rig::job("a", &[]), rig::job("b", &[])]);
        assert!(!rig.launches().is_empty());
    }
}
