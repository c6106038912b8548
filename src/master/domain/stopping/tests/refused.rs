//! Stops and starts that are refused for good.

use super::*;
use crate::model::ids::BuildNumber;

fn alarms(actions: &[Action]) -> usize {
    actions.iter().filter(|done| matches!(done, Action::Alarm(_))).count()
}

fn denied(rig: &mut Rig, instance: InstanceId) {
    let sentence = "EC2 refused StartInstances: UnauthorizedOperation".to_owned();
    rig.say(Event::LaunchFailed { instance, sentence, failure: LaunchFailure::Denied });
}

#[test]
fn a_job_whose_stopped_machine_may_not_be_started_has_a_new_one() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    rig.build("app", vec![rig::job("again", &[])]);
    assert!(starts(&rig.done, instance));
    denied(&mut rig, instance);
    assert_eq!(rig.launches().len(), 1, "{:?}", rig.done);
    assert_eq!(alarms(&rig.done), 1, "a person must look");
    assert!(!rig.ends(instance), "it is there when it may be started again");
    assert_eq!(rig.worker(&worker).fate, WorkerFate::Rests);

    // The new one does the job, idles, and is ended: what cannot be started again need not be stopped.
    let (fresh, other, connection) = rig.arrive();
    let attempt = rig.given();
    rig.finish(&other, attempt, AttemptOutcome::Passed);
    let done = rig.wait_beating(310, &[(&other, connection)]);
    assert!(rig::ends(&done, fresh) && !stops(&done, fresh), "{done:?}");
    rig.say(Event::InstanceEnded { instance: fresh, sentence: None });

    // Within the hour it is not tried again, and after it once.
    rig.build("app", vec![rig::job("soon", &[])]);
    assert!(!starts(&rig.done, instance));
    let (fresh, _, _) = rig.arrive();
    rig.say(Event::InstanceEnded { instance: fresh, sentence: None });
    rig.ask(Request::CancelBuild("app".into(), BuildNumber(3)));
    rig.wait(3600);
    rig.build("app", vec![rig::job("later", &[])]);
    assert!(starts(&rig.done, instance), "{:?}", rig.done);
    denied(&mut rig, instance);
    assert_eq!((rig.launches().len(), alarms(&rig.done)), (1, 0), "who must look was told");
}

#[test]
fn a_start_that_is_accepted_or_somebody_who_resumes_the_pool_ends_the_hour() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    rig.build("app", vec![rig::job("again", &[])]);
    denied(&mut rig, instance);
    let (fresh, _, _) = rig.launches()[0].clone();
    rig.ask(Request::ResumePool("linux".into()));
    let sentence = "no room".to_owned();
    rig.say(Event::LaunchFailed { instance: fresh, sentence, failure: LaunchFailure::Other });
    rig.done = rig.wait(600);
    assert!(starts(&rig.done, instance), "{:?}", rig.done);
    accept_start(&mut rig, instance);
    let connection = rig.connect(&worker, booted_again(), &[]);
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    let done = rig.wait_beating(310, &[(&worker, connection)]);
    assert!(stops(&done, instance), "it may be kept again: {done:?}");
}

#[test]
fn a_pool_whose_machines_may_not_be_stopped_ends_them_and_a_person_is_told_once() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (first, _, _) = stopping(&mut rig, "app");
    let sentence = "EC2 refused StopInstances: UnauthorizedOperation".to_owned();
    rig.say(Event::StopFailed { instance: first, sentence });
    assert!(rig.ends(first));
    assert_eq!(alarms(&rig.done), 1, "{:?}", rig.done);
    rig.say(Event::InstanceEnded { instance: first, sentence: None });
    rig.build("app", vec![rig::job("next", &[])]);
    let (second, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    let done = rig.wait_beating(310, &[(&worker, connection)]);
    assert!(rig::ends(&done, second) && !stops(&done, second), "{done:?}");
    assert_eq!(alarms(&done), 0);
}
