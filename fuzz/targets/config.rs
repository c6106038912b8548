//! The master's file, as anybody may mistype it.
//!
//! Reading ends soon and gives a whole configuration or problems with their lines; the same text
//! gives the same. A configuration keeps what the master relies on: names are unique, limits and
//! times are not zero, a pool of `ec2` has its settings and no other has.

#![no_main]

use std::collections::BTreeSet;
use std::path::Path;

use busybee::master::config::Config;
use busybee::master::domain::settings::ProvisionerKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let read = || Config::parse(text, "busybee.toml", Path::new("/nowhere"));
    let config = match read() {
        Ok(config) => config,
        Err(problems) => {
            let said = problems.to_string();
            assert!(said.starts_with("busybee.toml"), "{said}");
            assert_eq!(said, read().expect_err("as before").to_string());
            return;
        }
    };
    assert_eq!(format!("{config:?}"), format!("{:?}", read().expect("as before")));
    assert!(!config.master.url.ends_with('/') && config.master.data_dir.is_absolute());
    let mut names = BTreeSet::new();
    for pool in &config.pools {
        let settings = &pool.settings;
        assert!(names.insert(settings.name.clone()), "two pools {}", settings.name);
        assert!(settings.max_instances >= settings.min_idle);
        for time in [settings.boot_timeout, settings.lease, settings.max_lifetime] {
            assert!(!time.is_zero());
        }
        assert_eq!(pool.ec2.is_some(), settings.provisioner == ProvisionerKind::Ec2);
    }
    let mut names = BTreeSet::new();
    for project in &config.projects {
        assert!(names.insert(project.source.project.clone()), "two {}", project.source.project);
    }
});
