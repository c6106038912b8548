//! Every request that the ec2 provisioner sends is signed as botocore, which is another's work, signs it.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::master::provisioner::ec2::settings::Ec2Settings;
use busybee::model::ids::LaunchId;
use busybee::model::time::Timestamp;
use busybee::runtime::random;
use serde_json::Value;
use serde_json::json;

use crate::contract;
use crate::ec2;

const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQW==";

/// An endpoint that refuses everything, and passes on what it was sent before it answers: who has the
/// answer finds the request in the channel.
fn listen() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let address = format!("http://{}", listener.local_addr().expect("it has an address"));
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let Some(request) = read_request(&stream) else { continue };
            if sender.send(request).is_err() {
                return; // The test is over.
            }
            refuse(stream);
        }
    });
    (address, requests)
}

fn read_request(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(
        json!({ "method": method, "path": path, "headers": headers, "body": STANDARD.encode(body) }),
    )
}

fn refuse(mut stream: TcpStream) {
    let text = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error>\
                </Errors></Response>";
    let length = text.len();
    let head =
        format!("HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    // Whoever asked may have gone; what it sent is noted all the same.
    let _gone = stream.write_all(format!("{head}{text}").as_bytes());
}

/// Text of all sorts of characters.
fn any_text() -> String {
    const PARTS: [&str; 16] =
        ["a", "Z", "7", " ", "+", "%", "&", "=", "/", "~", "*", "'", "ü", "蜂", "🐝", "-_."];
    let mut number = random::number();
    let mut text = String::new();
    while number > 0 {
        text.push_str(PARTS[usize::try_from(number % 16).expect("it is below 16")]);
        number /= 64;
    }
    text
}

fn order() -> PrepareOrder {
    PrepareOrder {
        launch: LaunchId(format!("a{:031x}", random::number())),
        worker: "cloud-1".into(),
        candidate: 0,
        seat: None,
        user_data: contract::with_password_place(&any_text()),
        expires_at: Timestamp(4_000_000_000_000),
    }
}

#[tokio::test]
async fn every_request_is_signed_as_an_independent_signer_signs_it() {
    let test = "every_request_is_signed_as_an_independent_signer_signs_it";
    let Some(python) = ec2::python(test) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let credentials = folder.path().join("credentials");
    std::fs::write(
        &credentials,
        format!(
            "[plain]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n\
             [session]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n\
             aws_session_token = {TOKEN}\n"
        ),
    )
    .expect("write the keys down");
    let (endpoint, requests) = listen();
    let mut lines = String::new();
    let mut ours = Vec::new();
    for turn in 0..40 {
        let (profile, token) =
            if turn % 2 == 0 { ("plain", None) } else { ("session", Some(TOKEN)) };
        let settings = Ec2Settings {
            endpoint: Some(endpoint.clone()),
            credentials_file: Some(credentials.clone()),
            profile: Some(profile.to_owned()),
            image: busybee::master::provisioner::ec2::settings::Image::Id("ami-1".to_owned()),
            tags: [("any".to_owned(), any_text())].into(),
            ..ec2::settings()
        };
        let provisioner = Ec2Provisioner::new(settings, any_text(), "cloud".into());
        let provisioner = provisioner.expect("it is set up");
        // Each asks with a request of its own; what it is answered does not matter.
        let _refused = provisioner.list().await;
        let _refused = provisioner.prepare(order()).await;
        let _refused = provisioner.terminate(order().launch, Some("i-1".into())).await;
        for mut seen in requests.try_iter() {
            let headers = seen["headers"].as_array().expect("a list").clone();
            let signed = headers.iter().find(|pair| pair[0] == "authorization").expect("signed");
            ours.push(signed[1].as_str().expect("text").to_owned());
            seen["id"] = ID.into();
            seen["secret"] = SECRET.into();
            seen["token"] = token.into();
            lines.push_str(&format!("{seen}\n"));
        }
    }
    assert!(ours.len() >= 80, "{} requests were seen", ours.len());
    let mut signer = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provisioners/sign_again.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut input = signer.stdin.take().expect("its input is ours");
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = signer.wait_with_output().expect("it ends");
    writing.join().expect("it does not panic").expect("it reads all");
    let theirs = String::from_utf8(output.stdout).expect("it prints text");
    let theirs: Vec<&str> = theirs.lines().collect();
    assert_eq!(ours, theirs);
}
