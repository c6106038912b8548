//! The pages as a reader without script gets them.

mod seeded_web;

use axum::body::Body;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header;
use busybee::master::caller::Peer;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::Attempt;
use busybee::master::domain::entities::AttemptState;
use busybee::model::ids::RefName;
use busybee::model::status::BuildStatus;
use busybee::model::status::JobStatus;
use busybee::model::step::StepOutcome;
use busybee::runtime::clock;
use seeded_web::SeededWeb;
use seeded_web::archive::Archive;
use seeded_web::body_text;
use seeded_web::get;
use seeded_web::history;
use seeded_web::loopback;
use seeded_web::remote;
use seeded_web::seeded;
use seeded_web::words;

/// What home and build page may weigh.
const PAGE_BYTES_MAX: usize = 60_000;

/// The page as whoever may change things sees it.
async fn as_owner(web: &SeededWeb, path: &str) -> String {
    body_text(web.send(Peer::Owner, get(path)).await).await
}

#[tokio::test]
async fn home_says_what_runs_what_waits_and_why() {
    let web = seeded().await;
    let text = words(&web.text("/").await).replace("&#34;", "\"");
    let docs = format!("docs waits: {}", history::docs_waits_for().sentence());
    let test = format!("test waits: {}", history::test_waits_for().sentence());
    for sentence in [
        "test runs on linux-7c2f",
        &docs,
        "package waits for test, docs",
        &test,
        "parser: accept a trailing comma hello #40 faster-parser",
        "paused",
        "3 of 4 , 2 busy, 1 idle",
        "looks ahead: 7 of 9 started early were needed",
        "https://git.example.com/hello.git",
    ] {
        assert!(text.contains(sentence), "{sentence}\n{text}");
    }
    assert!(!text.contains("hunter2"), "a password in a repository's address");
}

#[tokio::test]
async fn a_repository_that_does_not_answer_is_told_where_people_look_first() {
    let web = seeded().await;
    let home = words(&web.text("/").await);
    assert_eq!(home.matches("does not answer, so no push is seen").count(), 1, "{home}");
    let page = words(&web.text("/projects/orchard").await);
    assert!(page.contains("so no push is seen: cannot reach it: no route to host"), "{page}");
    assert!(!web.text("/projects/hello").await.contains("no push is seen"));
}

#[tokio::test]
async fn the_branches_to_choose_from_are_those_where_something_happens() {
    let archive = Archive::empty().await;
    history::seed(&archive, clock::now()).await;
    let many = (0..1000).map(|n| {
        let name = RefName(format!("refs/heads/a-{n:03}"));
        Record::Ref("hello".into(), name, Some("00".into()))
    });
    archive.remember(many.collect()).await;
    let page = SeededWeb::new(archive).await.text("/projects/hello").await;
    let chips = page.split_once("class=\"chips\"").unwrap().1.split_once("</p>").unwrap().0;
    let text = words(&format!("<p {chips}"));
    assert!(text.starts_with("all branches main faster-parser release/1.x a-000"), "{text}");
}

#[tokio::test]
async fn home_and_build_page_stay_light_however_much_there_is() {
    let archive = Archive::empty().await;
    let now = clock::now();
    history::seed(&archive, now).await;
    let long = "x".repeat(70);
    let mut rows = Vec::new();
    for id in 1000..1300u64 {
        let mut build = history::build(id, "hello", id, BuildStatus::Queued, now);
        build.subject = format!("{long} {id}");
        rows.push(Record::Build(build));
        for index in 0..5 {
            let mut job = history::job(
                id * 10 + index,
                id,
                &format!("job-{index}"),
                &[],
                JobStatus::Queued,
                now,
            );
            job.reason = Some(long.clone());
            rows.push(Record::Job(job));
        }
    }
    archive.remember(rows).await;
    // Every character in a colour of its own: the dearest log there is.
    let colourful: String =
        (0..400_000).map(|index| format!("\x1b[{}m#", 31 + index % 7)).collect();
    let colourful = colourful.as_bytes().chunks(7000).collect::<Vec<_>>().join(&b'\n');
    archive.step_log(602, 1, &colourful).await;
    let web = SeededWeb::new(archive).await;
    for path in [
        "/",
        "/projects/hello/builds/40",
        "/projects/hello/builds/41",
        "/projects/hello/builds/1000",
    ] {
        let bytes = web.text(path).await.len();
        assert!(bytes < PAGE_BYTES_MAX, "{path} weighs {bytes} bytes");
    }
}

#[tokio::test]
async fn a_build_page_opens_the_log_that_people_look_for() {
    let web = seeded().await;
    let page = web.text("/projects/hello/builds/40").await;
    let text = words(&page);
    assert!(text.contains("test › unit exit code 101"), "{text}");
    assert!(text.contains("test result: FAILED . 239 passed; 1 failed"), "{text}");
    assert!(text.contains("61 earlier lines"), "{text}");
    assert!(page.contains("left: Some(&lt;list&gt;)"));
    // What is over has no stream to wait for.
    assert!(!page.contains("data-stream"));
    assert!(page.contains("id=\"test:1:261\" href=\"#test:1:261\""));
    let running = web.text("/projects/hello/builds/41").await;
    assert!(words(&running).contains("test › unit"));
    assert!(running.contains(
        "data-stream=\"/projects/hello/builds/41/lines?job=test&#38;step=1&#38;attempt=1&#38;at="
    ));
    let text = words(&running);
    assert!(
        text.contains("attempt 2") && text.contains("docs pool &#34;linux&#34; has 4 of 4"),
        "{text}"
    );
}

#[tokio::test]
async fn any_line_of_a_long_log_has_an_address_that_needs_no_script() {
    let archive = Archive::empty().await;
    let now = clock::now();
    history::seed(&archive, now).await;
    let lines: String = (1..=20_000).map(|number| format!("line {number}\n")).collect();
    archive.step_log(591, 1, lines.as_bytes()).await;
    let web = SeededWeb::new(archive).await;
    let page = "/projects/hello/builds/40?job=lint&step=1";
    let middle = web.text(&format!("{page}&from=12345")).await;
    assert!(middle.contains("id=\"lint:1:12345\"") && middle.contains("<span>line 12345</span>"));
    assert!(
        middle.contains("<span>line 12544</span>") && !middle.contains("<span>line 12545</span>")
    );
    assert!(middle.contains("from=12145") && middle.contains("from=12545"));
    let end = web.text(page).await;
    assert!(end.contains("<span>line 20000</span>") && end.contains("<span>line 19801</span>"));
    let beyond = web.text(&format!("{page}&from=99999999")).await;
    assert!(beyond.contains("<span>line 20000</span>"));
}

#[tokio::test]
async fn a_window_in_a_logs_middle_begins_in_the_colour_that_was_set_before_it() {
    let archive = Archive::empty().await;
    history::seed(&archive, clock::now()).await;
    let mut log = "plain\n\x1b[31mred from here\n".to_owned();
    log.extend((3..=900).map(|number| format!("line {number}\n")));
    log.push_str("\x1b[0mplain again\n");
    log.extend((902..=1200).map(|number| format!("line {number}\n")));
    archive.step_log(591, 1, log.as_bytes()).await;
    let web = SeededWeb::new(archive).await;
    let page = "/projects/hello/builds/40?job=lint&step=1";
    let red = web.text(&format!("{page}&from=600")).await;
    assert!(red.contains("<span><b class=\"f1\">line 600</b></span>"), "{red}");
    let plain = web.text(&format!("{page}&from=950")).await;
    assert!(plain.contains("<span>line 950</span>"));
}

#[tokio::test]
async fn a_line_of_many_megabytes_does_not_hide_the_lines_around_it() {
    let archive = Archive::empty().await;
    history::seed(&archive, clock::now()).await;
    let mut log = b"before\n".to_vec();
    log.extend(std::iter::repeat_n(b'z', 3_000_000));
    log.extend_from_slice(b"\nafter\n");
    archive.step_log(591, 1, &log).await;
    let web = SeededWeb::new(archive).await;
    let page = "/projects/hello/builds/40?job=lint&step=1";
    let from_start = web.text(&format!("{page}&from=1")).await;
    assert!(
        from_start.contains("<span>before</span>") && from_start.contains("<span>after</span>")
    );
    assert!(from_start.contains("2999000 more characters"));
    let end = web.text(page).await;
    assert!(end.contains("<span>after</span>") && end.len() < PAGE_BYTES_MAX);
}

#[tokio::test]
async fn a_broken_pipeline_file_is_shown_as_it_was_told() {
    let web = seeded().await;
    let page = web.text("/projects/orchard/builds/21").await;
    assert!(page.contains("<pre>.busybee.yaml:7:9: unknown key"));
    assert!(page.contains("make &#60;test&#62;") && page.contains("  |     ^^^^"));
}

#[tokio::test]
async fn a_build_s_page_says_what_it_was_started_with() {
    let archive = Archive::empty().await;
    let now = clock::now();
    let mut build = history::build(1, "hello", 1, BuildStatus::Queued, now);
    let without = history::build(2, "hello", 2, BuildStatus::Queued, now);
    build.inputs = [("dry_run".into(), "false".into()), ("note".into(), String::new())].into();
    archive.remember(vec![Record::Build(build), Record::Build(without)]).await;
    let web = SeededWeb::new(archive).await;
    let text = web.text("/projects/hello/builds/1").await;
    assert!(text.contains("dry_run=false</span>") && text.contains("note=</span>"), "{text}");
    assert!(!web.text("/projects/hello/builds/2").await.contains("started with"));
}

#[tokio::test]
async fn hostile_names_and_bytes_are_text_on_every_page() {
    const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>";
    let archive = Archive::empty().await;
    let now = clock::now();
    history::seed(&archive, now).await;
    let mut build = history::build(900, "hello", 900, BuildStatus::Failed, now);
    build.subject = EVIL.into();
    build.author = EVIL.into();
    build.reason = Some(EVIL.into());
    build.pipeline_name = Some(EVIL.into());
    build.inputs = [(EVIL.into(), EVIL.into())].into();
    build.ref_name = RefName(format!("refs/heads/{EVIL}"));
    let mut job = history::job(9001, 900, EVIL, &[EVIL], JobStatus::Failed, now);
    job.reason = Some(EVIL.into());
    job.worker = Some(EVIL.into());
    let mut worker =
        history::worker(EVIL, Some(90), busybee::model::status::WorkerStatus::Busy, now);
    worker.reason = Some(EVIL.into());
    let mut instance =
        history::instance(90, EVIL, busybee::model::status::InstanceStatus::Terminated, now);
    instance.why_started = EVIL.into();
    instance.why_ended = Some(EVIL.into());
    archive
        .remember(vec![
            Record::Build(build),
            Record::Job(job),
            Record::Attempt(history::attempt(9001, AttemptState::Failed, now)),
            Record::Step(history::step(9001, 0, EVIL, Some(StepOutcome::Infra(EVIL.into())), now)),
            Record::Worker(worker),
            Record::Instance(instance),
        ])
        .await;
    archive.step_log(9001, 0, EVIL.as_bytes()).await;
    archive.boot_log(EVIL, EVIL.as_bytes()).await;
    let web = SeededWeb::new(archive).await;
    let worker_page = format!("/workers/{}", busybee::master::http::links::encode(EVIL));
    let nowhere = "/login?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    for path in [
        "/",
        "/projects/hello",
        "/projects/hello/builds/900",
        "/workers",
        &worker_page,
        "/instances",
        "/instances/90",
        nowhere,
        "/projects/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/projects/hello/builds/900?job=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ] {
        let page = as_owner(&web, path).await;
        assert!(page.contains("<main>"), "{path}: {page}");
        assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{path}: {page}");
    }
}

#[tokio::test]
async fn buttons_are_there_for_who_may_press_them_and_work_without_script() {
    let mut web = seeded().await;
    let reader = web.text("/projects/hello/builds/41").await;
    assert!(!reader.contains("<form") && reader.contains("Log in to change things"));
    let owner = as_owner(&web, "/projects/hello/builds/41").await;
    assert!(owner.contains("action=\"/projects/hello/builds/41/cancel\""));
    let failed = as_owner(&web, "/projects/hello/builds/40").await;
    assert!(failed.contains("Retry what failed") && failed.contains("Retry all"));
    let check = async |path: &str, body: &'static str, lands: &str| {
        let request = Request::post(path)
            .header("host", "127.0.0.1:8443")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap();
        let response = web.send(Peer::Owner, request).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{path}");
        assert_eq!(response.headers()[header::LOCATION], lands);
    };
    check("/projects/hello/builds/41/cancel", "", "/projects/hello/builds/41").await;
    check("/projects/hello/builds/40/retry", "failed_only=true", "/projects/hello/builds/40").await;
    check("/projects/hello/builds/40/retry", "", "/projects/hello/builds/40").await;
    check("/workers/linux-51d0/drain", "", "/workers/linux-51d0").await;
    check("/workers/linux-51d0/stop", "", "/workers/linux-51d0").await;
    check("/pools/arm/resume", "", "/").await;
    check("/pools/linux/pause", "", "/").await;
    check("/projects/hello/builds", "ref=", "/projects/hello").await;
    let typo = Request::post("/projects/hello/builds/40/retry")
        .header("host", "127.0.0.1:8443")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("failed=true"))
        .unwrap();
    let refused = web.send(Peer::Owner, typo).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(body_text(refused).await.contains("unknown field `failed`"));
    let mut asked = Vec::new();
    while let Ok(request) = web.asked.try_recv() {
        asked.push(request);
    }
    insta::assert_snapshot!(asked.join("\n"));
}

#[tokio::test]
async fn a_started_build_opens_its_own_page() {
    let web = SeededWeb::with(Archive::empty().await, true, seeded_web::started(5)).await;
    let request = Request::post("/projects/hello/builds")
        .header("host", "127.0.0.1:8443")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("ref=main"))
        .unwrap();
    let response = web.send(Peer::Owner, request).await;
    assert_eq!(response.headers()[header::LOCATION], "/projects/hello/builds/5");
}

#[tokio::test]
async fn a_worker_s_page_has_its_boot_log_and_its_countdown() {
    let web = seeded().await;
    let page = web.text("/workers/linux-e41d").await;
    assert!(words(&page).contains("Reading package lists... Done"));
    assert!(!page.contains("0%"), "a carriage return overwrites");
    assert!(page.contains("data-stream=\"/workers/linux-e41d/lines?"));
    let idle = words(&web.text("/workers/linux-51d0").await);
    assert!(idle.contains("ends within 6 min") || idle.contains("ends within 7 min"), "{idle}");
    let alone = words(&web.text("/workers/mac-mini").await);
    assert!(alone.contains("one's own") && !alone.contains("ends within"), "{alone}");
}

#[tokio::test]
async fn the_ledger_stays_light_however_much_its_machines_have_done() {
    let archive = Archive::empty().await;
    let now = clock::now();
    history::seed(&archive, now).await;
    let at = busybee::model::time::Timestamp(now.0 - 3_600_000);
    let mut rows = Vec::new();
    for id in 100..145u64 {
        let name = format!("linux-{id:010x}");
        let status = busybee::model::status::InstanceStatus::Running;
        rows.push(Record::Instance(history::instance(id, &name, status, at)));
        for n in 0..150 {
            let begins = busybee::model::time::Timestamp(at.0 + 30_000 + n * 20_000);
            let job = id * 1000 + n;
            rows.push(Record::Job(history::job(job, 58, "test", &[], JobStatus::Passed, begins)));
            let attempt = history::attempt(job, AttemptState::Passed, begins);
            let ends = busybee::model::time::Timestamp(begins.0 + 12_000);
            let worker = name.as_str().into();
            let attempt = Attempt { worker, finished_at: Some(ends), ..attempt };
            rows.push(Record::Attempt(attempt));
        }
    }
    archive.remember(rows).await;
    let web = SeededWeb::new(archive).await;
    for path in ["/instances", "/instances/120"] {
        let page = web.text(path).await;
        assert!(page.len() < PAGE_BYTES_MAX, "{path} weighs {} bytes", page.len());
        assert!(page.contains("150 jobs"), "{path}");
    }
    assert!(words(&web.text("/instances/120").await).contains("more."));
}

#[tokio::test]
async fn strangers_are_sent_to_the_login_and_back() {
    let web = SeededWeb::with(Archive::empty().await, false, Answer::Done).await;
    let ask = |headers: &[(&str, &str)]| {
        let mut request =
            Request::get("/projects/hello?branch=main").header("host", "ci.example.com");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    };
    let response = web.send(remote(), ask(&[])).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let location = response.headers()[header::LOCATION].to_str().unwrap().to_owned();
    assert_eq!(location, "/login?next=%2Fprojects%2Fhello%3Fbranch%3Dmain");
    let login =
        Request::get(location).header("host", "ci.example.com").body(Body::empty()).unwrap();
    let page = body_text(web.send(remote(), login).await).await;
    assert!(page.contains("value=\"/projects/hello?branch=main\""));
    // A link from another site: the strict cookie stays at home, so our own page asks once more.
    let from_elsewhere = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    let again = web.send(remote(), ask(&from_elsewhere)).await;
    assert_eq!(again.status(), StatusCode::OK);
    assert!(body_text(again).await.contains("content=\"0; url=/projects/hello?branch=main\""));
}

#[tokio::test]
async fn every_answer_forbids_what_pages_here_never_do() {
    let web = seeded().await;
    for path in ["/", "/nowhere", "/login", "/api/v1/builds", "/healthz", "/projects/nobody"] {
        let response = web.get(path).await;
        let headers = response.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(headers[header::REFERRER_POLICY], "same-origin", "{path}");
        assert!(headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_none(), "{path}");
    }
    // The policy forbids inline styles and scripts, so no page may have any.
    for path in ["/", "/projects/hello/builds/41", "/instances", "/workers", "/login"] {
        let page = web.text(path).await;
        assert!(
            !page.contains(" style=") && !page.contains(" onclick=") && !page.contains("<style")
        );
        assert_eq!(page.matches("<script").count(), 1, "{path}");
    }
}

#[tokio::test]
async fn what_a_page_loads_is_there_and_kept_for_good() {
    let web = seeded().await;
    let page = web.text("/").await;
    let assets: Vec<&str> = page.split('"').filter(|part| part.starts_with("/static/")).collect();
    assert!(assets.len() >= 3);
    for asset in assets {
        let response = web.get(asset).await;
        assert_eq!(response.status(), StatusCode::OK, "{asset}");
        let cache = response.headers()[header::CACHE_CONTROL].to_str().unwrap().to_owned();
        assert!(cache.contains("immutable"), "{asset}");
    }
    let old = web.get("/static/000000000000/style.css").await;
    assert_eq!(old.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_prose() {
    let web = seeded().await;
    for (path, sentence) in [
        ("/nowhere", "there is nothing at this address"),
        ("/projects/nobody", "this master knows no project &#34;nobody&#34;"),
        ("/projects/hello/builds/999", "there is no build hello/999"),
        ("/projects/hello/builds/40?job=nope", "it has: lint, test, package"),
        ("/workers/nobody", "there is no worker nobody"),
        ("/instances/x", "the ledger has no instance x"),
    ] {
        let response = web.send(loopback(), get(path)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let page = body_text(response).await;
        assert!(page.contains("<h1>Not found</h1>") && page.contains(sentence), "{path}: {page}");
    }
    let typo = web.get("/projects/hello?brunch=main").await;
    assert_eq!(typo.status(), StatusCode::BAD_REQUEST);
    assert!(body_text(typo).await.contains("brunch"));
}
