//! A master played by a test, and a real agent that calls it: a process of its own, over real TLS.

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use busybee::master::certificates::Certificates;
use busybee::master::certificates::Source;
use busybee::model::ids::LaunchId;
use busybee::model::secret::Secret;
use busybee::runtime::clock;
use busybee::runtime::tls;
use busybee::runtime::tls::ServedCertificate;
use busybee::wire::convert;
use busybee::wire::frame::Frames;
use busybee::wire::handshake;
use busybee::wire::handshake::Expected;
use busybee::wire::handshake::SigningKey;
use busybee::wire::handshake::Transcript;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use busybee::wire::message::Hello;
use busybee::wire::message::Welcome;
use busybee::wire::version;
use bytes::BufMut;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::house::DEADLINE;

/// How often a file is looked at that somebody else writes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the kernel keeps for a reader that is slow: as on a network, and not megabytes.
const RECEIVE_BUFFER_BYTES: u32 = 64 * 1024;

/// What a master answers on: its port, its certificate, its key.
pub(crate) struct FakeMaster {
    listener: TcpListener,
    trusted: String,
    shown: Arc<ServedCertificate>,
    key: SigningKey,
    password: Secret<String>,
    dir: tempfile::TempDir,
}

impl FakeMaster {
    /// With an authority of its own, and one worker, `w1`.
    pub(crate) async fn open() -> FakeMaster {
        FakeMaster::open_at("127.0.0.1").await
    }

    /// The outer half of a real one: `w1` has this password.
    pub(crate) async fn open_for(password: Secret<String>) -> FakeMaster {
        FakeMaster { password, ..FakeMaster::open().await }
    }

    /// At another address of loopback than those that its certificate is for.
    pub(crate) async fn open_elsewhere() -> FakeMaster {
        FakeMaster::open_at("127.0.0.2").await
    }

    async fn open_at(host: &str) -> FakeMaster {
        let dir = tempfile::Builder::new().prefix("fake-master-").tempdir().expect("a directory");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).expect("a small buffer");
        socket.bind(format!("{host}:0").parse().expect("an address")).expect("a free port");
        let certificates = authority(dir.path().join("own"));
        FakeMaster {
            listener: socket.listen(16).expect("it listens"),
            trusted: certificates.ca_pem.expect("an authority of its own"),
            shown: certificates.served,
            key: SigningKey::from_seed(&Secret::new([5; 32])),
            password: handshake::bootstrap_password(&[7; 32], &LaunchId::from("launch-1"), 0),
            dir,
        }
    }

    /// Shows a certificate of its own authority, or of one that no agent trusts.
    pub(crate) fn show(&mut self, authority_name: &str) {
        self.shown = authority(self.dir.path().join(authority_name)).served;
    }

    pub(crate) fn password(&self) -> &Secret<String> {
        &self.password
    }

    /// A key that no agent ever pinned.
    pub(crate) fn exchange_key(&mut self) {
        self.key = SigningKey::from_seed(&Secret::new([6; 32]));
    }

    /// Starts the agent, as a process that trusts this master's authority.
    pub(crate) fn start_agent(&self) -> Agent {
        self.start_agent_with(&[])
    }

    /// The same with further variables.
    pub(crate) fn start_agent_with(&self, variables: &[(&str, &Path)]) -> Agent {
        let ca = self.dir.path().join("ca.pem");
        std::fs::write(&ca, &self.trusted).expect("write the CA");
        let address = self.listener.local_addr().expect("it is bound");
        let said = self.dir.path().join("agent.log");
        let log = std::fs::File::create(&said).expect("make the agent's log");
        let home = self.dir.path().join("home");
        let process = Command::new(env!("CARGO_BIN_EXE_busybee-agent"))
            .arg("run")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("BB_MASTER", address.to_string())
            .env("BB_MASTER_URL", format!("https://{address}"))
            .env("BB_NAME", "w1")
            .env("BB_PASSWORD", self.password.reveal())
            .env("BB_CA", &ca)
            .env("BB_ROAD", "own")
            .env("BB_HOME", &home)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the agent's log"))
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        Agent { process, said, home }
    }

    /// The next connection, once TLS is through; or why it came to nothing.
    pub(crate) async fn accept(&self) -> std::io::Result<Call> {
        let accepting = async {
            let (stream, _agent) = self.listener.accept().await?;
            self.secure(stream).await
        };
        tokio::time::timeout(DEADLINE, accepting).await.expect("the agent calls in time")
    }

    /// The next connection, before a byte of it was read.
    pub(crate) async fn accept_bare(&self) -> TcpStream {
        let accepting = tokio::time::timeout(DEADLINE, self.listener.accept()).await;
        accepting.expect("the agent calls in time").expect("it is accepted").0
    }

    /// Speaks TLS on a connection.
    pub(crate) async fn secure(&self, stream: TcpStream) -> std::io::Result<Call> {
        let config = tls::agent_server_config(self.shown.clone());
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let exporter = tls::exporter(stream.get_ref().1).map_err(std::io::Error::other)?;
        Ok(Call { stream, frames: Frames::before_welcome(), exporter })
    }

    /// The next connection and its greeting, whose proof holds; whose key is bound is not asked.
    pub(crate) async fn greeted(&self) -> (Call, Hello) {
        let mut call = self.accept().await.expect("TLS with the right certificate");
        let hello = match call.hear().await {
            Some(FromAgent::Hello(hello)) => hello,
            other => panic!("a greeting was due, not {other:?}"),
        };
        let expected = Expected {
            password: self.password.clone(),
            public_key: Some(hello.public_key.clone()),
        };
        let transcript = Transcript::new(&hello, &call.exporter);
        assert!(handshake::proof_holds(&hello, &transcript, &expected), "{hello:?}");
        (call, hello)
    }

    /// The answer that the right master gives to this greeting.
    pub(crate) fn welcome(&self, call: &Call, hello: &Hello) -> Welcome {
        let transcript = Transcript::new(hello, &call.exporter);
        let proto = version::PROTO_MAX;
        Welcome {
            proto,
            master_key: self.key.public(),
            proof: handshake::prove_master(hello, &transcript, &self.password, &self.key, proto),
            heartbeat_busy: Duration::from_secs(1),
            heartbeat_idle: Duration::from_secs(30),
            lease: Duration::from_secs(60),
            server_time: clock::now(),
        }
    }

    /// Lets the agent in. Its inventory is still to come.
    pub(crate) async fn let_in(&self, call: &mut Call, hello: &Hello) {
        call.say(FromMaster::Welcome(self.welcome(call, hello))).await;
        call.frames.welcome();
    }
}

fn authority(data_dir: PathBuf) -> Certificates {
    std::fs::create_dir_all(&data_dir).expect("a folder for the authority");
    let names = Vec::new();
    Certificates::open(Source::PrivateAuthority { data_dir, names }).expect("an authority")
}

/// A connection of the agent.
pub(crate) struct Call {
    pub(crate) stream: TlsStream<TcpStream>,
    frames: Frames,
    pub(crate) exporter: [u8; 32],
}

impl Call {
    pub(crate) async fn say(&mut self, message: FromMaster) {
        let mut bytes = BytesMut::new();
        convert::append_from_master(message, &mut bytes).expect("it fits into a frame");
        // The agent may have hung up; what it does then shows when it is heard.
        let _gone = self.stream.write_all(&bytes).await;
        let _gone = self.stream.flush().await;
    }

    /// A message that is here already.
    pub(crate) fn take(&mut self) -> Option<FromAgent> {
        let body = self.frames.take().expect("the agent keeps to the frames")?;
        Some(convert::read_from_agent(&body).expect("the agent keeps to the protocol"))
    }

    /// Says the first half of it.
    pub(crate) async fn say_half(&mut self, message: FromMaster) {
        let mut bytes = BytesMut::new();
        convert::append_from_master(message, &mut bytes).expect("it fits into a frame");
        self.stream.write_all(&bytes[..bytes.len() / 2]).await.expect("the agent takes it");
        self.stream.flush().await.expect("the agent takes it");
    }

    /// Reads once; false: the agent hung up.
    async fn read(&mut self) -> bool {
        self.read_at_most(usize::MAX).await
    }

    /// Reads once, and not more than this; false: the agent hung up.
    pub(crate) async fn read_at_most(&mut self, bytes: usize) -> bool {
        let mut room = self.frames.room().limit(bytes);
        let reading = self.stream.read_buf(&mut room);
        let read = tokio::time::timeout(DEADLINE, reading).await.expect("a word or an end in time");
        read.unwrap_or(0) > 0
    }

    /// The next message; nothing: the agent hung up.
    pub(crate) async fn hear(&mut self) -> Option<FromAgent> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            if !self.read().await {
                return None;
            }
        }
    }
}

/// An agent's process; it is ended when this is dropped.
pub(crate) struct Agent {
    process: Child,
    said: PathBuf,
    pub(crate) home: PathBuf,
}

impl Agent {
    /// What it has written so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Waits until it has written this so often.
    pub(crate) async fn says(&self, words: &str, times: usize) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let saying = async {
            while self.said().matches(words).count() < times {
                looks.tick().await;
            }
        };
        if tokio::time::timeout(DEADLINE, saying).await.is_err() {
            panic!("the agent did not say {words:?} {times} times, but:\n{}", self.said());
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ends(&mut self) -> ExitStatus {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let ending = async {
            loop {
                if let Some(status) = self.process.try_wait().expect("it is our child") {
                    return status;
                }
                looks.tick().await;
            }
        };
        let ended = tokio::time::timeout(DEADLINE, ending).await;
        ended.unwrap_or_else(|_| panic!("the agent stays:\n{}", self.said()))
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
