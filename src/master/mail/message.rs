//! A mail as it is sent: headers and text, RFC 5322 with CRLF. Pure; nothing that is put in can add a
//! header of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::master::mail::address::Address;
use crate::model::time::Timestamp;

/// Characters of a subject, at most: more is cut.
const SUBJECT_CHARS_MAX: usize = 200;

/// Bytes of a text, at most: more is cut.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A line of plain text, at most: RFC 5322 allows 998, and many programs show less.
const LINE_BYTES_MAX: usize = 900;

/// A line of base64 (RFC 2045, 6.8).
const CODED_LINE_BYTES: usize = 76;

/// The end of the year 9998, since 1970: dates have four digits.
const DATE_MAX_SECS: u64 = 253_370_764_799;

/// Bytes of text in one encoded word: base64 makes 60 characters of them, and RFC 2047 allows 75 with
/// what stands around.
const WORD_BYTES_MAX: usize = 45;

/// What a mail is made of.
pub(super) struct Facts<'f> {
    pub(super) from: &'f Address,
    pub(super) to: &'f [Address],
    pub(super) subject: &'f str,
    pub(super) text: &'f str,
    pub(super) at: Timestamp,
    /// Nobody else has it.
    pub(super) id: &'f str,
}

/// The whole mail, lines ended by CRLF.
pub(super) fn compose(facts: &Facts<'_>) -> String {
    let to: Vec<&str> = facts.to.iter().map(Address::as_str).collect();
    let text = cut(facts.text, TEXT_BYTES_MAX);
    let (encoding, body) = body(text);
    let headers = [
        ("From", format!("Busybee <{}>", facts.from)),
        // One address a line, as lines have an end.
        ("To", to.join(",\r\n ")),
        ("Subject", subject(facts.subject)),
        ("Date", date(facts.at)),
        ("Message-ID", format!("<{}@{}>", facts.id, facts.from.domain())),
        // Keeps out-of-office answers away (RFC 3834).
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("MIME-Version", "1.0".to_owned()),
        ("Content-Type", "text/plain; charset=utf-8".to_owned()),
        ("Content-Transfer-Encoding", encoding.to_owned()),
    ];
    let mut mail = String::new();
    for (name, value) in headers {
        mail.push_str(&format!("{name}: {value}\r\n"));
    }
    mail.push_str("\r\n");
    mail.push_str(&body);
    mail
}

/// Text as it stands, where every program shows it so; base64 otherwise.
fn body(text: &str) -> (&'static str, String) {
    let is_plain = |byte: u8| byte == b'\n' || byte == b'\t' || (b' '..=b'~').contains(&byte);
    let fits = text.lines().all(|line| line.len() <= LINE_BYTES_MAX);
    let mut body = String::new();
    if fits && text.bytes().all(is_plain) {
        for line in text.lines() {
            body.push_str(line);
            body.push_str("\r\n");
        }
        return ("7bit", body);
    }
    let coded = STANDARD.encode(text.replace("\r\n", "\n").replace('\n', "\r\n"));
    for line in coded.as_bytes().chunks(CODED_LINE_BYTES) {
        body.extend(line.iter().map(|byte| char::from(*byte)));
        body.push_str("\r\n");
    }
    ("base64", body)
}

/// One line; what is not plain is put into encoded words (RFC 2047).
fn subject(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let line: String = line.take(SUBJECT_CHARS_MAX).collect();
    // "=?" would be read as the beginning of an encoded word.
    if line.is_ascii() && !line.contains("=?") {
        return line;
    }
    let mut words = Vec::new();
    let mut word = String::new();
    for c in line.chars() {
        if word.len() + c.len_utf8() > WORD_BYTES_MAX {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let words = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    words.collect::<Vec<_>>().join("\r\n ")
}

fn date(at: Timestamp) -> String {
    let at = std::time::Duration::from_secs((at.0 / 1000).min(DATE_MAX_SECS));
    let at = std::time::UNIX_EPOCH + at;
    // The same but for the zone's name, which mail wants as a number.
    httpdate::fmt_http_date(at).replace("GMT", "+0000")
}

/// The text's beginning, of so many bytes at most.
fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(subject: &str, text: &str) -> String {
        let address = |text| Address::parse(text).expect("it is an address");
        compose(&Facts {
            from: &address("ci@example.com"),
            to: &[address("a@example.com"), address("b@example.com")],
            subject,
            text,
            at: Timestamp(1_000_000_000_000),
            id: "0123",
        })
    }

    #[test]
    fn a_plain_mail_reads_as_it_was_meant() {
        assert_eq!(
            composed("pool linux has paused itself", "It waits.\n.\nend"),
            "From: Busybee <ci@example.com>\r\n\
             To: a@example.com,\r\n b@example.com\r\n\
             Subject: pool linux has paused itself\r\n\
             Date: Sun, 09 Sep 2001 01:46:40 +0000\r\n\
             Message-ID: <0123@example.com>\r\n\
             Auto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 7bit\r\n\
             \r\n\
             It waits.\r\n.\r\nend\r\n"
        );
    }

    #[test]
    fn a_subject_can_add_no_header() {
        for nasty in ["a\r\nBcc: x@y", "a\nBcc: x@y", "a\rBcc: x@y", "ä\r\nBcc: x@y", "a\0\u{85}b"]
        {
            let mail = composed(nasty, "\r\nBcc: z@y\r\n.\r\nQUIT");
            let (headers, _) = mail.split_once("\r\n\r\n").expect("headers, then text");
            assert!(!headers.contains("\r\nBcc"), "{headers}");
            let lines = headers.split("\r\n").filter(|line| !line.starts_with(' '));
            assert_eq!(lines.count(), 9, "{headers}");
            assert!(
                headers.is_ascii() && !headers.replace("\r\n", "").contains(['\r', '\n', '\0'])
            );
        }
    }

    #[test]
    fn what_is_not_ascii_arrives_as_it_was() {
        let long = "ß ".repeat(60);
        let mail = composed(&long, "grüße\nan alle");
        let subject = mail.split("Subject: ").nth(1).and_then(|rest| rest.split("\r\nDate").next());
        let words = subject.expect("a subject").split("\r\n ").map(|word| {
            assert!(word.len() <= 75, "{word}");
            let coded = word.trim_start_matches("=?utf-8?B?").trim_end_matches("?=");
            String::from_utf8(STANDARD.decode(coded).expect("base64")).expect("whole characters")
        });
        assert_eq!(words.collect::<String>(), long);
        assert!(mail.contains("\r\nContent-Transfer-Encoding: base64\r\n"));
        let body = mail.split("\r\n\r\n").nth(1).expect("a text").replace("\r\n", "");
        assert_eq!(STANDARD.decode(body).expect("base64"), "grüße\r\nan alle".as_bytes());
    }

    #[test]
    fn what_is_too_long_is_cut_and_no_line_is_longer_than_mail_may_have() {
        let mail = composed(&"x".repeat(10_000), &"é".repeat(TEXT_BYTES_MAX));
        assert!(mail.split("\r\n").all(|line| line.len() <= 998));
        assert!(mail.len() < TEXT_BYTES_MAX * 3 / 2, "{}", mail.len());
        let mail = composed("long", &"x".repeat(2000));
        assert!(mail.split("\r\n").all(|line| line.len() <= 998));
    }
}
