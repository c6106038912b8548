//! A browser's event stream, as far as these tests need one: it reads, keeps the last id, and calls
//! again when the stream breaks. Plain HTTP, as the master allows it on loopback.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::house::House;
use crate::house::PATIENCE;
use crate::house::pause;

/// How long a browser waits before it calls again; theirs is some seconds.
const CALL_AGAIN: Duration = Duration::from_millis(50);

/// A step's lines, as a page collects them.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) by_number: BTreeMap<u64, String>,
    last: Option<u64>,
}

/// A page that somebody has open.
pub(crate) struct Page {
    reader: JoinHandle<Lines>,
    calls: Arc<AtomicU32>,
}

impl Page {
    /// Opens a stream, and follows it to its end.
    pub(crate) fn open(port: u16, address: String) -> Page {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let reader = std::thread::spawn(move || follow(port, &address, &counted));
        Page { reader, calls }
    }

    /// How often it has called and was answered.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// What it has when it has seen the end, and how often it had to call.
    pub(crate) fn at_its_end(self) -> (Lines, u32) {
        let lines = self.reader.join().expect("the page saw the end");
        (lines, self.calls.load(Ordering::Relaxed))
    }
}

/// Opens a stream; nothing while nobody answers.
pub(crate) fn call(port: u16, path: &str, last_id: &str) -> Option<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not 0");
    let id =
        if last_id.is_empty() { String::new() } else { format!("last-event-id: {last_id}\r\n") };
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n{id}\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = BufReader::new(stream);
    let mut status = String::new();
    answer.read_line(&mut status).ok()?;
    if status.is_empty() {
        return None;
    }
    assert!(status.starts_with("HTTP/1.1 200"), "{path}: {status}");
    loop {
        let mut line = String::new();
        answer.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            return Some(answer);
        }
    }
}

/// A whole page.
pub(crate) fn page(house: &House, path: &str) -> String {
    let mut bytes = Vec::new();
    let mut answer = call(house.master_port, path, "").expect("the master answers");
    answer.read_to_end(&mut bytes).expect("the page is sent whole");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The next chunk of a chunked body; nothing at its end, and when it breaks.
pub(crate) fn chunk(answer: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = String::new();
    answer.read_line(&mut length).ok()?;
    let length = usize::from_str_radix(length.trim(), 16).ok().filter(|length| *length > 0)?;
    let mut bytes = vec![0; length + 2];
    answer.read_exact(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// Follows a step's lines to their end, however often the master goes away.
fn follow(port: u16, path: &str, calls: &AtomicU32) -> Lines {
    let mut lines = Lines::default();
    let mut last_id = String::new();
    let tries = PATIENCE.as_millis() / CALL_AGAIN.as_millis();
    for _ in 0..tries {
        if let Some(mut answer) = call(port, path, &last_id) {
            calls.fetch_add(1, Ordering::Relaxed);
            let mut text = Vec::new();
            while let Some(bytes) = chunk(&mut answer) {
                text.extend_from_slice(&bytes);
                while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                    let event: Vec<u8> = text.drain(..end + 2).collect();
                    let event = String::from_utf8(event).expect("events are text");
                    if lines.take(&event, &mut last_id) {
                        return lines;
                    }
                }
            }
        }
        pause(CALL_AGAIN);
    }
    panic!("{path} had no end; {} lines came in {calls:?} calls", lines.by_number.len());
}

impl Lines {
    /// Takes an event; says whether it was the last.
    fn take(&mut self, event: &str, last_id: &mut String) -> bool {
        let field = |name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        if let Some(id) = field("id: ") {
            *last_id = id;
        }
        match field("event: ").as_deref() {
            Some("end") => return true,
            Some("lines") => {}
            _ => return false,
        }
        let data = field("data: ").expect("lines have data");
        let came: Vec<(u64, String)> = serde_json::from_str(&data).expect("lines are JSON");
        for (number, html) in came {
            // The next one, or the last one again, grown.
            let fits = self.last.is_none_or(|last| number == last || number == last + 1);
            assert!(fits, "line {number} after {:?}", self.last);
            self.last = Some(number);
            self.by_number.insert(number, html);
        }
        false
    }

    /// The whole text; these tests print nothing that HTML writes in another way.
    pub(crate) fn text(&self) -> String {
        self.by_number.values().map(|line| format!("{line}\n")).collect()
    }
}

/// The address of the stream that a build's page names for a step, from the log's begin.
pub(crate) fn address_on_page(house: &House, job: &str, step: u32) -> String {
    let path = format!("/projects/hello/builds/1?job={job}&step={step}");
    let mut address = None;
    house.eventually("the page names the stream", |house| {
        if !house.busybee(&["build", "show", "hello/1"]).status.success() {
            return false;
        }
        let page = page(house, &path);
        let found = page.split_once("data-stream=\"");
        address = found.and_then(|(_, rest)| Some(unescaped(rest.split('"').next()?)));
        address.is_some()
    });
    let address = address.expect("it was found");
    let (path, _where_the_page_ends) = address.split_once("at=").expect("it has a place");
    // As `Position::to_code` writes it: offset, line, no style.
    format!("{path}at=0-1-")
}

fn unescaped(text: &str) -> String {
    text.replace("&amp;", "&").replace("&#38;", "&")
}
