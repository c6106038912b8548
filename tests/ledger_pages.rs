//! What machines have done and cost, and what of it jobs, builds and projects have: as it is shown.

mod seeded_web;

use seeded_web::seeded;
use seeded_web::words;

/// What a machine's or a worker's page may weigh.
const PAGE_BYTES_MAX: usize = 60_000;

#[tokio::test]
async fn the_ledger_says_why_each_machine_came_and_went() {
    let web = seeded().await;
    let page = web.text("/instances").await;
    let text = words(&page);
    assert!(text.contains("job test of hello #61 waits for linux idle for 10 min"), "{text}");
    assert!(text.contains("Resource temporarily unavailable"), "{text}");
    assert!(page.contains("class=\"prepares\""));
    assert!(text.contains("$0.0169"), "what it cost: {text}");
}

#[tokio::test]
async fn a_machines_life_is_told_with_its_jobs_on_its_page_and_on_its_workers() {
    let web = seeded().await;
    let page = web.text("/instances/1").await;
    let text = words(&page);
    assert!(text.contains("cost $0.0169 ($0.08925 an hour)"), "{text}");
    for path in ["/instances/1", "/workers/linux-0b1a"] {
        let page = web.text(path).await;
        assert!(page.len() < PAGE_BYTES_MAX, "{path} weighs {} bytes", page.len());
        let text = words(&page);
        let mut rest = text.as_str();
        for told in [
            "asked for 20",
            "1.0 s starts 20",
            "1.0 s boots 20",
            "2.0 s prepares 20",
            "15 s idle 20",
            "2.0 s hello #39 lint 20",
            "39 s idle 20",
            "15 s hello #39 test 20",
            "3 min 05 s idle 20",
            "40 s hello #39 package 20",
            "1 min 20 s idle 20",
            "5 min 00 s ends 20",
            "4.0 s",
        ] {
            let found = rest.split_once(told);
            rest = found.unwrap_or_else(|| panic!("{path}: {told} in {rest}")).1;
        }
        assert!(page.contains("class=\"works bad\""), "a job that failed looks so");
        assert!(page.contains("<title>hello #39 test 3 min 05 s</title>"));
    }
    let present = words(&web.text("/workers/linux-e41d").await);
    assert!(present.contains("so far"), "{present}");
}

#[tokio::test]
async fn costs_are_told_where_somebody_looks_for_them() {
    let web = seeded().await;
    let build = words(&web.text("/projects/hello/builds/39").await);
    // 39 + 185 + 80 seconds at $0.08925 an hour.
    assert!(build.contains("cost $0.0075"), "{build}");
    assert!(build.contains("on linux-0b1a , $0.0046"), "{build}");
    let project = words(&web.text("/projects/hello").await);
    assert!(project.contains("$1.25 today, $1.25 this month"), "{project}");
    let other = words(&web.text("/projects/orchard").await);
    assert!(other.contains("at least $0.0400 today"), "{other}");
    let home = words(&web.text("/").await);
    assert!(home.contains("of $5.00 today"), "{home}");
    let api: serde_json::Value =
        serde_json::from_str(&web.text("/api/v1/projects/hello/builds/39").await).unwrap();
    assert_eq!((&api["cost"], &api["jobs"][1]["cost"]), (&"0.007536".into(), &"0.004586".into()));
    let api: serde_json::Value =
        serde_json::from_str(&web.text("/api/v1/instances/1").await).unwrap();
    assert_eq!((&api["cost"], &api["price_per_hour"]), (&"0.016908".into(), &"0.08925".into()));
    assert_eq!(api["jobs"][2]["state"], "failed");
}
