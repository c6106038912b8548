//! What follows from a launch that was refused, or whose machine ended before its worker was ready:
//! which candidate is next, how long the pool waits, and when a person must look.

use std::time::Duration;

use crate::master::domain::candidates::Candidate;
use crate::master::domain::candidates::Cool;
use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::entities::Resumes;
use crate::master::domain::event::EndCause;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::timers::Timer;
use crate::master::domain::wait_reason::LaunchHold;
use crate::model::ids::InstanceId;
use crate::model::ids::PoolName;
use crate::model::time::Timestamp;

/// A pool whose account may not have more waits this long, or until one of ours ends.
const QUOTA_HOLD: Duration = Duration::from_secs(10 * 60);

/// What a machine is made of is limited in an account as well, and seldom comes back by itself: a pool
/// waits twice as long each time, and at last this long.
const LIMIT_HOLD_MAX: Duration = Duration::from_secs(60 * 60);

/// Machines in a row that may end at once for what they are made of, until the pool pauses itself.
const DIED_AT_ONCE_MAX: u32 = 2;

/// What refusals have led to, since the last machine that lived: EC2 accepts launches that it has no room
/// or no volume for. Forgotten by a start of the master.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusals {
    /// Until when the pool waits because its account may not have more machines.
    held_until: Option<Timestamp>,
    /// Whether another kind was tried since it may not have more of one.
    has_tried_another: bool,
    /// Whether a person was told of the quota.
    is_told: bool,
    /// How often it waited for a limit.
    limit_holds: u32,
    /// Whether the image's name was looked up again.
    pub(super) is_image_renewed: bool,
    /// Machines in a row that ended at once for what they are made of.
    pub(super) died_at_once: u32,
    /// How often it was refused again when a probe had said that it may.
    pub(super) probes_in_vain: u32,
}

impl Refusals {
    /// A machine has come up.
    fn lives(&mut self) {
        let Refusals { held_until, died_at_once, probes_in_vain, .. } = *self;
        *self = Refusals { held_until, died_at_once, probes_in_vain, ..Refusals::default() };
    }

    /// A worker is ready: its machine is well made, and has all that belongs to it.
    pub(super) fn is_ready(&mut self) {
        self.died_at_once = 0;
        self.probes_in_vain = 0;
    }
}

impl Coordinator {
    /// The agent of a launch has called: there was room for its machine, and all that it is made of.
    pub(super) fn launch_lives(&mut self, id: InstanceId) {
        let Some(row) = self.instances.get(&id).map(|live| &live.instance) else { return };
        if let Some(pool) = self.pools.get_mut(&row.pool) {
            pool.cooling.warm(row.candidate, self.now);
            pool.refusals.lives();
        }
    }

    pub(super) fn launch_refused(
        &mut self,
        pool: &PoolName,
        candidate: u32,
        why: &str,
        failure: LaunchFailure,
    ) {
        let this = |other: &Candidate, refused: &Candidate| other == refused;
        let here = |other: &Candidate, refused: &Candidate| {
            other == refused || (!refused.place.is_empty() && other.place == refused.place)
        };
        let same_here = |other: &Candidate, refused: &Candidate| {
            other == refused
                || (!refused.kind.is_empty()
                    && (&other.kind, &other.place) == (&refused.kind, &refused.place))
        };
        match failure {
            LaunchFailure::Capacity => self.cool(pool, candidate, why, Cool::Room, this),
            LaunchFailure::PlaceFull => self.cool(pool, candidate, why, Cool::Room, here),
            LaunchFailure::Unsupported => {
                self.cool(pool, candidate, why, Cool::ForLong, same_here);
            }
            LaunchFailure::NoSuchPlace => {
                self.cool(pool, candidate, why, Cool::ForLong, here);
                self.tell_of_quota(pool, why);
            }
            LaunchFailure::SpotQuota => {
                let until = Cool::Quota(self.now + QUOTA_HOLD);
                self.cool(pool, candidate, why, until, |other, _| other.is_spot);
            }
            LaunchFailure::Quota => self.quota_met(pool, candidate, why),
            LaunchFailure::Limit => self.limit_met(pool, why),
            LaunchFailure::Denied => self.denied(pool, why),
            LaunchFailure::Invalid => self.must_be_looked_at(pool, why),
            LaunchFailure::ImageGone => {
                let Some(known) = self.pools.get_mut(pool) else { return };
                match std::mem::replace(&mut known.refusals.is_image_renewed, true) {
                    true => self.must_be_looked_at(pool, why),
                    false => self.note_failure(pool, why),
                }
            }
            LaunchFailure::DiedAtOnce => self.died_at_once(pool, why),
            LaunchFailure::Unsettled | LaunchFailure::Other => self.launch_went_wrong(pool, why),
        }
    }

    /// A machine that was accepted has ended before its worker was ready, and we had not asked it to.
    pub(super) fn launch_ended(
        &mut self,
        pool: &PoolName,
        candidate: u32,
        has_called: bool,
        why: &str,
        cause: EndCause,
    ) {
        let failure = match cause {
            EndCause::NoRoom | EndCause::SpotTaken => LaunchFailure::Capacity,
            EndCause::Limit if !has_called => LaunchFailure::Limit,
            EndCause::DiedAtOnce if !has_called => LaunchFailure::DiedAtOnce,
            // Its host was retired: nobody's fault, and it says nothing of the next one.
            EndCause::Retired => return self.note_failure(pool, why),
            EndCause::Unknown
            | EndCause::CloudFault
            | EndCause::Limit
            | EndCause::DiedAtOnce
            | EndCause::Itself
            | EndCause::ByHand => LaunchFailure::Other,
        };
        self.launch_refused(pool, candidate, why, failure);
    }

    /// Leaves a candidate alone, and those that are refused with it; the next one is tried at once, if
    /// there is one.
    fn cool(
        &mut self,
        name: &PoolName,
        candidate: u32,
        why: &str,
        cool: Cool,
        is_refused_too: impl Fn(&Candidate, &Candidate) -> bool,
    ) {
        self.note_failure(name, why);
        let now = self.now;
        let Some(pool) = self.pools.get_mut(name) else { return };
        pool.cooling.cool(candidate, now, cool);
        let all = &pool.settings.candidates;
        if let Some(refused) = all.get(candidate as usize) {
            let numbered = (0u32..).zip(all);
            for (other, _) in numbered.filter(|(_, other)| is_refused_too(other, refused)) {
                if other != candidate {
                    pool.cooling.cool(other, now, cool);
                }
            }
        }
        if cool == Cool::ForLong && pool.cooling.all_for_long(pool.n_candidates(), now) {
            let why = format!("none of its candidates exists; the last: {why}");
            self.pause_itself(name, why, Resumes::WhenAsked);
        }
    }

    /// The account may not have more of this kind: another kind once, and then none for a while.
    fn quota_met(&mut self, name: &PoolName, candidate: u32, why: &str) {
        let until = self.now + QUOTA_HOLD;
        let is_alike = |other: &Candidate, refused: &Candidate| {
            other.family == refused.family && other.is_spot == refused.is_spot
        };
        self.cool(name, candidate, why, Cool::Quota(until), is_alike);
        let now = self.now;
        let Some(pool) = self.pools.get_mut(name) else { return };
        let has_tried = std::mem::replace(&mut pool.refusals.has_tried_another, true);
        if has_tried || pool.candidate(now).is_none() {
            pool.refusals.has_tried_another = false;
            pool.refusals.held_until = Some(until);
            self.hold_until(name, LaunchHold::Quota, until);
            self.tell_of_quota(name, why);
        }
    }

    pub(super) fn limit_met(&mut self, name: &PoolName, why: &str) {
        self.note_failure(name, why);
        let Some(pool) = self.pools.get_mut(name) else { return };
        let holds = pool.refusals.limit_holds;
        pool.refusals.limit_holds = holds.saturating_add(1);
        pool.refusals.has_tried_another = false;
        let time = QUOTA_HOLD.saturating_mul(1 << holds.min(8)).min(LIMIT_HOLD_MAX);
        self.hold_until(name, LaunchHold::Quota, self.now + time);
        self.tell_of_quota(name, why);
    }

    /// A pool launches nothing before then. Where it waits for longer already, that stays.
    pub(super) fn hold_until(&mut self, name: &PoolName, hold: LaunchHold, until: Timestamp) {
        let timer = Timer::Launch(name.clone());
        if self.timers.due_at(&timer).is_some_and(|at| at > until) {
            return;
        }
        if let Some(pool) = self.pools.get_mut(name) {
            pool.hold = Some(hold);
            self.timers.set(timer, until);
        }
    }

    /// A person is told once, until a machine lives again.
    fn tell_of_quota(&mut self, name: &PoolName, why: &str) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        if !std::mem::replace(&mut pool.refusals.is_told, true) {
            self.perform(Action::Alarm(format!("pool \"{name}\" cannot grow: {why}")));
        }
    }

    /// A machine has ended: pools that wait because their account may not have more machines need not any
    /// longer. Whatever else they wait for stays.
    pub(super) fn room_in_quota(&mut self) {
        for (name, pool) in &mut self.pools {
            let is_cooler = pool.cooling.release_quota();
            let held_until = pool.refusals.held_until.take();
            let timer = Timer::Launch(name.clone());
            let is_for_quota = match (self.timers.due_at(&timer), &pool.hold) {
                (Some(_), Some(LaunchHold::NoRoom(_))) => is_cooler,
                (due_at, _) => held_until.is_some() && due_at == held_until,
            };
            if is_for_quota {
                self.timers.clear(&timer);
            }
            if is_for_quota || is_cooler {
                self.unsettled.insert(name.clone());
            }
        }
    }

    pub(super) fn denied(&mut self, name: &PoolName, why: &str) {
        self.note_failure(name, why);
        let why = format!("{why}; every 5 min it is asked dry whether it may again");
        self.pause_itself(name, why, Resumes::WhenPermitted);
    }

    /// Nothing but a person can mend this.
    pub(super) fn must_be_looked_at(&mut self, name: &PoolName, why: &str) {
        self.launch_went_wrong(name, why);
        self.pause_itself(name, why.to_owned(), Resumes::WhenAsked);
    }

    fn died_at_once(&mut self, name: &PoolName, why: &str) {
        self.launch_went_wrong(name, why);
        let Some(pool) = self.pools.get_mut(name) else { return };
        pool.refusals.died_at_once += 1;
        let times = pool.refusals.died_at_once;
        if times >= DIED_AT_ONCE_MAX {
            let why = format!("{times} machines in a row died at once; the last: {why}");
            self.pause_itself(name, why, Resumes::WhenAsked);
        }
    }
}

#[cfg(test)]
mod tests;
