//! What the metadata service says of a machine's end: that a spot instance is wanted back, or that what it
//! runs on is retired. (EC2 user guide, "Spot Instance interruption notices", "Scheduled events".)

use std::time::Duration;

use crate::model::time::Timestamp;

/// The machine goes at a known time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// When, by the cloud's clock.
    pub at: Timestamp,
    /// For people.
    pub sentence: String,
}

/// By `spot/instance-action`: `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`. An answer without
/// a time that can be read means now: it is there only when there is something to say.
pub fn of_spot(answer: &str, now: Timestamp) -> Interruption {
    let said = field(answer, "time").unwrap_or_default();
    let at = rfc_3339(said).unwrap_or(now);
    let sentence = format!("EC2 takes this spot instance back at {at}");
    Interruption { at, sentence }
}

/// By `events/maintenance/scheduled`: a list of events, of which the first that is active counts.
pub fn of_maintenance(answer: &str) -> Option<Interruption> {
    let events = answer.split('{').skip(1).filter_map(|event| {
        let is_active = field(event, "State").is_none_or(|state| state == "active");
        let code = field(event, "Code")?;
        let at = rfc_2822_like(field(event, "NotBefore")?)?;
        let sentence = format!("EC2 has planned {code} for this instance at {at}");
        is_active.then_some(Interruption { at, sentence })
    });
    events.min_by_key(|event| event.at)
}

/// How long that is from now.
pub fn ends_in(interruption: &Interruption, now: Timestamp) -> Duration {
    interruption.at.since(now)
}

/// The text of a field; these answers have no escapes in theirs.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    rest.split_once('"').map(|(text, _)| text)
}

/// `2017-09-18T08:22:00Z`
fn rfc_3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|number| number.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    moment(year, month, day, time)
}

/// `21 Jan 2019 09:00:43 GMT`
fn rfc_2822_like(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_whitespace();
    let day = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = (1..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    let year = words.next()?.parse().ok()?;
    moment(year, month, day, words.next()?)
}

/// Days from a civil date, counted from 1970 (Howard Hinnant's, as every calendar has it).
fn moment(year: u64, month: u64, day: u64, time: &str) -> Option<Timestamp> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut clock = time.split(':').map(|number| number.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // A year that begins in March has its leap day at its end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400;
    let days = (days + (153 * month + 2) / 5 + day - 1).checked_sub(719_468)?;
    Some(Timestamp(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spot_instance_that_is_wanted_back_says_when() {
        let answer = "{\"action\": \"terminate\", \"time\": \"2017-09-18T08:22:00Z\"}";
        let found = of_spot(answer, Timestamp(5));
        assert_eq!(found.at.to_string(), "2017-09-18T08:22:00.000Z");
        assert!(found.sentence.contains("takes this spot instance back at 2017-09-18T08:22"));
        assert_eq!(of_spot("{\"action\":\"hibernate\"}", Timestamp(5)).at, Timestamp(5));
        let at = |text: &str| of_spot(&format!("{{\"time\":\"{text}\"}}"), Timestamp(5)).at;
        assert_eq!(at("2024-02-29T23:59:59Z").to_string(), "2024-02-29T23:59:59.000Z");
        assert_eq!(at("1970-01-01T00:00:01Z"), Timestamp(1000));
        for spoiled in ["2024-13-01T00:00:00Z", "soon", "2024-01-01", "2024-01-01T25:00:00Z", ""] {
            assert_eq!(at(spoiled), Timestamp(5), "{spoiled}");
        }
    }

    #[test]
    fn the_first_planned_event_counts_that_was_not_called_off() {
        let event = |state: &str, day: u32| {
            format!(
                "{{\"NotBefore\" : \"{day} Jan 2019 09:00:43 GMT\", \"Code\" : \"instance-retirement\", \
                 \"Description\" : \"retired\", \"EventId\" : \"instance-event-1\", \"State\" : \"{state}\"}}"
            )
        };
        let list = format!(
            "[ {}, {}, {} ]",
            event("canceled", 3),
            event("active", 21),
            event("completed", 1)
        );
        let found = of_maintenance(&list).expect("one is active");
        assert_eq!(found.at.to_string(), "2019-01-21T09:00:43.000Z");
        assert!(found.sentence.contains("instance-retirement"), "{}", found.sentence);
        assert_eq!(of_maintenance("[]"), None);
        assert_eq!(of_maintenance(&format!("[{}]", event("completed", 1))), None);
    }
}
