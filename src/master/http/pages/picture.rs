//! The picture of an instance's life: one bar for all of it, and each stretch by itself with its word,
//! its beginning and how long it took. Whoever sees no colours reads the same.

use crate::master::domain::entities::Instance;
use crate::master::http::links;
use crate::master::http::timeline;
use crate::master::http::timeline::Span;
use crate::master::http::timeline::Stretch;
use crate::master::http::words;
use crate::master::store::work::Work;
use crate::model::time::Timestamp;

/// Width of the pictures, in their own units.
const WIDTH: u64 = 1000;

/// No stretch is drawn narrower than this, so that none is lost.
const WIDTH_MIN: u64 = 3;

/// Stretches that are listed, at most; the page stays light. The bar has them all, up to the next limit.
const LINES_MAX: usize = 60;

/// Stretches that the bar has, at most.
const BARS_MAX: usize = 120;

/// Stretches that the bar has in a list of instances, at most: a page has forty.
const SMALL_BARS_MAX: usize = 12;

/// A life, drawn.
pub struct Picture {
    /// For whoever does not see it.
    pub text: String,
    /// All of it in one line.
    pub bars: Vec<Bar>,
    /// Each stretch in a line of its own.
    pub lines: Vec<Line>,
    /// How many more there are.
    pub more: usize,
    /// Whether each stretch of the bar says what it is when it is pointed at.
    pub is_large: bool,
}

/// A stretch in the bar.
pub struct Bar {
    /// How it looks.
    pub class: &'static str,
    /// Where it begins.
    pub x: u64,
    /// How wide it is.
    pub width: u64,
    /// Its word, and how long it took.
    pub title: String,
}

/// A stretch by itself.
pub struct Line {
    /// Where it lies in the whole.
    pub bar: Bar,
    /// Its word.
    pub word: String,
    /// The page of its job.
    pub href: Option<String>,
    /// When it began, for programs.
    pub machine: String,
    /// The same for people.
    pub at: String,
    /// How long it took.
    pub took: String,
}

impl Picture {
    /// For the page of one instance.
    pub fn large(instance: &Instance, work: &[Work], now: Timestamp) -> Picture {
        let spans = timeline::spans(instance, work, now);
        let scale = Scale::of(&spans);
        let lines = spans.iter().take(LINES_MAX).map(|span| line(span, &scale)).collect();
        let more = spans.len().saturating_sub(LINES_MAX);
        Picture { lines, more, is_large: true, ..drawn(&merged(spans, BARS_MAX), &scale) }
    }

    /// For a row of the ledger.
    pub fn small(instance: &Instance, work: &[Work], now: Timestamp) -> Picture {
        let spans = timeline::spans(instance, work, now);
        let scale = Scale::of(&spans);
        drawn(&merged(spans, SMALL_BARS_MAX), &scale)
    }
}

/// Where moments lie in a picture.
struct Scale {
    from: Timestamp,
    whole_ms: u64,
}

impl Scale {
    fn of(spans: &[Span<'_>]) -> Scale {
        let from = spans.first().map_or(Timestamp(0), |span| span.from);
        let until = spans.last().map_or(from, |span| span.until);
        Scale { from, whole_ms: until.0.saturating_sub(from.0).max(1) }
    }

    fn place(&self, at: Timestamp) -> u64 {
        let ms = at.0.saturating_sub(self.from.0);
        (ms.saturating_mul(WIDTH) / self.whole_ms).min(WIDTH)
    }

    fn bar(&self, span: &Span<'_>) -> Bar {
        let (x, right) = (self.place(span.from), self.place(span.until));
        let width = right.saturating_sub(x).max(WIDTH_MIN);
        let title = format!("{} {}", span.stretch.word(), took(span));
        Bar { class: span.stretch.class(), x: x.min(WIDTH - WIDTH_MIN), width, title }
    }
}

fn drawn(spans: &[Span<'_>], scale: &Scale) -> Picture {
    let bars: Vec<Bar> = spans.iter().map(|span| scale.bar(span)).collect();
    let titles: Vec<&str> = bars.iter().map(|bar| bar.title.as_str()).collect();
    Picture { text: titles.join(", "), bars, lines: Vec::new(), more: 0, is_large: false }
}

fn line(span: &Span<'_>, scale: &Scale) -> Line {
    let href = match span.stretch {
        Stretch::Works(work) => {
            let page = links::build(&work.project, work.number);
            let job = work.job.as_ref().map(|job| format!("?job={}", links::encode(job.as_str())));
            Some(format!("{page}{}", job.unwrap_or_default()))
        }
        Stretch::Asked
        | Stretch::Starts
        | Stretch::Boots
        | Stretch::Prepares
        | Stretch::Idles
        | Stretch::Stopped
        | Stretch::StartsAgain
        | Stretch::Many(_)
        | Stretch::Ends => None,
    };
    Line {
        bar: scale.bar(span),
        word: span.stretch.word(),
        href,
        machine: span.from.to_string(),
        at: words::moment(span.from),
        took: took(span),
    }
}

fn took(span: &Span<'_>) -> String {
    let took = words::duration(span.until.since(span.from));
    if span.is_open { format!("{took} so far") } else { took }
}

/// Fewer stretches: of too many, all from the first job to the last are one.
fn merged(spans: Vec<Span<'_>>, most: usize) -> Vec<Span<'_>> {
    let is_work = |span: &Span<'_>| matches!(span.stretch, Stretch::Works(_));
    let first = spans.iter().position(is_work);
    let last = spans.iter().rposition(is_work);
    let (Some(first), Some(last)) = (first, last) else { return spans };
    let (Some(begin), Some(end)) = (spans.get(first), spans.get(last)) else { return spans };
    if spans.len() <= most {
        return spans;
    }
    let count = spans.iter().filter(|span| is_work(span)).count();
    let stretch = Stretch::Many(count);
    let all = Span { stretch, from: begin.from, until: end.until, is_open: end.is_open };
    let before = spans.iter().take(first).copied();
    let after = spans.iter().skip(last + 1).copied();
    before.chain([all]).chain(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::entities::AttemptState;
    use crate::master::domain::entities::InstanceRun;
    use crate::model::ids::BuildNumber;
    use crate::model::ids::InstanceId;
    use crate::model::status::InstanceStatus;

    fn instance(ended: bool) -> Instance {
        let at = |secs: u64| Some(Timestamp(secs * 1000));
        Instance {
            id: InstanceId(1),
            launch: "00ff".into(),
            pool: "linux".into(),
            worker: "linux-1".into(),
            status: if ended { InstanceStatus::Terminated } else { InstanceStatus::Running },
            runs: Vec::new(),
            candidate: 0,
            seat: None,
            what: None,
            price_per_hour: None,
            request: None,
            cloud_id: None,
            why_started: "a job waits".to_owned(),
            why_ended: None,
            requested_at: Timestamp(0),
            accepted_at: at(1),
            running_at: at(10),
            contact_at: at(30),
            ready_at: at(50),
            ending_at: at(200).filter(|_| ended),
            ended_at: at(230).filter(|_| ended),
        }
    }

    fn work(job: &str, from: u64, until: Option<u64>) -> Work {
        Work {
            project: "hello".into(),
            number: BuildNumber(7),
            job: Some(job.into()),
            attempt: 1,
            state: AttemptState::Passed,
            from: Timestamp(from * 1000),
            until: until.map(|secs| Timestamp(secs * 1000)),
        }
    }

    fn told(picture: &Picture) -> Vec<String> {
        picture.lines.iter().map(|line| format!("{} {}", line.word, line.took)).collect()
    }

    #[test]
    fn a_life_is_told_from_asked_for_to_gone_with_each_job_and_the_idle_time_between() {
        let done = [work("lint", 50, Some(70)), work("test", 80, Some(140))];
        let picture = Picture::large(&instance(true), &done, Timestamp(999_000));
        assert_eq!(
            told(&picture),
            [
                "asked for 1.0 s",
                "starts 9.0 s",
                "boots 20 s",
                "prepares 20 s",
                "hello #7 lint 20 s",
                "idle 10 s",
                "hello #7 test 1 min 00 s",
                "idle 1 min 00 s",
                "ends 30 s",
            ]
        );
        let mut at = 0;
        for bar in &picture.bars {
            assert!(bar.x + 1 >= at && bar.width >= WIDTH_MIN, "{} {}", bar.x, bar.width);
            at = bar.x;
        }
        let last = picture.bars.last().expect("there is one");
        assert_eq!(last.x + last.width, WIDTH);
    }

    #[test]
    fn what_goes_on_says_so() {
        let at_work = [work("test", 50, None)];
        let running = instance(false);
        let lines = told(&Picture::large(&running, &at_work, Timestamp(60_000)));
        assert_eq!(lines.last().map(String::as_str), Some("hello #7 test 10 s so far"));
        let idle = told(&Picture::large(&running, &[], Timestamp(60_000)));
        assert_eq!(idle.last().map(String::as_str), Some("idle 10 s so far"));
    }

    #[test]
    fn the_times_in_which_it_was_stopped_are_not_idle() {
        let run = |asked: u64, ready: Option<u64>, ended: Option<u64>| InstanceRun {
            asked_at: Timestamp(asked * 1000),
            started_at: Some(Timestamp(asked * 1000 + 500)),
            ready_at: ready.map(|secs| Timestamp(secs * 1000)),
            ended_at: ended.map(|secs| Timestamp(secs * 1000)),
            start: None,
        };
        let done = [work("lint", 50, Some(70)), work("test", 145, Some(150))];
        let twice = vec![run(0, Some(50), Some(80)), run(130, Some(140), Some(170))];
        let stopped = Instance { runs: twice, status: InstanceStatus::Stopped, ..instance(false) };
        let lines = told(&Picture::large(&stopped, &done, Timestamp(190_000)));
        assert_eq!(
            lines[4..],
            [
                "hello #7 lint 20 s",
                "idle 10 s",
                "stopped 50 s",
                "starts again 10 s",
                "idle 5.0 s",
                "hello #7 test 5.0 s",
                "idle 20 s",
                "stopped 20 s so far",
            ]
        );
    }

    #[test]
    fn a_launch_that_failed_and_an_agent_that_was_faster_than_the_listing_are_drawn_too() {
        let refused = Instance {
            status: InstanceStatus::Failed,
            accepted_at: None,
            running_at: None,
            contact_at: None,
            ready_at: None,
            ended_at: Some(Timestamp(4_000)),
            ..instance(false)
        };
        assert_eq!(told(&Picture::large(&refused, &[], Timestamp(60_000))), ["asked for 4.0 s"]);
        let late = Instance { running_at: Some(Timestamp(40_000)), ..instance(false) };
        let lines = told(&Picture::large(&late, &[], Timestamp(60_000)));
        assert_eq!(lines[..3], ["asked for 1.0 s", "starts 29 s", "prepares 20 s"]);
    }

    #[test]
    fn many_jobs_make_a_picture_of_bounded_size() {
        let many: Vec<Work> =
            (0..200).map(|n| work("test", 50 + n / 2, Some(50 + n / 2 + n % 2))).collect();
        let picture = Picture::large(&instance(true), &many, Timestamp(999_000));
        assert!(picture.lines.len() == LINES_MAX && picture.more > 0);
        assert!(picture.bars.len() <= BARS_MAX, "{}", picture.bars.len());
        let small = Picture::small(&instance(true), &many, Timestamp(999_000));
        assert!(small.bars.len() <= SMALL_BARS_MAX && small.text.contains(", 100 jobs 1 min 40 s"));
    }
}
