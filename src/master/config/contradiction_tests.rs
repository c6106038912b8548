//! Settings that contradict each other, or EC2: each is refused at its place, with what and a hint.

use std::path::Path;

use crate::master::config::Config;

/// What is told of a file.
fn mistakes(text: &str, dir: &Path) -> Vec<String> {
    let problems = Config::parse(text, "f", dir).expect_err(text).to_string();
    problems.lines().filter(|line| line.starts_with("f:")).map(str::to_owned).collect()
}

/// That a file has this one mistake, with a hint.
fn refused(text: &str, dir: &Path, expected: &str) {
    let found = mistakes(text, dir);
    assert_eq!(found.len(), 1, "{found:#?}\nin\n{text}");
    assert!(found[0].starts_with(expected), "{}\n instead of\n{expected}", found[0]);
    assert!(found[0].contains("; "), "no hint: {}", found[0]);
}

/// A pool of ec2 whose line 13 is this; its lines 5 to 8 are the pool's own.
fn pool_with(own: &str, line: &str) -> String {
    format!(
        "[master]\nurl = \"https://192.0.2.1:8443\"\n[[pool]]\nname = \"p\"\n{own}\n\
         provisioner = \"ec2\"\n[pool.ec2]\nregion = \"eu-west-1\"\nami = \"ami-12ab\"\n\
         instance_types = [\"c7i.large\"]\nsubnets = [\"subnet-1\"]\nkey_name = \"ops\"\n{line}\n"
    )
}

#[test]
fn what_an_instance_is_told_must_agree_with_itself() {
    let one = "max_instances = 1";
    for (own, line, expected) in [
        (
            "max_instances = 2",
            "elastic_ip = \"192.0.2.7\"",
            "f:13:14: elastic_ip names 1 for max_instances = 2",
        ),
        (
            "max_instances = 3",
            "attach_volumes = [{ id = [\"vol-1\", \"vol-2\"], device = \"/dev/sdf\" }]",
            "f:13:19: attach_volumes names 2 for max_instances = 3",
        ),
        (one, "elastic_ip = \"eip-1\"", "f:13:14: \"eip-1\" is not an elastic IP"),
        (one, "elastic_ip = [\"192.0.2.7\", \"192.0.2.7\"]", "f:13:14: 192.0.2.7 is named twice"),
        (
            one,
            "elastic_ip = \"192.0.2.7\"\npublic_ip = true",
            "f:14:13: public_ip contradicts elastic_ip",
        ),
        (
            one,
            "attach_volumes = [{ id = \"sub-1\", device = \"/dev/sdf\" }]",
            "f:13:26: \"sub-1\" is not the id of a volume",
        ),
        (
            one,
            "attach_volumes = [{ id = \"vol-1\", device = \"root\" }]",
            "f:13:44: no volume can be attached as the root disk",
        ),
        (
            one,
            "attach_volumes = [{ id = \"vol-1\", device = \"sdf\" }]",
            "f:13:44: \"sdf\" is not a device",
        ),
        (
            one,
            "volumes = [{ device = \"/dev/sdf\", size_gb = 1 }]\n\
               attach_volumes = [{ id = \"vol-1\", device = \"/dev/sdf\" }]",
            "f:14:44: /dev/sdf is named twice",
        ),
        (
            one,
            "attach_volumes = [{ id = \"vol-1\", device = \"/dev/sdf\" }, \
               { id = \"vol-1\", device = \"/dev/sdg\" }]",
            "f:13:65: vol-1 is named twice",
        ),
        (
            one,
            "ipv6 = true",
            "f:13:8: with ipv6 the master needs an address for it, and its url has 192.0.2.1",
        ),
        (one, "cpu_credits = \"standard\"", "f:13:15: cpu_credits is for T types"),
        (one, "max_price = \"0.10\"", "f:13:13: max_price is for spot instances"),
        (
            one,
            "placement = { zone = \"eu-west-1a\" }",
            "f:13:22: zone and subnets contradict each other",
        ),
        (
            one,
            "market = \"spot\"\nplacement = { tenancy = \"host\" }",
            "f:14:25: there are no spot instances on dedicated hosts",
        ),
        (
            one,
            "placement = { tenancy = \"default\", host = \"h-1\" }",
            "f:13:43: host needs the tenancy of a dedicated host",
        ),
        (one, "placement = { partition = 2 }", "f:13:27: partition needs a group"),
        (
            one,
            "placement = { group = \"g\", partition = 9 }",
            "f:13:40: partition must be from 1 to 7",
        ),
        (
            one,
            "placement = { host = \"host\" }",
            "f:13:22: \"host\" is not the id of a dedicated host",
        ),
        (one, "security_groups = [\"sg-xyz\"]", "f:13:20: \"sg-xyz\" is no security group"),
        (one, "security_groups = [\" a\"]", "f:13:20: \" a\" is no security group"),
        ("lease = \"1m\"", "", "f:5:9: lease = \"1m\" is shorter than reconnect_grace = \"2m\""),
        (
            "reconnect_grace = \"31m\"",
            "",
            "f:5:19: lease = \"30m\" is shorter than reconnect_grace = \"31m\"",
        ),
        (
            "notify_on_missing = [\"ops@example.com\"]",
            "",
            "f:5:21: notify_on_missing needs a [mail]",
        ),
    ] {
        refused(&pool_with(own, line), Path::new("/"), expected);
    }
}

#[test]
fn what_ebs_would_refuse_is_refused_here() {
    let root = |more: &str| format!("volumes = [{{ device = \"root\", {more} }}]");
    let other =
        |more: &str| format!("volumes = [{{ device = \"/dev/sdf\", size_gb = 10, {more} }}]");
    for (line, expected) in [
        (root("type = \"gp33\""), "\"gp33\" is not a type of volumes"),
        (root("type = \"st1\""), "no instance boots from a volume of type st1"),
        (root("iops = 3000"), "iops is for volumes of type gp3, io1 and io2"),
        (root("type = \"io2\""), "volumes of type io1 and io2 need iops"),
        (root("type = \"gp3\", iops = 1"), "iops must be from 100"),
        (root("type = \"gp2\", throughput = 200"), "throughput is for volumes of type gp3"),
        (root("type = \"gp3\", throughput = 1"), "throughput must be from 125"),
        (root("snapshot = \"snap-1\""), "the root disk cannot have a snapshot of its own"),
        (
            root("encrypted = false, kms_key = \"alias/x\""),
            "a kms_key is for a volume that is encrypted",
        ),
        (root("kms_key = \"a b\""), "\"a b\" is not a key of KMS"),
        (root("size_gb = 0"), "a disk of 0 GiB cannot be made"),
        (other("snapshot = \"x\""), "\"x\" is not the id of a snapshot"),
    ] {
        let found = mistakes(&pool_with("", &line), Path::new("/"));
        assert_eq!(found.len(), 1, "{found:#?}\nin\n{line}");
        assert!(found[0].starts_with("f:13:") && found[0].contains(expected), "{}", found[0]);
    }
}

#[test]
fn a_life_must_be_longer_than_a_boot_and_should_be_longer_than_an_idle_time() {
    for (own, expected) in [
        (
            "max_lifetime = \"20m\"",
            "f:5:16: max_lifetime = \"20m\" is not above boot_timeout = \"20m\"",
        ),
        (
            "boot_timeout = \"25h\"",
            "f:5:16: max_lifetime = \"1d\" is not above boot_timeout = \"1d1h\"",
        ),
        (
            "boot_timeout = \"2m\"\nmax_lifetime = \"1m\"",
            "f:6:16: max_lifetime = \"1m\" is not above boot_timeout = \"2m\"",
        ),
    ] {
        refused(&pool_with(own, ""), Path::new("/"), expected);
    }
    let idle = pool_with("idle_timeout = \"24h\"", "");
    let config = Config::parse(&idle, "f", Path::new("/")).unwrap_or_else(|why| panic!("{why}"));
    let warnings = config.warnings.to_string();
    let what = "f:5:16: max_lifetime = \"1d\" is not above idle_timeout = \"1d\"";
    assert!(warnings.contains(what), "{warnings}");
}

#[test]
fn what_is_there_once_is_one_pools_alone() {
    for (line, thing, column) in [
        ("elastic_ip = \"192.0.2.7\"", "192.0.2.7", 14),
        ("elastic_ip = \"eipalloc-12ab\"", "eipalloc-12ab", 14),
        ("attach_volumes = [{ id = \"vol-1\", device = \"/dev/sdf\" }]", "vol-1", 26),
    ] {
        let first = pool_with("max_instances = 1", line);
        let (_, second) = first.split_once("[[pool]]").expect("it has a pool");
        let second = format!("[[pool]]{}", second.replace("\"p\"", "\"q\""));
        let expected = format!("f:24:{column}: {thing} is named twice: pool \"p\" has it already");
        refused(&format!("{first}{second}"), Path::new("/"), &expected);
        let elsewhere = second.replace("eu-west-1", "eu-west-2");
        let text = format!("{first}{elsewhere}");
        Config::parse(&text, "f", Path::new("/")).unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn the_zone_is_one_of_the_region() {
    let text = pool_with("", "placement = { zone = \"us-east-1a\" }");
    let text = text.replace("subnets = [\"subnet-1\"]", "");
    refused(&text, Path::new("/"), "f:13:22: \"us-east-1a\" is not a zone of eu-west-1");
}

#[test]
fn an_image_by_name_needs_owners() {
    for (ami, expected) in [
        ("{ owners = [], name = \"debian-*\" }", "f:9:7: owners is empty"),
        ("{ name = \"debian-*\" }", "f:9:7: ami in ec2 in pool \"p\" has no \"owners\""),
    ] {
        let text = pool_with("", "").replace("\"ami-12ab\"", ami);
        let found = mistakes(&text, Path::new("/"));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?} {expected}");
    }
}

#[test]
fn ipv6_needs_a_master_that_hears_it() {
    let with = |url: &str, listen: &str| {
        pool_with("max_instances = 1", "ipv6 = true")
            .replace("https://192.0.2.1:8443\"", &format!("{url}\"\nlisten = \"{listen}\""))
    };
    refused(
        &with("https://[2001:db8::1]:8443", "0.0.0.0:8443"),
        Path::new("/"),
        "f:14:8: with ipv6 the master needs an address for it, and it listens for IPv4 alone",
    );
    for text in [
        with("https://[2001:db8::1]:8443", "[::]:8443"),
        with("https://ci.example.com", "[::]:8443"),
    ] {
        Config::parse(&text, "f", Path::new("/")).unwrap_or_else(|why| panic!("{why}"));
    }
    let behind = with("https://ci.example.com", "0.0.0.0:8443");
    let config = Config::parse(&behind, "f", Path::new("/")).unwrap_or_else(|why| panic!("{why}"));
    let warnings = config.warnings.to_string();
    assert!(warnings.contains("the master listens for IPv4 alone"), "{warnings}");
}

#[test]
fn t_types_without_a_word_about_credits_are_a_warning() {
    let text = pool_with("", "").replace("c7i.large", "t3.large");
    let config = Config::parse(&text, "f", Path::new("/")).unwrap_or_else(|why| panic!("{why}"));
    let warnings = config.warnings.to_string();
    assert!(warnings.contains("t3.large is charged beyond its price"), "{warnings}");
    let said = format!("{text}cpu_credits = \"unlimited\"\n");
    let config = Config::parse(&said, "f", Path::new("/")).unwrap_or_else(|why| panic!("{why}"));
    assert!(!config.warnings.to_string().contains("t3.large"));
}

#[test]
fn user_data_of_ones_own_must_be_there_known_and_short() {
    let dir = tempfile::tempdir().unwrap();
    for neither in ["{}", "{ file = \"a\", text = \"b\" }"] {
        let text = pool_with("", &format!("user_data = {neither}"));
        refused(&text, dir.path(), "f:13:13: user_data needs a file, or a text");
    }
    let line = "user_data = { file = \"own\" }";
    let text = pool_with("", line);
    refused(&text, dir.path(), &format!("f:13:13: {}/own cannot be read", dir.path().display()));
    let own = dir.path().join("own");
    std::fs::write(&own, "echo hello\n").unwrap();
    refused(&text, dir.path(), "f:13:13: cloud-init would not know what \"own\" is");
    std::fs::write(&own, format!("#!/bin/sh\n{}", "# x\n".repeat(3000))).unwrap();
    refused(&text, dir.path(), "f:13:13: the user-data would have 16");
    std::fs::write(&own, format!("#!/bin/sh\n{}", "# x\n".repeat(2500))).unwrap();
    Config::parse(&text, "f", dir.path()).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn mail_that_could_not_be_sent_or_would_give_a_password_away_is_refused() {
    let mail = |text: &str| {
        format!(
            "[master]\nurl = \"https://h\"\n[mail]\nfrom = \"ci@x.org\"\nto = [\"a@x.org\"]\n{text}\n"
        )
    };
    for (text, expected) in [
        (mail("server = \"m\""), "f:6:10: \"m\" is not a mail server"),
        (mail("server = \"m:0\""), "f:6:10: \"m:0\" is not a mail server"),
        (mail("server = \"m:25\"\nuser = \"u\""), "f:7:8: user needs a password_file"),
        (mail("server = \"m:25\"\npassword_file = \"p\""), "f:7:17: password_file needs a user"),
        (
            mail("server = \"m:25\"\ntls = \"none\"\nuser = \"u\"\npassword_file = \"p\""),
            "f:7:7: without TLS anyone on the way reads the password",
        ),
        (
            mail("server = \"127.0.0.1:25\"\ntls = \"none\"\nca_file = \"x\""),
            "f:8:11: ca_file is about TLS",
        ),
        (mail("server = \"m:25\"").replace("[\"a@x.org\"]", "[]"), "f:5:6: to is empty"),
        (
            mail("server = \"m:25\"").replace("a@x.org", "A <a@x.org>"),
            "f:5:7: \"A <a@x.org>\" is not a mail address",
        ),
        (
            mail("server = \"m:25\"").replace("ci@x.org", "ci"),
            "f:4:8: \"ci\" is not a mail address",
        ),
    ] {
        refused(&text, Path::new("/"), expected);
    }
}
