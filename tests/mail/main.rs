//! Mail against a server that is one: it arrives, encrypted and once, or somebody reads why not.

mod master;
mod server;

use std::path::Path;

use busybee::master::domain::mail::Recipients;
use busybee::master::mail;
use busybee::master::mail::Mailer;
use busybee::master::mail::address::Address;
use busybee::master::mail::settings::Login;
use busybee::master::mail::settings::MailSettings;
use busybee::master::mail::settings::MailTls;
use server::Manners;
use server::PASSWORD;
use server::Server;
use server::USER;

fn address(text: &str) -> Address {
    Address::parse(text).expect("it is an address")
}

fn settings(dir: &Path, server: &Server, tls: MailTls) -> MailSettings {
    let (ca_file, password_file) = (dir.join("ca-of-mail.pem"), dir.join("password"));
    std::fs::write(&ca_file, &server.ca_pem).expect("a writable folder");
    std::fs::write(&password_file, format!("{PASSWORD}\n")).expect("a writable folder");
    MailSettings {
        host: "localhost".to_owned(),
        port: server.port,
        tls,
        ca_file: Some(ca_file),
        login: Some(Login { user: USER.to_owned(), password_file }),
        from: address("ci@example.com"),
        to: vec![address("ops@example.com"), address("boss@example.com")],
    }
}

/// A mailer whose postman works.
fn at_work(settings: MailSettings) -> Mailer {
    let (mailer, postman) = mail::set_up(Some(settings));
    tokio::spawn(postman.run());
    mailer
}

fn these(addresses: &[&str]) -> Recipients {
    Recipients::These(addresses.iter().map(|one| (*one).to_owned()).collect())
}

fn tell(mailer: &Mailer, to: Recipients, subject: &str) {
    mailer.send(to, subject.to_owned(), "It waits.\n.\n".to_owned());
}

#[tokio::test]
async fn a_mail_arrives_whole_and_encrypted_whichever_way() {
    for (tls, manners) in [
        (MailTls::StartTls, Manners { starttls: true, ..Manners::default() }),
        (MailTls::Implicit, Manners { implicit: true, ..Manners::default() }),
        (MailTls::StartTls, Manners { starttls: true, only_login: true, ..Manners::default() }),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let manners = Manners { wants_login: true, ..manners };
        let server = Server::start(dir.path(), manners).await;
        let mailer = at_work(settings(dir.path(), &server, tls));
        tell(&mailer, Recipients::Admins, "a pool has paused itself");
        let seen = server.seen(|seen| !seen.mails.is_empty()).await;
        let taken = &seen.mails[0];
        assert!(taken.encrypted);
        assert_eq!(taken.from, "ci@example.com");
        assert_eq!(taken.to, ["ops@example.com", "boss@example.com"]);
        assert!(taken.text.contains("\r\nSubject: a pool has paused itself\r\n"), "{}", taken.text);
        assert!(taken.text.ends_with("\r\n\r\nIt waits.\r\n.\r\n"), "{}", taken.text);
    }
}

#[tokio::test]
async fn a_server_that_is_away_gets_it_when_it_is_back_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let manners = Manners { starttls: true, turns_away: 2, ..Manners::default() };
    let server = Server::start(dir.path(), manners).await;
    let mailer = at_work(settings(dir.path(), &server, MailTls::StartTls));
    tell(&mailer, Recipients::Admins, "first");
    let seen = server.seen(|seen| !seen.mails.is_empty()).await;
    assert_eq!(seen.connections, 3, "turned away twice");
    tell(&mailer, Recipients::Admins, "second");
    let seen = server.seen(|seen| seen.mails.len() == 2).await;
    assert!(seen.mails[1].text.contains("Subject: second"), "the first came once");
}

#[tokio::test]
async fn whoever_cannot_have_it_does_not_keep_it_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), Manners { starttls: true, ..Manners::default() }).await;
    let mailer = at_work(settings(dir.path(), &server, MailTls::StartTls));
    let to = these(&["nobody@example.com", "later@example.com", "ops@example.com", "no address"]);
    tell(&mailer, to, "news");
    let seen = server.seen(|seen| seen.mails.len() == 2).await;
    assert_eq!(seen.mails[0].to, ["ops@example.com"]);
    assert_eq!(seen.mails[1].to, ["later@example.com"], "greylisted, and tried again");
    let asked = seen.commands.iter().filter(|line| line.contains("nobody@")).count();
    assert_eq!(asked, 1, "who does not exist is not tried again");
    let id = |text: &str| text.split("Message-ID: ").nth(1).map(|rest| rest[..34].to_owned());
    assert_eq!(id(&seen.mails[0].text), id(&seen.mails[1].text), "it is one mail");
}

#[tokio::test]
async fn a_wrong_password_ends_the_mail_and_the_next_one_uses_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let manners = Manners { starttls: true, wants_login: true, ..Manners::default() };
    let server = Server::start(dir.path(), manners).await;
    let settings = settings(dir.path(), &server, MailTls::StartTls);
    let password_file = dir.path().join("password");
    std::fs::write(&password_file, "wrong").unwrap();
    let why = mail::examine(&settings).await.expect_err("the password is wrong");
    assert!(why.contains("refused the login of busybee: 535 5.7.8 wrong password"), "{why}");
    let mailer = at_work(settings);
    tell(&mailer, Recipients::Admins, "first");
    server.seen(|seen| seen.connections == 2 && logins(seen) == 2).await;
    std::fs::write(&password_file, PASSWORD).unwrap();
    tell(&mailer, Recipients::Admins, "second");
    let seen = server.seen(|seen| !seen.mails.is_empty()).await;
    assert!(seen.mails[0].text.contains("Subject: second"), "the first was given up");
    assert_eq!(seen.connections, 3, "nobody hammers at a door that is locked");
}

fn logins(seen: &server::Seen) -> usize {
    seen.commands.iter().filter(|line| line.starts_with("AUTH")).count()
}

#[tokio::test]
async fn no_password_goes_where_it_could_be_read() {
    for (manners, expected) in [
        (Manners::default(), "offers no STARTTLS"),
        (
            Manners { smuggles: true, ..Manners::default() },
            "it said more in plain text than was asked",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), manners).await;
        let settings = settings(dir.path(), &server, MailTls::StartTls);
        let why = mail::examine(&settings).await.expect_err(expected);
        assert!(why.contains(expected), "{why}");
        assert_eq!(logins(&server.seen(|_| true).await), 0);
    }
}

#[tokio::test]
async fn a_server_with_another_authority_is_not_spoken_to() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manners = Manners { starttls: true, ..Manners::default() };
    let server = Server::start(dir.path(), manners).await;
    let stranger = Server::start(other.path(), manners).await;
    let mut settings = settings(dir.path(), &server, MailTls::StartTls);
    settings.port = stranger.port;
    let why = mail::examine(&settings).await.expect_err("its authority is unknown");
    assert!(why.contains("cannot be trusted"), "{why}");
    assert_eq!(logins(&stranger.seen(|_| true).await), 0);
}

#[tokio::test]
async fn a_doctor_is_told_how_the_server_answers_and_sends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), Manners { starttls: true, ..Manners::default() }).await;
    let settings = settings(dir.path(), &server, MailTls::StartTls);
    let found = mail::examine(&settings).await.expect("all is well");
    let port = server.port;
    let expected =
        format!("the mail server localhost:{port} answers by STARTTLS, and lets busybee log in");
    assert_eq!(found, expected);
    let seen = server.seen(|seen| seen.commands.last().is_some_and(|line| line == "QUIT")).await;
    assert!(seen.mails.is_empty());
    drop(server);
}

#[tokio::test]
async fn what_is_told_can_add_neither_a_header_nor_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), Manners { starttls: true, ..Manners::default() }).await;
    let mailer = at_work(settings(dir.path(), &server, MailTls::StartTls));
    let to = these(&["ops@example.com", "x@y>\r\nRCPT TO:<evil@example.com", "a@b\r\nBcc: c@d"]);
    let nasty = "pool\r\nBcc: evil@example.com\r\n\r\nbody";
    mailer.send(to, nasty.to_owned(), "text\r\n.\r\nMAIL FROM:<evil@example.com>\r\n".to_owned());
    let seen = server.seen(|seen| !seen.mails.is_empty()).await;
    assert_eq!(seen.mails[0].to, ["ops@example.com"]);
    assert!(!seen.commands.iter().any(|line| line.contains("evil")), "{:?}", seen.commands);
    let (headers, _) = seen.mails[0].text.split_once("\r\n\r\n").expect("headers");
    assert!(!headers.contains("\r\nBcc"), "{headers}");
}

#[tokio::test]
async fn an_outbox_that_is_full_drops_and_never_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), Manners { starttls: true, ..Manners::default() }).await;
    let settings = settings(dir.path(), &server, MailTls::StartTls);
    let (mailer, postman) = mail::set_up(Some(settings));
    for number in 0..150 {
        tell(&mailer, these(&["ops@example.com"]), &format!("news {number}"));
    }
    tokio::spawn(postman.run());
    server.seen(|seen| seen.mails.len() == 100).await;
    tell(&mailer, these(&["ops@example.com"]), "the last");
    let seen = server.seen(|seen| seen.mails.len() > 100).await;
    assert_eq!(seen.mails.len(), 101);
    assert!(seen.mails[100].text.contains("Subject: the last"), "what did not fit was dropped");
}
