//! What an instance costs: the seconds that are billed, times the price that was fixed when it was asked for.

use std::time::Duration;

use crate::master::domain::entities::Instance;
use crate::master::domain::settings::ProvisionerKind;
use crate::model::money::Money;
use crate::model::time::Timestamp;

/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// What an instance has cost until then; nothing: its price is not known.
pub fn cost(instance: &Instance, until: Timestamp) -> Option<Money> {
    // Whatever has a price is a cloud's.
    let seconds = instance.billed_secs(ProvisionerKind::Ec2, until);
    Some(instance.price_per_hour?.per_hour_for(Duration::from_secs(seconds)))
}

/// What an instance has cost from one moment to another, as far as is known.
pub fn cost_between(instance: &Instance, from: Timestamp, until: Timestamp) -> Money {
    let before = cost(instance, from).unwrap_or_default();
    cost(instance, until).unwrap_or_default().less(before)
}

/// The day of a moment (UTC), counted from 1970-01-01.
pub fn day_of(at: Timestamp) -> u64 {
    at.0 / DAY_MS
}

/// When a day begins (UTC).
pub fn start_of(day: u64) -> Timestamp {
    Timestamp(day.saturating_mul(DAY_MS))
}

/// The first day of the month of a day.
pub fn first_of_month(day: u64) -> u64 {
    let date = start_of(day).to_string();
    let day_of_month = date.get(8..10).and_then(|text| text.parse::<u64>().ok());
    day.saturating_sub(day_of_month.unwrap_or(1).saturating_sub(1))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::master::domain::entities::InstanceRun;
    use crate::model::ids::InstanceId;
    use crate::model::status::InstanceStatus;

    /// A machine that was accepted then, and costs so much for an hour.
    pub(in crate::master::domain) fn instance(
        id: u64,
        pool: &str,
        micros: u64,
        accepted_at: u64,
    ) -> Instance {
        let accepted_at = Timestamp(accepted_at);
        Instance {
            id: InstanceId(id),
            launch: format!("{id:032x}").as_str().into(),
            pool: pool.into(),
            worker: format!("{pool}-{id}").as_str().into(),
            status: InstanceStatus::Running,
            candidate: 0,
            seat: None,
            what: None,
            price_per_hour: Some(Money(micros)),
            request: None,
            cloud_id: None,
            why_started: "a job waits".to_owned(),
            why_ended: None,
            requested_at: accepted_at,
            accepted_at: Some(accepted_at),
            running_at: Some(accepted_at),
            contact_at: None,
            ready_at: None,
            ending_at: None,
            ended_at: None,
            runs: vec![InstanceRun {
                asked_at: accepted_at,
                started_at: Some(accepted_at),
                ready_at: None,
                ended_at: None,
                start: None,
            }],
        }
    }

    /// The same, gone at this moment.
    fn gone(instance: &Instance, at: Timestamp) -> Instance {
        let mut gone = Instance { ended_at: Some(at), ..instance.clone() };
        for run in &mut gone.runs {
            run.ended_at = Some(at);
        }
        gone
    }

    #[test]
    fn what_is_billed_ends_with_the_instance_and_is_not_known_without_a_price() {
        let hour = 3_600_000;
        let running = instance(1, "linux", 89_250, 0);
        assert_eq!(cost(&running, Timestamp(2 * hour)), Some(Money(178_500)));
        let ended = gone(&running, Timestamp(hour));
        assert_eq!(cost(&ended, Timestamp(2 * hour)), Some(Money(89_250)));
        assert_eq!(cost_between(&ended, Timestamp(hour / 2), Timestamp(2 * hour)), Money(44_625));
        let unknown = Instance { price_per_hour: None, ..running };
        assert_eq!(cost(&unknown, Timestamp(hour)), None);
        let never_up = Instance { runs: Vec::new(), ..ended };
        assert_eq!(cost(&never_up, Timestamp(hour)), Some(Money::ZERO));
    }

    #[test]
    fn days_and_months_are_those_of_utc() {
        let at = Timestamp(1_767_225_600_001);
        assert_eq!(start_of(day_of(at)).to_string(), "2026-01-01T00:00:00.000Z");
        let check = |day: u64, first: &str| {
            assert_eq!(start_of(first_of_month(day)).to_string().get(..10), Some(first));
        };
        check(day_of(at) + 58, "2026-02-01");
        check(day_of(at), "2026-01-01");
        check(0, "1970-01-01");
    }
}
