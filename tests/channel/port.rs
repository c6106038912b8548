//! The one port on loopback as a master serves it: the listener, real pages, the agents of a house.

use std::net::SocketAddr;
use std::sync::Arc;

use busybee::master::certificates::Certificates;
use busybee::master::certificates::Source;
use busybee::master::listener::Listener;
use busybee::master::listener::Served;
use busybee::model::time::Timestamp;
use busybee::runtime::tls;
use busybee::runtime::tls::ServedCertificate;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::house::DEADLINE;
use crate::house::House;
use crate::seeded_web::SeededWeb;
use crate::seeded_web::archive::Archive;
use crate::seeded_web::history;

/// A fixed moment.
const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// A port that is served until this is dropped.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) house: House,
    /// What it shows, with the key to it.
    pub(crate) certificate: Arc<ServedCertificate>,
    _web: SeededWeb,
    _data_dir: tempfile::TempDir,
    _serving: watch::Sender<bool>,
}

impl Port {
    /// Any free port of loopback.
    pub(crate) async fn open() -> Port {
        let data_dir = tempfile::tempdir().expect("a scratch directory");
        let source =
            Source::PrivateAuthority { data_dir: data_dir.path().to_owned(), names: Vec::new() };
        let certificates = Certificates::open(source).expect("a new authority");
        let archive = Archive::empty().await;
        history::seed(&archive, NOW).await;
        let (house, web) = (House::open().await, SeededWeb::new(archive).await);
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), None)
            .await
            .expect("loopback has a free port");
        let (address, agents) = (listener.address(), house.agents.clone());
        let certificate = certificates.served;
        let served =
            Served { certificate: certificate.clone(), router: web.router.clone(), agents };
        let (serving, stopped) = watch::channel(false);
        tokio::spawn(listener.serve(served, stopped));
        let ca_pem = certificates.ca_pem.expect("an authority of its own");
        Port {
            address,
            ca_pem,
            house,
            certificate,
            _web: web,
            _data_dir: data_dir,
            _serving: serving,
        }
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the port takes connections")
    }

    /// How a client that speaks these versions and offers these protocols is set up.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        offered: &[&[u8]],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("an authority");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("ring speaks them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }

    pub(crate) async fn tls(
        &self,
        config: Arc<ClientConfig>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::from(self.address.ip());
        let connecting = TlsConnector::from(config).connect(name, self.tcp().await);
        tokio::time::timeout(DEADLINE, connecting).await.expect("TLS works or fails in time")
    }

    /// A connection that agreed on the agent channel.
    pub(crate) async fn agent_tls(&self) -> TlsStream<TcpStream> {
        let config = tls::agent_client_config(Some(self.ca_pem.as_bytes())).expect("a good CA");
        self.tls(config).await.expect("the port speaks with agents")
    }

    /// Fetches a page on a connection of its own; the status line.
    pub(crate) async fn get(&self, config: Arc<ClientConfig>, path: &str) -> String {
        let mut stream = self.tls(config).await.expect("the port speaks TLS with people");
        let (port, mut answer) = (self.address.port(), Vec::new());
        let asked = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n");
        let asking = async {
            stream.write_all(format!("{asked}connection: close\r\n\r\n").as_bytes()).await?;
            stream.read_to_end(&mut answer).await
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("an answer").expect("a whole one");
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }
}
