//! An endpoint that answers as it is told, for what moto does not do: refusals of every kind, second
//! pages, ends with a reason. It keeps what it was asked.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

use busybee::master::provisioner::LaunchOrder;
use busybee::master::provisioner::PASSWORD_PLACE;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::master::provisioner::ec2::settings::Ec2Settings;
use busybee::master::provisioner::ec2::settings::Image;
use busybee::model::ids::LaunchId;
use busybee::model::secret::Secret;

use crate::ec2;

/// How a request is answered: an HTTP status, and a body.
type Answer = (u16, String);

/// What is to be answered, and what was asked.
#[derive(Default)]
struct Book {
    answers: BTreeMap<String, VecDeque<Answer>>,
    asked: Vec<BTreeMap<String, String>>,
    /// The only access key that is known, and how every other is refused.
    only_key: Option<(String, Answer)>,
}

/// The endpoint; it ends with its test's process.
pub(crate) struct Script {
    endpoint: String,
    book: Arc<Mutex<Book>>,
    folder: tempfile::TempDir,
}

pub(crate) fn refusal(code: &str) -> Answer {
    let text = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>so it is</Message></Error></Errors>\
         </Response>"
    );
    (400, text)
}

/// One instance, as in every answer that has some.
pub(crate) fn instance(id: &str, state: &str, more: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><name>{state}</name></instanceState>\
         {more}</item>"
    )
}

pub(crate) fn tags(tags: &[(&str, &str)]) -> String {
    let one = |(key, value): &(&str, &str)| {
        format!("<item><key>{key}</key><value>{value}</value></item>")
    };
    format!("<tagSet>{}</tagSet>", tags.iter().map(one).collect::<String>())
}

pub(crate) fn launched(instance: &str) -> Answer {
    let text = format!(
        "<RunInstancesResponse><instancesSet>{instance}</instancesSet></RunInstancesResponse>"
    );
    (200, text)
}

/// A page of a listing.
pub(crate) fn page(instances: &str, next: Option<&str>) -> Answer {
    let next = next.map_or(String::new(), |next| format!("<nextToken>{next}</nextToken>"));
    let text = format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{instances}</instancesSet>\
         </item></reservationSet>{next}</DescribeInstancesResponse>"
    );
    (200, text)
}

impl Script {
    pub(crate) fn new() -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it has an address"));
        let book: Arc<Mutex<Book>> = Arc::default();
        let shared = Arc::clone(&book);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &shared);
            }
        });
        Script { endpoint, book, folder: tempfile::tempdir().expect("a folder") }
    }

    /// The next calls of this action are answered so, in this order; then, and all others, with an
    /// empty success.
    pub(crate) fn answers(&self, action: &str, answers: impl IntoIterator<Item = Answer>) {
        let mut book = self.book.lock().expect("nobody panics with it");
        book.answers.entry(action.to_owned()).or_default().extend(answers);
    }

    /// What was asked of this action, oldest first.
    pub(crate) fn asked(&self, action: &str) -> Vec<BTreeMap<String, String>> {
        let book = self.book.lock().expect("nobody panics with it");
        let is_it =
            |query: &&BTreeMap<String, String>| query.get("Action").is_some_and(|a| a == action);
        book.asked.iter().filter(is_it).cloned().collect()
    }

    /// From now on whoever signs with another key than this is answered so.
    pub(crate) fn knows_only(&self, key_id: &str, refusal: Answer) {
        let mut book = self.book.lock().expect("nobody panics with it");
        book.only_key = Some((key_id.to_owned(), refusal));
    }

    /// Puts this key into the file that its provisioners sign with.
    pub(crate) fn writes_down(&self, key_id: &str) {
        let text = format!("[test]\naws_access_key_id = {key_id}\naws_secret_access_key = any\n");
        std::fs::write(self.folder.path().join("credentials"), text).expect("write the key down");
    }

    pub(crate) fn provisioner(&self, image: Image) -> Ec2Provisioner {
        let credentials_file = self.folder.path().join("credentials");
        self.writes_down("AKIAANY");
        let settings = Ec2Settings {
            endpoint: Some(self.endpoint.clone()),
            credentials_file: Some(credentials_file),
            profile: Some("test".to_owned()),
            image,
            ..ec2::settings()
        };
        Ec2Provisioner::new(settings, "test".to_owned(), "cloud".into()).expect("it is set up")
    }

    /// One whose image stands in its settings.
    pub(crate) fn simple(&self) -> Ec2Provisioner {
        self.provisioner(Image::Id("ami-1".to_owned()))
    }
}

/// A launch whose request was prepared some time ago.
pub(crate) fn order() -> LaunchOrder {
    let user_data = format!("password='{PASSWORD_PLACE}'");
    let request = serde_json::json!([
        ["Action", "RunInstances"],
        ["Version", "2016-11-15"],
        ["ClientToken", "busybee-9f86d081-a1"],
        ["UserData", user_data],
    ]);
    let password = Secret::new("secret".to_owned());
    LaunchOrder { launch: LaunchId::from("a1"), request: request.to_string(), password }
}

fn answer(mut stream: TcpStream, book: &Mutex<Book>) {
    let Some((signature, query)) = read_query(&stream) else { return };
    let action = query.get("Action").cloned().unwrap_or_default();
    let (status, text) = {
        let mut book = book.lock().expect("nobody panics with it");
        book.asked.push(query);
        let is_refused = |(key, _): &&(String, Answer)| !signature.contains(&format!("={key}/"));
        let refused = book.only_key.as_ref().filter(is_refused).map(|(_, refusal)| refusal.clone());
        let mut scripted = || book.answers.get_mut(&action).and_then(VecDeque::pop_front);
        let answer = refused.or_else(&mut scripted);
        answer.unwrap_or((200, format!("<{action}Response/>")))
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    let _gone = stream.write_all(format!("{head}{text}").as_bytes());
}

/// Who signed, and what is asked.
fn read_query(stream: &TcpStream) -> Option<(String, BTreeMap<String, String>)> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut signature) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                signature = value.to_owned();
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let query = body.split('&').filter_map(|pair| pair.split_once('=')).map(plain).collect();
    Some((signature, query))
}

fn plain((name, value): (&str, &str)) -> (String, String) {
    (unescape(name), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).expect("two digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("it was text")
}
