//! A whole master that has something to tell, and a mail server that hears it.

use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use crate::server::Manners;
use crate::server::PASSWORD;
use crate::server::Server;
use crate::server::USER;

const BUSYBEE: &str = env!("CARGO_BIN_EXE_busybee");
const _AGENT: &str = env!("CARGO_BIN_EXE_busybee-agent");

/// A master that ends with its test.
struct Master(Child);

impl Drop for Master {
    fn drop(&mut self) {
        // Its pool has paused by then, and no machine is left.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// The file of a master whose one pool never gets a worker ready, and tells of it.
fn write_file(dir: &Path, server: &Server) {
    std::fs::write(dir.join("mail-ca.pem"), &server.ca_pem).expect("a writable folder");
    std::fs::write(dir.join("mail.password"), PASSWORD).expect("a writable folder");
    let scripts = dir.join("bootstrap");
    std::fs::create_dir(&scripts).expect("a writable folder");
    std::fs::write(scripts.join("hang.sh"), "#!/bin/sh\nexec tail -f /dev/null\n")
        .expect("a writable folder");
    let text = format!(
        r#"[master]
url = "https://127.0.0.1:0"
listen = "127.0.0.1:0"
data_dir = "data"
bootstrap_dir = "bootstrap"
unsafe_local = true

[mail]
server = "localhost:{port}"
ca_file = "mail-ca.pem"
user = "{USER}"
password_file = "mail.password"
from = "ci@example.com"
to = ["boss@example.com"]

[[pool]]
name = "slow"
provisioner = "local"
bootstrap = "hang.sh"
max_instances = 1
min_idle = 1
boot_timeout = "1s"
max_lifetime = "60s"
notify_on_missing = ["ops@example.com"]
"#,
        port = server.port
    );
    std::fs::write(dir.join("busybee.toml"), text).expect("a writable folder");
}

fn run(dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(BUSYBEE);
    command.args(words).args(["--config", "busybee.toml"]).current_dir(dir);
    command.stdin(Stdio::null()).output().expect("busybee starts")
}

#[tokio::test]
async fn a_master_tells_of_boots_that_time_out_and_of_the_pause_that_follows() {
    let (dir, of_server) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manners = Manners { starttls: true, wants_login: true, ..Manners::default() };
    let server = Server::start(of_server.path(), manners).await;
    write_file(dir.path(), &server);
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut command = Command::new(BUSYBEE);
    command.args(["serve", "--config", "busybee.toml"]).current_dir(dir.path());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let master = Master(command.spawn().expect("the master starts"));

    let has = |seen: &crate::server::Seen, subject: &str| {
        seen.mails.iter().any(|mail| mail.text.contains(subject))
    };
    // That of the last one is written when it is known what follows.
    let seen = server.seen(|seen| has(seen, "the pool is paused, so no other is started")).await;
    assert!(has(&seen, "Subject: pool slow has paused itself"), "{:#?}", seen.mails);
    assert!(has(&seen, "Subject: pool slow: worker slow-"), "{:#?}", seen.mails);
    assert!(has(&seen, "within 1 s"), "{:#?}", seen.mails);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    let missing = seen.mails.iter().filter(|mail| mail.text.contains("is missing\r\n")).count();
    assert_eq!(missing, 3, "one for each machine that was paid for\n{log}");
    assert!(seen.mails.iter().all(|mail| mail.to == ["ops@example.com"] && mail.encrypted));
    let paused = run(dir.path(), &["pool", "list", "--json"]);
    let paused = String::from_utf8_lossy(&paused.stdout).into_owned();
    assert!(paused.contains("3 launches in a row went wrong"), "{paused}");
    drop(master);
}

#[tokio::test]
async fn a_doctor_says_how_the_mail_server_answers() {
    let (dir, of_server) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manners = Manners { starttls: true, wants_login: true, ..Manners::default() };
    let server = Server::start(of_server.path(), manners).await;
    write_file(dir.path(), &server);
    let examined = async || {
        let dir = dir.path().to_owned();
        let doctor = tokio::task::spawn_blocking(move || run(&dir, &["doctor"])).await;
        String::from_utf8_lossy(&doctor.expect("it ends").stdout).into_owned()
    };
    let told = examined().await;
    let expected = format!(
        "mail\n  good  the mail server localhost:{} answers by STARTTLS, and lets busybee log in\n",
        server.port
    );
    assert!(told.contains(&expected), "{told}");
    std::fs::write(dir.path().join("mail.password"), "wrong").unwrap();
    let told = examined().await;
    let expected = "refused the login of busybee: 535 5.7.8 wrong password";
    assert!(told.contains(expected) && !told.contains("  wrong\n"), "{told}");
}
