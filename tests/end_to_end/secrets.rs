//! A secret from its file to the step that needs it, and nowhere else.

use std::path::Path;
use std::path::PathBuf;

use crate::POOL;
use crate::house::House;
use crate::house::Plan;
use crate::house::SECRET;

const PIPELINE: &str = "version: 1
jobs:
  deploy:
    secrets: [DEPLOY_TOKEN]
    retry: { infra: 0 }
    steps:
      - name: show
        run: |
          test ${#DEPLOY_TOKEN} = 15
          echo \"with $DEPLOY_TOKEN\"
          echo \"$DEPLOY_TOKEN\" >&2
  other:
    steps:
      - name: show
        run: echo \"with ${DEPLOY_TOKEN:-none}\"
";

/// The files below a directory that hold a text.
pub(crate) fn files_with(text: &str, dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("it has a type");
        if kind.is_dir() {
            found.extend(files_with(text, &path));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_secret_reaches_the_jobs_that_list_it_and_nothing_keeps_it() {
    let mut house = House::open(&Plan { pipeline: PIPELINE, pool: POOL });
    house.push(&[("more.txt", "more")], "deploy");
    let build = house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    let log = |job: &str| house.log(&["hello/1", "--job", job, "--step", "show"]);
    assert_eq!(String::from_utf8_lossy(&log("deploy")), "with ***\n***\n");
    assert_eq!(String::from_utf8_lossy(&log("other")), "with none\n");
    house.eventually("the workers are gone", |house| {
        let instances = house.json(&["instance", "list", "--all"]);
        let instances = instances["instances"].as_array().unwrap();
        instances.iter().all(|instance| instance["status"] == "terminated")
    });
    house.kill_master();
    assert_eq!(files_with(SECRET, &house.data_dir()), Vec::<PathBuf>::new());
    house.start_master();

    // Its file is gone: the job that needs it says so, and runs no step.
    std::fs::remove_file(house.path("deploy-token")).unwrap();
    house.push(&[("more.txt", "even more")], "deploy again");
    let build = house.finished(2);
    let deploy = &build["jobs"][0];
    assert_eq!(deploy["status"], "infra", "{build:#}\n{}", house.story());
    let reason = deploy["reason"].as_str().unwrap();
    assert!(reason.contains("the secret DEPLOY_TOKEN is missing"), "{reason}");
    assert_eq!(build["jobs"][1]["status"], "passed");

    // And one that the project does not have makes a red build with a hint.
    let unknown = PIPELINE.replace("[DEPLOY_TOKEN]", "[DEPLOY_TOKNE]");
    house.push(&[(".busybee.yaml", &unknown)], "a slip");
    let build = house.finished(3);
    let reason = build["reason"].as_str().unwrap();
    assert!(reason.contains("no secret DEPLOY_TOKNE; did you mean DEPLOY_TOKEN?"), "{build:#}");
}
