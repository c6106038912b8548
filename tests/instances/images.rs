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
        let build = house.finished(1, 120);
        assert_eq!(build["status"], "passed", "{image}: {build:#}\n{}", house.story());
        house.everything_has_ended(60);
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
    let build = house.finished(1, 120);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    house.everything_has_ended(60);
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
    house.everything_has_ended(60);
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
    let build = house.finished(1, 120);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    let worker = build["jobs"][0]["worker"].as_str().expect("somebody built it").to_owned();
    let boot = house.busybee(&["worker", "show", &worker]);
    let boot = String::from_utf8_lossy(&boot.stdout).into_owned();
    assert!(boot.contains("Setting up bc") && boot.contains("it was waited for"), "{boot}");
    house.everything_has_ended(60);
    house.close();
}
