//! Instances that the cloud takes away, with its notice and without.

use crate::house::House;
use crate::house::Plan;
use crate::rig::may_run;

/// The first attempt would take much longer than its machine is there.
const LONG_AT_FIRST: &str = "version: 1
jobs:
  test:
    worker: [cloud]
    checkout: false
    steps:
      - run: |
          echo \"this is attempt $BUSYBEE_ATTEMPT\"
          [ \"$BUSYBEE_ATTEMPT\" != 1 ] || sleep 600
";

#[test]
fn what_a_spot_instance_was_at_runs_again_on_demand() {
    if !may_run("what_a_spot_instance_was_at_runs_again_on_demand") {
        return;
    }
    for taken in ["{\"interrupt\": {\"in\": 40}}", "{\"die\": \"Server.SpotInstanceTermination\"}"]
    {
        let house = House::open(&Plan {
            pipeline: LONG_AT_FIRST,
            pool: "max_instances = 1\nidle_timeout = \"5s\"\nboot_timeout = \"5m\"",
            ec2: "market = \"spot-then-on-demand\"",
            ..Plan::default()
        });
        house.push(&[("more.txt", "more")], "try it");
        house.eventually(120, "its step runs", |house| {
            let output = house.busybee(&["build", "logs", "hello/1"]);
            String::from_utf8_lossy(&output.stdout).contains("this is attempt 1")
        });
        let id = house.rig().alive()[0]["id"].as_str().expect("it has an id").to_owned();
        house.rig().fault(&["instance", &id, taken]);
        if taken.contains("interrupt") {
            house.eventually(30, "its worker takes no more work", |house| {
                let workers = house.json(&["worker", "list"]);
                let first = &workers["workers"][0];
                let why = first["reason"].as_str().unwrap_or_default();
                first["status"] == "draining" && why.contains("takes this spot instance back")
            });
        }
        let build = house.finished(1, 240);
        assert_eq!(build["status"], "passed", "{taken}: {build:#}\n{}", house.story());
        assert_eq!(build["jobs"][0]["attempts"], 2, "{build:#}");
        house.everything_has_ended(120);
        let ledger = house.ledger();
        let what = |index: usize| ledger[index]["what"].as_str().unwrap_or_default();
        assert_eq!(ledger.len(), 2, "{ledger:#?}");
        assert!(what(1).contains(" spot"), "the first: {}", what(1));
        assert!(!what(0).contains(" spot"), "the second: {}", what(0));
        house.close();
    }
}
