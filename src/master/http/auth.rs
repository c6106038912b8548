//! Who calls, and what they may: the rules of protocol.md section 8, row 11.
//!
//! Nothing here is about one URL: router.rs says which of these guards stands before which.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header;
use axum::http::request::Parts;

use crate::api::ErrorKind;
use crate::master::caller::Peer;
use crate::master::http::HttpConfig;
use crate::master::http::error::Problem;
use crate::model::time::Timestamp;
use crate::runtime::clock;

/// How long a login lasts. A month: long enough not to be in the way, short enough that a lost
/// laptop's is dead before long.
const LOGIN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Headers that only a proxy sets. With one of them a request that comes from loopback may have
/// begun anywhere.
const FORWARDING_HEADERS: [&str; 9] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
];

/// What a caller was found to be. An extension of every request behind the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whether it may see pages and read the API.
    pub may_read: bool,
    /// Whether it has proved that it may change things; its origin is checked apart.
    pub may_change: bool,
    /// Whether it proved so with the cookie of a browser's login.
    pub by_cookie: bool,
}

/// Where a request came from. Whoever forgot to say so is treated as a stranger.
pub fn peer(parts: &Parts) -> Peer {
    let stranger = Peer::Remote(std::net::SocketAddr::from(([0, 0, 0, 0], 0)));
    parts.extensions.get().copied().unwrap_or(stranger)
}

/// Refuses names that are not this master's: a page elsewhere may have made its own name point here.
pub fn check_host(config: &HttpConfig, parts: &Parts) -> Result<(), Problem> {
    if peer(parts) == Peer::Owner {
        // No browser speaks to a Unix socket, and its clients have no host to name.
        return Ok(());
    }
    let authority = authority(parts).unwrap_or_default();
    let name = host_name(&authority);
    if is_loopback_name(&name) && config.listen_is_loopback {
        return Ok(());
    }
    if config.host_names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
        return Ok(());
    }
    let sentence = format!(
        "this master does not answer to the host \"{name}\": use the `url` of its file, or add the name there"
    );
    Err(Problem::new(ErrorKind::Forbidden, sentence))
}

/// Finds out what a caller may.
///
/// # Errors
/// A token that is given and wrong is refused at once, even where none is needed: whoever sends
/// one believes in it.
pub fn identify(config: &HttpConfig, parts: &Parts) -> Result<Caller, Problem> {
    if peer(parts) == Peer::Owner {
        return Ok(Caller { may_read: true, may_change: true, by_cookie: false });
    }
    if let Some(token) = bearer(&parts.headers) {
        if !token_matches(&config.token_hash, token) {
            let sentence =
                "the token is wrong: the right one is in the file `token` of the master's data_dir";
            return Err(Problem::new(ErrorKind::Unauthorized, sentence));
        }
        return Ok(Caller { may_read: true, may_change: true, by_cookie: false });
    }
    let by_cookie = login_cookies(config, &parts.headers)
        .any(|cookie| login_is_valid(config, cookie, clock::now()));
    Ok(Caller {
        may_read: by_cookie || may_read_without_token(config, parts),
        may_change: by_cookie,
        by_cookie,
    })
}

/// Whether listen address, peer and host are all this machine, and no proxy stands between.
pub fn may_read_without_token(config: &HttpConfig, parts: &Parts) -> bool {
    config.listen_is_loopback
        && matches!(peer(parts), Peer::Loopback(_))
        && authority(parts).is_some_and(|authority| is_loopback_name(&host_name(&authority)))
        && !was_forwarded(&parts.headers)
}

/// Whether a proxy has had this request in its hands.
pub fn was_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name))
}

/// Refuses a change that another origin's page sent. `must_say`: a browser's login is involved,
/// so a request that says nothing of its origin is refused too.
pub fn check_origin(parts: &Parts, must_say: bool) -> Result<(), Problem> {
    let refuse = |sentence: &str| Err(Problem::new(ErrorKind::Forbidden, sentence));
    let site = parts.headers.get("sec-fetch-site").map(|value| value.as_bytes());
    match site {
        Some(b"same-origin") => {}
        // Typed or bookmarked: browsers send changes so only for a form's reload.
        Some(b"none") if !must_say => {}
        Some(_) => {
            return refuse("this change came from another site's page; open the master's own page");
        }
        None => {}
    }
    match parts.headers.get(header::ORIGIN) {
        Some(origin) if origin_is_ours(origin.as_bytes(), authority(parts)) => Ok(()),
        Some(_) => refuse("this change came from another origin; open the master's own page"),
        None if site.is_none() && must_say => refuse(
            "the browser did not say where this change comes from; use a newer one, or a token",
        ),
        None => Ok(()),
    }
}

/// Whether an `Origin` names the very host and port the request is for.
fn origin_is_ours(origin: &[u8], authority: Option<String>) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let Some((scheme, origin_authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let with_port = |authority: &str| {
        let name = host_name(authority);
        let port = authority.strip_prefix(&name).and_then(|rest| rest.strip_prefix(':'));
        (
            name.to_ascii_lowercase(),
            port.map_or(Some(default_port), |port| port.parse::<u16>().ok()),
        )
    };
    authority.is_some_and(|ours| with_port(&ours) == with_port(origin_authority))
}

/// The host and port a request is for: HTTP/2's `:authority`, else `Host`.
fn authority(parts: &Parts) -> Option<String> {
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.as_str().to_owned());
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    // Two of them: which one a proxy believed, nobody knows.
    if hosts.next().is_some() { None } else { Some(host.to_owned()) }
}

/// The name in `name:port`, brackets of an IPv6 address included.
fn host_name(authority: &str) -> String {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').map_or(authority.len(), |end| end + 2),
        None => authority.find(':').unwrap_or(authority.len()),
    };
    authority[..end].to_owned()
}

fn is_loopback_name(name: &str) -> bool {
    let is_loopback_v4 = || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    name.eq_ignore_ascii_case("localhost") || name == "[::1]" || is_loopback_v4()
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares hashes, in constant time, so that neither length nor content of the token shows.
pub fn token_matches(token_hash: &[u8; 32], token: &str) -> bool {
    let given = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    same_bytes(given.as_ref(), token_hash)
}

/// Compares two secrets in constant time.
pub fn same_secret(left: &str, right: &str) -> bool {
    same_bytes(left.as_bytes(), right.as_bytes())
}

fn same_bytes(left: &[u8], right: &[u8]) -> bool {
    // The verdict on a MAC is ring's only comparison in constant time; under a key drawn for
    // nothing else it says just whether both are equal.
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"compare");
    ring::hmac::verify(&key, left, ring::hmac::sign(&key, right).as_ref()).is_ok()
}

/// The `Set-Cookie` of a login: when it ends, and a MAC of that which only this master can make.
pub fn login_cookie(config: &HttpConfig, now: Timestamp, secure: bool) -> String {
    let expires_at = now + LOGIN_LIFETIME;
    let value = format!("{}.{}", expires_at.0, login_mac(config, expires_at));
    set_cookie(config, &value, LOGIN_LIFETIME.as_secs(), secure)
}

/// The `Set-Cookie` that ends a login.
pub fn logout_cookie(config: &HttpConfig, secure: bool) -> String {
    set_cookie(config, "", 0, secure)
}

fn set_cookie(config: &HttpConfig, value: &str, max_age_s: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    let name = cookie_name(config);
    format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}")
}

/// Cookies are shared by all ports of a host, so each master's has a name of its own.
fn cookie_name(config: &HttpConfig) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &config.cookie_key);
    format!("busybee_{}", hex(&digest.as_ref()[..4]))
}

/// The token's hash is part of it: a new token ends all logins made with the old one.
fn login_mac(config: &HttpConfig, expires_at: Timestamp) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &config.cookie_key);
    let mut context = ring::hmac::Context::with_key(&key);
    context.update(b"busybee login");
    context.update(&config.token_hash);
    context.update(&expires_at.0.to_be_bytes());
    hex(context.sign().as_ref())
}

fn login_is_valid(config: &HttpConfig, cookie: &str, now: Timestamp) -> bool {
    let Some((expires_at, mac)) = cookie.split_once('.') else { return false };
    let Ok(expires_at) = expires_at.parse().map(Timestamp) else { return false };
    same_bytes(mac.as_bytes(), login_mac(config, expires_at).as_bytes()) && now < expires_at
}

fn login_cookies<'a>(config: &HttpConfig, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
    let name = cookie_name(config);
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(move |pair| pair.trim().strip_prefix(&name)?.strip_prefix('='))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_cut_from_its_port_and_keeps_its_brackets() {
        let check = |authority: &str, name: &str| assert_eq!(host_name(authority), name);
        check("ci.example.com:8443", "ci.example.com");
        check("ci.example.com", "ci.example.com");
        check("[::1]:8443", "[::1]");
        check("[::1", "[::1");
        check("", "");
    }

    #[test]
    fn only_names_that_resolve_nowhere_else_are_loopback() {
        for name in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_loopback_name(name), "{name}");
        }
        for name in ["localhost.example.com", "127.0.0.1.example.com", "0.0.0.0", "10.0.0.1", ""] {
            assert!(!is_loopback_name(name), "{name}");
        }
    }

    #[test]
    fn an_origin_is_ours_only_with_the_same_host_and_port() {
        let check = |origin: &str, host: &str| origin_is_ours(origin.as_bytes(), Some(host.into()));
        assert!(check("https://ci.example.com", "ci.example.com"));
        assert!(check("https://ci.example.com", "ci.example.com:443"));
        assert!(check("http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(!check("http://127.0.0.1:8081", "127.0.0.1:8080"));
        assert!(!check("http://evil.example.com:8080", "127.0.0.1:8080"));
        assert!(!check("null", "127.0.0.1:8080"));
        assert!(!check("file://", "127.0.0.1:8080"));
        assert!(check("http://[::1]:80", "[::1]"));
    }
}
