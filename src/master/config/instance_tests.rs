//! Everything that an instance can be told: each key, taken as it is meant.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::master::config::Config;
use crate::master::config::PoolConfig;
use crate::master::mail::settings::MailTls;
use crate::master::provisioner::ec2::settings::CpuCredits;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::master::provisioner::ec2::settings::ElasticIp;
use crate::master::provisioner::ec2::settings::Tenancy;

fn config(text: &str) -> Config {
    Config::parse(text, "f", Path::new("/"))
        .unwrap_or_else(|problems| panic!("{problems}\nin:\n{text}"))
}

/// A pool of two instances, with this in its `[pool.ec2]`.
fn pool(text: &str) -> PoolConfig {
    let text = format!(
        "[master]\nurl = \"https://ci.example.com\"\nlisten = \"[::]:8443\"\n\
         [[pool]]\nname = \"p\"\nprovisioner = \"ec2\"\nmax_instances = 2\n\
         [pool.ec2]\nregion = \"eu-west-1\"\nami = \"ami-12ab\"\ninstance_types = [\"t3.small\"]\n{text}\n"
    );
    config(&text).pools.remove(0)
}

fn ec2(text: &str) -> Ec2Settings {
    pool(text).ec2.expect("it is a pool of ec2")
}

#[test]
fn addresses_are_one_for_each_instance() {
    let found = ec2("elastic_ip = [\"203.0.113.7\", \"eipalloc-12ab\"]");
    let expected = [
        ElasticIp::Address(Ipv4Addr::new(203, 0, 113, 7)),
        ElasticIp::Allocation("eipalloc-12ab".to_owned()),
    ];
    assert_eq!(found.elastic_ips, expected);
    let seats = pool("elastic_ip = [\"203.0.113.7\", \"203.0.113.8\"]").settings.seats;
    assert_eq!((seats, pool("").settings.seats), (2, 0));
}

#[test]
fn disks_are_made_beside_the_root_disk() {
    let found = ec2(
        "volumes = [{ device = \"root\", size_gb = 40, type = \"gp3\", iops = 6000, throughput = 250 },\n\
         { device = \"/dev/sdf\", size_gb = 100, kms_key = \"alias/ci\" },\n\
         { device = \"/dev/sdg\", snapshot = \"snap-12ab\", encrypted = false }]",
    );
    assert_eq!((found.root_disk.size_gb, found.root_disk.iops), (Some(40), Some(6000)));
    assert_eq!((found.root_disk.throughput, found.root_disk.encrypted), (Some(250), None));
    let keyed = &found.disks["/dev/sdf"];
    assert_eq!((keyed.encrypted, keyed.kms_key.as_deref()), (Some(true), Some("alias/ci")));
    let copied = &found.disks["/dev/sdg"];
    assert_eq!((copied.encrypted, copied.snapshot.as_deref()), (Some(false), Some("snap-12ab")));
}

#[test]
fn volumes_that_are_there_are_one_for_each_instance() {
    let found = ec2("attach_volumes = [{ id = [\"vol-1\", \"vol-2\"], device = \"/dev/sdf\" }]");
    assert_eq!(found.attached[0].volumes, ["vol-1", "vol-2"]);
    assert_eq!((found.attached[0].device.as_str(), found.seats()), ("/dev/sdf", 2));
}

#[test]
fn where_and_with_how_much_an_instance_runs_is_taken() {
    let found = ec2(
        "ipv6 = true\ncpu_credits = \"standard\"\nsecurity_groups = [\"sg-12ab\", \"ci workers\"]\n\
         placement = { zone = \"eu-west-1b\", group = \"near\", partition = 2, host = \"h-12ab\" }",
    );
    assert!(found.ipv6);
    assert_eq!(found.cpu_credits, Some(CpuCredits::Standard));
    assert_eq!(found.security_groups, ["sg-12ab", "ci workers"]);
    let placement = found.placement;
    assert_eq!(placement.zone.as_deref(), Some("eu-west-1b"));
    assert_eq!(placement.tenancy, Some(Tenancy::Host), "that is what a host means");
    assert_eq!((placement.group.as_deref(), placement.partition), (Some("near"), Some(2)));
}

#[test]
fn files_of_the_admins_own_are_read_with_the_file_that_names_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("one.sh"), "#!/bin/sh\ntrue\n").unwrap();
    std::fs::write(dir.path().join("two.yaml"), "#cloud-config\nx: 1\n").unwrap();
    let text = |user_data: &str| {
        format!(
            "[master]\nurl = \"https://h\"\n[[pool]]\nname = \"p\"\nprovisioner = \"ec2\"\n\
             [pool.ec2]\nregion = \"eu-west-1\"\nami = \"ami-1\"\ninstance_types = [\"c7i.large\"]\n\
             user_data = {user_data}\n"
        )
    };
    let both = text("[{ file = \"one.sh\" }, { file = \"two.yaml\" }]");
    let config = Config::parse(&both, "f", dir.path()).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(config.pools[0].user_data.len(), 2);
    let config = Config::parse(&text("{ text = \"#!/bin/sh\\n\" }"), "f", dir.path());
    assert!(config.is_ok_and(|config| config.pools[0].user_data.len() == 1));
    let one = text("{ file = \"one.sh\" }");
    let config = Config::parse(&one, "f", dir.path()).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(config.pools[0].user_data.len(), 1);
}

#[test]
fn a_mail_server_is_taken_with_what_its_port_means() {
    let mail = |text: &str| {
        let text = format!(
            "[master]\nurl = \"https://h\"\n[mail]\nfrom = \"ci@example.com\"\nto = [\"ops@example.com\"]\n{text}\n"
        );
        config(&text).mail.expect("there is a mail server")
    };
    let plain = mail("server = \"mail.example.com:587\"");
    assert_eq!((plain.host.as_str(), plain.port), ("mail.example.com", 587));
    assert_eq!((plain.tls, &plain.login), (MailTls::StartTls, &None));
    assert_eq!(mail("server = \"[2001:db8::1]:465\"").tls, MailTls::Implicit);
    let login = mail("server = \"m:25\"\ntls = \"implicit\"\nuser = \"u\"\npassword_file = \"p\"");
    assert_eq!(login.tls, MailTls::Implicit);
    assert_eq!(login.login.map(|login| login.password_file), Some("/p".into()));
    assert_eq!(mail("server = \"127.0.0.1:25\"\ntls = \"none\"").tls, MailTls::None);
}
