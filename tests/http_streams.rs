//! Logs and event streams: what comes, in which order, and that it ends.

mod seeded_web;

use std::pin::Pin;

use axum::body::Body;
use axum::body::HttpBody;
use axum::http::StatusCode;
use axum::http::header;
use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::AttemptState;
use busybee::model::status::BuildStatus;
use busybee::model::status::JobStatus;
use busybee::model::step::StepOutcome;
use busybee::model::time::Timestamp;
use seeded_web::SeededWeb;
use seeded_web::archive::Archive;
use seeded_web::body_text;
use seeded_web::get;
use seeded_web::history;
use seeded_web::loopback;

/// A fixed moment.
const NOW: Timestamp = Timestamp(1_767_225_600_000);

async fn seeded() -> SeededWeb {
    let archive = Archive::empty().await;
    history::seed(&archive, NOW).await;
    SeededWeb::new(archive).await
}

#[tokio::test]
async fn a_raw_log_is_its_bytes_and_never_a_page() {
    let web = seeded().await;
    let bytes: &[u8] = b"<script>alert(1)</script>\r\n\xff\xfe\x00 end";
    web.archive.step_log(591, 1, bytes).await;
    let response = web.get("/api/v1/projects/hello/builds/40/log?job=lint&step=1").await;
    let headers = response.headers().clone();
    assert_eq!(headers[header::CONTENT_SECURITY_POLICY], "sandbox; default-src 'none'");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(
        headers[header::CONTENT_DISPOSITION],
        "attachment; filename=\"hello-40-lint-1.log\""
    );
    assert_eq!(headers["busybee-attempt"], "1");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert_eq!(body, bytes);
}

#[tokio::test]
async fn logs_of_a_job_and_of_a_build_follow_each_other_and_count_offsets_over_all() {
    let archive = Archive::empty().await;
    finished_build(&archive).await;
    let web = SeededWeb::new(archive).await;
    let log = "/api/v1/projects/hello/builds/1/log";
    assert_eq!(web.text(&format!("{log}?job=one&step=1")).await, "one.1 ");
    assert_eq!(web.text(&format!("{log}?job=one&step=make")).await, "one.1 ");
    assert_eq!(web.text(&format!("{log}?job=one")).await, "one.0 one.1 ");
    assert_eq!(web.text(log).await, "one.0 one.1 two.0 ");
    assert_eq!(web.text(&format!("{log}?offset=8")).await, "e.1 two.0 ");
    assert_eq!(web.text(&format!("{log}?offset=12&follow=true")).await, "two.0 ");
    assert_eq!(web.text(&format!("{log}?offset=99999")).await, "");
}

/// Two jobs, three logs.
async fn finished_build(archive: &Archive) {
    let passed = Some(StepOutcome::Exited(0));
    let rows = vec![
        Record::Build(history::build(1, "hello", 1, BuildStatus::Passed, NOW)),
        Record::Job(history::job(1, 1, "one", &[], JobStatus::Passed, NOW)),
        Record::Job(history::job(2, 1, "two", &["one"], JobStatus::Passed, NOW)),
        Record::Attempt(history::attempt(1, AttemptState::Passed, NOW)),
        Record::Attempt(history::attempt(2, AttemptState::Passed, NOW)),
        Record::Step(history::step(1, 0, "checkout", passed.clone(), NOW)),
        Record::Step(history::step(1, 1, "make", passed.clone(), NOW)),
        Record::Step(history::step(2, 0, "checkout", passed, NOW)),
    ];
    archive.remember(rows).await;
    for (attempt, step, text) in [(1, 0, "one.0 "), (1, 1, "one.1 "), (2, 0, "two.0 ")] {
        archive.step_log(attempt, step, text.as_bytes()).await;
    }
}

/// A running build whose only job is checking out.
fn build_at_its_checkout() -> Vec<Record> {
    vec![
        Record::Build(history::build(1, "hello", 1, BuildStatus::Running, NOW)),
        Record::Job(history::job(1, 1, "test", &[], JobStatus::Running, NOW)),
        Record::Attempt(history::attempt(1, AttemptState::Started, NOW)),
        Record::Step(history::step(1, 0, "checkout", None, NOW)),
    ]
}

#[tokio::test]
async fn following_a_log_goes_on_through_the_steps_and_ends_with_the_job() {
    let archive = Archive::empty().await;
    archive.remember(build_at_its_checkout()).await;
    archive.step_log(1, 0, b"fetch").await;
    let web = SeededWeb::new(archive.clone()).await;
    let response = web.get("/api/v1/projects/hello/builds/1/log?job=test&follow=true").await;
    let reading = tokio::spawn(body_text(response));

    let publish = || web.tell_of_build(1, BuildStatus::Passed);
    archive.step_log(1, 0, b"ed\n").await;
    let passed = Some(StepOutcome::Exited(0));
    archive
        .remember(vec![Record::Step(history::step(1, 0, "checkout", passed.clone(), NOW))])
        .await;
    publish();
    archive.remember(vec![Record::Step(history::step(1, 1, "make", None, NOW))]).await;
    publish();
    archive.step_log(1, 1, b"made\n").await;
    let rows = vec![
        Record::Step(history::step(1, 1, "make", passed, NOW)),
        Record::Attempt(history::attempt(1, AttemptState::Passed, NOW)),
        Record::Job(history::job(1, 1, "test", &[], JobStatus::Passed, NOW)),
        Record::Build(history::build(1, "hello", 1, BuildStatus::Passed, NOW)),
    ];
    archive.remember(rows).await;
    publish();
    assert_eq!(reading.await.unwrap(), "fetched\nmade\n");
}

#[tokio::test]
async fn who_has_all_of_a_step_that_has_not_ended_yet_gets_the_rest_of_the_next_one() {
    let archive = Archive::empty().await;
    archive.remember(build_at_its_checkout()).await;
    archive.step_log(1, 0, b"fetched\n").await;
    archive.step_log(1, 1, b"made\n").await;
    let web = SeededWeb::new(archive.clone()).await;
    let path = "/api/v1/projects/hello/builds/1/log?job=test&follow=true&offset=10";
    let reading = tokio::spawn(body_text(web.get(path).await));
    let passed = Some(StepOutcome::Exited(0));
    let rows = vec![
        Record::Step(history::step(1, 0, "checkout", passed.clone(), NOW)),
        Record::Step(history::step(1, 1, "make", passed, NOW)),
        Record::Attempt(history::attempt(1, AttemptState::Passed, NOW)),
        Record::Job(history::job(1, 1, "test", &[], JobStatus::Passed, NOW)),
        Record::Build(history::build(1, "hello", 1, BuildStatus::Passed, NOW)),
    ];
    archive.remember(rows).await;
    web.tell_of_build(1, BuildStatus::Running);
    assert_eq!(reading.await.unwrap(), "de\n");
}

#[tokio::test]
async fn the_events_of_a_build_say_where_it_stands_and_end_with_it() {
    let archive = Archive::empty().await;
    let build = |status| Record::Build(history::build(1, "hello", 1, status, NOW));
    archive.remember(vec![build(BuildStatus::Queued)]).await;
    let web = SeededWeb::new(archive.clone()).await;
    let response = web.get("/api/v1/projects/hello/builds/1/events").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let reading = tokio::spawn(body_text(response));
    archive.remember(vec![build(BuildStatus::Passed)]).await;
    web.tell_of_build(2, BuildStatus::Passed);
    web.tell_of_build(1, BuildStatus::Passed);
    let events = reading.await.unwrap();
    assert!(events.ends_with(
        "event: build\ndata: {\"project\":\"hello\",\"number\":1,\"status\":\"passed\"}\n\n\
         event: end\ndata: {}\n\n"
    ));
}

#[tokio::test]
async fn the_events_of_everything_say_where_each_build_stands() {
    let web = seeded().await;
    let mut body = web.get("/api/v1/events").await.into_body();
    assert_eq!(next_piece(&mut body).await, "event: fleet\ndata: {}\n\n");
    for (status, word) in [(BuildStatus::Running, "running"), (BuildStatus::Failed, "failed")] {
        web.tell_of_build(40, status);
        let told = format!(r#"{{"project":"hello","number":40,"status":"{word}"}}"#);
        assert_eq!(next_piece(&mut body).await, format!("event: build\ndata: {told}\n\n"));
    }
}

/// What a stream says next.
async fn next_piece(body: &mut Body) -> String {
    let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
    let bytes = frame.expect("the stream goes on").unwrap().into_data().unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn streams_end_when_the_master_stops() {
    let web = seeded().await;
    let mut readings = Vec::new();
    for path in [
        "/api/v1/events",
        "/api/v1/projects/hello/builds/41/events",
        "/api/v1/projects/hello/builds/41/log?follow=true",
        "/api/v1/workers/linux-e41d/log?follow=true",
        "/workers/linux-e41d/lines?at=0-1-",
    ] {
        readings.push(tokio::spawn(body_text(web.get(path).await)));
    }
    web.stop.send(true).unwrap();
    for reading in readings {
        let said = reading.await.expect("the stream ends");
        // Or no page would call again.
        assert!(!said.contains("event: end"), "{said}");
    }
}

#[tokio::test]
async fn lines_of_a_log_come_as_html_and_go_on_after_a_reconnect() {
    let archive = Archive::empty().await;
    finished_build(&archive).await;
    archive.step_log(1, 1, b"\n\x1b[31mred\nstill <red>").await;
    let web = SeededWeb::new(archive).await;
    let lines = "/projects/hello/builds/1/lines?job=one&step=1&attempt=1";
    let first = web.text(&format!("{lines}&at=0-1-")).await;
    assert!(first.contains("[[1,\"one.1 \"],[2,\"<b class=\\\"f1\\\">red</b>\"]"), "{first}");
    let id = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let mut request = get(&format!("{lines}&at=0-1-"));
    request.headers_mut().insert("last-event-id", id.parse().unwrap());
    let again = body_text(web.send(loopback(), request).await).await;
    assert_eq!(
        again,
        format!(
            "id: {id}\nevent: lines\ndata: [[3,\"<b class=\\\"f1\\\">still &lt;red&gt;</b>\"]]\n\n\
             event: end\ndata: {{}}\n\n"
        )
    );
    let wrong = web.get(&format!("{lines}&at=nonsense")).await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
}
