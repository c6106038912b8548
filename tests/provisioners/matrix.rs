//! Faults at moments end with nothing alive and a ledger that explains each: tables of faults, tables of
//! moments, and one history for each pair, in virtual time, against moto behind the fault layer.
//! `docs/reliability.md` says which. In each, what was to go wrong has gone wrong, or the history fails.

use std::time::Duration;

use busybee::master::domain::event::Request;
use busybee::model::ids::BuildNumber;
use busybee::model::inputs::GivenInputs;
use busybee::model::status::JobStatus;
use serde_json::Value;
use serde_json::json;

use crate::control::Control;
use crate::ec2;
use crate::ec2::Api;
use crate::small_master::Kill;
use crate::small_master::SmallMaster;

mod kinds;

/// How long an instance may take to come to rest after a build.
const REST: Duration = Duration::from_secs(15 * 60);

const MINUTE: Duration = Duration::from_secs(60);

/// How long a job may wait for its worker, when what went wrong goes by.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// How long everything may take to end after that: a quarter of an hour passes before a list that does not
/// show an instance proves anything.
const END: Duration = Duration::from_secs(60 * 60);

/// What becomes of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Passes,
    /// It waits, and says these words of AWS's.
    Waits(&'static str),
    /// Somebody cancels its build so long after it was started.
    Cancelled(Duration),
}

/// One history.
#[derive(Clone, Debug)]
struct Case {
    name: String,
    market: &'static str,
    /// More lines of the pool, and of its `[pool.ec2]`.
    pool: String,
    ec2: String,
    /// How many builds are started, one after the other; between two of them instances come to rest.
    builds: u64,
    rules: Value,
    kills: Vec<Kill>,
    ends: Ends,
    /// So many instances at most are ever launched: an outcome that is unknown costs none.
    launches_max: usize,
}

fn case(name: impl Into<String>, rules: Value, ends: Ends) -> Case {
    let (name, market, kills) = (name.into(), "on-demand", Vec::new());
    let (pool, ec2) = (String::new(), String::new());
    Case { name, market, pool, ec2, builds: 1, rules, kills, ends, launches_max: usize::MAX }
}

fn file(api: &Api, case: &Case) -> String {
    let Case { market, pool, ec2, .. } = case;
    format!(
        "[master]\nurl = \"https://ci.example.com\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"data\"\n\
         id = \"matrix\"\n\n[[pool]]\nname = \"cloud\"\nlabels = [\"cloud\"]\nprovisioner = \"ec2\"\n\
         max_instances = 2\nidle_timeout = \"30s\"\nboot_timeout = \"3m\"\nreconnect_grace = \"1m\"\n{pool}\n\
         [pool.ec2]\nregion = \"us-east-1\"\nendpoint = \"{}\"\ncredentials_file = \"{}\"\n\
         profile = \"test\"\nami = {{ owners = [\"self\"], name = \"debian-12-*\" }}\n\
         instance_types = [\"t3.small\", \"t3.medium\"]\nmarket = \"{market}\"\n{ec2}\n\
         [[project]]\nname = \"hello\"\nrepo = \"https://git.example.com/hello.git\"\n",
        api.endpoint(),
        api.credentials("AKIAANY", "any").display(),
    )
}

/// One history from a waiting job to the end of everything.
async fn live(api: &Api, control: &Control, case: &Case) {
    control.forget_everything().await;
    control.set(&case.rules).await;
    let mut master = SmallMaster::start(control, &file(api, case), &case.kills);
    // What is in no list cannot be ended by the master.
    master.machines.are_deaf = !case.rules.to_string().contains("vanish");
    let passes = |master: &SmallMaster| master.job() == Some(JobStatus::Passed);
    for number in 1..=case.builds {
        let (project, reference, inputs) = ("hello".into(), None, GivenInputs::new());
        master.asks_anew(Request::StartBuild { project, reference, inputs });
        if number < case.builds {
            let has_passed = master.until(PATIENCE, passes).await;
            assert!(has_passed, "{}: build {number}\n{}", case.name, master.told());
            master.until(REST, SmallMaster::has_stopped_one).await;
        }
    }
    let has_come = match case.ends {
        Ends::Passes => master.until(PATIENCE, passes).await,
        Ends::Waits(words) => {
            let says = |master: &SmallMaster| master.reason().contains(words);
            master.until(PATIENCE, says).await && master.job() == Some(JobStatus::Queued)
        }
        Ends::Cancelled(after) => {
            master.until(after, |_| false).await;
            true
        }
    };
    let name = &case.name;
    assert!(
        has_come,
        "{name}: {:?} \"{}\" instead of {:?}\n{}",
        master.job(),
        master.reason(),
        case.ends,
        master.told()
    );
    let mut acted = control.acted().await;
    if case.ends != Ends::Passes {
        control.clear().await;
        master.asks(Request::CancelBuild("hello".into(), BuildNumber(case.builds)));
    }
    let mut is_over = false;
    for _ in 0..END.as_secs() / MINUTE.as_secs() {
        master.until(MINUTE, |_| false).await;
        let really = control.really().await;
        let alive = really.instances.iter().any(|one| one.is_alive());
        is_over = !alive && really.open_spot_requests == 0 && master.ledger_is_final();
        if is_over {
            break;
        }
    }
    let calls = control.calls().await;
    let story = format!("{}\n{calls}\n{:#?}", master.told(), control.really().await);
    assert!(is_over, "{name}: something is left\n{story}");
    acted += control.acted().await;
    let is_fair = case.rules.as_array().is_none_or(Vec::is_empty);
    assert!(acted > 0 || is_fair, "{name}: nothing went wrong\n{story}");
    let left = master.kills_left();
    assert!(left.is_empty(), "{name}: it was not killed at {left:?}\n{story}");
    explained(control, &master, case, &story).await;
}

/// Every row says why it ended, and every instance that ever was is in a row.
async fn explained(control: &Control, master: &SmallMaster<'_>, case: &Case, story: &str) {
    let name = &case.name;
    let ledger = master.stored_ledger().await;
    for row in &ledger {
        let why = row.why_ended.as_deref().unwrap_or_default();
        assert!(row.status.is_final() && !why.is_empty(), "{name}: {row:#?}\n{story}");
        assert!(row.ended_at.is_some(), "{name}: {row:#?}\n{story}");
    }
    let instances = control.really().await.instances;
    assert!(instances.len() <= case.launches_max, "{name}: {} launches\n{story}", instances.len());
    for one in instances {
        let row = ledger.iter().find(|row| row.launch.as_str() == one.launch);
        assert!(row.is_some(), "{name}: {one:?} is in no row\n{story}");
    }
    assert!(master.most_alive <= 2, "{name}: {} at one time\n{story}", master.most_alive);
}

/// What can become of any call.
fn spoiled() -> Vec<(&'static str, Value)> {
    vec![
        ("throttled", json!({ "refuse": "RequestLimitExceeded" })),
        ("throttled by another word", json!({ "refuse": "Throttling" })),
        ("broken inside", json!({ "refuse": "InternalError" })),
        (
            "broken after its effect",
            json!({ "refuse": { "code": "InternalError", "carried_out": true } }),
        ),
        ("answered by a proxy", json!({ "answer": 502 })),
        ("answered with nonsense", json!({ "answer": { "status": 200, "carried_out": true } })),
        ("lost on its way", json!({ "lose": "request" })),
        ("carried out, its reply lost", json!({ "lose": "reply" })),
        ("slow", json!({ "wait": 1 })),
        ("carried out, its reply slow", json!({ "wait": { "seconds": 1, "carried_out": true } })),
    ]
}

/// For any call: once, which the client tries again by itself; and so often that it gives up.
fn calls_that_go_wrong(actions: &[&str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, effect) in spoiled() {
        for action in actions {
            for (times, count) in [("once", 1), ("six times", 6)] {
                let rule = json!({ "action": action, "count": count, "do": effect });
                let name = format!("{action} {what} {times}");
                cases.push(Case { launches_max: 1, ..case(name, json!([rule]), Ends::Passes) });
            }
        }
    }
    cases
}

/// The same for the second try of a launch, when the first found no room.
fn second_launches_that_go_wrong() -> Vec<Case> {
    let full = json!({ "refuse": "InsufficientInstanceCapacity" });
    let first = json!({ "action": "RunInstances", "count": 1, "do": full });
    let one = |(what, effect): (&str, Value)| {
        let then = json!({ "action": "RunInstances", "skip": 1, "count": 6, "do": effect });
        let name = format!("the second launch {what}");
        Case { launches_max: 1, ..case(name, json!([first, then]), Ends::Passes) }
    };
    spoiled().into_iter().map(one).collect()
}

/// Refusals of a launch that are about the launch: the first only, and every one.
fn launches_that_are_refused() -> Vec<Case> {
    let mut cases = Vec::new();
    for (code, is_passing) in [
        ("InsufficientInstanceCapacity", true),
        ("InsufficientFreeAddressesInSubnet", true),
        ("Unsupported", true),
        ("VcpuLimitExceeded", true),
        ("PendingVerification", true),
        ("ExpiredToken", true),
        ("IdempotentParameterMismatch", true),
        ("IdempotentInstanceTerminated", true),
        ("UnauthorizedOperation", false),
        ("OptInRequired", false),
        ("InvalidParameterValue", false),
        ("InvalidSubnetID.NotFound", false),
        ("NobodyHasSeenThis", false),
    ] {
        let rule = |count: Option<u32>| json!([{ "action": "RunInstances", "count": count, "do": { "refuse": code } }]);
        if is_passing {
            cases.push(case(format!("{code} once"), without_nulls(rule(Some(1))), Ends::Passes));
        }
        let name = format!("{code} always");
        cases.push(case(name, without_nulls(rule(None)), Ends::Waits(code)));
    }
    let mismatch = json!({ "code": "IdempotentParameterMismatch", "carried_out": true });
    let rule = json!([{ "action": "RunInstances", "count": 1, "do": { "refuse": mismatch } }]);
    cases.push(case("another request had its token", rule, Ends::Passes));
    let one_type = json!([{ "action": "RunInstances", "type": "t3.small",
        "do": { "refuse": "InsufficientInstanceCapacity" } }]);
    cases.push(case("no room for the first type, ever", one_type, Ends::Passes));
    cases
}

fn without_nulls(mut rules: Value) -> Value {
    for rule in rules.as_array_mut().into_iter().flatten() {
        if let Some(rule) = rule.as_object_mut() {
            rule.retain(|_, value| !value.is_null());
        }
    }
    rules
}

/// Instances that end by EC2's hand: at once, while they boot, while they work.
fn instances_that_die() -> Vec<Case> {
    let mut cases = Vec::new();
    for code in [
        "Server.InsufficientInstanceCapacity",
        "Server.InternalError",
        "Client.VolumeLimitExceeded",
        "Client.InternalError",
        "Client.InvalidSnapshot.NotFound",
    ] {
        for listings in [0, 1, 3] {
            let die = json!({ "code": code, "listings": listings });
            let rule = json!([{ "action": "RunInstances", "count": 1, "do": { "die": die } }]);
            cases.push(case(format!("{code} after {listings} listings"), rule, Ends::Passes));
        }
        let rule = json!([{ "action": "RunInstances", "do": { "die": code } }]);
        cases.push(case(format!("{code} each time"), rule, Ends::Waits(code)));
    }
    for (after, seconds) in [(0, 0), (0, 120), (2, 0), (3, 0)] {
        let interrupt = json!({ "in": seconds, "listings": after });
        let rule =
            json!([{ "action": "RunInstances", "count": 1, "do": { "interrupt": interrupt } }]);
        let name = format!("a spot instance is taken back after {after} listings and {seconds} s");
        cases.push(Case { market: "spot", ..case(name, rule, Ends::Passes) });
    }
    for after in [0, 2] {
        let rule = json!([{ "action": "RunInstances", "count": 1,
            "do": { "retire": { "in": 0, "listings": after } } }]);
        cases.push(case(format!("its host is retired after {after} listings"), rule, Ends::Passes));
    }
    cases
}

/// Lists that are behind, that come in small pages, that leave something out for ever.
fn lists_that_lag() -> Vec<Case> {
    let mut cases = Vec::new();
    for listings in [1, 4, 200] {
        let rule = json!([{ "action": "RunInstances", "do": { "lag": listings } }]);
        let name = format!("an instance is not listed {listings} times");
        cases.push(case(name.clone(), rule.clone(), Ends::Passes));
        for seconds in [1, 3, 12, 40] {
            let ends = Ends::Cancelled(Duration::from_secs(seconds));
            cases.push(case(format!("{name}, cancelled after {seconds} s"), rule.clone(), ends));
        }
        let lost = json!({ "action": "RunInstances", "count": 6, "do": { "lose": "reply" } });
        let lag = json!({ "action": "RunInstances", "do": { "lag": listings } });
        cases.push(case(format!("{name}, its reply lost"), json!([lag, lost]), Ends::Passes));
    }
    let pages = json!([{ "action": "DescribeInstances", "do": { "page": 1 } }]);
    cases.push(case("lists of one instance a page", pages, Ends::Passes));
    for (name, count) in [("ten lists fail whole", 10), ("two hundred lists fail whole", 200)] {
        let rule = json!([{ "action": "DescribeInstances", "count": count,
            "do": { "refuse": "Unavailable" } }]);
        cases.push(case(name, rule, Ends::Passes));
    }
    cases
}

/// What people do to instances, and what becomes of some without anybody.
fn instances_by_hand() -> Vec<Case> {
    let mut cases = Vec::new();
    let by_hand = json!({ "code": "Client.UserInitiatedShutdown" });
    for (what, effect, mut how) in [
        ("stopped by hand", "stop", json!({})),
        ("ended by hand", "die", by_hand),
        ("in no list any more", "vanish", json!({})),
    ] {
        for listings in [0, 1, 2, 3, 5] {
            how["listings"] = json!(listings);
            let rule = json!([{ "action": "RunInstances", "count": 1, "do": { effect: how } }]);
            cases.push(case(format!("{what} after {listings} listings"), rule, Ends::Passes));
        }
    }
    cases
}

/// Spot requests that stay open, and what comes of them.
fn requests_left_open() -> Vec<Case> {
    let mut cases = Vec::new();
    for market in ["spot", "spot-then-on-demand"] {
        for (name, how) in [
            ("never fulfilled", json!({})),
            ("fulfilled at once", json!({ "seconds": 0.01 })),
            ("fulfilled after a listing", json!({ "listings": 1 })),
            ("fulfilled after twenty", json!({ "listings": 20 })),
        ] {
            let rule = json!([{ "action": "RunInstances", "market": "spot", "count": 1,
                "do": { "leave_open": how } }]);
            let name = format!("{market}: a request is left open and {name}");
            cases.push(Case { market, ..case(name, rule, Ends::Passes) });
        }
    }
    cases
}

/// A build that is cancelled at any moment.
fn cancelled() -> Vec<Case> {
    let mut cases = Vec::new();
    for seconds in [0, 1, 2, 5, 8, 12, 20, 40] {
        let ends = Ends::Cancelled(Duration::from_secs(seconds));
        cases.push(case(format!("cancelled after {seconds} s"), json!([]), ends));
        for (what, effect) in [
            ("the reply to its launch lost", json!({ "lose": "reply" })),
            ("its launch broken", json!({ "refuse": "InternalError" })),
        ] {
            let rule = json!([{ "action": "RunInstances", "count": 6, "do": effect }]);
            cases.push(case(format!("{what}, cancelled after {seconds} s"), rule, ends));
        }
    }
    cases
}

/// A master that is killed before or after each thing that it does, in several kinds of weather: after twelve all
/// is over where nothing is launched twice.
fn killed_when(is_after: bool) -> Vec<Case> {
    let weather = [
        ("fair weather", 12, json!([])),
        (
            "lost replies",
            12,
            json!([
            { "action": "RunInstances", "count": 1, "do": { "lose": "reply" } },
            { "action": "TerminateInstances", "count": 1, "do": { "lose": "reply" } }]),
        ),
        ("lagging lists", 12, json!([{ "action": "RunInstances", "do": { "lag": 3 } }])),
        (
            "no room at first",
            14,
            json!([{ "action": "RunInstances", "count": 1,
            "do": { "refuse": "InsufficientInstanceCapacity" } }]),
        ),
        (
            "an instance that dies at once",
            14,
            json!([{ "action": "RunInstances", "count": 1,
            "do": { "die": "Server.InternalError" } }]),
        ),
        (
            "lists that fail",
            12,
            json!([{ "action": "DescribeInstances", "count": 6,
            "do": { "refuse": "Unavailable" } }]),
        ),
    ];
    let mut cases = Vec::new();
    for (name, n_things, rules) in weather {
        let launches_max = if name == "an instance that dies at once" { 2 } else { 1 };
        for later in 0..n_things {
            let when = if is_after { "after" } else { "before" };
            let kills = vec![Kill { kind: "", later, is_after }];
            let name = format!("killed {when} action {} in {name}", later + 1);
            cases.push(Case { kills, launches_max, ..case(name, rules.clone(), Ends::Passes) });
        }
    }
    cases
}

/// Lives all of them, one after the other, in an API of their own.
async fn all(test: &str, cases: Vec<Case>) {
    let Some(api) = ec2::api(test, &["--paper"]) else { return };
    let control = Control::of(&api);
    for case in cases {
        live(&api, &control, &case).await;
    }
}

#[tokio::test]
async fn whatever_becomes_of_a_launch_nothing_is_left_and_all_is_explained() {
    let first = calls_that_go_wrong(&["DescribeImages", "RunInstances"]);
    let cases = [first, second_launches_that_go_wrong()].concat();
    all("whatever_becomes_of_a_launch_nothing_is_left", cases).await;
}

#[tokio::test]
async fn whatever_becomes_of_a_list_or_an_end_nothing_is_left_and_all_is_explained() {
    let cases = calls_that_go_wrong(&["DescribeInstances", "TerminateInstances"]);
    all("whatever_becomes_of_a_list_or_an_end_nothing_is_left", cases).await;
}

#[tokio::test]
async fn whatever_refuses_a_launch_nothing_is_left_and_the_job_says_it_in_awss_words() {
    all("whatever_refuses_a_launch_nothing_is_left", launches_that_are_refused()).await;
}

#[tokio::test]
async fn however_an_instance_dies_its_row_says_so_and_its_job_is_done_elsewhere() {
    all("however_an_instance_dies_its_row_says_so", instances_that_die()).await;
}

#[tokio::test]
async fn however_far_lists_are_behind_nothing_is_left() {
    all("however_far_lists_are_behind_nothing_is_left", lists_that_lag()).await;
}

#[tokio::test]
async fn whatever_people_do_to_instances_nothing_is_left() {
    all("whatever_people_do_to_instances_nothing_is_left", instances_by_hand()).await;
}

#[tokio::test]
async fn whatever_comes_of_a_request_that_was_left_open_nothing_is_left() {
    all("whatever_comes_of_a_request_that_was_left_open", requests_left_open()).await;
}

#[tokio::test]
async fn whenever_a_build_is_cancelled_nothing_is_left() {
    all("whenever_a_build_is_cancelled_nothing_is_left", cancelled()).await;
}

#[tokio::test]
async fn killed_before_anything_it_does_a_master_leaves_nothing_and_launches_nothing_twice() {
    all("killed_before_anything_it_does", killed_when(false)).await;
}

#[tokio::test]
async fn killed_after_anything_it_does_a_master_leaves_nothing_and_launches_nothing_twice() {
    all("killed_after_anything_it_does", killed_when(true)).await;
}
