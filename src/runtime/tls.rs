//! TLS for both ends: what is spoken, who is trusted, and a certificate that can be exchanged.
//!
//! The provider is named in every configuration, never installed for the process: so no library
//! can change it. Nothing here makes certificates; the master's `certificates.rs` does.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use anyhow::Context;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::version::TLS12;
use rustls::version::TLS13;

/// The agent channel's name in ALPN.
pub const ALPN_AGENT: &[u8] = b"busybee/1";

/// The label under which both ends take the exporter (RFC 9266).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// What ties a proof to its connection: both ends of it get the same 32 bytes, and nobody else.
///
/// # Errors
/// When the handshake is not over.
pub fn exporter<Side>(
    connection: &rustls::ConnectionCommon<Side>,
) -> Result<[u8; 32], rustls::Error> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificate that the one port shows, exchanged while it serves.
#[derive(Debug)]
pub struct ServedCertificate {
    shown: RwLock<Arc<CertifiedKey>>,
}

impl ServedCertificate {
    /// Shows this chain (the leaf first) with its key, both in PEM.
    ///
    /// # Errors
    /// When they cannot be read or do not belong together.
    pub fn new(chain_pem: &[u8], key_pem: &[u8]) -> anyhow::Result<ServedCertificate> {
        Ok(ServedCertificate { shown: RwLock::new(Arc::new(certified(chain_pem, key_pem)?)) })
    }

    /// From the next connection on, shows this one.
    ///
    /// # Errors
    /// When it is unusable; the one before stays.
    pub fn exchange(&self, chain_pem: &[u8], key_pem: &[u8]) -> anyhow::Result<()> {
        let certified = Arc::new(certified(chain_pem, key_pem)?);
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn certified(chain_pem: &[u8], key_pem: &[u8]) -> anyhow::Result<CertifiedKey> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow::anyhow!("no certificate in PEM: {error}"))?;
    anyhow::ensure!(!chain.is_empty(), "no certificate in PEM");
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|error| anyhow::anyhow!("no private key in PEM: {error}"))?;
    CertifiedKey::from_der(chain, key, &provider()).context("use the certificate with its key")
}

/// What agents are served with: TLS 1.3 alone, no resumption (each connection proves itself anew).
///
/// # Panics
/// Never: the provider speaks TLS 1.3.
pub fn agent_server_config(certificate: Arc<ServedCertificate>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("ring speaks TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN_AGENT.to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// What people and scripts are served with: TLS 1.2 too, for old images' curl.
///
/// # Panics
/// Never: the provider speaks both.
pub fn http_server_config(certificate: Arc<ServedCertificate>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What an agent connects with. It trusts `ca_pem` and nothing else, or the system's roots where
/// there is none.
///
/// # Errors
/// When there is no authority that could be trusted.
pub fn agent_client_config(ca_pem: Option<&[u8]>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("ring speaks TLS 1.3")
        .with_root_certificates(roots(ca_pem)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_AGENT.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// What one fetches over HTTPS with, trusting as [`agent_client_config`] does.
///
/// # Errors
/// When there is no authority that could be trusted.
pub fn http_client_config(ca_pem: Option<&[u8]>) -> anyhow::Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots(ca_pem)?)
        .with_no_client_auth();
    Ok(config)
}

fn roots(ca_pem: Option<&[u8]>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = ca_pem else {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        anyhow::ensure!(
            !roots.is_empty(),
            "find no certificate authority on this system: install ca-certificates, or give BB_CA"
        );
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate
            .map_err(|error| anyhow::anyhow!("read the authority's certificate: {error}"))?;
        roots.add(certificate).context("use the authority's certificate")?;
    }
    anyhow::ensure!(!roots.is_empty(), "find no certificate in the authority's file");
    Ok(roots)
}
