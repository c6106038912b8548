//! Launches that are refused, or whose machines end at once, and what their pools do then.

use super::*;
use crate::master::domain::event::Event;
use crate::master::domain::event::Machine;
use crate::master::domain::event::MachineState;
use crate::master::domain::event::Request;
use crate::master::domain::rig;
use crate::master::domain::rig::Rig;
use crate::master::domain::settings::PoolSettings;
use crate::model::status::InstanceStatus;

fn candidate(family: &str, place: &str, is_spot: bool) -> Candidate {
    let name = format!("{family}7i in {place}{}", if is_spot { " spot" } else { "" });
    let (kind, family, place) = (format!("{family}7i"), family.to_owned(), place.to_owned());
    Candidate { name, kind, family, place, is_spot }
}

/// A pool with these candidates, for which one job waits.
fn choosy(candidates: Vec<Candidate>) -> Rig {
    let mut rig = Rig::new(vec![PoolSettings { candidates, ..rig::pool("linux") }]);
    rig.build("app", vec![rig::job("test", &[])]);
    rig
}

/// Two places, and two families in each.
fn four() -> Rig {
    let candidates = [("c", "a"), ("c", "b"), ("m", "a"), ("m", "b")];
    choosy(candidates.map(|(family, place)| candidate(family, place, false)).into())
}

/// The candidate that was just asked for.
fn chosen(rig: &Rig) -> Option<u32> {
    rig.done.iter().find_map(|action| match action {
        Action::Prepare { candidate, .. } => Some(*candidate),
        _ => None,
    })
}

fn refuse(rig: &mut Rig, failure: LaunchFailure) -> Option<u32> {
    let (instance, _, _) = rig.launches().pop().expect("a machine was asked for");
    let sentence = format!("EC2 says {failure:?}");
    rig.say(Event::LaunchFailed { instance, sentence, failure });
    chosen(rig)
}

fn alarms(rig: &Rig) -> usize {
    rig.done.iter().filter(|action| matches!(action, Action::Alarm(_))).count()
}

/// A listing shows that the machine of the newest launch has ended, for this cause.
fn ended(rig: &mut Rig, instance: InstanceId, cause: EndCause) -> Option<u32> {
    let launch = rig.launch_of(instance);
    rig.accept(instance);
    rig.wait(5);
    let running = rig::machine(&format!("i-{instance}"), &launch);
    let reason = Some(format!("EC2 ended it: {cause:?}"));
    let machine = Machine { state: MachineState::Ended, reason, cause, ..running };
    let asked_at = rig.now;
    rig.wait(1);
    rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines: vec![machine] });
    chosen(rig)
}

#[test]
fn a_subnet_without_addresses_is_left_alone_with_all_that_would_be_in_it() {
    let mut rig = four();
    assert_eq!(chosen(&rig), Some(0));
    assert_eq!(refuse(&mut rig, LaunchFailure::PlaceFull), Some(1));
    assert_eq!(refuse(&mut rig, LaunchFailure::Capacity), Some(3));
    assert_eq!(refuse(&mut rig, LaunchFailure::Capacity), None);
    rig.done = rig.wait(180);
    assert_eq!(chosen(&rig), Some(0), "after 3 min");
}

#[test]
fn a_subnet_that_does_not_exist_drops_its_candidates_and_somebody_is_told() {
    let mut rig = four();
    assert_eq!(refuse(&mut rig, LaunchFailure::NoSuchPlace), Some(1));
    assert_eq!(alarms(&rig), 1);
    assert_eq!(refuse(&mut rig, LaunchFailure::NoSuchPlace), None);
    assert!(rig.reason("test").contains("none of its candidates exists"));
}

#[test]
fn a_kind_that_does_not_exist_in_a_place_does_not_on_another_market_either() {
    let spot = |family| candidate(family, "a", true);
    let own = |place| candidate("c", place, false);
    let mut rig = choosy(vec![spot("c"), own("a"), own("b"), spot("m")]);
    assert_eq!(refuse(&mut rig, LaunchFailure::Unsupported), Some(2));
    assert_eq!(refuse(&mut rig, LaunchFailure::Unsupported), Some(3));
}

#[test]
fn a_quota_lets_another_kind_be_tried_once_and_then_holds_the_pool() {
    let mut rig = four();
    assert_eq!(refuse(&mut rig, LaunchFailure::Quota), Some(2), "another family");
    assert_eq!(refuse(&mut rig, LaunchFailure::Quota), None);
    assert_eq!(alarms(&rig), 1, "an admin is told");
    assert!(rig.wait(599).iter().all(|action| !matches!(action, Action::Prepare { .. })));
    rig.done = rig.wait(1);
    assert_eq!(chosen(&rig), Some(0), "after 10 min");
    refuse(&mut rig, LaunchFailure::Quota);
    refuse(&mut rig, LaunchFailure::Quota);
    assert_eq!(alarms(&rig), 0, "but once");
}

#[test]
fn a_pool_that_waits_for_its_quota_goes_on_when_one_of_ours_ends() {
    let (linux, arm) = (rig::pool("linux"), rig::pool("arm"));
    let mut rig = Rig::new(vec![linux, PoolSettings { min_idle: 1, ..arm }]);
    let (other, _, _) = rig.arrive();
    rig.build("app", vec![rig::job("test", &[])]);
    refuse(&mut rig, LaunchFailure::Quota);
    rig.done = rig.wait(60);
    assert_eq!(chosen(&rig), None);
    rig.say(Event::InstanceEnded { instance: other, sentence: None });
    let pools = rig.done.iter().filter_map(|action| match action {
        Action::Prepare { pool, .. } => Some(pool.as_str()),
        _ => None,
    });
    assert!(pools.collect::<Vec<_>>().contains(&"linux"), "{:?}", rig.done);
}

#[test]
fn a_limit_is_waited_for_whatever_else_fails_or_ends_meanwhile() {
    let (linux, arm) = (rig::pool("linux"), rig::pool("arm"));
    let mut rig = Rig::new(vec![linux, PoolSettings { min_idle: 1, ..arm }]);
    let (other, _, _) = rig.arrive();
    rig.build("app", vec![rig::job("test", &[]), rig::job("more", &[])]);
    let both = rig.launches();
    let fail = |rig: &mut Rig, index: usize, failure| {
        let (instance, sentence) = (both[index].0, format!("EC2 says {failure:?}"));
        rig.say(Event::LaunchFailed { instance, sentence, failure });
    };
    fail(&mut rig, 0, LaunchFailure::Limit);
    fail(&mut rig, 1, LaunchFailure::Other);
    rig.say(Event::InstanceEnded { instance: other, sentence: None });
    rig.ask(Request::PausePool("arm".into()));
    rig.done = rig.wait(599);
    assert_eq!(chosen(&rig), None, "10 min are not over");
    rig.done = rig.wait(1);
    assert_eq!(chosen(&rig), Some(0));
}

#[test]
fn a_spot_quota_leaves_what_is_not_lent() {
    let spot = |place| candidate("c", place, true);
    let own = candidate("c", "a", false);
    let mut rig = choosy(vec![spot("a"), spot("b"), own]);
    assert_eq!(refuse(&mut rig, LaunchFailure::SpotQuota), Some(2));
    let mut rig = choosy(vec![spot("a"), spot("b")]);
    assert_eq!(refuse(&mut rig, LaunchFailure::SpotQuota), None);
    rig.done = rig.wait(10 * 60);
    assert_eq!(chosen(&rig), Some(0));
}

#[test]
fn a_limit_holds_the_pool_for_10_minutes_and_at_last_for_an_hour() {
    let mut rig = four();
    for minutes in [10, 20, 40, 60, 60] {
        assert_eq!(refuse(&mut rig, LaunchFailure::Limit), None);
        rig.done = rig.wait(minutes * 60 - 1);
        assert_eq!(chosen(&rig), None, "{minutes} min are not over");
        rig.done = rig.wait(1);
        assert_eq!(chosen(&rig), Some(0), "after {minutes} min");
    }
}

#[test]
fn an_image_that_is_gone_is_looked_up_again_once() {
    let mut rig = four();
    assert_eq!(refuse(&mut rig, LaunchFailure::ImageGone), Some(0), "at once");
    assert_eq!(refuse(&mut rig, LaunchFailure::ImageGone), None);
    assert!(rig.reason("test").contains("is paused"), "{}", rig.reason("test"));
}

#[test]
fn two_machines_in_a_row_that_die_at_once_pause_the_pool() {
    let mut rig = four();
    let (first, _, _) = rig.launches()[0].clone();
    assert_eq!(ended(&mut rig, first, EndCause::DiedAtOnce), None);
    rig.done = rig.wait(10);
    let (second, _, _) = rig.launches()[0].clone();
    ended(&mut rig, second, EndCause::DiedAtOnce);
    assert!(rig.reason("test").contains("2 machines in a row died at once; the last: EC2 ended"));
    rig.ask(Request::ResumePool("linux".into()));
    assert_eq!(chosen(&rig), Some(0));
}

#[test]
fn what_was_accepted_and_then_found_no_room_is_a_matter_of_room() {
    for cause in [EndCause::NoRoom, EndCause::SpotTaken] {
        let mut rig = four();
        let (first, _, _) = rig.launches()[0].clone();
        assert_eq!(ended(&mut rig, first, cause), Some(1), "the next candidate, at once");
        assert_eq!(rig.row(first).status, InstanceStatus::Terminated);
        let why = rig.row(first).why_ended.expect("its row says why");
        assert!(why.contains("EC2 ended it"), "{why}");
    }
}

#[test]
fn what_is_accepted_and_dies_waits_longer_each_time_and_is_told_once() {
    let mut rig = choosy(vec![candidate("c", "a", false)]);
    for minutes in [3, 6, 12, 24, 30, 30] {
        let (instance, _, _) = rig.launches()[0].clone();
        assert_eq!(ended(&mut rig, instance, EndCause::NoRoom), None);
        rig.done = rig.wait(minutes * 60 - 1);
        assert_eq!(chosen(&rig), None, "{minutes} min are not over");
        rig.done = rig.wait(1);
        assert_eq!(chosen(&rig), Some(0), "after {minutes} min");
    }
    let mut told = 0;
    for minutes in [10, 20, 40, 60, 60] {
        let (instance, _, _) = rig.launches()[0].clone();
        assert_eq!(ended(&mut rig, instance, EndCause::Limit), None);
        told += alarms(&rig);
        rig.done = rig.wait(minutes * 60 - 1);
        assert_eq!(chosen(&rig), None, "{minutes} min are not over");
        rig.done = rig.wait(1);
        assert_eq!(chosen(&rig), Some(0), "after {minutes} min");
    }
    assert_eq!(told, 1);
    let (instance, _, _) = rig.arrive();
    rig.say(Event::InstanceEnded { instance, sentence: None });
    assert_eq!(refuse(&mut rig, LaunchFailure::Limit), None);
    assert_eq!(alarms(&rig), 1, "one has lived since");
    rig.done = rig.wait(10 * 60);
    assert_eq!(chosen(&rig), Some(0), "and it begins anew");
}

#[test]
fn a_host_that_is_retired_is_no_failure_of_the_pool() {
    let mut rig = four();
    for _ in 0..4 {
        let (instance, _, _) = rig.launches()[0].clone();
        assert_eq!(ended(&mut rig, instance, EndCause::Retired), Some(0));
    }
}

#[test]
fn a_machine_that_somebody_ended_by_hand_says_so_in_its_row() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    rig.build("app", vec![rig::job("test", &[])]);
    let (instance, launch, _) = rig.launches()[0].clone();
    rig.arrive();
    let running = rig::machine(&format!("i-{instance}"), &launch);
    let (state, cause) = (MachineState::Ended, EndCause::ByHand);
    let machine = Machine { state, cause, ..running };
    rig.wait(1);
    let asked_at = rig.now;
    rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines: vec![machine] });
    let why = rig.row(instance).why_ended;
    assert_eq!(why.as_deref(), Some("somebody ended it: by hand, or with another program"));
}
