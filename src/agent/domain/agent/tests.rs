//! The agent's decisions, as scenarios.

use super::*;
use crate::agent::domain::held::StepSight;
use crate::agent::domain::patience::BEYOND_LEASE;
use crate::model::attempt::AttemptOutcome;
use crate::model::ids::AttemptId;
use crate::model::ids::Fence;
use crate::model::step::StepOutcome;
use crate::model::time::Timestamp;
use crate::wire::message::InventoryItem;

const LEASE: Duration = Duration::from_secs(1800);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn id(number: u64) -> AttemptRef {
    AttemptRef { attempt: AttemptId(number), fence: Fence(1) }
}

fn spec(number: u64) -> Box<AttemptSpec> {
    Box::new(AttemptSpec {
        id: id(number),
        project: "hello".into(),
        job: "test".into(),
        env: Vec::new(),
        secrets: Vec::new(),
        checkout: None,
        keep_workspace: false,
        steps: Vec::new(),
        timeout: s(3600),
        lease: LEASE,
    })
}

fn up() -> Event {
    let welcome = Welcome {
        proto: 1,
        master_key: Vec::new(),
        proof: Vec::new(),
        heartbeat_busy: s(10),
        heartbeat_idle: s(30),
        lease: LEASE,
        server_time: Timestamp(0),
    };
    Event::Up { welcome, bootstrapped: true }
}

fn result(number: u64, outcome: AttemptOutcome) -> FromAgent {
    FromAgent::AttemptResult { attempt: id(number), outcome }
}

/// What lies there of an attempt that passed.
fn passed(number: u64) -> Sight {
    Sight { result: Some(result(number, AttemptOutcome::Passed)), ..Sight::default() }
}

fn runs() -> Sight {
    Sight { supervised: true, ..Sight::default() }
}

/// What the master is told.
fn said(actions: &[Action]) -> Vec<&FromAgent> {
    let said = actions.iter().filter_map(|action| match action {
        Action::Send(message) => Some(message),
        _ => None,
    });
    said.collect()
}

fn say(agent: &mut Agent, now: Duration, message: FromMaster) -> Vec<Action> {
    agent.handle(now, Event::Message(message))
}

/// Orders an attempt, whose supervisor starts.
fn run(agent: &mut Agent, now: Duration, number: u64) -> Vec<Action> {
    let mut actions = say(agent, now, FromMaster::RunAttempt(spec(number)));
    if actions.iter().any(|action| matches!(action, Action::Start { .. })) {
        actions.extend(agent.handle(now, Event::Started(id(number), 1, Ok(()))));
    }
    actions
}

fn connected() -> Agent {
    let mut agent = Agent::new(s(0), &[], false);
    agent.handle(s(0), up());
    agent
}

#[test]
fn an_attempt_runs_once_however_often_it_is_ordered() {
    let mut agent = connected();
    let first = run(&mut agent, s(1), 1);
    assert!(first.contains(&Action::Busy(true)), "{first:?}");
    let again = run(&mut agent, s(2), 1);
    assert_eq!(again, [Action::Send(FromAgent::AttemptAccepted(id(1)))]);
    let other = run(&mut agent, s(3), 2);
    assert!(matches!(said(&other)[..], [FromAgent::AttemptRejected { .. }]), "{other:?}");
}

#[test]
fn a_cancel_may_come_before_what_it_cancels() {
    let mut agent = connected();
    assert_eq!(say(&mut agent, s(1), FromMaster::Cancel(id(1))), []);
    let actions = run(&mut agent, s(2), 1);
    let is_cancelled = |action: &Action| matches!(action, Action::Start { cancelled: true, .. });
    assert!(actions.iter().any(is_cancelled), "{actions:?}");
}

#[test]
fn a_lease_counts_from_the_sending_of_the_heartbeat_that_was_acked() {
    let mut agent = connected();
    run(&mut agent, s(1), 1);
    assert_eq!(agent.next_timeout(), Some(s(10)), "the quicker pace, at once");
    assert_eq!(agent.handle(s(9), Event::Tick), []);
    assert_eq!(agent.handle(s(10), Event::Tick), [Action::Heartbeat(2)]);
    agent.handle(s(20), Event::Tick);
    let acked = say(&mut agent, s(25), FromMaster::HeartbeatAck { heartbeat: 2 });
    assert_eq!(acked, [Action::Live(LEASE + BEYOND_LEASE), Action::Renew(id(1), s(10) + LEASE)]);
    let again = say(&mut agent, s(26), FromMaster::HeartbeatAck { heartbeat: 2 });
    assert_eq!(again, [], "once");
    agent.handle(s(30), Event::Down);
    agent.handle(s(40), up());
    let older = say(&mut agent, s(41), FromMaster::HeartbeatAck { heartbeat: 3 });
    assert_eq!(older, [], "what another session heard renews nothing");
}

#[test]
fn what_was_told_is_told_again_in_each_session_until_it_is_forgotten() {
    let mut agent = connected();
    run(&mut agent, s(1), 1);
    let started = FromAgent::StepStarted { attempt: id(1), step: 0, started_at: Timestamp(7) };
    let step = StepSight { step: 0, started: Some(started.clone()), result: None };
    let sight = Sight { steps: vec![step], ..runs() };
    let news = agent.handle(s(2), Event::Looked(id(1), sight.clone()));
    assert_eq!(said(&news), [&started]);
    assert_eq!(agent.handle(s(3), Event::Looked(id(1), sight.clone())), [], "once a session");
    agent.handle(s(4), Event::Looked(id(1), Sight { supervised: false, ..passed(1) }));
    agent.handle(s(5), Event::Down);
    let actions = agent.handle(s(6), up());
    let FromAgent::Inventory(inventory) = said(&actions)[0] else { panic!("{actions:?}") };
    assert_eq!(inventory.attempts, [InventoryItem { attempt: id(1), finished: true }]);
    let sight = Sight { result: passed(1).result, supervised: false, ..sight };
    let told = agent.handle(s(6), Event::Looked(id(1), sight));
    assert_eq!(said(&told), [&started, &result(1, AttemptOutcome::Passed)]);
    let forgotten = say(&mut agent, s(7), FromMaster::Forget(id(1)));
    assert_eq!(forgotten, [Action::Remove(id(1)), Action::Busy(false)]);
}

#[test]
fn an_attempt_whose_supervisor_is_gone_without_a_result_could_not_be_carried_out() {
    let found = Found { attempt: id(1), steps: 1, has_begun: true, is_over: false };
    let mut agent = Agent::new(s(0), &[found], false);
    agent.handle(s(1), up());
    let actions = agent.handle(s(1), Event::Looked(id(1), Sight::default()));
    let [Action::Keep(kept, result), Action::Send(told)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((*kept, result), (id(1), told), "the next process tells the same");
}

#[test]
fn one_that_still_runs_is_ended_before_it_is_forgotten() {
    let mut agent = connected();
    run(&mut agent, s(1), 1);
    agent.handle(s(2), Event::Looked(id(1), runs()));
    assert_eq!(say(&mut agent, s(3), FromMaster::Forget(id(1))), [Action::Cancel(id(1))]);
    agent.handle(s(4), Event::Looked(id(1), passed(1)));
    let forgotten = say(&mut agent, s(5), FromMaster::Forget(id(1)));
    assert_eq!(forgotten, [Action::Remove(id(1)), Action::Busy(false)], "all of it is told");
}

#[test]
fn what_was_written_down_and_never_started_is_started_when_it_is_ordered_again() {
    let found = Found { attempt: id(1), steps: 1, has_begun: false, is_over: false };
    let mut agent = Agent::new(s(0), &[found], false);
    agent.handle(s(1), up());
    let actions = say(&mut agent, s(2), FromMaster::RunAttempt(spec(1)));
    assert!(matches!(actions[..], [Action::Start { .. }]), "{actions:?}");
}

#[test]
fn a_machine_that_could_not_be_cleaned_takes_nothing_more_and_ends_once_all_is_told() {
    let found = Found { attempt: id(1), steps: 1, has_begun: true, is_over: true };
    let mut agent = Agent::new(s(0), &[found], false);
    agent.handle(s(1), up());
    let unclean = Some("processes of a job could not be ended: sleep (4711)".to_owned());
    let news = agent.handle(s(1), Event::Looked(id(1), Sight { unclean, ..passed(1) }));
    assert_eq!(said(&news).len(), 1, "the result is told all the same");
    let rejected = run(&mut agent, s(2), 2);
    let [FromAgent::AttemptRejected { attempt, sentence }] = said(&rejected)[..] else {
        panic!("{rejected:?}")
    };
    assert_eq!(*attempt, id(2));
    assert!(sentence.contains("sleep (4711)"), "{sentence}");
    let last = say(&mut agent, s(3), FromMaster::Forget(id(1)));
    assert!(last.contains(&Action::End(End::Told, None)), "{last:?}");
    assert!(matches!(said(&last)[..], [FromAgent::Goodbye { .. }]), "{last:?}");
}

#[test]
fn an_agent_that_is_told_to_end_ends_what_runs_first_and_says_nothing_of_it() {
    let mut agent = connected();
    run(&mut agent, s(1), 1);
    let sentence = "idle".to_owned();
    let told = say(&mut agent, s(2), FromMaster::Shutdown { sentence });
    assert_eq!(told, [Action::Cancel(id(1)), Action::Look]);
    assert_eq!(agent.handle(s(3), Event::Looked(id(1), runs())), []);
    let ended = agent.handle(s(4), Event::Looked(id(1), passed(1)));
    assert!(matches!(said(&ended)[..], [FromAgent::Goodbye { .. }]), "{ended:?}");
    assert!(ended.contains(&Action::End(End::Told, None)), "{ended:?}");
}

#[test]
fn an_agent_that_is_told_to_end_waits_for_what_runs_within_bounds() {
    let mut agent = connected();
    run(&mut agent, s(1), 1);
    agent.handle(s(2), Event::Refused);
    assert_eq!(agent.next_timeout(), Some(s(2) + END_GRACE));
    let ended = agent.handle(s(2) + END_GRACE, Event::Tick);
    assert!(ended.contains(&Action::End(End::Refused, None)), "{ended:?}");
}

/// A local agent whose master was last heard of at 60 s, while its only job ran.
fn forsaken() -> Agent {
    let mut agent = Agent::new(s(0), &[], true);
    agent.handle(s(0), up());
    run(&mut agent, s(60), 1);
    agent.handle(s(70), Event::Down);
    assert_eq!(agent.next_timeout(), None, "it has a job");
    agent
}

#[test]
fn a_local_agent_whose_job_ended_while_no_master_was_there_does_not_stay_for_ever() {
    let mut agent = forsaken();
    agent.handle(s(80), Event::Looked(id(1), passed(1)));
    let due = s(60) + LEASE + BEYOND_LEASE;
    assert_eq!(agent.next_timeout(), Some(due), "its result is worth waiting for a while");
    let ended = agent.handle(due, Event::Tick);
    assert!(matches!(ended[..], [Action::End(End::Told, Some(_))]), "{ended:?}");
}

#[test]
fn an_agent_on_an_unfit_machine_says_so_first_of_all_and_ends() {
    let why = "steps could reach this instance's metadata service: no ip here".to_owned();
    let mut agent = Agent::new(s(0), &[], true).unfit(Some(why.clone()));
    let actions = agent.handle(s(1), up());
    assert_eq!(said(&actions), [&FromAgent::Goodbye { sentence: why }]);
    assert!(actions.contains(&Action::End(End::Told, None)), "{actions:?}");
}

#[test]
fn the_end_of_a_machines_life_ends_its_job_and_then_the_agent() {
    let mut agent = connected();
    run(&mut agent, s(1), 1);
    let actions = agent.handle(s(2), Event::LifeEnds);
    assert!(actions.contains(&Action::Cancel(id(1))), "{actions:?}");
    assert_eq!(agent.handle(s(2), Event::LifeEnds), [], "once");
    let ended = agent.handle(s(3), Event::Looked(id(1), passed(1)));
    let is_farewell = |action: &Action| matches!(action, Action::Send(FromAgent::Goodbye { .. }));
    assert!(ended.iter().any(is_farewell), "{ended:?}");
    assert!(ended.contains(&Action::End(End::Told, None)), "{ended:?}");
}

#[test]
fn a_bootstrap_script_runs_once_and_its_result_is_told_until_a_job_comes() {
    let mut agent = connected();
    let script = || {
        FromMaster::Bootstrap(Bootstrap {
            url: "https://ci/bootstrap/debian.sh".into(),
            sha256: "00".into(),
            args: Vec::new(),
            env: Vec::new(),
            timeout: s(60),
        })
    };
    let begun = say(&mut agent, s(1), script());
    assert!(matches!(begun[..], [Action::Ship(LogOwner::Boot), Action::Bootstrap(_)]));
    assert_eq!(say(&mut agent, s(2), script()), [], "it runs");
    let (outcome, tail) = (StepOutcome::Exited(0), String::new());
    let result = FromAgent::BootstrapResult { outcome, log_bytes: 0, tail };
    agent.handle(s(3), Event::Bootstrapped(result.clone()));
    agent.handle(s(4), Event::Down);
    let again = agent.handle(s(5), up());
    assert!(said(&again).contains(&&result), "{again:?}");
    run(&mut agent, s(6), 1);
    agent.handle(s(7), Event::Down);
    let later = agent.handle(s(8), up());
    assert!(!said(&later).contains(&&result), "{later:?}");
}
