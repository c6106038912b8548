//! `[mail]`: what was typed → what it means.

use std::net::IpAddr;

use crate::master::config::meaning::Reading;
use crate::master::config::typed::MailFile;
use crate::master::config::typed::MailTlsWord;
use crate::master::mail::address::Address;
use crate::master::mail::settings::Login;
use crate::master::mail::settings::MailSettings;
use crate::master::mail::settings::MailTls;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::placed::At;

/// Where TLS begins with the first byte (RFC 8314); on other ports it begins by STARTTLS.
const IMPLICIT_PORT: u16 = 465;

/// Addresses of one list, at most: beyond that one wants a mailing list.
const ADDRESSES_MAX: usize = 20;

/// How mail is sent; nothing where it cannot be.
pub(super) fn of(reading: &mut Reading<'_>, typed: At<MailFile>) -> Option<MailSettings> {
    let At { id: at, value: typed } = typed;
    let server = reading.refuse(typed.server.id, parse_server(&typed.server.value));
    let port = server.as_ref().map(|(_, port)| *port);
    let tls = match typed.tls.as_ref().map(|typed| typed.value) {
        Some(MailTlsWord::Starttls) => MailTls::StartTls,
        Some(MailTlsWord::Implicit) => MailTls::Implicit,
        Some(MailTlsWord::None) => MailTls::None,
        None if port == Some(IMPLICIT_PORT) => MailTls::Implicit,
        None => MailTls::StartTls,
    };
    let login = match (typed.user, typed.password_file) {
        (Some(user), Some(file)) => {
            Some(Login { user: user.value, password_file: reading.existing(&file) })
        }
        (Some(user), None) => {
            let hint = "name a file that holds the password, which only the master's user can read";
            reading.wrong(user.id, "user needs a password_file", hint);
            None
        }
        (None, Some(file)) => {
            reading.wrong(file.id, "password_file needs a user", "say as whom the master logs in");
            None
        }
        (None, None) => None,
    };
    let is_here = server.as_ref().is_some_and(|(host, _)| is_loopback(host));
    if tls == MailTls::None && !is_here {
        let place = typed.tls.as_ref().map_or(at, |tls| tls.id);
        let hint = "write tls = \"starttls\" or \"implicit\"";
        match login {
            Some(_) => {
                reading.wrong(place, "without TLS anyone on the way reads the password", hint)
            }
            None => reading.warn(place, "without TLS anyone on the way reads the mails", hint),
        }
    }
    if let (Some(ca), MailTls::None) = (&typed.ca_file, tls) {
        reading.wrong(ca.id, "ca_file is about TLS, and tls is \"none\"", "take one of them out");
    }
    let ca_file = typed.ca_file.map(|file| reading.existing(&file));
    let from = reading.refuse(typed.from.id, Address::parse(&typed.from.value));
    if typed.to.value.is_empty() {
        let hint = "name the admins: they are told of what no pool's own list is for";
        reading.wrong(typed.to.id, "to is empty", hint);
    }
    let to = addresses(reading, typed.to.id, typed.to.value);
    let (host, port) = server?;
    Some(MailSettings { host, port, tls, ca_file, login, from: from?, to })
}

/// The addresses of a list; those that are none are reported.
pub(super) fn addresses(
    reading: &mut Reading<'_>,
    at: NodeId,
    typed: Vec<At<String>>,
) -> Vec<Address> {
    if typed.len() > ADDRESSES_MAX {
        let what = format!("more than {ADDRESSES_MAX} addresses");
        reading.wrong(at, what, "make a mailing list of them");
    }
    let typed = typed.into_iter();
    typed.filter_map(|one| reading.refuse(one.id, Address::parse(&one.value))).collect()
}

/// `host:port`; an IPv6 address stands in brackets.
fn parse_server(text: &str) -> Result<(String, u16), String> {
    let hint = "write a host and a port, as in \"mail.example.com:587\"";
    let wrong = || format!("{text:?} is not a mail server\n{hint}");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fits = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            !host.is_empty() && host.chars().all(is_name)
        }
    };
    if fits { Ok((bare.unwrap_or(host).to_owned(), port)) } else { Err(wrong()) }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
