//! A store with something of everything in it, and the router over it: for the tests of the API,
//! of the pages, and of pages in a browser.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::http::Response;
use busybee::master::caller::Peer;
use busybee::master::domain::decision::Answer;
use busybee::master::http::FindRoadFile;
use busybee::master::http::HttpConfig;
use busybee::master::http::PoolView;
use busybee::master::http::ProjectView;
use busybee::master::http::RoadFile;
use busybee::master::http::Web;
use busybee::master::http::router::router;
use busybee::master::inbox::Inbox;
use busybee::master::inbox::Letter;
use busybee::master::notices::Notice;
use busybee::master::notices::Notices;
use busybee::model::ids::BuildNumber;
use busybee::model::ids::LaunchId;
use busybee::model::ids::ProjectName;
use busybee::model::labels::Labels;
use busybee::model::money::Money;
use busybee::model::secret::Secret;
use busybee::model::status::BuildStatus;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tower::ServiceExt;

pub mod archive;
pub mod history;

/// The master's token in these tests.
pub const TOKEN: &str = "tok-0123456789abcdef";

/// The project's hook token in these tests.
pub const HOOK_TOKEN: &str = "hook-0123456789abcdef";

/// A peer on this machine.
pub fn loopback() -> Peer {
    Peer::Loopback("127.0.0.1:40000".parse().unwrap())
}

/// A peer elsewhere.
pub fn remote() -> Peer {
    Peer::Remote("203.0.113.9:40000".parse().unwrap())
}

/// The adapter with what stands around it.
pub struct SeededWeb {
    pub router: Router,
    pub archive: archive::Archive,
    pub notices: Notices,
    pub stop: watch::Sender<bool>,
    /// What the domain was asked; each was answered by `answer`.
    pub asked: mpsc::UnboundedReceiver<String>,
    /// Which projects' pollers were woken.
    pub poked: mpsc::UnboundedReceiver<String>,
}

impl SeededWeb {
    /// A master that listens on loopback.
    pub async fn new(archive: archive::Archive) -> SeededWeb {
        SeededWeb::with(archive, true, Answer::Done).await
    }

    /// A master that listens on loopback or everywhere, whose domain answers every request so.
    pub async fn with(
        archive: archive::Archive,
        listen_is_loopback: bool,
        answer: Answer,
    ) -> SeededWeb {
        let (inbox, mut letters) = Inbox::new();
        let (asked_sender, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(letter) = letters.recv().await {
                if let Letter::Request(request, reply) = letter {
                    let _nobody_looks = asked_sender.send(format!("{request:?}"));
                    let _gone = reply.send(answer.clone());
                }
            }
        });
        let (poke_sender, poked) = mpsc::unbounded_channel();
        let poke = move |project: &ProjectName| {
            let _nobody_looks = poke_sender.send(project.to_string());
        };
        let (stop, stopping) = watch::channel(false);
        let notices = Notices::default();
        let web = Web {
            config: config(listen_is_loopback),
            store: archive.store.clone(),
            logs: archive.logs.clone(),
            inbox,
            notices: notices.clone(),
            road: road(),
            poke: Arc::new(poke),
            trouble: Arc::new(|project| {
                (project.as_str() == "orchard")
                    .then(|| "cannot reach it: no route to host".to_owned())
            }),
            worker_environment: Arc::new(|worker, launch: &LaunchId| {
                vec![format!("BB_NAME={worker}"), format!("BB_PASSWORD=derived-from-{launch}")]
            }),
            stopping,
        };
        SeededWeb { router: router(Arc::new(web)), archive, notices, stop, asked, poked }
    }

    /// Tells whoever watches where a build of `hello` stands.
    pub fn tell_of_build(&self, number: u64, status: BuildStatus) {
        let number = BuildNumber(number);
        self.notices.publish(Notice::Build { project: "hello".into(), number, status });
    }

    /// Sends one request as this peer.
    pub async fn send(&self, peer: Peer, request: Request<Body>) -> Response<Body> {
        let mut request = request;
        request.extensions_mut().insert(peer);
        let answered = self.router.clone().oneshot(request);
        tokio::time::timeout(Duration::from_secs(20), answered)
            .await
            .expect("the answer begins within 20 s")
            .expect("a router never fails")
    }

    /// `GET` from this machine.
    pub async fn get(&self, path: &str) -> Response<Body> {
        self.send(loopback(), get(path)).await
    }

    /// The text of a page or of JSON that must be there.
    pub async fn text(&self, path: &str) -> String {
        let response = self.get(path).await;
        let status = response.status();
        let text = body_text(response).await;
        assert!(status.is_success(), "{path}: {status}: {text}");
        text
    }
}

/// A `GET` for the host that these masters answer to.
pub fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "127.0.0.1:8443").body(Body::empty()).unwrap()
}

/// The whole body of an answer that ends.
pub async fn body_text(response: Response<Body>) -> String {
    let read = axum::body::to_bytes(response.into_body(), 64 * 1024 * 1024);
    let bytes = tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .expect("the body ends within 20 s")
        .expect("the body can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The answer that a started build gives.
pub fn started(number: u64) -> Answer {
    Answer::BuildStarted(ProjectName::from("hello"), BuildNumber(number))
}

fn config(listen_is_loopback: bool) -> HttpConfig {
    let digest = ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes());
    let labels = |labels: &[&str]| labels.iter().copied().collect::<Labels>();
    let pool = |name: &str, offered: &[&str], provisioner, max_instances| PoolView {
        name: name.into(),
        labels: labels(offered),
        provisioner,
        max_instances,
        min_idle: 0,
        idle_timeout: Duration::from_secs(600),
        daily_budget: (name == "linux").then_some(Money(5_000_000)),
        look_ahead: name == "linux",
    };
    let project = |name: &str, repo: &str| ProjectView {
        name: name.into(),
        repo: repo.into(),
        hook_token: Some(Secret::new(HOOK_TOKEN.into())),
    };
    HttpConfig {
        url: "https://ci.example.com:8443".into(),
        host_names: vec!["ci.example.com".into()],
        listen_is_loopback,
        projects: vec![
            project("hello", "https://ada:hunter2@git.example.com/hello.git"),
            project("orchard", "https://git.example.com/orchard.git"),
        ],
        pools: vec![
            pool("linux", &["linux", "x64"], "local", 4),
            pool("arm", &["arm64", "linux"], "none", 2),
        ],
        token_hash: digest.as_ref().try_into().unwrap(),
        cookie_key: [7; 32],
        daily_budget: None,
        pipeline_schema: "{\"title\":\"pipeline\"}".into(),
    }
}

fn road() -> FindRoadFile {
    Arc::new(|path, _| {
        let file = |content: &'static str, immutable| {
            Some(RoadFile { content: content.into(), immutable })
        };
        match path {
            "/runurl" => file("#!/bin/sh\n", false),
            "/bootstrap/agent.sh" => file("#!/bin/sh\necho agent\n", false),
            "/agent/0123abcd" => file("ELF", true),
            _ => None,
        }
    })
}

/// All that there is in `history`.
pub async fn seeded() -> SeededWeb {
    let archive = archive::Archive::empty().await;
    history::seed(&archive, busybee::runtime::clock::now()).await;
    SeededWeb::new(archive).await
}

/// The text between tags, with single blanks.
pub fn words(html: &str) -> String {
    let mut text = String::new();
    let mut in_tag = false;
    for character in html.chars() {
        match character {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                text.push(' ');
            }
            _ if in_tag => {}
            other => text.push(other),
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
