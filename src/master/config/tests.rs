//! What the master's file may say, and what is told about it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::master::config::Config;
use crate::master::config::bootstrap::Bootstrap;
use crate::master::config::schema;
use crate::master::domain::settings::ProvisionerKind;

const EXAMPLE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/busybee.example.toml"));

fn parse(text: &str) -> Config {
    Config::parse(text, "busybee.toml", Path::new("/etc/busybee"))
        .unwrap_or_else(|problems| panic!("{problems}\nin:\n{text}"))
}

/// The first line of each problem.
fn mistakes(text: &str) -> Vec<String> {
    let problems = Config::parse(text, "f", Path::new("/")).expect_err(text).to_string();
    problems.lines().filter(|line| line.starts_with("f:")).map(str::to_owned).collect()
}

fn is_switched_off(line: &str) -> bool {
    line.starts_with('#') && !line.starts_with("# ") && line.len() > 1
}

#[test]
fn the_example_is_right_with_any_of_its_settings_switched_on() {
    parse(EXAMPLE);
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let with = |chosen: &dyn Fn(usize) -> bool| {
        let line = |(index, line): (usize, &&str)| match is_switched_off(line) && chosen(index) {
            true => line[1..].to_owned(),
            false => (*line).to_owned(),
        };
        lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
    };
    parse(&with(&|_| true));
    // Certificate, key and CA only make sense together; the rest must stand by itself.
    let alone = |line: &str| {
        !["#cert", "#key", "#ca", "#user", "#password"].iter().any(|key| line.starts_with(key))
    };
    let mut n_switches = 0;
    for (index, line) in lines.iter().enumerate() {
        if is_switched_off(line) && alone(line) {
            parse(&with(&|chosen| chosen == index));
            n_switches += 1;
        }
    }
    assert!(n_switches >= 10, "{n_switches}");
}

#[test]
fn the_example_has_every_key() {
    let schema = schema();
    let keys_of = |table: &serde_json::Value| -> BTreeSet<String> {
        table["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    let mut wanted = 0;
    for (table, header) in [
        ("MasterFile", "[master]"),
        ("MailFile", "[mail]"),
        ("PoolFile", "[[pool]]"),
        ("Ec2File", "[pool.ec2]"),
        ("ProjectFile", "[[project]]"),
    ] {
        let mut section = "";
        let mut found = BTreeSet::new();
        for line in EXAMPLE.lines() {
            if line.starts_with('[') {
                section = line;
            }
            if line == "[pool.ec2]" && header == "[[pool]]" {
                found.insert("ec2".to_owned());
            }
            let setting = if is_switched_off(line) { &line[1..] } else { line };
            if let Some((key, _)) = setting.split_once(" = ")
                && section == header
                && !setting.starts_with('#')
            {
                found.insert(key.to_owned());
            }
        }
        let keys = keys_of(&schema["definitions"][table]);
        wanted += keys.len();
        assert_eq!(found, keys, "{header}");
    }
    assert!(wanted > 30);
}

#[test]
fn what_is_not_said_is_as_documented() {
    let config = parse(
        "[master]\nlisten = \"127.0.0.1:9000\"\ndata_dir = \"data\"\nunsafe_local = true\n\
         [[pool]]\nname = \"p\"\nprovisioner = \"local\"\n\
         [[project]]\nname = \"h\"\nrepo = \"/srv/h.git\"\n",
    );
    assert_eq!(config.master.url, "https://127.0.0.1:9000");
    assert_eq!(config.master.data_dir, Path::new("/etc/busybee/data"));
    let settings = config.settings();
    let pool = &settings.pools[0];
    assert_eq!(pool.provisioner, ProvisionerKind::Local);
    assert_eq!((pool.max_instances, pool.min_idle, pool.jobs_per_instance), (10, 0, 0));
    assert_eq!((pool.shared, pool.has_bootstrap), (false, false));
    let minutes = |n: u64| Duration::from_secs(60 * n);
    assert_eq!(pool.idle_timeout, minutes(10));
    assert!(!pool.look_ahead, "local machines are there at once");
    assert_eq!(pool.boot_timeout, minutes(20));
    assert_eq!(pool.reconnect_grace, minutes(2));
    assert_eq!(pool.lease, minutes(30));
    assert_eq!(pool.max_lifetime, minutes(24 * 60));
    let source = &config.sources()[0];
    assert_eq!(source.poll, minutes(1));
    assert!(source.watches(&"refs/heads/any/branch".into()));
    assert!(!source.watches(&"refs/tags/v1".into()));
    assert_eq!(settings.projects[0].repo, "/srv/h.git");
}

#[test]
fn what_is_said_is_taken() {
    let config = parse(EXAMPLE);
    assert_eq!(config.master.url, "https://ci.example.com:8443");
    assert_eq!(config.pools[0].settings.env, [("DEB_BUILD_OPTIONS".into(), "nocheck".into())]);
    let source = &config.sources()[0];
    assert!(source.watches(&"refs/heads/release/1".into()));
    assert!(!source.watches(&"refs/heads/next".into()));
    let local =
        "[master]\nurl = \"https://h:1/\"\n[[pool]]\nname = \"p\"\nprovisioner = \"none\"\n";
    let sha256 = "AB".repeat(32);
    let text = format!("{local}bootstrap = {{ url = \"https://h/x\", sha256 = \"{sha256}\" }}\n");
    let config = parse(&text);
    assert_eq!(config.master.url, "https://h:1");
    let sha256 = sha256.to_lowercase();
    let expected = Bootstrap::Url { url: "https://h/x".into(), sha256 };
    assert_eq!(config.pools[0].bootstrap, Some(expected));
    assert!(config.pools[0].settings.has_bootstrap);
}

/// What is wrong with a `[pool.ec2]` of this text.
fn ec2_mistakes(text: &str) -> Vec<String> {
    mistakes(&format!(
        "[master]\nurl = \"https://h:1\"\n[[pool]]\nname = \"p\"\nprovisioner = \"ec2\"\n[pool.ec2]\n{text}"
    ))
}

#[test]
fn mistakes_about_instances_are_told_before_anything_is_launched() {
    let right = "region = \"eu-west-1\"\nami = \"ami-12ab\"\ninstance_types = [\"t3.small\"]\n";
    for (line, expected) in [
        ("subnets = [\"sg-1\"]", "f:10:12: \"sg-1\" is not an id of this kind"),
        ("max_price = \"0.1\"", "f:10:13: max_price is for spot instances"),
        ("tags = { \"aws:x\" = \"\" }", "f:10:10: \"aws:x\" cannot be a tag"),
        ("market = \"cheap\"", "f:10:10: market in ec2 in pool \"p\" must be one of"),
        ("endpoint = \"x\"", "f:10:12: \"x\" is not an address"),
        (
            "volumes = [{ device = \"/dev/sdf\" }]",
            "f:10:12: a disk beside the root disk needs a size",
        ),
    ] {
        let found = ec2_mistakes(&format!("{right}{line}\n"));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(expected), "{} instead of {expected}", found[0]);
    }
    let found = ec2_mistakes("region = \"Ireland\"\nami = \"debian\"\ninstance_types = []\n");
    assert!(found[0].contains("\"debian\" is not the id of an image"), "{found:#?}");
    let found = ec2_mistakes(
        "region = \"Ireland\"\nami = { owners = [\"self\"], name = \"x\" }\ninstance_types = []\n",
    );
    assert!(found[0].contains("\"Ireland\" is not a region"), "{found:#?}");
    assert!(found[1].contains("instance_types is empty"), "{found:#?}");
}

#[test]
fn pools_of_ec2_look_ahead_unless_they_are_told_not_to() {
    let check = |line: &str, expected: bool| {
        let config = parse(&format!(
            "[master]\nurl = \"https://ci\"\n[[pool]]\nname = \"p\"\nprovisioner = \"ec2\"\n{line}\n\
             [pool.ec2]\nregion = \"eu-west-1\"\nami = \"ami-0123456789abcdef0\"\n\
             instance_types = [\"c7i.large\"]\n"
        ));
        assert_eq!(config.settings().pools[0].look_ahead, expected, "{line}");
    };
    check("", true);
    check("look_ahead = false", false);
    let own = "[master]\nurl = \"https://ci\"\n[[pool]]\nname = \"p\"\nprovisioner = \"none\"\n";
    let found = mistakes(&format!("{own}look_ahead = true\n"));
    assert!(found[0].contains("look_ahead is about machines that are started"), "{found:?}");
}

#[test]
fn every_mistake_is_told_with_its_place_and_a_hint() {
    let found = mistakes(
        "[master]\nurl = \"ftp://x\"\nlisten = \"8443\"\nagent_listen = \"x\"\nkey_file = \"k\"\n\
         [[pool]]\nname = \"Linux\"\nprovisioner = \"local\"\nidel_timeout = \"10m\"\nlease = \"soon\"\n\
         [[pool]]\nname = \"cloud\"\nprovisioner = \"ec2\"\nwhen_idle = \"stop\"\nmin_idle = 20\n\
         [[pool]]\nname = \"cloud\"\nprovisioner = \"docker\"\nbootstrap = \"../x\"\n\
         [[project]]\nname = \"a/b\"\nrepo = \"ext::id\"\npoll = \"0s\"\ntoken_file = \"t\"\n\
         [[project]]\nname = \"c\"\nrepo = \"https://u:p@h/x\"\nssh_key_file = \"k\"\n",
    );
    let expected = [
        "f:2:7: \"ftp://x\" does not begin with https://",
        "f:3:10: \"8443\" is not where one can listen",
        "f:4:1: \"agent_listen\" in master is not yet supported",
        "f:5:12: key_file needs a cert_file",
        "f:7:8: \"Linux\" is not a name",
        "f:8:15: builds on local workers run as the master's own user",
        "f:9:1: unknown key \"idel_timeout\" in pool \"Linux\"; did you mean \"idle_timeout\"?",
        "f:10:9: \"soon\" is not a duration",
        "f:13:15: a pool of ec2 needs a [pool.ec2]",
        "f:15:12: min_idle = 20 is more than max_instances = 10",
        "f:18:15: provisioner in pool \"cloud\" must be one of local, none, ec2, not \"docker\"",
        "f:19:13: \"../x\" is not a file of bootstrap_dir",
        "f:21:8: \"a/b\" is not a name for a project",
        "f:22:8: git's remote helpers",
        "f:23:8: this is too short to work",
        "f:27:8: an address with a password ends up in logs",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n instead of\n{expected}");
        assert!(found.contains("; ") || found.contains("must be one of"), "no hint: {found}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_master_that_others_reach_needs_its_address() {
    let found = mistakes("[master]\n");
    assert!(found[0].starts_with("f:1:1: master has no \"url\""), "{found:?}");
    assert!(mistakes("")[0].contains("the file has no \"master\""));
    for url in ["http://ci.example.com", "https://h/path", "https://u@h", "x", "https://"] {
        assert_eq!(mistakes(&format!("[master]\nurl = \"{url}\"\n")).len(), 1, "{url}");
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let config = parse("[master]\nurl = \"https://h\"\nbootstrap_dir = \"/nowhere/at/all\"\n");
    let warnings = config.warnings.to_string();
    assert!(warnings.contains("no [[pool]]") && warnings.contains("no [[project]]"), "{warnings}");
    assert!(warnings.contains("/nowhere/at/all cannot be read"), "{warnings}");
}

#[test]
fn a_secret_that_jobs_could_not_get_or_logs_not_hide_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        format!("{name} = \"{name}\"")
    };
    let files = [
        file("GOOD", b"four\n"),
        file("SHORT", b"pin\n"),
        file("EMPTY", b"\n"),
        file("BINARY", &[0xff, 0xfe, 0xfd, 0xfc]),
        file("NUL", b"a\0bcd"),
        file("LONG", &[b'x'; 32 * 1024 + 1]),
        "LOST = \"LOST\"".to_owned(),
    ];
    let text = format!(
        "[master]\nurl = \"https://x:1\"\n[[project]]\nname = \"a\"\nrepo = \"/srv/a\"\nsecret_files = {{ {} }}\n",
        files.join(", ")
    );
    let config = Config::parse(&text, "busybee.toml", dir.path()).unwrap();
    let warnings = config.warnings.to_string();
    assert!(warnings.contains("SHORT is too short to be hidden in logs"), "{warnings}");
    for (name, why) in [
        ("EMPTY", "it is empty"),
        ("BINARY", "not UTF-8"),
        ("NUL", "the character NUL"),
        ("LONG", "more than 32768 bytes"),
        ("LOST", "No such file"),
    ] {
        let line = warnings.lines().find(|line| line.contains(&format!("/{name} cannot")));
        assert!(line.is_some_and(|line| line.contains(why)), "{name}: {warnings}");
    }
    assert!(!warnings.contains("/GOOD cannot"), "{warnings}");
    let wrong = "[master]\nurl = \"https://x:1\"\n[[project]]\nname = \"a\"\nrepo = \"/srv/a\"\nsecret_files = { A-B = \"x\" }\n";
    assert!(mistakes(wrong)[0].contains("\"A-B\" is not a name for a variable"));
}

#[test]
fn a_file_that_is_not_there_says_what_to_do() {
    let problems = Config::load(Path::new("/nowhere/busybee.toml")).expect_err("it is not there");
    let text = problems.to_string();
    assert!(text.starts_with("/nowhere/busybee.toml: cannot be read: "), "{text}");
    assert!(text.contains("busybee init"), "{text}");
}

#[test]
fn what_contradicts_stopping_is_refused_and_its_defaults_are_a_week_and_max_instances() {
    let pool = |keys: &str, ec2: &str| {
        format!(
            "[master]\nurl = \"https://h\"\n[[pool]]\nname = \"p\"\nprovisioner = \"ec2\"\n{keys}\n\
             [pool.ec2]\nregion = \"eu-west-1\"\nami = \"ami-0123456789abcdef0\"\n\
             instance_types = [\"c7i.large\"]\n{ec2}\n"
        )
    };
    let stop = "when_idle = \"stop\"";
    let kept = parse(&pool(&format!("max_instances = 7\n{stop}"), "")).pools[0].settings.stopping;
    let kept = kept.expect("they are stopped");
    assert_eq!((kept.max_stopped, kept.max_age.as_secs()), (7, 7 * 24 * 3600));
    let mixed = parse(&pool(stop, "market = \"spot-then-on-demand\"")).pools.remove(0).settings;
    assert!(mixed.is_spot(0) && !mixed.is_spot(1), "{:?}", mixed.candidates);
    for (keys, ec2, expected) in [
        (stop, "market = \"spot\"", "f:6:13: spot instances cannot be stopped"),
        ("max_stopped = 2", "", "f:6:15: max_stopped is about machines that are kept stopped"),
        ("stopped_max_age = \"2d\"", "", "f:6:19: stopped_max_age is about machines"),
        ("when_idle = \"stop\"\nmax_stopped = 0", "", "f:7:15: max_stopped must be from 1"),
        ("when_idle = \"stop\"\nstopped_max_age = \"5s\"", "", "f:7:19: this is too short"),
        (
            "when_idle = \"stop\"\nidle_timeout = \"2h\"\nstopped_max_age = \"2h\"",
            "",
            "f:8:19: stopped_max_age = \"2h\" is not above idle_timeout = \"2h\"",
        ),
        (
            "when_idle = \"stop\"\nidle_timeout = \"8d\"\nmax_lifetime = \"30d\"",
            "",
            "f:6:13: stopped_max_age = \"7d\" is not above idle_timeout = \"8d\"",
        ),
    ] {
        let found = mistakes(&pool(keys, ec2));
        assert!(found[0].starts_with(expected), "{found:?}\n instead of\n{expected}");
    }
    let local = "[master]\nurl = \"https://h\"\nunsafe_local = true\n\
                 [[pool]]\nname = \"p\"\nprovisioner = \"local\"\nwhen_idle = \"stop\"\n";
    assert!(mistakes(local)[0].contains("only instances of ec2 can be stopped"));
    let once = parse(&pool(&format!("{stop}\njobs_per_instance = 1"), ""));
    assert!(once.warnings.to_string().contains("no instance is ever idle"));
}
