//! Requests to the pages, the API and the hooks, with any path, query, headers and body.
//!
//! No answer is the master's own fault (5xx). Nothing is changed without a token or a login. A hook
//! wakes the one project that its path names, and only from this machine or with a token; its body
//! counts for nothing. A stranger without a token reads nothing but what is open to all. Every
//! answer carries the headers that keep browsers from running it.

#![no_main]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Request;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::Uri;
use busybee::master::caller::Peer;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::Refusal;
use busybee::master::domain::decision::RefusalKind;
use busybee::master::http::HttpConfig;
use busybee::master::http::ProjectView;
use busybee::master::http::Web;
use busybee::master::http::router;
use busybee::master::inbox::Inbox;
use busybee::master::inbox::Letter;
use busybee::master::logs::LogStore;
use busybee::master::notices::Notices;
use busybee::master::store::Store;
use busybee::model::secret::Secret;
use busybee_fuzz::runtime;
use libfuzzer_sys::arbitrary;
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tower::ServiceExt;

const TOKEN: &str = "the master's token";
const HOOK_TOKEN: &str = "the hook's token";
const OPEN: &[&str] = &[
    "/runurl",
    "/bootstrap/",
    "/agent/",
    "/healthz",
    "/schema/",
    "/static/",
    "/favicon.ico",
    "/login",
    "/logout",
];

#[derive(Arbitrary, Debug)]
struct Sent<'a> {
    remote: bool,
    post: bool,
    place: Place<'a>,
    query: &'a str,
    headers: Vec<(Header, &'a [u8])>,
    token: Token,
    host: Host,
    body: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Place<'a> {
    Anywhere(&'a str),
    Hook(Project<'a>),
    Builds(Project<'a>),
    Build(&'a str),
    Lines(&'a str),
    Log(&'a str),
    ApiBuilds,
    Workers,
    Drain(&'a str),
    Instances,
    Login,
}

#[derive(Arbitrary, Debug)]
enum Project<'a> {
    Hello,
    Other(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Header {
    Origin,
    SecFetchSite,
    Cookie,
    XForwardedFor,
    Forwarded,
    ContentType,
    XGithubEvent,
    XGitlabToken,
    Authorization,
    LastEventId,
    IfNoneMatch,
    Range,
}

#[derive(Arbitrary, Debug, PartialEq)]
enum Token {
    None,
    Masters,
    Hooks,
}

#[derive(Arbitrary, Debug)]
enum Host {
    Ours,
    Loopback,
    Anothers,
    Twice,
}

fuzz_target!(|sent: Sent<'_>| {
    let Some(request) = request(&sent) else { return };
    let path = request.uri().path().to_owned();
    // A guess that hits: the target knows the token as well as anybody who was given it.
    let has_token = sent.token != Token::None || mentions_token(&sent);
    let master = master();
    let (response, changed) = runtime().block_on(answer(master, request));

    let status = response.status();
    assert!(!status.is_server_error(), "{status} for {path}");
    for header in ["content-security-policy", "x-content-type-options", "referrer-policy"] {
        assert!(response.headers().contains_key(header), "no {header} for {path}");
    }
    assert!(changed == 0 || has_token, "{path} changed something without a token");
    let woken = std::mem::take(&mut *master.woken.lock().expect("one request at a time"));
    if !woken.is_empty() {
        assert_eq!(
            (woken.as_slice(), path.as_str()),
            (&["hello".to_owned()][..], "/hooks/git/hello")
        );
        assert!(has_token || !sent.remote);
        assert_eq!(status, StatusCode::ACCEPTED);
    }
    let is_open = OPEN.iter().any(|open| path.starts_with(open));
    if sent.remote && !has_token && !is_open {
        assert!(!status.is_success(), "{status} for a stranger at {path}");
    }
    if matches!(sent.host, Host::Anothers | Host::Twice) {
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
});

/// The answer, and how many changes the domain was asked for. It refuses them all.
async fn answer(master: &Master, request: Request<Body>) -> (Response<Body>, usize) {
    let letters = &mut *master.letters.lock().expect("one request at a time");
    let answering = master.router.clone().oneshot(request);
    let mut answering = std::pin::pin!(answering);
    let mut changed = 0;
    loop {
        tokio::select! {
            answered = &mut answering => return (answered.expect("a router never fails"), changed),
            letter = letters.recv() => {
                changed += 1;
                if let Some(Letter::Request(_, reply)) = letter {
                    let (kind, sentence) = (RefusalKind::Conflict, "not now".to_owned());
                    let _gone = reply.send(Answer::Refused(Refusal { kind, sentence }));
                }
            }
        }
    }
}

fn mentions_token(sent: &Sent<'_>) -> bool {
    let has = |bytes: &[u8]| {
        [TOKEN, HOOK_TOKEN]
            .iter()
            .any(|token| bytes.windows(token.len()).any(|window| window == token.as_bytes()))
    };
    sent.headers.iter().any(|(_, value)| has(value)) || has(sent.body)
}

fn request(sent: &Sent<'_>) -> Option<Request<Body>> {
    let project = |project: &Project<'_>| match project {
        Project::Hello => "hello".to_owned(),
        Project::Other(name) => (*name).to_owned(),
    };
    let path = match &sent.place {
        Place::Anywhere(path) => format!("/{path}"),
        Place::Hook(name) => format!("/hooks/git/{}", project(name)),
        Place::Builds(name) => format!("/projects/{}/builds", project(name)),
        Place::Build(number) => format!("/projects/hello/builds/{number}"),
        Place::Lines(number) => format!("/projects/hello/builds/{number}/lines"),
        Place::Log(number) => format!("/api/v1/projects/hello/builds/{number}/log"),
        Place::ApiBuilds => "/api/v1/builds".to_owned(),
        Place::Workers => "/api/v1/workers".to_owned(),
        Place::Drain(name) => format!("/workers/{name}/drain"),
        Place::Instances => "/instances".to_owned(),
        Place::Login => "/login".to_owned(),
    };
    let uri: Uri = match sent.query {
        "" => path.parse().ok()?,
        query => format!("{path}?{query}").parse().ok()?,
    };
    uri.path_and_query()?;
    let mut request = Request::builder().uri(uri).method(if sent.post { "POST" } else { "GET" });
    for (header, value) in &sent.headers {
        request = request.header(name(header), HeaderValue::from_bytes(value).ok()?);
    }
    match sent.token {
        Token::None => {}
        Token::Masters => request = request.header("authorization", format!("Bearer {TOKEN}")),
        Token::Hooks => request = request.header("x-gitlab-token", HOOK_TOKEN),
    }
    let hosts: &[&str] = match sent.host {
        Host::Ours => &["ci.example.com:8443"],
        Host::Loopback => &["127.0.0.1:8443"],
        Host::Anothers => &["evil.example.net"],
        Host::Twice => &["ci.example.com", "evil.example.net"],
    };
    for host in hosts {
        request = request.header("host", *host);
    }
    let address = if sent.remote { [203, 0, 113, 9] } else { [127, 0, 0, 1] };
    let peer = Peer::of(std::net::SocketAddr::from((address, 40_000)));
    request.extension(peer).body(Body::from(sent.body.to_vec())).ok()
}

fn name(header: &Header) -> HeaderName {
    HeaderName::from_static(match header {
        Header::Origin => "origin",
        Header::SecFetchSite => "sec-fetch-site",
        Header::Cookie => "cookie",
        Header::XForwardedFor => "x-forwarded-for",
        Header::Forwarded => "forwarded",
        Header::ContentType => "content-type",
        Header::XGithubEvent => "x-github-event",
        Header::XGitlabToken => "x-gitlab-token",
        Header::Authorization => "authorization",
        Header::LastEventId => "last-event-id",
        Header::IfNoneMatch => "if-none-match",
        Header::Range => "range",
    })
}

struct Master {
    router: Router,
    letters: Mutex<mpsc::Receiver<Letter>>,
    woken: Arc<Mutex<Vec<String>>>,
    _stop: watch::Sender<bool>,
}

/// A master that listens on loopback, with one project and nothing built yet.
fn master() -> &'static Master {
    static MASTER: OnceLock<Master> = OnceLock::new();
    MASTER.get_or_init(|| {
        let scratch = Box::leak(Box::new(busybee_fuzz::scratch()));
        let (inbox, letters) = Inbox::new();
        let (stop, stopping) = watch::channel(false);
        let woken: Arc<Mutex<Vec<String>>> = Arc::default();
        let waking = Arc::clone(&woken);
        let hash = ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes());
        let web = Web {
            config: HttpConfig {
                url: "https://ci.example.com:8443".into(),
                host_names: vec!["ci.example.com".into()],
                listen_is_loopback: true,
                projects: vec![ProjectView {
                    name: "hello".into(),
                    repo: "https://git.example.com/hello.git".into(),
                    hook_token: Some(Secret::new(HOOK_TOKEN.into())),
                }],
                pools: Vec::new(),
                token_hash: hash.as_ref().try_into().expect("SHA-256 has 32 bytes"),
                cookie_key: [7; 32],
                daily_budget: None,
                pipeline_schema: "{}".into(),
            },
            store: Store::open(scratch.path()).expect("a store"),
            logs: LogStore::open(scratch.path()).expect("log threads"),
            inbox,
            notices: Notices::default(),
            road: Arc::new(|_, _| None),
            poke: Arc::new(move |name| waking.lock().expect("pushing").push(name.to_string())),
            trouble: Arc::new(|_| None),
            worker_environment: Arc::new(|_, _| Vec::new()),
            stopping,
        };
        let router = router::router(Arc::new(web));
        Master { router, letters: Mutex::new(letters), woken, _stop: stop }
    })
}
