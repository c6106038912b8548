//! Repositories over ssh, where this machine has an sshd to try it with.

use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use busybee::master::change_source::source::CredentialFiles;
use busybee::model::attempt::GitCredential;
use busybee::runtime::clock;

use crate::house::House;
use crate::house::source;
use crate::origin::Origin;

const SSHD: &str = "/usr/sbin/sshd";
const MAIN: &str = "refs/heads/main";

/// An sshd of the test's own, for the test's own user and key.
struct SshServer {
    port: u16,
    process: Child,
}

impl SshServer {
    /// Nothing, where there is none to start.
    fn start(folder: &Path) -> Option<SshServer> {
        if !Path::new(SSHD).exists() {
            eprintln!("skipped: there is no {SSHD}");
            return None;
        }
        for key in ["host_key", "user_key", "other_key"] {
            let path = folder.join(key);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&path)
                .status()
                .expect("ssh-keygen runs");
            assert!(made.success());
        }
        std::fs::copy(folder.join("user_key.pub"), folder.join("authorized_keys")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_key\nPidFile none\n\
             AuthorizedKeysFile {0}/authorized_keys\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n",
            folder.display()
        );
        std::fs::write(folder.join("sshd_config"), config).unwrap();
        // Its place to drop privileges in, where nobody has started an sshd before.
        let _there = std::fs::create_dir_all("/run/sshd");
        let process = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(folder.join("sshd_config"))
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd runs");
        let mut server = SshServer { port, process };
        let started = clock::monotonic();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if server.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                eprintln!("skipped: sshd does not start here");
                return None;
            }
            assert!(clock::monotonic() - started < Duration::from_secs(20), "sshd does not listen");
            std::thread::yield_now();
        }
        Some(server)
    }

    fn known_hosts(&self, folder: &Path, key: &str) -> String {
        let key = std::fs::read_to_string(folder.join(format!("{key}.pub"))).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn house(origin: &Origin, server: &SshServer, key: &str, known_hosts: Option<&str>) -> House {
    let user = Command::new("id").arg("-un").output().expect("id runs");
    let user = String::from_utf8_lossy(&user.stdout).trim().to_owned();
    let path = origin.bare();
    let mut source = source(&format!("ssh://{user}@127.0.0.1:{}{}", server.port, path.display()));
    source.credential = CredentialFiles::SshKey {
        key_file: Some(origin.folder().join(key)),
        known_hosts_file: known_hosts.map(|lines| {
            let file = origin.folder().join(format!("known_hosts_{}", lines.len()));
            std::fs::write(&file, lines).unwrap();
            file
        }),
    };
    House::new(source)
}

#[tokio::test]
async fn a_private_repository_is_read_with_its_key() {
    let origin = Origin::new();
    let Some(server) = SshServer::start(origin.folder()) else { return };
    let known = server.known_hosts(origin.folder(), "host_key");
    let mut house = house(&origin, &server, "user_key", Some(&known));
    let _polling = house.start();
    let head = origin.rev("HEAD");
    assert_eq!(house.listing().await, [(MAIN.to_owned(), head.clone())]);
    assert_eq!(house.push(MAIN, &head).await.unwrap().commit.as_str(), head);
    let credential = house.changes.credential(&"hello".into()).unwrap();
    let GitCredential::SshKey { key, known_hosts } = credential else {
        panic!("a worker gets the key");
    };
    assert!(key.reveal().contains("OPENSSH PRIVATE KEY") && known_hosts == known);
}

#[tokio::test]
async fn a_wrong_key_and_a_wrong_host_are_refused_with_a_sentence() {
    let origin = Origin::new();
    let Some(server) = SshServer::start(origin.folder()) else { return };
    let known = server.known_hosts(origin.folder(), "host_key");
    let refused = house(&origin, &server, "other_key", Some(&known));
    let failure = refused.manual(None).await.unwrap_err();
    assert!(failure.sentence.contains("refuses the key"), "{failure:?}");

    let swapped = server.known_hosts(origin.folder(), "other_key") + "\n";
    let refused = house(&origin, &server, "user_key", Some(&swapped));
    let failure = refused.manual(None).await.unwrap_err();
    assert!(failure.sentence.contains("not the one that known_hosts names"), "{failure:?}");
}

#[tokio::test]
async fn the_first_key_of_a_host_is_kept_where_none_is_named() {
    let origin = Origin::new();
    let Some(server) = SshServer::start(origin.folder()) else { return };
    let house = house(&origin, &server, "user_key", None);
    house.manual(None).await.unwrap();
    let kept = std::fs::read_to_string(house.file("known_hosts")).unwrap();
    assert!(kept.contains("127.0.0.1"), "{kept}");
    // From now on it must be this key.
    let swapped = server.known_hosts(origin.folder(), "other_key");
    std::fs::write(house.file("known_hosts"), swapped).unwrap();
    let failure = house.manual(None).await.unwrap_err();
    assert!(failure.sentence.contains("not the one that known_hosts names"), "{failure:?}");
}
