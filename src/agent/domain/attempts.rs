//! Which attempts are here, which are taken, which are cancelled before they come, and when one is
//! forgotten.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::agent::domain::held::Held;
use crate::agent::domain::held::News;
use crate::agent::domain::held::Sight;
use crate::model::attempt::AttemptRef;
use crate::wire::message::InventoryItem;

/// An attempt that an earlier process of this agent left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub attempt: AttemptRef,
    /// Its steps, the checkout included.
    pub steps: u32,
    /// Whether something of it has run, or runs.
    pub has_begun: bool,
    /// Whether its result is there.
    pub is_over: bool,
}

/// What an order to run an attempt comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// It is here already: it runs once, however often the master says so.
    Accepted,
    /// It is not taken.
    Rejected(String),
    /// Its supervisor is to be started; if `cancelled`, to do nothing but say so.
    Start {
        /// Its cancel came before it.
        cancelled: bool,
    },
}

/// What is to be done about an attempt that the master forgets or cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Nothing.
    Nothing,
    /// Ask its supervisor to end it.
    Cancel,
    /// Remove its files.
    Remove,
}

/// All attempts here.
#[derive(Debug, Default)]
pub struct Attempts {
    held: BTreeMap<AttemptRef, Held>,
    /// Cancels that came before what they cancel.
    tombstones: BTreeSet<AttemptRef>,
    /// What an attempt left here that could not be ended: no other one may meet it.
    unclean: Option<String>,
}

impl Attempts {
    pub(super) fn new(found: &[Found]) -> Attempts {
        let held = |it: &Found| (it.attempt, Held::new(it.steps, it.has_begun, it.is_over));
        Attempts { held: found.iter().map(held).collect(), ..Attempts::default() }
    }

    /// What the master is told after each greeting.
    pub fn inventory(&self) -> Vec<InventoryItem> {
        let item = |(id, held): (&AttemptRef, &Held)| InventoryItem {
            attempt: *id,
            finished: held.is_over,
        };
        self.held.iter().map(item).collect()
    }

    /// Whether something runs.
    pub fn is_busy(&self) -> bool {
        self.held.values().any(|held| !held.is_over)
    }

    /// Whether there is one that the master has not said to forget.
    pub fn is_any_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether it was taken already.
    pub(super) fn is_here(&self, id: AttemptRef) -> bool {
        self.held.contains_key(&id)
    }

    /// Those that run.
    pub(super) fn running(&self) -> Vec<AttemptRef> {
        let running = self.held.iter().filter(|(_, held)| !held.is_over);
        running.map(|(id, _)| *id).collect()
    }

    /// Those whose files are here, with the steps that are to be looked at.
    pub fn to_look_at(&self) -> Vec<(AttemptRef, Vec<u32>)> {
        self.held.iter().map(|(id, held)| (*id, held.untold())).collect()
    }

    pub(super) fn tell_again(&mut self) {
        self.held.values_mut().for_each(Held::tell_again);
    }

    pub(super) fn run(&mut self, id: AttemptRef) -> Ordered {
        if let Some(held) = self.held.get(&id) {
            if held.has_begun || held.is_over {
                return Ordered::Accepted;
            }
        } else if let Some(why) = &self.unclean {
            return Ordered::Rejected(format!("it ends, as it could not be cleaned: {why}"));
        } else if self.is_busy() {
            return Ordered::Rejected("it still runs another one".into());
        }
        Ordered::Start { cancelled: self.tombstones.remove(&id) }
    }

    /// Its supervisor was started, or could not be: then nothing of it is here.
    pub(super) fn started(&mut self, id: AttemptRef, steps: u32, is_there: bool) {
        match is_there {
            true => {
                self.held.insert(id, Held::new(steps, true, false));
            }
            false => {
                self.held.remove(&id);
            }
        }
    }

    pub(super) fn cancel(&mut self, id: AttemptRef) -> Do {
        match self.held.get(&id) {
            Some(_) => Do::Cancel,
            None => {
                self.tombstones.insert(id);
                Do::Nothing
            }
        }
    }

    /// One that still runs is ended first, and forgotten later.
    pub(super) fn forget(&mut self, id: AttemptRef) -> Do {
        self.tombstones.remove(&id);
        match self.held.get(&id) {
            None => Do::Nothing,
            Some(held) if held.supervised && !held.is_over => Do::Cancel,
            Some(_) => {
                self.held.remove(&id);
                Do::Remove
            }
        }
    }

    pub(super) fn looked(&mut self, id: AttemptRef, sight: Sight) -> Vec<News> {
        let unclean = sight.unclean.clone();
        let Some(held) = self.held.get_mut(&id) else { return Vec::new() };
        let news = held.look(id, sight);
        if held.is_over && self.unclean.is_none() {
            self.unclean = unclean;
        }
        news
    }

    /// Why this machine must end, once the master has everything of what ran here.
    pub(super) fn must_end(&self) -> Option<&str> {
        self.unclean.as_deref().filter(|_| self.held.is_empty())
    }
}
