//! The same for pools that keep stopped instances, that are on spot, and whose instances have an address and a
//! volume of their own.

use super::*;
use crate::belongings;

/// What a rule is for: each call of a kind, once or so often that the client gives up.
fn spoils(action: &str, also: &[Value]) -> Vec<(String, Value)> {
    let mut rules = Vec::new();
    for (what, effect) in spoiled() {
        for (times, count) in [("once", 1), ("six times", 6)] {
            let rule = json!({ "action": action, "count": count, "do": effect });
            let all: Vec<Value> = also.iter().cloned().chain([rule]).collect();
            rules.push((format!("{action} {what} {times}"), Value::from(all)));
        }
    }
    rules
}

/// Before and after each of the first things that come with a thing of this kind, and after it.
fn kills(kind: &'static str) -> Vec<(String, Vec<Kill>)> {
    let mut kills = Vec::new();
    for later in 0..4 {
        for (when, is_after) in [("before", false), ("after", true)] {
            let name = format!("killed {when} thing {later} from the first {kind}");
            kills.push((name, vec![Kill { kind, later, is_after }]));
        }
    }
    kills
}

/// Two builds, and between them the instance is stopped; in the end it is too old to be kept.
fn stopping(name: String, rules: Value, launches_max: usize) -> Case {
    let pool = "when_idle = \"stop\"\nstopped_max_age = \"30m\"\n".to_owned();
    Case { pool, builds: 2, launches_max, ..case(name, rules, Ends::Passes) }
}

fn calls_that_stop_or_start_going_wrong(action: &str) -> Vec<Case> {
    let spoiled = spoils(action, &[]).into_iter();
    let mut cases: Vec<Case> = spoiled.map(|(name, rules)| stopping(name, rules, 1)).collect();
    for (code, launches_max) in [
        ("IncorrectInstanceState", 1),
        ("ExpiredToken", 1),
        ("InvalidInstanceID.NotFound", 2),
        ("UnauthorizedOperation", 2),
        ("UnsupportedOperation", 2),
    ] {
        let rule = json!([{ "action": action, "count": 1, "do": { "refuse": code } }]);
        cases.push(stopping(format!("{action} {code} once"), rule, launches_max));
    }
    let rule = json!([{ "action": action, "do": { "refuse": "UnauthorizedOperation" } }]);
    cases.push(stopping(format!("{action} is never permitted"), rule, 2));
    cases
}

fn starts_that_come_to_nothing() -> Vec<Case> {
    let mut cases = Vec::new();
    for (code, launches_max) in
        [("InsufficientInstanceCapacity", 2), ("VcpuLimitExceeded", 1), ("VolumeLimitExceeded", 1)]
    {
        let rule = json!([{ "action": "StartInstances", "count": 1, "do": { "refuse": code } }]);
        cases.push(stopping(format!("StartInstances {code} once"), rule, launches_max));
    }
    for listings in [0, 1, 2] {
        let die = json!({ "code": "Server.InternalError", "listings": listings });
        let rule = json!([{ "action": "StartInstances", "count": 1, "do": { "die": die } }]);
        let name = format!("it dies {listings} listings after its start");
        cases.push(stopping(name, rule, 2));
    }
    cases
}

fn killed_around_stops_and_starts() -> Vec<Case> {
    let lost = |action: &str| json!([{ "action": action, "count": 1, "do": { "lose": "reply" } }]);
    let mut cases = Vec::new();
    for (kind, action) in [("Stop", "StopInstances"), ("Start", "StartInstances")] {
        for (weather, rules) in [("fair weather", json!([])), ("a lost reply", lost(action))] {
            for (name, kills) in kills(kind) {
                let name = format!("{name} in {weather}");
                cases.push(Case { kills, ..stopping(name, rules.clone(), 1) });
            }
        }
    }
    cases
}

fn spot_requests_that_go_wrong() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, how) in
        [("fulfilled after a listing", json!({ "listings": 1 })), ("never fulfilled", json!({}))]
    {
        let open = json!({ "action": "RunInstances", "market": "spot", "count": 1,
            "do": { "leave_open": how } });
        for action in ["CancelSpotInstanceRequests", "DescribeSpotInstanceRequests"] {
            for (what, rules) in spoils(action, std::slice::from_ref(&open)) {
                let name = format!("{what}, of a request that is {name}");
                cases.push(Case { market: "spot", ..case(name, rules, Ends::Passes) });
            }
        }
        for (what, kills) in kills("Launch") {
            let name = format!("{what}, with a request that is {name}");
            let case = case(name, json!([open]), Ends::Passes);
            cases.push(Case { market: "spot", kills, ..case });
        }
    }
    for (what, kills) in kills("Launch") {
        let taken = json!([{ "action": "RunInstances", "count": 1,
            "do": { "interrupt": { "in": 0, "listings": 2 } } }]);
        let name = format!("{what}, and the instance is taken back");
        cases.push(Case { market: "spot", kills, ..case(name, taken, Ends::Passes) });
    }
    cases
}

/// With two addresses and two volumes, which no two instances have at one time.
fn seated(name: String, rules: Value, made: &Value) -> Case {
    let zone = belongings::text(&made["zones"][0]);
    let volumes = &made["volumes"][&zone];
    let ec2 = format!(
        "elastic_ip = {}\nattach_volumes = [{{ id = {volumes}, device = \"/dev/sdf\" }}]\n",
        made["addresses"]
    );
    Case { ec2, ..case(name, rules, Ends::Passes) }
}

fn belongings_that_go_wrong(made: &Value) -> Vec<Case> {
    let mut cases = Vec::new();
    for action in ["AssociateAddress", "AttachVolume", "DescribeAddresses", "DescribeVolumes"] {
        for (name, rules) in spoils(action, &[]) {
            cases.push(Case { launches_max: 1, ..seated(name, rules, made) });
        }
    }
    for (action, code) in
        [("AssociateAddress", "Resource.AlreadyAssociated"), ("AttachVolume", "VolumeInUse")]
    {
        let rule = json!([{ "action": action, "count": 1, "do": { "refuse": code } }]);
        let case = seated(format!("{action} {code} once"), rule, made);
        cases.push(Case { launches_max: 1, ..case });
    }
    for (name, kills) in kills("Equip") {
        cases.push(Case { kills, launches_max: 1, ..seated(name, json!([]), made) });
    }
    cases
}

#[tokio::test]
async fn whatever_becomes_of_a_stop_nothing_is_left_and_all_is_explained() {
    let cases = calls_that_stop_or_start_going_wrong("StopInstances");
    all("whatever_becomes_of_a_stop", cases).await;
}

#[tokio::test]
async fn whatever_becomes_of_a_start_nothing_is_left_and_all_is_explained() {
    let cases = calls_that_stop_or_start_going_wrong("StartInstances");
    all("whatever_becomes_of_a_start", [cases, starts_that_come_to_nothing()].concat()).await;
}

#[tokio::test]
async fn killed_around_a_stop_or_a_start_a_master_goes_on_with_it() {
    all("killed_around_a_stop_or_a_start", killed_around_stops_and_starts()).await;
}

#[tokio::test]
async fn whatever_becomes_of_a_spot_request_nothing_is_left_open() {
    all("whatever_becomes_of_a_spot_request", spot_requests_that_go_wrong()).await;
}

#[tokio::test]
async fn whatever_becomes_of_an_address_or_a_volume_the_next_instance_can_have_it() {
    let Some(api) = belongings::at_once("whatever_becomes_of_an_address_or_a_volume") else {
        return;
    };
    let made = belongings::ask(&api, &["make"]);
    let control = Control::of(&api);
    for case in belongings_that_go_wrong(&made) {
        live(&api, &control, &case).await;
    }
}
