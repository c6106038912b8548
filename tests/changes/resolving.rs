//! What a change turns out to be.

use busybee::master::domain::event::Resolved;
use busybee::master::domain::pipeline::Planned;

use crate::house::House;
use crate::house::source;
use crate::origin::Origin;
use crate::origin::PIPELINE;

const MAIN: &str = "refs/heads/main";

fn first_run(resolved: &Resolved) -> &str {
    match &resolved.planned {
        Planned::Pipeline(pipeline) => &pipeline.jobs[0].steps[0].run,
        other => panic!("{other:?}"),
    }
}

fn broken(resolved: &Resolved) -> &str {
    match &resolved.planned {
        Planned::Broken(sentence) => sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pushed_commit_is_read_with_its_own_pipeline() {
    let origin = Origin::new();
    let first = origin.rev("HEAD");
    let second = origin.commit(
        "main",
        "say \"hi\" – now\n\nand more",
        &[(".busybee.yaml", &PIPELINE.replace("make test", "make all"))],
    );
    let house = House::new(source(&origin.file_url()));
    let resolved = house.push(MAIN, &second).await.unwrap();
    assert_eq!(resolved.commit.as_str(), second);
    assert_eq!(resolved.ref_name.as_str(), MAIN);
    assert_eq!(resolved.subject, "say \"hi\" – now");
    assert_eq!(resolved.author, "Ada <ada@example.com>");
    assert_eq!(first_run(&resolved), "make all");
    assert_eq!(first_run(&house.push(MAIN, &first).await.unwrap()), "make test");
}

#[tokio::test]
async fn every_one_of_many_commits_is_found() {
    let origin = Origin::new();
    let commits: Vec<String> = (0..8)
        .map(|n| {
            let text = PIPELINE.replace("make test", &format!("make {n}"));
            origin.commit("main", &format!("commit {n}"), &[(".busybee.yaml", &text)])
        })
        .collect();
    let house = House::new(source(&origin.file_url()));
    let all = commits.iter().map(|commit| house.push(MAIN, commit));
    let mut n_found = 0;
    for (n, resolving) in all.enumerate() {
        assert_eq!(first_run(&resolving.await.unwrap()), format!("make {n}"));
        n_found += 1;
    }
    assert_eq!(n_found, 8);
}

#[tokio::test]
async fn a_commit_that_is_gone_is_not_tried_for_ever() {
    let origin = Origin::new();
    let house = House::new(source(&origin.file_url()));
    let failure = house.push(MAIN, &"f".repeat(40)).await.unwrap_err();
    assert!(failure.sentence.contains("no longer has the commit"), "{failure:?}");
    assert!(!failure.worth_retrying);
    let failure = house.push("refs/heads/deleted", &"e".repeat(40)).await.unwrap_err();
    assert!(failure.sentence.contains("no longer has the commit"), "{failure:?}");
    assert!(!failure.worth_retrying);
    let failure = house.push(MAIN, "--upload-pack=id").await.unwrap_err();
    assert!(failure.sentence.contains("is not a commit"), "{failure:?}");
}

#[tokio::test]
async fn a_repository_that_is_down_is_worth_another_try() {
    let origin = Origin::new();
    let commit = origin.rev("HEAD");
    std::fs::rename(origin.bare(), origin.folder().join("away.git")).unwrap();
    let house = House::new(source(&origin.file_url()));
    let failure = house.push(MAIN, &commit).await.unwrap_err();
    assert!(failure.worth_retrying && failure.sentence.contains("cannot reach"), "{failure:?}");
    let failure = house.manual(None).await.unwrap_err();
    assert!(failure.worth_retrying && failure.sentence.contains("cannot reach"), "{failure:?}");
}

#[tokio::test]
async fn what_somebody_asks_for_is_resolved_at_the_remote() {
    let origin = Origin::new();
    let first = origin.rev("HEAD");
    let second = origin.commit("main", "second", &[]);
    let next = origin.commit("next", "next", &[]);
    origin.commit("next", "after next", &[]);
    origin.git(&["tag", "-a", "v1", "-m", "annotated", &first]);
    origin.git(&["tag", "next", &first]);
    origin.push(&["--tags"]);
    let house = House::new(source(&origin.file_url()));
    let cases = [
        (None, MAIN, &second),
        (Some("main"), MAIN, &second),
        (Some("v1"), "refs/tags/v1", &first),
        (Some("refs/tags/next"), "refs/tags/next", &first),
        (Some(first.as_str()), "refs/tags/next", &first),
        (Some(second.as_str()), MAIN, &second),
        (Some(next.as_str()), "refs/heads/next", &next),
    ];
    for (wanted, ref_name, commit) in cases {
        let resolved = house.manual(wanted).await.unwrap();
        assert_eq!(
            (resolved.ref_name.as_str(), resolved.commit.as_str()),
            (ref_name, commit.as_str()),
            "{wanted:?}"
        );
        assert_eq!(first_run(&resolved), "make test");
    }
    let branch_wins = house.manual(Some("next")).await.unwrap();
    assert_eq!(branch_wins.ref_name.as_str(), "refs/heads/next");
    // A push to main afterwards is seen: nothing was remembered of where a branch stood.
    let third = origin.commit("main", "third", &[]);
    assert_eq!(house.manual(Some("main")).await.unwrap().commit.as_str(), third);
}

#[tokio::test]
async fn a_start_is_planned_with_its_inputs_and_refused_where_they_do_not_fit() {
    let origin = Origin::new();
    let inputs = "triggers: { manual: { inputs: { level: { default: low } } } }\n\
                  env: { LEVEL: \"${{ event.inputs.level }}\" }\njobs:";
    let text = PIPELINE.replacen("jobs:", inputs, 1);
    let commit = origin.commit("main", "take inputs", &[(".busybee.yaml", &text)]);
    let house = House::new(source(&origin.file_url()));
    let level = |resolved: &Resolved| match &resolved.planned {
        Planned::Pipeline(pipeline) => {
            (pipeline.inputs["level"].clone(), pipeline.jobs[0].env[0].1.clone())
        }
        other => panic!("{other:?}"),
    };
    let both = |level: &str| (level.to_owned(), level.to_owned());
    // By its commit too: that question may be answered from memory.
    for wanted in [Some("main"), Some(commit.as_str())] {
        assert_eq!(level(&house.manual_with(wanted, &[]).await.unwrap()), both("low"));
        let high = house.manual_with(wanted, &[("level", "high")]).await.unwrap();
        assert_eq!(level(&high), both("high"));
        assert_eq!(level(&house.manual_with(wanted, &[]).await.unwrap()), both("low"));
        let refused = house.manual_with(wanted, &[("levle", "high")]).await.unwrap_err();
        assert!(!refused.worth_retrying);
        assert!(refused.sentence.contains("did you mean \"level\""), "{refused:?}");
    }
}

#[tokio::test]
async fn an_older_commit_is_found_on_the_branch_that_has_it() {
    let origin = Origin::new();
    let first = origin.rev("HEAD");
    origin.commit("main", "second", &[]);
    let side = origin.commit("side", "on the side", &[]);
    origin.commit("side", "further on the side", &[]);
    let house = House::new(source(&origin.file_url()));
    // A shallow copy comes first: finding the branch needs all of the history.
    let tip = origin.rev("main");
    house.push(MAIN, &tip).await.unwrap();
    assert_eq!(house.manual(Some(&first)).await.unwrap().ref_name.as_str(), MAIN);
    assert_eq!(house.manual(Some(&side)).await.unwrap().ref_name.as_str(), "refs/heads/side");
    let failure = house.manual(Some(&"a".repeat(40))).await.unwrap_err();
    assert!(!failure.worth_retrying);
    assert!(
        failure.sentence.contains("no branch or tag of the repository contains"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let origin = Origin::new();
    let house = House::new(source(&origin.file_url()));
    for (wanted, expected) in [
        ("mian", "did you mean \"main\"?"),
        ("--upload-pack=touch /tmp/busybee-was-here", "no branch or tag"),
        ("ext::sh -c id", "no branch or tag"),
        ("refs/notes/x", "neither a branch nor a tag"),
    ] {
        let failure = house.manual(Some(wanted)).await.unwrap_err();
        assert!(failure.sentence.contains(expected), "{wanted}: {failure:?}");
        assert!(failure.sentence.starts_with("hello: ") && !failure.worth_retrying);
    }
    assert!(!std::path::Path::new("/tmp/busybee-was-here").exists());
}

#[tokio::test]
async fn a_pipeline_that_cannot_be_read_makes_a_build_that_says_why() {
    let origin = Origin::new();
    let house = House::new(source(&origin.file_url()));
    let check = async |files: &[(&str, &str)], expected: &str| {
        let commit = origin.commit("main", "x", files);
        let resolved = house.push(MAIN, &commit).await.unwrap();
        assert!(broken(&resolved).contains(expected), "{}", broken(&resolved));
    };
    check(&[(".busybee.yaml", "version: 1\njobs: {}\n")], ".busybee.yaml:2:7: there are no jobs")
        .await;
    let long = format!("version: 1 # {}\n", "x".repeat(300_000));
    check(&[(".busybee.yaml", &long)], "more than 262144").await;
    origin.git(&["rm", "-q", ".busybee.yaml"]);
    check(&[], "`busybee init`").await;
    let work = origin.folder().join("work/.busybee.yaml");
    std::os::unix::fs::symlink("/etc/passwd", &work).unwrap();
    check(&[], "is not a file").await;
    std::fs::remove_file(&work).unwrap();
    std::fs::write(&work, b"version: 1\n\xff\xfe\n").unwrap();
    check(&[], ".busybee.yaml:2: this is not UTF-8").await;
}

#[tokio::test]
async fn a_tag_that_no_trigger_names_is_left_out() {
    let origin = Origin::new();
    let text = format!("{PIPELINE}triggers: {{ push: {{ branches: [main] }} }}\n");
    let commit = origin.commit("main", "x", &[(".busybee.yaml", &text)]);
    let house = House::new(source(&origin.file_url()));
    let on_tag = house.push("refs/tags/v1", &commit).await.unwrap();
    assert!(matches!(on_tag.planned, Planned::NotTriggered(_)), "{on_tag:?}");
    assert_eq!(first_run(&house.push(MAIN, &commit).await.unwrap()), "make test");
    assert_eq!(first_run(&house.manual(Some(&commit)).await.unwrap()), "make test");
}

#[tokio::test]
async fn a_commit_that_was_resolved_needs_no_git_again() {
    let origin = Origin::new();
    let commit = origin.rev("HEAD");
    let house = House::new(source(&origin.file_url()));
    let pushed = house.push(MAIN, &commit).await.unwrap();
    let asked = house.manual(Some(&commit)).await.unwrap();
    // Neither the repository nor the copy of it is there any more: git could not answer.
    std::fs::remove_dir_all(origin.bare()).unwrap();
    std::fs::remove_dir_all(house.data_dir.path().join("git")).unwrap();
    assert_eq!(house.push(MAIN, &commit).await.unwrap(), pushed);
    assert_eq!(house.manual(Some(&commit)).await.unwrap(), asked);
}

#[tokio::test]
async fn hooks_and_settings_of_a_repository_do_not_run_here() {
    let origin = Origin::new();
    let trap = origin.folder().join("sprung");
    let hook = origin.bare().join("hooks/post-upload-pack");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", trap.display())).unwrap();
    let touch = format!("touch {}", trap.display());
    for key in ["uploadpack.packObjectsHook", "core.fsmonitor", "core.sshCommand"] {
        crate::origin::git(&origin.bare(), &["config", key, &touch]);
    }
    let house = House::new(source(&origin.file_url()));
    house.push(MAIN, &origin.rev("HEAD")).await.unwrap();
    house.manual(None).await.unwrap();
    assert!(!trap.exists());
}

#[tokio::test]
async fn a_copy_that_a_power_cut_has_damaged_is_made_anew() {
    let origin = Origin::new();
    let house = House::new(source(&origin.file_url()));
    house.push(MAIN, &origin.rev("HEAD")).await.unwrap();
    let copy = house.file("git/hello.git");
    std::fs::write(copy.join("shallow.lock"), "").unwrap();
    let second = origin.commit("main", "second", &[]);
    assert_eq!(house.push(MAIN, &second).await.unwrap().commit.as_str(), second);
    std::fs::remove_dir_all(copy.join("objects")).unwrap();
    let third = origin.commit("main", "third", &[]);
    assert_eq!(house.push(MAIN, &third).await.unwrap().commit.as_str(), third);
}
