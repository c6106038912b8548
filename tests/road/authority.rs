//! The master's own authority, with its key stolen: what it may not sign for, nobody believes.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use busybee::master::certificates::Certificates;
use busybee::master::certificates::Source;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::machine::program;

/// What the master is called; every authority may also sign for its own machine.
const NAMES: [&str; 2] = ["ci.example.com", "10.0.0.7"];

/// For whom else somebody with the key would sign: a host, its neighbours, an address.
const FOREIGN: [&str; 4] = ["www.example.org", "example.com", "not-ci.example.com", "10.0.0.8"];

/// No fetch on loopback takes a part of this.
const FETCH_S: &str = "20";
const CLIENT_SILENCE: Duration = Duration::from_secs(20);

/// An authority as the master makes it.
struct Thief {
    dir: tempfile::TempDir,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Thief {
    fn new() -> Thief {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let names = NAMES.map(str::to_owned).to_vec();
        let data_dir = dir.path().to_owned();
        Certificates::open(Source::PrivateAuthority { data_dir, names }).expect("an authority");
        let read = |name: &str| {
            std::fs::read_to_string(dir.path().join("ca").join(name)).expect("the master wrote it")
        };
        let certificate =
            CertificateDer::from_pem_slice(read("ca.pem").as_bytes()).expect("a certificate");
        let key = KeyPair::from_pem(&read("ca.key")).expect("its key");
        Thief { dir, certificate, key }
    }

    /// The file that a worker trusts.
    fn ca_file(&self) -> std::path::PathBuf {
        self.dir.path().join("ca/ca.pem")
    }

    /// A server's identity for this host, signed with the stolen key.
    fn forge(&self, host: &str) -> Arc<ServerConfig> {
        // As in the master's own: with no name of a host at all, some look at the common name.
        let names = [host.to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, "a forged master");
        let leaf_key = KeyPair::generate().expect("a P-256 key");
        // The authority's name, as it stands in its own certificate.
        let digest = ring::digest::digest(&ring::digest::SHA256, self.key.public_key_raw());
        let mark: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut authority = CertificateParams::default();
        authority.distinguished_name = rcgen::DistinguishedName::new();
        let name = format!("Busybee authority {mark}");
        authority.distinguished_name.push(DnType::CommonName, name);
        let leaf = params
            .signed_by(&leaf_key, &Issuer::new(authority, &self.key))
            .expect("the key signs anything");
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let leaf_key = PrivateKeyDer::try_from(leaf_key.serialize_der()).expect("PKCS#8");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the usual versions")
            .with_no_client_auth()
            .with_single_cert(chain, leaf_key)
            .expect("key and certificate belong together");
        Arc::new(config)
    }

    /// A proxy of one call, behind which stands the forged host, whatever it is called.
    fn answer_one(&self, host: &str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let config = self.forge(host);
        // A client that does not believe us hangs up: what these tests are for.
        std::thread::spawn(move || drop(listener.accept().map(|(it, _)| answer(it, config))));
        address
    }
}

fn answer(mut stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(CLIENT_SILENCE))?;
    read_head(&mut stream)?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    read_head(&mut tls)?;
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nbelieved")?;
    tls.conn.send_close_notify();
    tls.flush()
}

/// Reads the head of a request, and no byte more.
fn read_head(stream: &mut impl Read) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(())
}

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

/// What a program says to a host that shows a certificate of the authority.
fn fetch_with(fetch: impl Fn(&str, &str, &str) -> Output) {
    let thief = Thief::new();
    let ca_file = thief.ca_file().display().to_string();
    let hosts = NAMES.iter().chain(&["localhost", "127.0.0.1"]).map(|host| (host, true));
    for (host, permitted) in hosts.chain(FOREIGN.iter().map(|host| (host, false))) {
        let proxy = format!("http://{}", thief.answer_one(host));
        let output = fetch(&ca_file, &proxy, &format!("https://{host}/"));
        let believed = output.stdout == b"believed" && output.status.success();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(believed, permitted, "{host}: {}: {said}", output.status);
        // Refused for its certificate, and not for want of a connection.
        let word = said.to_lowercase();
        assert!(permitted || word.contains("certificate"), "{host}: {}: {said}", output.status);
    }
}

#[test]
fn curl_believes_the_masters_authority_for_the_masters_names_alone() {
    let Some(curl) = program("curl") else { return };
    fetch_with(|ca_file, proxy, url| {
        let how = ["--silent", "--show-error", "--max-time", FETCH_S, "--noproxy", ""];
        run(&curl, &[&how[..], &["--cacert", ca_file, "--proxy", proxy, url]].concat())
    });
}

#[test]
fn gnu_wget_believes_the_masters_authority_for_the_masters_names_alone() {
    let Some(wget) = program("wget") else { return };
    let version = run(&wget, &["--version"]);
    if !version.stdout.starts_with(b"GNU Wget") {
        let required = std::env::var("BUSYBEE_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "wget is not GNU's, and BUSYBEE_REQUIRE_TOOLS=1 is set");
        println!("SKIPPED: wget is not GNU's");
        return;
    }
    fetch_with(|ca_file, proxy, url| {
        let ca = format!("--ca-certificate={ca_file}");
        let through = format!("https_proxy={proxy}");
        let how = ["--no-config", "--no-verbose", "--tries=1", "--timeout", FETCH_S, "-O", "-"];
        run(&wget, &[&how[..], &[&ca, "-e", "use_proxy=yes", "-e", &through, url]].concat())
    });
}
