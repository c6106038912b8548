//! The REST API: its JSON, its refusals, and who may do what.

mod seeded_web;

use axum::body::Body;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header;
use busybee::master::caller::Peer;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::Refusal;
use busybee::master::domain::decision::RefusalKind;
use busybee::model::time::Timestamp;
use seeded_web::HOOK_TOKEN;
use seeded_web::SeededWeb;
use seeded_web::TOKEN;
use seeded_web::archive::Archive;
use seeded_web::body_text;
use seeded_web::history;
use seeded_web::loopback;
use seeded_web::remote;

/// A fixed moment, so that answers are the same each time.
const NOW: Timestamp = Timestamp(1_767_225_600_000);

async fn seeded() -> SeededWeb {
    let archive = Archive::empty().await;
    history::seed(&archive, NOW).await;
    SeededWeb::new(archive).await
}

/// A request with these headers beside the host.
fn request(method: &str, path: &str, host: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

const CANCEL: &str = "/api/v1/projects/hello/builds/41/cancel";
const LOCAL: &str = "127.0.0.1:8443";
const PUBLIC: &str = "ci.example.com:8443";

#[tokio::test]
async fn a_build_reads_as_its_contract_says() {
    let web = seeded().await;
    let text = web.text("/api/v1/projects/hello/builds/40").await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
}

#[tokio::test]
async fn every_list_reads_as_its_contract_says() {
    let web = seeded().await;
    let mut all = String::new();
    for path in
        ["projects", "builds?limit=2", "workers?all=true", "pools", "instances?all=true&limit=2"]
    {
        let text = web.text(&format!("/api/v1/{path}")).await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        all += &format!("GET {path}\n{}\n", serde_json::to_string_pretty(&json).unwrap());
    }
    // The ledger counts an instance's seconds up to the present.
    let is_steady = |line: &&str| {
        !["\"seconds\"", "\"cost\"", "\"spent_today\"", "\"budget_hold\""]
            .iter()
            .any(|key| line.contains(key))
    };
    let counted = all.lines().filter(is_steady).collect::<Vec<_>>();
    insta::assert_snapshot!(counted.join("\n"));
}

#[tokio::test]
async fn pages_of_a_list_follow_each_other_without_gap_or_repeat() {
    let web = seeded().await;
    let mut numbers = Vec::new();
    let mut before = String::new();
    loop {
        let path = format!("/api/v1/projects/orchard/builds?limit=4{before}");
        let page: busybee::api::build::BuildList =
            serde_json::from_str(&web.text(&path).await).unwrap();
        numbers.extend(page.builds.iter().map(|build| build.number));
        match page.next {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(numbers, (1..=21).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_branch_filter_shows_that_branch_alone() {
    let web = seeded().await;
    let text = web.text("/api/v1/projects/hello/builds?branch=release%2F1.x&limit=100").await;
    let page: busybee::api::build::BuildList = serde_json::from_str(&text).unwrap();
    assert!(page.builds.len() > 3);
    assert!(page.builds.iter().all(|build| build.branch.as_deref() == Some("release/1.x")));
}

#[tokio::test]
async fn what_is_wrong_in_a_request_is_named_and_never_ignored() {
    let web = seeded().await;
    let check = async |path: &str, status: u16, word: &str| {
        let response = web.get(path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let error: busybee::api::Error =
            serde_json::from_str(&body_text(response).await).unwrap_or_else(|_| panic!("{path}"));
        assert!(error.error.contains(word), "{path}: {}", error.error);
    };
    check("/api/v1/builds?limits=3", 400, "limits").await;
    check("/api/v1/builds?limit=0", 400, "from 1 to 100").await;
    check("/api/v1/builds?limit=x", 400, "query").await;
    check("/api/v1/builds?branch=main", 400, "belongs to a project").await;
    check("/api/v1/projects/nobody/builds", 404, "nobody").await;
    check("/api/v1/projects/hello/builds/999", 404, "hello/999").await;
    check("/api/v1/projects/hello/builds/x", 404, "no build's number").await;
    check("/api/v1/projects/hello/builds/40/log?job=nope", 404, "lint, test, package").await;
    check("/api/v1/projects/hello/builds/40/log?job=test&step=nope", 404, "nope").await;
    check("/api/v1/projects/hello/builds/40/log?job=test&attempt=7", 404, "attempt 7").await;
    check("/api/v1/projects/hello/builds/40/log?step=1", 400, "job").await;
    check("/api/v1/workers/nobody", 404, "nobody").await;
    check("/api/v1/instances/77", 404, "77").await;
    check("/api/v1/nothing", 404, "nothing").await;
    check("/api/v1/workers/nobody/drain", 405, "GET").await;
    let body = |json: &'static str| {
        let request = Request::post("/api/v1/projects/hello/builds").header("host", LOCAL);
        request.header("authorization", format!("Bearer {TOKEN}")).body(json.into()).unwrap()
    };
    for json in ["{\"reff\":\"main\"}", "[", "{\"ref\":3}"] {
        let response = web.send(loopback(), body(json)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{json}");
    }
}

#[tokio::test]
async fn reading_without_a_token_is_for_this_machine_alone() {
    let local_only = seeded().await;
    let check = async |web: &SeededWeb, peer, host, headers: &[(&str, &str)], status: u16| {
        let request = request("GET", "/api/v1/projects", host, headers);
        let response = web.send(peer, request).await;
        assert_eq!(response.status().as_u16(), status, "{peer:?} {host} {headers:?}");
    };
    let token = format!("Bearer {TOKEN}");
    check(&local_only, loopback(), LOCAL, &[], 200).await;
    check(&local_only, loopback(), "localhost:8443", &[], 200).await;
    check(&local_only, loopback(), "[::1]:8443", &[], 200).await;
    // A proxy on this machine, and a name that may lead here from anywhere.
    check(&local_only, loopback(), LOCAL, &[("x-forwarded-for", "203.0.113.9")], 401).await;
    check(&local_only, loopback(), LOCAL, &[("forwarded", "for=203.0.113.9")], 401).await;
    check(&local_only, loopback(), PUBLIC, &[], 401).await;
    check(&local_only, loopback(), PUBLIC, &[("authorization", &token)], 200).await;
    check(&local_only, loopback(), LOCAL, &[("authorization", "Bearer wrong")], 401).await;
    check(&local_only, Peer::Owner, "whatever", &[], 200).await;
    check(&local_only, remote(), LOCAL, &[], 401).await;

    let archive = Archive::empty().await;
    let public = SeededWeb::with(archive, false, Answer::Done).await;
    check(&public, loopback(), PUBLIC, &[], 401).await;
    check(&public, remote(), PUBLIC, &[], 401).await;
    check(&public, remote(), PUBLIC, &[("authorization", &token)], 200).await;
    // Not listening on loopback, it does not answer to loopback's names.
    check(&public, remote(), LOCAL, &[("authorization", &token)], 403).await;
    check(&public, Peer::Owner, "localhost", &[], 200).await;
}

#[tokio::test]
async fn a_strange_host_gets_nothing_whatever_it_asks_for() {
    let web = seeded().await;
    let token = format!("Bearer {TOKEN}");
    for path in ["/", "/healthz", "/runurl", "/login", "/api/v1/builds", "/nowhere"] {
        for host in ["evil.example.com", "127.0.0.1.evil.example.com", ""] {
            let request = request("GET", path, host, &[("authorization", &token)]);
            let response = web.send(loopback(), request).await;
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path} {host}");
        }
    }
    let two = Request::get("/healthz").header("host", LOCAL).header("host", "evil.example.com");
    let response = web.send(loopback(), two.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_change_needs_a_token_and_our_own_origin() {
    let web = seeded().await;
    let token = format!("Bearer {TOKEN}");
    let check = async |peer, headers: &[(&str, &str)], status: u16| {
        let response = web.send(peer, request("POST", CANCEL, LOCAL, headers)).await;
        assert_eq!(response.status().as_u16(), status, "{peer:?} {headers:?}");
    };
    check(loopback(), &[], 401).await;
    check(loopback(), &[("authorization", "Bearer wrong")], 401).await;
    check(loopback(), &[("authorization", &token)], 200).await;
    check(Peer::Owner, &[], 200).await;
    let with_token = |more: &[(&'static str, &'static str)]| {
        let mut headers = vec![("authorization", token.as_str())];
        headers.extend_from_slice(more);
        headers
    };
    check(loopback(), &with_token(&[("origin", "http://127.0.0.1:8443")]), 200).await;
    check(loopback(), &with_token(&[("origin", "http://127.0.0.1:9999")]), 403).await;
    check(loopback(), &with_token(&[("origin", "http://evil.example.com")]), 403).await;
    check(loopback(), &with_token(&[("origin", "null")]), 403).await;
    check(loopback(), &with_token(&[("sec-fetch-site", "cross-site")]), 403).await;
    check(loopback(), &with_token(&[("sec-fetch-site", "same-site")]), 403).await;
    check(loopback(), &with_token(&[("sec-fetch-site", "same-origin")]), 200).await;
}

#[tokio::test]
async fn a_login_makes_a_cookie_that_no_other_site_can_use() {
    let web = seeded().await;
    let login = |token: &str, origin: &str| {
        let body = format!("token={token}&next=%2Fprojects%2Fhello");
        Request::post("/login")
            .header("host", LOCAL)
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap()
    };
    let wrong = web.send(loopback(), login("guess", "http://127.0.0.1:8443")).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(wrong.headers().get(header::SET_COOKIE).is_none());
    let elsewhere = web.send(loopback(), login(TOKEN, "https://evil.example.com")).await;
    assert_eq!(elsewhere.status(), StatusCode::FORBIDDEN);

    let right = web.send(loopback(), login(TOKEN, "http://127.0.0.1:8443")).await;
    assert_eq!(right.status(), StatusCode::SEE_OTHER);
    assert_eq!(right.headers()[header::LOCATION], "/projects/hello");
    let set_cookie = right.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(set_cookie.contains("; HttpOnly; SameSite=Strict") && !set_cookie.contains(TOKEN));
    assert!(!set_cookie.contains("Secure"), "plain HTTP on loopback");
    let secure = web.send(loopback(), login(TOKEN, "https://127.0.0.1:8443")).await;
    let secure = secure.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(secure.ends_with("; Secure"));

    let cookie = set_cookie.split(';').next().unwrap().to_owned();
    let check = async |method, path, headers: &[(&str, &str)], status: u16| {
        let mut all = vec![("cookie", cookie.as_str())];
        all.extend_from_slice(headers);
        let response = web.send(remote(), request(method, path, LOCAL, &all)).await;
        assert_eq!(response.status().as_u16(), status, "{method} {path} {headers:?}");
    };
    check("GET", "/api/v1/builds", &[], 200).await;
    check("POST", CANCEL, &[("sec-fetch-site", "same-origin")], 200).await;
    check("POST", CANCEL, &[("origin", "https://evil.example.com")], 403).await;
    // A browser that says nothing of where it comes from is not trusted with a login.
    check("POST", CANCEL, &[], 403).await;
    let forged = cookie.replace('.', ".0");
    let response =
        web.send(remote(), request("GET", "/api/v1/builds", LOCAL, &[("cookie", &forged)]));
    assert_eq!(response.await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_started_build_is_answered_with_its_number_and_a_refusal_with_its_sentence() {
    let archive = Archive::empty().await;
    let mut web = SeededWeb::with(archive.clone(), true, seeded_web::started(7)).await;
    let start = || {
        let request = Request::post("/api/v1/projects/hello/builds").header("host", LOCAL);
        request
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Body::from("{\"ref\":\"main\"}"))
            .unwrap()
    };
    let response = web.send(loopback(), start()).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(
        body_text(response).await,
        "{\"project\":\"hello\",\"number\":7,\"url\":\"https://ci.example.com:8443/projects/hello/builds/7\"}"
    );
    assert!(web.asked.recv().await.unwrap().contains("reference: Some(\"main\")"));

    let sentence = "cannot resolve \"main\" at the remote: there is no such branch, tag or commit";
    let refusal = Refusal { kind: RefusalKind::Invalid, sentence: sentence.into() };
    let web = SeededWeb::with(archive, true, Answer::Refused(refusal)).await;
    let response = web.send(loopback(), start()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let error: busybee::api::Error = serde_json::from_str(&body_text(response).await).unwrap();
    assert_eq!(error.error, sentence);
}

#[tokio::test]
async fn inputs_reach_the_domain_and_what_no_pipeline_takes_is_refused_at_the_door() {
    let mut web = SeededWeb::with(Archive::empty().await, true, seeded_web::started(7)).await;
    let start = |inputs: serde_json::Value| {
        let request = Request::post("/api/v1/projects/hello/builds").header("host", LOCAL);
        let body = serde_json::json!({ "inputs": inputs }).to_string();
        request.header("authorization", format!("Bearer {TOKEN}")).body(body.into()).unwrap()
    };
    let many: serde_json::Map<String, serde_json::Value> =
        (0..33).map(|n| (format!("i{n}"), "x".into())).collect();
    for (inputs, why) in [
        (many.into(), "33 inputs are more than a pipeline can have"),
        (serde_json::json!({ "note": "x".repeat(1025) }), "\"note\" has 1025 bytes"),
        (serde_json::json!({ "note": "a\0" }), "NUL"),
        (serde_json::json!({ "x".repeat(65): "a" }), "more than 64 bytes"),
        (serde_json::json!({ "dry_run": true }), "expected a string"),
    ] {
        let response = web.send(loopback(), start(inputs)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let text = body_text(response).await;
        let error: busybee::api::Error = serde_json::from_str(&text).unwrap();
        assert!(error.error.contains(why), "{text}");
    }
    assert!(web.asked.try_recv().is_err(), "nothing went further");
    let response = web.send(loopback(), start(serde_json::json!({ "dry_run": "true" }))).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert!(web.asked.recv().await.unwrap().contains("inputs: {\"dry_run\": \"true\"}"));
}

#[tokio::test]
async fn an_added_worker_is_told_its_lines_once() {
    let added = Answer::WorkerAdded("mini".into(), "00ff".into());
    let web = SeededWeb::with(Archive::empty().await, true, added).await;
    let add = |body: &'static str| {
        let request = Request::post("/api/v1/workers").header("host", LOCAL);
        request.header("authorization", format!("Bearer {TOKEN}")).body(body.into()).unwrap()
    };
    let response = web.send(loopback(), add("{\"name\":\"mini\",\"pool\":\"arm\"}")).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let text = body_text(response).await;
    assert!(text.contains("\"BB_NAME=mini\",\"BB_PASSWORD=derived-from-00ff\""), "{text}");
    let response = web.send(loopback(), add("{\"name\":\"../mini\",\"pool\":\"arm\"}")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_road_is_open_and_content_under_its_hash_is_kept() {
    let web = SeededWeb::with(Archive::empty().await, false, Answer::Done).await;
    let check = async |path: &str, status: u16, cache: &str| {
        let response = web.send(remote(), request("GET", path, PUBLIC, &[])).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(response.headers()[header::CACHE_CONTROL], cache, "{path}");
    };
    check("/runurl", 200, "no-cache").await;
    check("/runurl?sha256=0123abcd", 200, "no-cache").await;
    check("/bootstrap/agent.sh", 200, "no-cache").await;
    check("/agent/0123abcd", 200, "public, max-age=31536000, immutable").await;
    check("/bootstrap/secrets.sh", 404, "no-cache").await;
    check("/bootstrap/..%2f..%2fetc%2fpasswd", 404, "no-cache").await;
    check("/healthz", 200, "no-cache").await;
    check("/schema/pipeline.v1.json", 200, "no-cache").await;
}

#[tokio::test]
async fn a_hook_s_body_is_not_read_and_unknown_projects_look_like_known_ones() {
    let mut web = SeededWeb::with(Archive::empty().await, false, Answer::Done).await;
    let hook = |project: &str, token: Option<&str>| {
        let path = format!("/hooks/git/{project}");
        let mut request = Request::post(path).header("host", PUBLIC);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Body::from("{\"repository\":\"https://evil.example.com/x.git\"}")).unwrap()
    };
    let mut answers = Vec::new();
    for project in ["hello", "nobody"] {
        let response = web.send(remote(), hook(project, Some(TOKEN))).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        answers.push(body_text(response).await);
        let response = web.send(remote(), hook(project, None)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{project}");
        let response = web.send(remote(), hook(project, Some("wrong"))).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{project}");
    }
    assert_eq!(answers[0], answers[1]);
    let response = web.send(remote(), hook("hello", Some(HOOK_TOKEN))).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    // Twice by good tokens; never by a bad one, and never for a project that is not there.
    assert_eq!(web.poked.recv().await.unwrap(), "hello");
    assert_eq!(web.poked.recv().await.unwrap(), "hello");
    assert!(web.poked.try_recv().is_err());

    let local = SeededWeb::new(Archive::empty().await).await;
    let from_here = |headers: &[(&str, &str)]| request("POST", "/hooks/git/hello", LOCAL, headers);
    let response = local.send(loopback(), from_here(&[])).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let response = local.send(loopback(), from_here(&[("x-real-ip", "203.0.113.9")])).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let response = local.send(loopback(), from_here(&[("sec-fetch-site", "cross-site")])).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}
