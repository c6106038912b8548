//! What goes wrong in a round, and when: drawn from dice, told in a line each, and then done.

use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::dice::Dice;
use crate::house::House;
use crate::house::pause;
use crate::wire::BOTH;
use crate::wire::Cut;
use crate::wire::Fate;
use crate::wire::Passage;
use crate::wire::Way;

/// One thing that goes wrong. Where a connection or a process is picked, the number is taken
/// modulo how many there are at that moment.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// One connection is cut, or all.
    Cut { pick: Option<u64>, cut: Cut },
    /// Connections pass nothing in these directions, and nobody is told.
    Stall { pick: Option<u64>, ways: &'static [Way] },
    /// What was stalled passes again: late, or never.
    StallsEnd { by_cut: bool },
    /// Connections become so slow.
    Slow { pick: Option<u64>, bytes_per_second: usize },
    /// Connections pass their bytes one by one for a while.
    Drip { pick: Option<u64>, bytes: usize },
    /// A connection is cut after so many bytes more.
    CutAfter { pick: u64, way: Way, bytes: usize },
    /// The next connections are cut after so many bytes, in their beginnings mostly.
    Foretell(Vec<Fate>),
    /// Agents get another address: all connections are cut, and the next come from there.
    Move { host: u8 },
    /// `kill -9` for the master, which is started again after this.
    KillMaster { down_ms: u64 },
    /// `kill -9` for an agent, which whatever started it starts again.
    KillAgent { pick: u64 },
    /// `kill -9` for what owns a step: the job does not pass at this attempt.
    KillSupervisor { pick: u64 },
    /// `kill -9` for a step.
    KillStep { pick: u64 },
}

/// How often processes were killed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kills {
    pub(crate) masters: u64,
    pub(crate) agents: u64,
    pub(crate) supervisors: u64,
    pub(crate) steps: u64,
}

/// What goes wrong within so many milliseconds after a round's start, in order, each with its time.
/// `harsh`: steps and their supervisors are killed as well.
pub(crate) fn draw(dice: &mut Dice, within_ms: u64, harsh: bool) -> Vec<(u64, Fault)> {
    let mut plan = Vec::new();
    for _ in 0..if harsh { dice.between(1, 2) } else { 0 } {
        let pick = dice.number();
        let fault = match dice.percent(60) {
            true => Fault::KillSupervisor { pick },
            false => Fault::KillStep { pick },
        };
        plan.push((dice.below(within_ms), fault));
    }
    for _ in 0..dice.between(1, 5) {
        let at = dice.below(within_ms);
        let fault = draw_one(dice);
        if matches!(fault, Fault::Stall { .. }) {
            // Some are still there when the weather gets better.
            let by_cut = dice.percent(60);
            plan.push((at + dice.between(50, 3000), Fault::StallsEnd { by_cut }));
        }
        plan.push((at, fault));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

fn draw_one(dice: &mut Dice) -> Fault {
    let pick = if dice.percent(40) { None } else { Some(dice.number()) };
    match dice.below(100) {
        0..=19 => Fault::Cut { pick, cut: draw_cut(dice) },
        20..=34 => Fault::Stall { pick, ways: dice.one_of(&[&BOTH, &[Way::Up], &[Way::Down]]) },
        35..=44 => Fault::Slow { pick, bytes_per_second: 1 << dice.between(10, 19) },
        45..=54 => Fault::Drip { pick, bytes: dice.between(100, 20_000) as usize },
        55..=69 => Fault::CutAfter { pick: dice.number(), way: way(dice), bytes: size(dice) },
        70..=79 => Fault::Foretell((0..dice.between(1, 4)).map(|_| fate(dice)).collect()),
        80..=84 => Fault::Move { host: dice.between(2, 250) as u8 },
        85..=91 => Fault::KillMaster { down_ms: dice.below(800) },
        _ => Fault::KillAgent { pick: dice.number() },
    }
}

fn draw_cut(dice: &mut Dice) -> Cut {
    let half = Cut::Half(way(dice));
    dice.one_of(&[Cut::End, Cut::Reset, half])
}

fn way(dice: &mut Dice) -> Way {
    dice.one_of(&BOTH)
}

/// Of any magnitude: within a handshake, within a chunk, after some.
fn size(dice: &mut Dice) -> usize {
    dice.below(1 << dice.clone().between(3, 19)) as usize
}

fn fate(dice: &mut Dice) -> Fate {
    let passage = |dice: &mut Dice| match dice.below(3) {
        0 => Passage::Free,
        1 => Passage::Dripping { bytes: dice.between(10, 6000) as usize },
        // A TLS handshake and a greeting are some kilobytes.
        _ => Passage::CutAfter { bytes: dice.below(5000) as usize },
    };
    Fate { up: passage(dice), down: passage(dice) }
}

impl Fault {
    /// Does it.
    pub(crate) fn happen(&self, house: &mut House, kills: &mut Kills) {
        match self {
            Fault::Cut { pick, cut } => {
                house.wire.cut(*pick, *cut);
            }
            Fault::Stall { pick, ways } => house.wire.set(*pick, ways, Passage::Stalled),
            Fault::StallsEnd { by_cut } => house.wire.end_stalls(*by_cut),
            Fault::Slow { pick, bytes_per_second } => {
                let passage = Passage::Slow { bytes_per_second: *bytes_per_second };
                house.wire.set(*pick, &BOTH, passage);
            }
            Fault::Drip { pick, bytes } => {
                house.wire.set(*pick, &BOTH, Passage::Dripping { bytes: *bytes });
            }
            Fault::CutAfter { pick, way, bytes } => {
                house.wire.set(Some(*pick), &[*way], Passage::CutAfter { bytes: *bytes });
            }
            Fault::Foretell(fates) => {
                house.wire.foretell(fates.clone());
                // So that there are next ones.
                house.wire.cut(None, Cut::End);
            }
            Fault::Move { host } => {
                house.wire.move_to(*host);
                house.wire.cut(None, Cut::Reset);
            }
            Fault::KillMaster { down_ms } => {
                house.kill_master();
                pause(Duration::from_millis(*down_ms));
                house.start_master();
                kills.masters += 1;
            }
            Fault::KillAgent { pick } => {
                kills.agents += kill_one(house, "busybee-agent run", *pick);
            }
            Fault::KillSupervisor { pick } => {
                kills.supervisors += kill_one(house, "step-supervisor", *pick);
            }
            Fault::KillStep { pick } => kills.steps += kill_one(house, "step.sh", *pick),
        }
    }
}

/// Kills one of the house's processes of this name, if there are any. How many that were.
fn kill_one(house: &House, word: &str, pick: u64) -> u64 {
    let found = house.processes(word);
    if found.is_empty() {
        return 0;
    }
    kill(found[(pick % found.len() as u64) as usize]);
    1
}

/// `kill -9`.
pub(crate) fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _gone_already = rustix::process::kill_process(pid, Signal::KILL);
    }
}
