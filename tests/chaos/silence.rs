//! Connections that pass nothing any more and never say so: whoever waits at them must notice by
//! himself, and soon.

use std::time::Duration;

use busybee::runtime::clock;

use crate::house::House;
use crate::house::Plan;
use crate::wire::BOTH;
use crate::wire::Passage;
use crate::wire::Way;

/// A busy agent gives a silent connection up after 35 s, an idle one after 75 s. Who has a result to
/// tell is busy: with a moment to call again, and one for a loaded computer, all is over by then.
const NOTICED_WITHIN: Duration = Duration::from_secs(65);

#[test]
fn a_half_open_connection_is_noticed_in_either_direction_and_nothing_is_lost_in_it() {
    let gates = tempfile::tempdir().expect("a directory");
    let gate = gates.path().join("open");
    let mut pipeline = "version: 1\njobs:\n".to_owned();
    for job in ["up", "down", "both"] {
        pipeline.push_str(&format!(
            "  {job}:\n    checkout: false\n    steps:\n      - name: print\n        run: |\n\
             \x20         seq 1 3000\n          until [ -e '{}' ]; do sleep 0.05; done\n\
             \x20         seq 3001 6000\n",
            gate.display()
        ));
    }
    let house = House::open(&Plan { pipeline: &pipeline, pool: "max_instances = 3" });
    house.json(&["build", "start", "hello"]);
    let log = |job: &str| {
        let output = house.busybee(&["build", "logs", "hello/1", "--job", job, "--step", "print"]);
        output.stdout
    };
    for job in ["up", "down", "both"] {
        house.eventually("all jobs are half way", |_| log(job).ends_with(b"\n3000\n"));
    }

    for (pick, ways) in [(0, &[Way::Up][..]), (1, &[Way::Down]), (2, &BOTH)] {
        house.wire.set(Some(pick), ways, Passage::Stalled);
    }
    std::fs::write(&gate, "").expect("open the gate");
    let began = clock::monotonic();
    house.eventually("the results arrive on other connections", |house| {
        house.json(&["build", "show", "hello/1"])["status"] == "passed"
    });
    let took = clock::monotonic() - began;
    assert!(took < NOTICED_WITHIN, "it took {took:?}");

    let printed: String = (1..=6000).map(|number| format!("{number}\n")).collect();
    for job in ["up", "down", "both"] {
        assert!(log(job) == printed.as_bytes(), "the log of {job} differs");
    }
    for job in house.json(&["build", "show", "hello/1"])["jobs"].as_array().expect("jobs") {
        assert_eq!(job["attempts"], 1, "{job:#}");
    }
    // So that the house is not kept waiting by them.
    house.wire.end_stalls(true);
}
