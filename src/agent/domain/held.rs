//! One attempt whose files are here: what of them was told in this session, and whether it is over.

use std::collections::BTreeSet;

use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::wire::message::FromAgent;

/// What lies in an attempt's files now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sight {
    /// Whether its supervisor lives. Asked before the files are read: what a supervisor wrote before its
    /// end is then seen.
    pub supervised: bool,
    /// Those steps of [`Held::untold`] of which there is something.
    pub steps: Vec<StepSight>,
    /// The attempt's own result.
    pub result: Option<FromAgent>,
    /// What it left here and could not end or remove.
    pub unclean: Option<String>,
}

/// What lies in an attempt's files of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSight {
    /// Which.
    pub step: u32,
    /// Its `StepStarted`.
    pub started: Option<FromAgent>,
    /// Its `StepResult`.
    pub result: Option<FromAgent>,
}

/// What follows from a look at an attempt's files.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A step has begun: its log is to be shipped from now on.
    Ship(u32),
    /// The master is to be told this.
    Tell(FromAgent),
    /// This is its result, as nobody else will write one: the next process of this agent must tell the
    /// same.
    Keep(FromAgent),
}

/// An attempt whose files are here.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its steps, the checkout included.
    steps: u32,
    /// Whether something of it may have run already.
    pub(super) has_begun: bool,
    pub(super) is_over: bool,
    /// Whether its supervisor lived when its files were last looked at.
    pub(super) supervised: bool,
    started_told: BTreeSet<u32>,
    result_told: BTreeSet<u32>,
    end_told: bool,
}

impl Held {
    pub(super) fn new(steps: u32, has_begun: bool, is_over: bool) -> Held {
        let (started_told, result_told) = (BTreeSet::new(), BTreeSet::new());
        let supervised = has_begun && !is_over;
        Held { steps, has_begun, is_over, supervised, started_told, result_told, end_told: false }
    }

    /// The steps whose files are to be looked at.
    pub fn untold(&self) -> Vec<u32> {
        (0..self.steps).filter(|step| !self.result_told.contains(step)).collect()
    }

    /// A new session: everything is told again, as nobody knows what arrived.
    pub(super) fn tell_again(&mut self) {
        self.started_told.clear();
        self.result_told.clear();
        self.end_told = false;
    }

    pub(super) fn look(&mut self, id: AttemptRef, sight: Sight) -> Vec<News> {
        let mut news = Vec::new();
        self.supervised = sight.supervised;
        self.has_begun |= sight.supervised || !sight.steps.is_empty();
        for StepSight { step, started, result } in sight.steps {
            if let Some(started) = started
                && self.started_told.insert(step)
            {
                news.extend([News::Ship(step), News::Tell(started)]);
            }
            if let Some(result) = result
                && self.result_told.insert(step)
            {
                news.push(News::Tell(result));
            }
        }
        if self.end_told {
            return news;
        }
        if let Some(result) = sight.result {
            (self.is_over, self.end_told) = (true, true);
            news.push(News::Tell(result));
        } else if !sight.supervised {
            (self.is_over, self.end_told) = (true, true);
            let why = "its supervisor on the worker has ended unexpectedly".to_owned();
            let outcome = AttemptOutcome::Infra(why);
            let result = FromAgent::AttemptResult { attempt: id, outcome };
            news.extend([News::Keep(result.clone()), News::Tell(result)]);
        }
        news
    }
}
