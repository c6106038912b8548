//! Which refs a source lists, and when.

use std::time::Duration;

use busybee::runtime::clock;
use busybee::runtime::config_file::globs::Pattern;

use crate::house::House;
use crate::house::source;
use crate::origin::Origin;

fn names(listing: &[(String, String)]) -> Vec<&str> {
    listing.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn branches_and_tags_that_are_watched_are_listed_with_their_commits() {
    let origin = Origin::new();
    let first = origin.rev("HEAD");
    let release = origin.commit("release/1", "release", &[]);
    origin.commit("feature/x", "no one watches this", &[]);
    origin.git(&["tag", "-a", "v1", "-m", "one", &release]);
    origin.git(&["tag", "nightly", &first]);
    origin.push(&["--tags"]);
    let mut source = source(&origin.file_url());
    source.branches = ["main", "release/*"].map(|text| Pattern::new(text).unwrap()).into();
    source.tags = vec![Pattern::new("v*").unwrap()];
    let mut house = House::new(source);
    let _polling = house.start();
    let expected = [
        ("refs/heads/main".to_owned(), first),
        ("refs/heads/release/1".to_owned(), release.clone()),
        ("refs/tags/v1".to_owned(), release),
    ];
    assert_eq!(house.listing().await, expected);
}

#[tokio::test]
async fn new_forced_and_deleted_branches_show_at_the_next_poke() {
    let origin = Origin::new();
    let mut house = House::new(source(&origin.file_url()));
    let _polling = house.start();
    let first = house.listing().await;
    assert_eq!(names(&first), ["refs/heads/main"]);

    for n in 0..30 {
        origin.commit("main", &format!("commit {n}"), &[]);
    }
    origin.commit("next", "another branch", &[]);
    house.poke();
    let moved = house.listing().await;
    assert_eq!(names(&moved), ["refs/heads/main", "refs/heads/next"]);
    assert_ne!(moved[0].1, first[0].1);

    origin.git(&["checkout", "-q", "main"]);
    origin.git(&["reset", "-q", "--hard", &first[0].1]);
    let forced = origin.commit("main", "another history", &[]);
    origin.push(&[":next"]);
    house.poke();
    assert_eq!(house.listing().await, [("refs/heads/main".to_owned(), forced)]);
}

#[tokio::test]
async fn a_repository_is_asked_again_by_itself() {
    let origin = Origin::new();
    let mut source = source(&origin.file_url());
    source.poll = Duration::from_millis(200);
    let mut house = House::new(source);
    let _polling = house.start();
    house.listing().await;
    let next = origin.commit("main", "next", &[]);
    let started = clock::monotonic();
    while house.listing().await[0].1 != next {
        assert!(clock::monotonic() - started < Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_thousand_pokes_are_a_few_questions() {
    let origin = Origin::new();
    let mut house = House::new(source(&origin.file_url()));
    let _polling = house.start();
    house.listing().await;
    for _ in 0..1000 {
        house.poke();
    }
    house.listing().await;
    // At most one more was under way while the pokes came.
    let more = tokio::time::timeout(Duration::from_secs(1), house.listing()).await;
    if more.is_ok() {
        assert!(tokio::time::timeout(Duration::from_secs(1), house.listing()).await.is_err());
    }
    assert!(house.is_quiet());
    assert!(!house.changes.poke(&"nobody".into()));
}

#[tokio::test]
async fn a_repository_that_is_down_is_told_to_people_and_asked_again() {
    let origin = Origin::new();
    let away = origin.folder().join("away.git");
    std::fs::rename(origin.bare(), &away).unwrap();
    let mut house = House::new(source(&origin.file_url()));
    let _polling = house.start();
    let sentence = house.trouble().await;
    assert!(sentence.contains("cannot reach file://"), "{sentence}");
    assert!(sentence.contains("check repo"), "{sentence}");
    assert!(house.is_quiet(), "what is not known is not listed as gone");

    std::fs::rename(&away, origin.bare()).unwrap();
    house.poke();
    assert_eq!(house.listing().await.len(), 1);
    let health = house.changes.health();
    let health = &health[&"hello".into()];
    assert!(health.trouble.is_none() && health.answered_at.is_some());
}

#[tokio::test]
async fn an_empty_repository_has_no_refs() {
    let folder = tempfile::tempdir().unwrap();
    crate::origin::git(folder.path(), &["init", "-q", "--bare", "."]);
    let mut house = House::new(source(&folder.path().display().to_string()));
    let _polling = house.start();
    assert_eq!(house.listing().await, []);
    let failure = house.manual(None).await.unwrap_err();
    assert!(failure.sentence.contains("the repository is empty"), "{failure:?}");
}
