//! The timer inside an instance ends it when nobody else can: its master is gone and its agent is dead.

use crate::TRUE;
use crate::house::House;
use crate::house::Plan;
use crate::rig::may_run;

#[test]
fn an_instance_without_master_and_agent_powers_itself_off_after_a_reboot_too() {
    if !may_run("an_instance_without_master_and_agent_powers_itself_off_after_a_reboot_too") {
        return;
    }
    for has_rebooted in [false, true] {
        let pool = "max_instances = 1\nidle_timeout = \"10m\"";
        let mut house = House::open(&Plan { pipeline: TRUE, pool, ..Plan::default() });
        house.push(&[("more.txt", "more")], "try it");
        let build = house.finished(1, 60);
        assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
        house.kill_master();
        let alive = house.rig().alive();
        let id = alive[0]["id"].as_str().expect("it idles").to_owned();
        if has_rebooted {
            house.rig().exec(&id, "touch /run/before && systemctl reboot");
            let is_up = "test ! -e /run/before && systemctl is-active busybee-deadman.service";
            house.eventually(60, "its timer is there again", |house| house.rig().exec(&id, is_up));
        }
        house.rig().exec(&id, "systemctl mask --now busybee-agent.service; pkill -9 busybee-agent");
        assert!(house.rig().exec(&id, "! pgrep busybee-agent"), "{}", house.story());
        // As if its quarter of an hour were over: nobody writes a later second into the file.
        house.rig().exec(&id, "echo 1 >/run/busybee-deadman");
        house.eventually(90, "it powers itself off", |house| house.rig().alive().is_empty());
        house.start_master();
        house.eventually(30, "the ledger says why", |house| {
            house.ledger()[0]["why_ended"] == "the machine shut itself down"
        });
        house.close();
    }
}

#[test]
fn a_reboot_does_not_make_a_life_longer() {
    if !may_run("a_reboot_does_not_make_a_life_longer") {
        return;
    }
    let pool = "max_instances = 1\nidle_timeout = \"10m\"\nmax_lifetime = \"1m\"";
    let mut house = House::open(&Plan { pipeline: TRUE, pool, ..Plan::default() });
    house.push(&[("more.txt", "more")], "try it");
    let build = house.finished(1, 50);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    // The master would end it, too.
    house.kill_master();
    let alive = house.rig().alive();
    let id = alive[0]["id"].as_str().expect("it idles").to_owned();
    let is_old = "test $(cut -d. -f1 /proc/uptime) -ge 40";
    house.eventually(60, "most of its life is over", |house| house.rig().exec(&id, is_old));
    house.rig().exec(&id, "systemctl reboot");
    // The timer looks every 15 s; by its new uptime alone it would have 60 s from here.
    house.eventually(50, "its life is over", |house| house.rig().alive().is_empty());
    house.close();
}
