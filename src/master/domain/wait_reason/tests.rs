//! What each reason says.

use super::*;
use crate::model::money::Money;

const T: Timestamp = Timestamp(1_767_225_600_000 + 50_590_000);

fn check(reason: &WaitReason, sentence: &str) {
    assert_eq!(reason.sentence(), sentence);
}

#[test]
fn needs_and_labels_are_named() {
    let needs =
        |names: &[&str]| WaitReason::Needs(names.iter().map(|name| (*name).into()).collect());
    check(&needs(&["lint"]), "needs lint, which has not passed yet");
    check(&needs(&["lint", "docs"]), "needs lint and docs, which have not passed yet");
    check(
        &needs(&["a", "b", "c", "d", "e"]),
        "needs a, b, c and 2 more, which have not passed yet",
    );
    check(
        &WaitReason::NoPoolOffers(["arm64", "gpu"].into_iter().collect()),
        "no pool offers the labels arm64, gpu",
    );
    check(&WaitReason::NoPool, "the master's file has no pool");
}

#[test]
fn a_turn_names_who_comes_first_and_how_many_run_at_a_time() {
    let turn = |job: Option<&str>, limit| WaitReason::Turn {
        group: "prod".to_owned(),
        limit,
        before: Place { build: BuildNumber(41), job: job.map(JobName::from) },
    };
    check(&turn(None, 1), "build 41 comes first: group \"prod\" runs 1 build at a time");
    check(
        &turn(Some("deploy"), 2),
        "deploy of build 41 comes first: group \"prod\" runs 2 jobs at a time",
    );
}

#[test]
fn a_job_that_nobody_begins_says_how_often_and_what_it_waits_for_now() {
    let given = WaitReason::Given { worker: "linux-1".into(), at: T };
    check(&given, "given to linux-1 at 2026-01-01 14:03:10 UTC, which has not begun it yet");
    let now = Box::new(WaitReason::DiskFull("the disk is full".to_owned()));
    check(
        &WaitReason::NeverBegun { times: 2, now },
        "given out 2 times and never begun; now: the disk is full",
    );
}

#[test]
fn what_holds_a_pool_says_until_when() {
    let held = |hold, why: Option<&str>, again| WaitReason::Held {
        pool: "linux".into(),
        hold,
        why: why.map(str::to_owned),
        again,
    };
    let names = vec!["c7i.large in subnet-a".to_owned(), "c6i.large in subnet-a".to_owned()];
    let refused = Some("EC2 refused RunInstances: InsufficientInstanceCapacity");
    check(
        &held(LaunchHold::NoRoom(names), refused, T),
        "there is no room for c7i.large in subnet-a and c6i.large in subnet-a (pool \"linux\"): \
         EC2 refused RunInstances: InsufficientInstanceCapacity; tried again at 2026-01-01 14:03:10 UTC",
    );
    check(
        &held(LaunchHold::Quota, Some("VcpuLimitExceeded"), T),
        "pool \"linux\" may have no more machines just now: VcpuLimitExceeded; tried again at \
         2026-01-01 14:03:10 UTC",
    );
    let tomorrow = T + Duration::from_secs(24 * 3600);
    check(
        &held(LaunchHold::Failure, None, tomorrow),
        "the last launch of pool \"linux\" failed; tried again at 2026-01-02 14:03:10 UTC",
    );
    check(
        &held(LaunchHold::Agents, None, T),
        "a worker of pool \"linux\" is not connected and may call again; another is started at \
         2026-01-01 14:03:10 UTC",
    );
    let budget = BudgetHold {
        scope: Some("linux".into()),
        spent: Money(5_019_999),
        budget: Money(5_000_000),
        until: T,
    };
    check(
        &WaitReason::Budget(budget.clone()),
        "pool linux has spent $5.02 of its $5.00 for today; launches go on at 00:00 UTC",
    );
    check(
        &WaitReason::Budget(BudgetHold { scope: None, ..budget }),
        "all pools have spent $5.02 of their $5.00 for today; launches go on at 00:00 UTC",
    );
    let why = "somebody paused it".to_owned();
    check(
        &WaitReason::Paused { pool: "linux".into(), why },
        "pool \"linux\" is paused: somebody paused it",
    );
}

#[test]
fn a_machine_on_its_way_is_named_with_how_far_it_is_and_how_long_that_takes() {
    let launching = |count, what: Option<&str>, stage, usually, besides| WaitReason::Launching {
        pool: "linux".into(),
        count,
        first: Arriving { what: what.map(str::to_owned), since: T, stage },
        usually,
        besides,
    };
    check(
        &launching(1, Some("c7i.large spot"), Stage::Boots, Some(Duration::from_secs(48)), None),
        "starting 1 worker in pool \"linux\": c7i.large spot, asked for at 2026-01-01 14:03:10 UTC, boots; \
         usually ready after 48 s",
    );
    let failed = Some(Box::new(Besides::Failed("no capacity".to_owned())));
    check(
        &launching(2, None, Stage::Prepares, Some(Duration::from_secs(200)), failed),
        "starting 2 workers in pool \"linux\": the first, asked for at 2026-01-01 14:03:10 UTC, runs its \
         bootstrap script; usually ready after 3 min; the last launch failed: no capacity",
    );
    let full = Some(Box::new(Besides::Hold(WaitReason::DiskFull("full".to_owned()))));
    let no_more = Some(Box::new(Besides::Full { machines: 3, max: 3 }));
    check(
        &launching(2, None, Stage::Asked, None, no_more),
        "starting 2 workers in pool \"linux\": the first was asked for at 2026-01-01 14:03:10 UTC; \
         no more now: 3 of 3 machines",
    );
    check(
        &launching(1, None, Stage::Asked, None, full),
        "starting 1 worker in pool \"linux\": it was asked for at 2026-01-01 14:03:10 UTC; no more now: full",
    );
}

#[test]
fn a_full_pool_says_how_full_and_since_when_its_longest_job_runs() {
    let full = |machines: &[(Doing, usize)], longest| WaitReason::Full {
        pool: "linux".into(),
        machines: machines.iter().copied().collect(),
        max: 3,
        longest,
    };
    let busy = [(Doing::Works, 3)];
    check(&full(&busy, None), "every worker of pool \"linux\" is busy (3 of 3)");
    check(
        &full(&busy, Some(T)),
        "every worker of pool \"linux\" is busy (3 of 3); the longest of its jobs runs since \
         2026-01-01 14:03:10 UTC",
    );
    let gist = full(&busy, None).gist();
    assert_eq!(full(&busy, Some(T)).gist(), gist, "that alone is no news");
    let mixed = [(Doing::IdlesForAnother, 1), (Doing::Ends, 1), (Doing::Works, 1)];
    check(
        &full(&mixed, None),
        "pool \"linux\" has 3 of 3 machines: 1 busy, 1 idle for another project, 1 ending",
    );
    assert_ne!(full(&mixed, None).gist(), gist, "that not all of them work is");
    assert_eq!(full(&mixed[1..], None).gist(), full(&mixed, None).gist(), "and how, is none");
    check(&full(&[], None), "pool \"linux\" has 0 of 3 machines");
    let own = |busy, away| WaitReason::NoneFree { pool: "own".into(), busy, away, why: None };
    check(&own(0, 0), "pool \"own\" has no worker yet");
    check(&own(2, 1), "no worker of pool \"own\" is free (2 busy, 1 not connected)");
    check(&own(0, 1), "no worker of pool \"own\" is free (1 not connected)");
}
