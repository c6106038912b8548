//! The pages in a real browser: nothing scrolls sideways on a telephone, and a live log grows.
//! Skipped, loudly, where there is no Chromium.
//!
//! The browser loads a probe page, which looks at ours in frames and reports to the test's own
//! server. For that alone the copy of our pages served here may be framed; all else of their content
//! security policy stands.
//!
//! `BUSYBEE_SCREENSHOTS=DIR` keeps pictures of every page, light and dark, narrow and wide.

#[path = "../seeded_web/mod.rs"]
mod seeded_web;

use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use axum::routing::post;
use busybee::master::domain::decision::Record;
use busybee::model::status::BuildStatus;
use busybee::runtime::clock;
use seeded_web::SeededWeb;
use seeded_web::TOKEN;
use seeded_web::archive::Archive;
use seeded_web::history;
use seeded_web::loopback;
use tokio::sync::mpsc;

/// Every kind of page there is.
const PAGES: [(&str, &str); 12] = [
    ("home", "/"),
    ("project", "/projects/hello"),
    ("failed", "/projects/hello/builds/40"),
    ("running", "/projects/hello/builds/41"),
    ("broken", "/projects/orchard/builds/21"),
    ("workers", "/workers"),
    ("worker", "/workers/linux-e41d"),
    ("instances", "/instances"),
    ("instance", "/instances/1"),
    ("gone", "/workers/linux-0b1a"),
    ("login", "/login"),
    ("missing", "/nowhere"),
];

/// A browser on two shared cores may take long to start.
const BROWSER_WITHIN: Duration = Duration::from_secs(90);

fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|directory| names.map(|name| directory.join(name)))
        .find(|file| file.is_file())
}

/// What the probe page reports.
#[derive(Debug)]
struct Report(String);

/// Serves our pages, the probe beside them, and takes its reports.
async fn serve(web: &SeededWeb) -> (String, mpsc::UnboundedReceiver<Report>) {
    let (sender, reports) = mpsc::unbounded_channel();
    let report = move |body: String| {
        let _test_is_over = sender.send(Report(body));
        std::future::ready("")
    };
    let ours = web.router.clone().layer(axum::middleware::map_response(
        |mut response: axum::response::Response| async {
            let headers = response.headers_mut();
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            let framed = policy.replace("frame-ancestors 'none'", "frame-ancestors 'self'");
            headers.insert(header::CONTENT_SECURITY_POLICY, framed.parse().unwrap());
            response
        },
    ));
    let router = Router::new()
        .route("/probe", get(async || Html(include_str!("probe.html"))))
        .route("/probe/frame", get(frame))
        .route("/probe/report", post(report))
        .fallback_service(ours)
        .layer(axum::Extension(loopback()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), reports)
}

#[derive(serde::Deserialize)]
struct FrameQuery {
    path: String,
    width: u32,
    height: u32,
}

/// One of our pages in a frame of this size: a window itself cannot be as narrow as a telephone.
async fn frame(Query(FrameQuery { path, width, height }): Query<FrameQuery>) -> Html<String> {
    Html(format!(
        "<style>body{{margin:0}}iframe{{border:0;display:block}}</style>\
         <iframe src='{path}' width={width} height={height}></iframe>"
    ))
}

/// A browser with a profile of its own, which ends when this is dropped.
fn start_browser(program: &Path, profile: &Path, arguments: &[String]) -> tokio::process::Child {
    tokio::process::Command::new(program)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the browser starts")
}

async fn next(reports: &mut mpsc::UnboundedReceiver<Report>) -> String {
    let report = tokio::time::timeout(BROWSER_WITHIN, reports.recv()).await;
    report.expect("the probe reports in time").expect("the server lives").0
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_a_telephone_a_live_log_grows_and_the_token_s_link_logs_in() {
    let Some(program) = chromium() else {
        eprintln!("SKIPPED: there is no Chromium on this machine");
        return;
    };
    let archive = Archive::empty().await;
    history::seed(&archive, clock::now()).await;
    let mut web = SeededWeb::new(archive).await;
    let (origin, mut reports) = serve(&web).await;
    if let Some(directory) = std::env::var_os("BUSYBEE_SCREENSHOTS") {
        take_pictures(&program, &origin, Path::new(&directory)).await;
    }
    let profile = tempfile::tempdir().unwrap();
    let paths: Vec<&str> = PAGES.iter().map(|(_, path)| *path).collect();
    let probe = format!("{origin}/probe?token={TOKEN}#{}", paths.join(","));
    let _browser = start_browser(&program, profile.path(), &[probe]);

    for _page in PAGES {
        for _width in ["360", "768", "1280"] {
            let report = next(&mut reports).await;
            assert!(report.starts_with("fits "), "{report}");
        }
    }
    assert_eq!(next(&mut reports).await, "the log is followed");
    web.archive.step_log(602, 1, b"downloading 10 %\rdownloading 99 %\n<b>a new line</b>\n").await;
    assert_eq!(next(&mut reports).await, "downloading 99 %|<b>a new line</b>");

    let passed = history::build(60, "hello", 41, BuildStatus::Passed, clock::now());
    web.archive.remember(vec![Record::Build(passed)]).await;
    web.tell_of_build(41, BuildStatus::Passed);
    assert_eq!(next(&mut reports).await, "the page says passed");

    assert_eq!(next(&mut reports).await, "logged in at /projects/hello");
    let asked = tokio::time::timeout(BROWSER_WITHIN, web.asked.recv()).await;
    assert_eq!(
        asked.expect("the button is pressed in time").unwrap(),
        "RetryBuild { project: ProjectName(\"hello\"), number: BuildNumber(40), failed_only: true }"
    );
}

async fn take_pictures(program: &Path, origin: &str, directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    for (name, path) in PAGES {
        for (width, height) in [(360, 1500), (1280, 1100)] {
            for dark in [false, true] {
                let scheme = if dark { "dark" } else { "light" };
                let file = directory.join(format!("{name}-{width}-{scheme}.png"));
                let mut arguments = vec![
                    format!("--screenshot={}", file.display()),
                    format!("--window-size={},{height}", width.max(500)),
                    "--timeout=1500".into(),
                ];
                if dark {
                    arguments.push("--blink-settings=preferredColorScheme=0".into());
                }
                let frame =
                    format!("{origin}/probe/frame?width={width}&height={height}&path={path}");
                arguments.push(frame);
                let profile = tempfile::tempdir().unwrap();
                let mut browser = start_browser(program, profile.path(), &arguments);
                let ended = tokio::time::timeout(BROWSER_WITHIN, browser.wait()).await;
                ended.expect("the browser ends in time").expect("the browser ran");
            }
        }
    }
}
