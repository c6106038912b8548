//! What images bring with them: their age, what they lack, and what they do at boot.

use std::path::Path;

use crate::POOL;
use crate::TRUE;
use crate::house::House;
use crate::house::Plan;
use crate::rig::has_image;
use crate::rig::may_run;

#[test]
fn vanilla_images_of_every_kind_become_workers() {
    if !may_run("vanilla_images_of_every_kind_become_workers") {
        return;
    }
    let images = ["trixie", "bookworm-nocurl", "bookworm-noexec", "bookworm-nocloudinit"];
    for image in images {
        let pool = format!("{POOL}\nbootstrap = \"debian.sh\"");
        let house = House::open(&Plan { pipeline: TRUE, pool: &pool, image, ..Plan::default() });
        house.push(&[("more.txt", "more")], "try it");
        let build = house.finished(1, 300);
        assert_eq!(build["status"], "passed", "{image}: {build:#}\n{}", house.story());
        house.everything_has_ended(120);
        house.close();
    }
}

#[test]
fn an_old_image_runs_the_agent_that_is_built_for_old_images() {
    let test = "an_old_image_runs_the_agent_that_is_built_for_old_images";
    let agents = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/agents"));
    if !may_run(test) {
        return;
    }
    if !agents.exists() {
        assert!(std::env::var_os("BUSYBEE_REQUIRE_TOOLS").is_none(), "{test} needs its agent");
        return println!("SKIPPED {test}: deploy/build-agents has not run");
    }
    let pool = format!("{POOL}\nbootstrap = \"debian.sh\"");
    let plan = Plan {
        pipeline: TRUE,
        pool: &pool,
        image: "bullseye",
        agents: Some(agents),
        ..Plan::default()
    };
    let house = House::open(&plan);
    house.push(&[("more.txt", "more")], "try it");
    let build = house.finished(1, 300);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    house.everything_has_ended(120);
    house.close();
}

#[test]
fn ubuntu_becomes_a_worker_and_installs_what_a_source_package_needs() {
    let test = "ubuntu_becomes_a_worker_and_installs_what_a_source_package_needs";
    if !may_run(test) {
        return;
    }
    if !has_image("noble") {
        // Its archive is not every host's: see tests/rig/README.md.
        return println!("SKIPPED {test}: build the image with RIG_MIRROR and RIG_KEYRING first");
    }
    // needrestart comes first, so that it is there when the rest is installed.
    let pool = format!(
        "{POOL}\nbootstrap = \"debian.sh\"\n\
         env = {{ DEBIAN_PACKAGES = \"needrestart build-essential\", DEBIAN_BUILD_DEP = \"hello\" }}"
    );
    let house =
        House::open(&Plan { pipeline: TRUE, pool: &pool, image: "noble", ..Plan::default() });
    house.push(&[("more.txt", "more")], "try it");
    let build = house.finished(1, 300);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(house.ledger().len(), 1, "{}", house.story());
    house.everything_has_ended(120);
    house.close();
}

#[test]
fn an_installation_that_runs_at_boot_is_waited_for() {
    if !may_run("an_installation_that_runs_at_boot_is_waited_for") {
        return;
    }
    // As unattended-upgrades would: a dpkg that is at work when the bootstrap script begins.
    let debian_sh = include_str!("../../bootstrap/debian.sh");
    let script = format!(
        "#!/bin/sh
mkdir -p /run/slow/DEBIAN
printf 'Package: slow\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.com>\\nDescription: x\\n' \\
    >/run/slow/DEBIAN/control
printf '#!/bin/sh\\ntouch /run/installing; sleep 8; touch /run/installed\\n' >/run/slow/DEBIAN/postinst
chmod 755 /run/slow/DEBIAN/postinst
dpkg-deb --build /run/slow /run/slow.deb
systemd-run --collect dpkg -i /run/slow.deb
until [ -e /run/installing ]; do sleep 0.1; done
(
{debian_sh}
)
test -e /run/installed && echo it was waited for
"
    );
    let scripts = [("busy.sh", script.as_str())];
    let pool = format!("{POOL}\nbootstrap = \"busy.sh\"\nenv = {{ DEBIAN_PACKAGES = \"bc\" }}");
    let plan = Plan { pipeline: TRUE, pool: &pool, scripts: &scripts, ..Plan::default() };
    let house = House::open(&plan);
    house.push(&[("more.txt", "more")], "try it");
    let build = house.finished(1, 300);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    let boot = house.boot_log_of_first(&build);
    assert!(boot.contains("Setting up bc") && boot.contains("it was waited for"), "{boot}");
    house.everything_has_ended(120);
    house.close();
}

#[test]
fn apt_at_work_at_boot_is_waited_for_before_the_bootstrap_script_begins() {
    if !may_run("apt_at_work_at_boot_is_waited_for_before_the_bootstrap_script_begins") {
        return;
    }
    const STILL: &str = "version: 1
jobs:
  test:
    worker: [cloud]
    checkout: false
    steps:
      - run: test ! -e /var/lib/apt-daily-has-run
";
    let pool = "max_instances = 1\nidle_timeout = \"5s\"\nbootstrap = \"debian.sh\"";
    let image = "bookworm-aptboot";
    let house = House::open(&Plan { pipeline: STILL, pool, image, ..Plan::default() });
    house.push(&[("more.txt", "more")], "try it");
    let build = house.finished(1, 400);
    let boot = house.boot_log_of_first(&build);
    assert_eq!(build["status"], "passed", "apt-daily has run: {boot}");
    assert!(boot.contains("apt is at work; waiting for it"), "{boot}");
    assert!(!boot.contains("Could not get lock"), "it began too early: {boot}");
    house.everything_has_ended(120);
    house.close();
}

#[test]
fn somebody_elses_update_of_the_lists_is_outlasted() {
    if !may_run("somebody_elses_update_of_the_lists_is_outlasted") {
        return;
    }
    // As an admin's own script that leaves an `apt-get update` running: no timer of apt's, so nobody has
    // stopped it; and the lists' lock is one that apt does not wait for.
    let script = "#!/bin/sh
set -eu
cat >/root/hold <<'END'
import fcntl, os, time
with open('/var/lib/apt/lists/lock', 'w') as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    open('/run/held', 'w').close()
    time.sleep(8)
END
systemd-run --collect python3 /root/hold
until [ -e /run/held ]; do sleep 0.1; done
sh \"$BB_RUNURL\" \"$BB_MASTER_URL/bootstrap/debian.sh\" bc
";
    let scripts = [("busy.sh", script), ("debian.sh", include_str!("../../bootstrap/debian.sh"))];
    let pool = format!("{POOL}\nbootstrap = \"busy.sh\"");
    let plan = Plan { pipeline: TRUE, pool: &pool, scripts: &scripts, ..Plan::default() };
    let house = House::open(&plan);
    house.push(&[("more.txt", "more")], "try it");
    let build = house.finished(1, 300);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    let boot = house.boot_log_of_first(&build);
    for part in ["Could not get lock", "apt-get update failed; trying again", "Setting up bc"] {
        assert!(boot.contains(part), "{part} is not in {boot}");
    }
    house.everything_has_ended(120);
    house.close();
}

#[test]
fn needrestart_restarts_others_and_never_the_agent() {
    if !may_run("needrestart_restarts_others_and_never_the_agent") {
        return;
    }
    // Every program uses the C library; after it was replaced, needrestart wants to restart them all. It
    // does so unasked on Ubuntu 24.04, and here, as told.
    let script = "#!/bin/sh
set -eu
debian() { sh \"$BB_RUNURL\" \"$BB_MASTER_URL/bootstrap/debian.sh\" \"$@\"; }
debian needrestart
echo \"\\$nrconf{restart} = 'a';\" >/etc/needrestart/conf.d/as-ubuntu.conf
printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/etc/systemd/system/witness.service
systemctl daemon-reload
systemctl start witness
ids() { echo \"agent $(systemctl show -P MainPID busybee-agent) witness $(systemctl show -P MainPID witness)\"; }
before=$(ids)
NEEDRESTART_SUSPEND=1 apt-get -y -q install --reinstall libc6
debian bc
[ \"$(ids)\" != \"$before\" ] || echo debian.sh leaves all as they are
DEBIAN_FRONTEND=noninteractive apt-get -y -q install --no-install-recommends hello
after=$(ids)
echo \"before: $before, after: $after\"
[ \"${after#* witness }\" = \"${before#* witness }\" ] || echo the witness was restarted
[ \"${after% witness *}\" != \"${before% witness *}\" ] || echo the agent was not
";
    let scripts =
        [("restarts.sh", script), ("debian.sh", include_str!("../../bootstrap/debian.sh"))];
    let pool = "max_instances = 1\nidle_timeout = \"5s\"\nboot_timeout = \"5m\"\nbootstrap = \"restarts.sh\"";
    let plan = Plan { pipeline: TRUE, pool, scripts: &scripts, ..Plan::default() };
    let house = House::open(&plan);
    house.push(&[("more.txt", "more")], "try it");
    house.eventually(300, "its script ends", |house| {
        let row = house.ledger().pop().unwrap_or_default();
        !row["ready_at"].is_null() || !row["ended_at"].is_null()
    });
    let first = house.ledger().pop().expect("there was a launch");
    let boot = house.boot_log(first["worker"].as_str().expect("for a worker"));
    let parts = ["leaves all as they are", "the witness was restarted", "the agent was not"];
    for part in parts {
        assert!(boot.contains(part), "{part} is not in {boot}");
    }
    let build = house.finished(1, 180);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    house.everything_has_ended(120);
    house.close();
}
