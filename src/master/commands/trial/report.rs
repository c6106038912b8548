//! What a trial says while it runs, and in the end.

use serde_json::json;

use crate::master::domain::entities::Instance;
use crate::master::domain::entities::Job;
use crate::master::provisioner::ec2::prices;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::model::ids::PoolName;
use crate::model::money::Money;
use crate::model::status::JobStatus;
use crate::model::time::Timestamp;

/// What came of a trial.
#[derive(Clone, Debug)]
pub struct Report {
    pool: PoolName,
    /// Every try, oldest first: capacity may be refused before one is accepted.
    rows: Vec<Instance>,
    job: Option<Job>,
    /// Why it did not come to its end; nothing: the job ended.
    pub(super) trouble: Option<String>,
    /// The type of the machine that was paid for, and whether it was spot.
    bought: Option<(String, bool)>,
}

impl Report {
    /// Of what the throw-away master remembers, rows newest first.
    pub(super) fn new(
        pool: PoolName,
        mut rows: Vec<Instance>,
        job: Option<Job>,
        trouble: Option<String>,
        ec2: Option<&Ec2Settings>,
    ) -> Report {
        rows.reverse();
        let last = rows.iter().rfind(|row| row.accepted_at.is_some());
        let candidate = last.zip(ec2).and_then(|(row, ec2)| {
            let candidate = usize::try_from(row.candidate).ok()?;
            ec2.candidates().into_iter().nth(candidate)
        });
        let bought = candidate.map(|one| (one.instance_type, one.is_spot));
        Report { pool, rows, job, trouble, bought }
    }

    /// Whether the machine was started, ran the job, and is gone.
    pub fn is_well(&self) -> bool {
        self.trouble.is_none()
            && self.job.as_ref().is_some_and(|job| job.status == JobStatus::Passed)
    }

    fn machine(&self) -> Option<&Instance> {
        self.rows.iter().rfind(|row| row.accepted_at.is_some())
    }

    /// Why it did not work, for people.
    fn why(&self) -> Option<String> {
        let of_job = || self.job.as_ref().filter(|job| job.status != JobStatus::Passed);
        self.trouble.clone().or_else(|| {
            let job = of_job()?;
            let reason = job.reason.clone().unwrap_or_default();
            Some(format!("the job ended as {}: {reason}", job.status))
        })
    }

    /// For people: when what happened, how long was paid for, what that costs.
    pub fn text(&self) -> String {
        let mut text = match self.why() {
            None => {
                format!("pool \"{}\": a machine was started, ran `true`, and is gone.\n", self.pool)
            }
            Some(why) => format!("pool \"{}\": it did not work: {why}\n", self.pool),
        };
        for row in self.rows.iter().filter(|row| row.accepted_at.is_none()) {
            let why = row.why_ended.as_deref().unwrap_or("no answer");
            text.push_str(&format!("  refused    {}: {why}\n", what(row)));
        }
        let Some(machine) = self.machine() else { return text.trim_end().to_owned() };
        text.push_str(&format!("  machine    {} ({})\n", id(machine), what(machine)));
        for (name, at, about) in moments(machine, self.job.as_ref()) {
            let after = at.since(machine.requested_at).as_secs_f64();
            text.push_str(&format!("  {name:<10} {after:7.1} s   {about}\n"));
        }
        if let Some((instance_type, is_spot)) = &self.bought {
            text.push_str(&format!("  {}\n", self.cost(instance_type, *is_spot)));
        }
        text.trim_end().to_owned()
    }

    fn cost(&self, instance_type: &str, is_spot: bool) -> String {
        let billed = self.billed_secs();
        let what =
            format!("paid for   {billed} s (EC2 bills {} s at least)", prices::BILLED_SECS_MIN);
        let Some(hour) = self.price() else {
            return format!("{what}; what {instance_type} costs is not known here");
        };
        let (dollars, how) = (prices::cost(hour, billed), if is_spot { " as spot" } else { "" });
        format!(
            "{what}: about {dollars}, with {hour} an hour for {instance_type}{how}; disk, address and \
             traffic not counted"
        )
    }

    /// What an hour of the machine costs, as it was fixed when it was asked for.
    fn price(&self) -> Option<Money> {
        self.machine()?.price_per_hour
    }

    /// Seconds from accepted to gone, over all machines.
    fn billed_secs(&self) -> u64 {
        let one = |row: &Instance| {
            let ran = row.ended_at.or(row.ending_at)?.since(row.accepted_at?);
            Some(ran.as_secs().max(prices::BILLED_SECS_MIN))
        };
        self.rows.iter().filter_map(one).sum()
    }

    /// The same as one JSON document.
    pub fn json(&self) -> String {
        let moments: Vec<_> = self
            .machine()
            .map(|machine| moments(machine, self.job.as_ref()))
            .unwrap_or_default()
            .into_iter()
            .map(|(name, at, _)| json!({ "what": name, "at": at.to_string() }))
            .collect();
        let bought = self.bought.as_ref();
        let dollars = self.price().map(|hour| prices::cost(hour, self.billed_secs()).decimal());
        json!({
            "ok": self.is_well(),
            "pool": self.pool.as_str(),
            "reason": self.why(),
            "machine": self.machine().map(id),
            "what": self.machine().map(what),
            "moments": moments,
            "billed_seconds": bought.map(|_| self.billed_secs()),
            "dollars": dollars,
        })
        .to_string()
    }
}

fn id(row: &Instance) -> String {
    row.cloud_id.as_ref().map_or_else(|| "without an id".to_owned(), ToString::to_string)
}

fn what(row: &Instance) -> String {
    row.what.clone().unwrap_or_else(|| "a machine".to_owned())
}

/// What happened to a machine, in order.
fn moments(row: &Instance, job: Option<&Job>) -> Vec<(&'static str, Timestamp, &'static str)> {
    let of_job = |at: fn(&Job) -> Option<Timestamp>| job.and_then(at);
    let all = [
        ("requested", Some(row.requested_at), "written down, then sent"),
        ("accepted", row.accepted_at, "it exists"),
        ("called", row.contact_at, "its agent greeted the master: user-data and agent work"),
        ("ready", row.ready_at, "its bootstrap script is done"),
        ("job", of_job(|job| job.started_at), "`true` began"),
        ("done", of_job(|job| job.finished_at), "and ended"),
        ("ending", row.ending_at, "its end was asked for"),
        ("gone", row.ended_at, "and confirmed"),
    ];
    all.into_iter().filter_map(|(name, at, about)| Some((name, at?, about))).collect()
}

/// What was told already.
#[derive(Debug, Default)]
pub(super) struct Progress {
    told: Vec<String>,
}

impl Progress {
    /// Tells what is new.
    pub(super) fn tell(&mut self, rows: &[Instance], job: Option<&Job>, say: &dyn Fn(&str)) {
        for row in rows.iter().rev() {
            let refused = row.accepted_at.is_none().then_some(row.why_ended.as_ref()).flatten();
            let news = [
                Some(format!("asking for {}", what(row))).filter(|_| row.what.is_some()),
                refused.map(|why| format!("refused: {why}")),
                row.accepted_at.map(|_| format!("{} is there; it boots", id(row))),
                row.contact_at
                    .map(|_| "its agent has called; the bootstrap script runs".to_owned()),
                row.ready_at.map(|_| "it is ready".to_owned()),
            ];
            for news in news.into_iter().flatten() {
                self.once(format!("{}: {news}", row.id.0), &news, say);
            }
        }
        if let Some(job) = job.filter(|job| job.status.is_final()) {
            let news = format!("`true` {}", job.status);
            self.once(news.clone(), &news, say);
        }
    }

    fn once(&mut self, key: String, news: &str, say: &dyn Fn(&str)) {
        if !self.told.contains(&key) {
            say(news);
            self.told.push(key);
        }
    }
}
