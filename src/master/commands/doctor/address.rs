//! The address that instances are told: whether it leads here, and whether agents are understood there.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::master::config::Config;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::provisioner::Finding;
use crate::runtime::tls;

/// For a name to be resolved, and then for a connection, and for TLS on it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the address of `[master].url`. `authority`: whom instances are told to trust; nothing: their
/// system's; an error: not known yet.
pub(super) async fn examine(
    config: &Config,
    master: &str,
    authority: anyhow::Result<Option<String>>,
) -> Vec<Finding> {
    let found = match tokio::time::timeout(PATIENCE, tokio::net::lookup_host(master)).await {
        Err(_) => Err("no answer from DNS".to_owned()),
        Ok(Err(why)) => Err(why.to_string()),
        Ok(Ok(addresses)) => Ok(addresses.collect::<Vec<SocketAddr>>()),
    };
    let addresses = match found {
        Ok(addresses) if !addresses.is_empty() => addresses,
        nothing => {
            let why = nothing.err().unwrap_or_else(|| "it has no address".to_owned());
            let fix = "give it an address in DNS that instances see, or write an address into url";
            return vec![Finding::bad(format!("{master} leads nowhere: {why}"), fix)];
        }
    };
    let has_cloud =
        config.pools.iter().any(|pool| pool.settings.provisioner == ProvisionerKind::Ec2);
    let mut findings: Vec<Finding> =
        addresses.iter().map(|address| place(master, address.ip(), has_cloud)).collect();
    findings.dedup();
    let authority = match authority {
        Ok(authority) => authority,
        Err(why) => {
            findings.push(Finding::doubtful(
                format!("what answers at {master} was not looked at: {why:#}"),
                "start the master once, and run the doctor as its user or as root",
            ));
            return findings;
        }
    };
    findings.push(match answer(master, addresses[0], authority.as_deref()).await {
        Ok(finding) => finding,
        Err(why) => Finding::bad(
            format!("what answers at {master} is not this master: {why:#}"),
            "see what else listens there; agents need the master's own port, with nothing between that \
             ends TLS",
        ),
    });
    findings
}

/// From where an address is reached.
fn place(master: &str, address: IpAddr, has_cloud: bool) -> Finding {
    if address.is_loopback() || address.is_unspecified() {
        return match has_cloud {
            true => Finding::bad(
                format!("{master} is {address}, which on an instance is the instance itself"),
                "write into url what instances call: a public name, or the master's address in their network",
            ),
            false => Finding::good(format!("{master} is {address}: only this machine reaches it")),
        };
    }
    let is_private = match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    Finding::good(match is_private {
        true => format!("{master} is {address}: only machines of the same network (VPC) reach it"),
        false => format!("{master} is {address}"),
    })
}

/// Greets as an agent does, as far as TLS goes.
///
/// # Errors
/// Why no agent would be understood.
async fn answer(
    master: &str,
    address: SocketAddr,
    authority: Option<&str>,
) -> anyhow::Result<Finding> {
    let silent = |why: String| {
        Finding::doubtful(
            format!("nothing answers at {master}: {why}"),
            "start the master, let the port through, and ask again",
        )
    };
    let stream = match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        Err(_) => return Ok(silent(format!("no connection in {} s", PATIENCE.as_secs()))),
        Ok(Err(why)) => return Ok(silent(why.to_string())),
        Ok(Ok(stream)) => stream,
    };
    let host = master.rsplit_once(':').map_or(master, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).context("use its name")?;
    let connector = TlsConnector::from(tls::agent_client_config(authority.map(str::as_bytes))?);
    let greeted = tokio::time::timeout(PATIENCE, connector.connect(name, stream)).await;
    let greeted = match greeted.context("no end of the TLS handshake")? {
        // As a forwarder does that has nobody to pass it on to.
        Err(why) if matches!(why.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            return Ok(silent("the connection is closed at once".to_owned()));
        }
        other => other.context("TLS")?,
    };
    let spoken = greeted.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    anyhow::ensure!(
        spoken.as_deref() == Some(tls::ALPN_AGENT),
        "it speaks TLS, but not busybee/1 (ALPN): a proxy or load balancer ends TLS there"
    );
    Ok(Finding::good(format!("the master answers at {master} as agents need it")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::Verdict;

    #[test]
    fn an_address_that_means_every_machine_itself_is_told_apart() {
        let check = |address: &str, has_cloud: bool, verdict: Verdict| {
            let finding = place("ci:8443", address.parse().unwrap(), has_cloud);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
        };
        check("127.0.0.1", true, Verdict::Bad);
        check("0.0.0.0", true, Verdict::Bad);
        check("::1", true, Verdict::Bad);
        check("127.0.0.1", false, Verdict::Good);
        check("10.1.2.3", true, Verdict::Good);
        check("203.0.113.9", true, Verdict::Good);
    }
}
