//! What an earlier start has left: machines of a pool that is not in the file any more, and a data_dir that
//! is a copy.

use std::process::Command;
use std::process::Stdio;

use crate::HELLO;
use crate::house::BUSYBEE;
use crate::house::House;
use crate::house::Plan;

/// A worker stays until somebody ends it.
const KEPT: &str = "max_instances = 1\nmin_idle = 1";

/// What is said of the pool: whether it is paused, and why.
fn pool(house: &House) -> (bool, String) {
    let pools = house.json(&["pool", "list"]);
    let pool = &pools["pools"][0];
    let reason = pool["reason"].as_str().unwrap_or_default().to_owned();
    (pool["paused"].as_bool().unwrap_or_default(), reason)
}

fn alive(house: &House) -> usize {
    let ledger = house.json(&["instance", "list"]);
    ledger["instances"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_pool_with_machines_cannot_leave_the_file_and_a_copied_data_dir_ends_nothing_unasked() {
    let mut house = House::open(&Plan { pipeline: HELLO, pool: KEPT });
    let is_ready = |house: &House| {
        let workers = house.json(&["worker", "list"]);
        workers["workers"].as_array().is_some_and(|all| all.iter().any(|w| w["status"] == "idle"))
    };
    house.eventually("a worker is ready", is_ready);
    assert!(house.stop_master().success());

    let file = house.path("busybee.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("name = \"local\"", "name = \"another\"")).unwrap();
    let refused = Command::new(BUSYBEE)
        .args(["serve", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("pool \"local\" is not in the file any more, and has 1 machine"),
        "{said}"
    );
    std::fs::write(&file, text).unwrap();

    // As a backup that is put back, the file is another one.
    let starts = house.data_dir().join("starts");
    let count = std::fs::read(&starts).expect("each start is counted");
    std::fs::write(house.path("kept"), count).unwrap();
    std::fs::remove_file(&starts).unwrap();
    std::fs::rename(house.path("kept"), &starts).unwrap();
    house.start_master();
    let (is_paused, reason) = pool(&house);
    assert!(is_paused && reason.contains("busybee pool resume local"), "{reason}");
    house.eventually("its worker is here again", is_ready);
    assert_eq!(alive(&house), 1);

    assert!(house.busybee(&["pool", "resume", "local"]).status.success());
    assert!(!pool(&house).0);
    assert!(house.stop_master().success());
    house.start_master();
    assert!(!pool(&house).0, "it was said once, and for good");
}
