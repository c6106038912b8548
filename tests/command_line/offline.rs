//! What needs no running master: a first file, and a look at files.

use std::path::Path;

use crate::program::Ran;
use crate::program::busybee;
use crate::program::run;

/// Runs a command in a directory.
fn run_in(directory: &Path, words: &str) -> Ran {
    let words: Vec<&str> = words.split(' ').collect();
    let mut command = busybee(&words);
    command.current_dir(directory);
    run(command)
}

#[test]
fn init_writes_a_file_once_and_never_over_one() {
    let dir = tempfile::tempdir().unwrap();
    let init = || run_in(dir.path(), "init");
    assert!(init().ended_with(0).text().contains("busybee serve --config"));
    assert!(init().ended_with(1).err.contains("stays as it is"));
}

#[test]
fn what_init_writes_for_a_repository_is_right_and_can_be_planned() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".git")).unwrap();
    run_in(dir.path(), "init").ended_with(0);
    let ran = run_in(dir.path(), "pipeline check").ended_with(0);
    assert_eq!(ran.text(), ".busybee.yaml: no mistakes\n");
    let plan = run_in(dir.path(), "pipeline plan --event manual --json").ended_with(0).json();
    assert_eq!((&plan["event"], &plan["jobs"][0]["name"]), (&"manual".into(), &"test".into()));
}

#[test]
fn a_wrong_pipeline_file_is_told_place_by_place_and_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let text = "version: 1\njobs:\n  test:\n    setps: [{ run: make }]\n";
    std::fs::write(dir.path().join("ci.yaml"), text).unwrap();
    let ran = run_in(dir.path(), "pipeline check ci.yaml").ended_with(1);
    assert!(ran.text().starts_with("ci.yaml:4:5: "), "{}", ran.text());
    assert!(ran.text().contains("did you mean \"steps\""), "{}", ran.text());
    let found = run_in(dir.path(), "pipeline check ci.yaml --json").ended_with(1).json();
    assert_eq!((&found["ok"], &found["problems"][0]["line"]), (&false.into(), &4.into()));
    let plan = run_in(dir.path(), "pipeline plan ci.yaml").ended_with(1);
    assert!(plan.out.is_empty() && plan.err.contains("\nci.yaml:4:5: "), "{}", plan.err);
}

#[test]
fn a_plan_names_what_runs_after_what_and_on_which_workers() {
    let dir = tempfile::tempdir().unwrap();
    let text = "version: 1\njobs:\n  pack:\n    needs: [test]\n    worker: [linux, x64]\n    \
                steps: [{ run: make dist }]\n  test:\n    steps: [{ run: make test }]\n";
    std::fs::write(dir.path().join(".busybee.yaml"), text).unwrap();
    insta::assert_snapshot!(run_in(dir.path(), "pipeline plan").ended_with(0).text(), @r"
    pipeline: push of refs/heads/main builds

    test  (worker of the first pool, at most 1h)
      - checkout
      - make test

    pack  (worker with linux, x64, at most 1h, after test)
      - checkout
      - make dist
    ");
    let later = run_in(dir.path(), "pipeline plan --event pull_request").ended_with(1);
    assert!(later.err.contains("not yet"), "{}", later.err);
    let wrong = run_in(dir.path(), "pipeline plan --ref refs/notes/x").ended_with(1);
    assert!(wrong.err.contains("not a branch or tag"), "{}", wrong.err);
}

#[test]
fn a_plan_can_be_tried_with_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let text = "version: 1\ntriggers:\n  manual:\n    inputs:\n      dry_run: { type: boolean, \
                default: true, description: Only look }\njobs:\n  ship:\n    steps:\n      - \
                run: ./ship\n        when: \"!event.inputs.dry_run\"\n";
    std::fs::write(dir.path().join(".busybee.yaml"), text).unwrap();
    let plan = |words: &str| run_in(dir.path(), &format!("pipeline plan {words}"));
    insta::assert_snapshot!(plan("--event manual").ended_with(0).text(), @r"
    pipeline: manual of refs/heads/main builds
      dry_run: true  (Only look)

    ship  (worker of the first pool, at most 1h)
      - checkout
      - ./ship  (does not run here)
    ");
    let ran = plan("--input dry_run=false --json").ended_with(0).json();
    assert_eq!((&ran["event"], &ran["inputs"][0]["value"]), (&"manual".into(), &"false".into()));
    assert_eq!(ran["jobs"][0]["steps"][0]["runs_after"], serde_json::json!(["success"]));
    for (words, why) in [
        ("--input dryrun=1", "did you mean \"dry_run\""),
        ("--input dry_run=1", "must be true or false"),
        ("--input dry_run=true --event push", "a push is given no inputs"),
        ("--input dry_run=true --input dry_run=false", "given twice"),
    ] {
        let ran = plan(words).ended_with(1);
        assert!(ran.err.contains(why), "{words}: {}", ran.err);
    }
}

#[test]
fn a_file_that_is_not_there_or_endless_is_told_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run_in(dir.path(), "pipeline check").ended_with(1);
    assert!(ran.text().starts_with(".busybee.yaml: cannot be read"), "{}", ran.text());
    let ran = run_in(dir.path(), "pipeline check /dev/zero").ended_with(1);
    assert!(ran.text().contains("more than"), "{}", ran.text());
}

#[test]
fn the_schema_is_one_json_document() {
    let schema = run(busybee(&["pipeline", "schema"])).ended_with(0).json();
    assert!(schema["properties"]["jobs"].is_object());
}

#[test]
fn what_init_writes_for_a_master_is_right_and_tells_what_an_instance_would_get() {
    let dir = tempfile::tempdir().unwrap();
    run_in(dir.path(), "init").ended_with(0);
    let ran = run_in(dir.path(), "check --config busybee.toml").ended_with(0);
    // A project is for the reader to add: until then that is what is missing.
    assert!(ran.text().contains("there is no [[project]]"), "{}", ran.text());
    assert!(ran.text().ends_with("busybee.toml: no mistakes\n"), "{}", ran.text());
    let found = run_in(dir.path(), "check --config busybee.toml --json").ended_with(0).json();
    assert_eq!(found["ok"], true);
    assert_eq!(found["warnings"].as_array().map(Vec::len), Some(1));
    let script = run_in(dir.path(), "user-data local --config busybee.toml").ended_with(0);
    assert!(script.text().starts_with("#!/bin/sh\n"), "{}", script.text());
    assert!(script.text().contains("BB_PASSWORD='‹secret›'"), "{}", script.text());
    let json =
        run_in(dir.path(), "user-data local --config busybee.toml --json").ended_with(0).json();
    assert_eq!(json["pool"], "local");
    assert_eq!(json["user_data"].as_str().map(str::trim_end), Some(script.text().trim_end()));
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "looking at a file makes nothing");
    let ran = run_in(dir.path(), "user-data nope --config busybee.toml").ended_with(1);
    assert!(ran.err.contains("it has local"), "{}", ran.err);
}

#[test]
fn a_wrong_masters_file_is_told_place_by_place() {
    let dir = tempfile::tempdir().unwrap();
    run_in(dir.path(), "init").ended_with(0);
    let file = dir.path().join("busybee.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("idle_timeout", "idel_timeout")).unwrap();
    let line = 1 + text.lines().position(|line| line.starts_with("idle_timeout")).unwrap();
    let ran = run_in(dir.path(), "check --config busybee.toml").ended_with(1);
    assert!(ran.text().starts_with(&format!("busybee.toml:{line}:1: ")), "{}", ran.text());
    assert!(ran.text().contains("did you mean \"idle_timeout\""), "{}", ran.text());
    let ran = run_in(dir.path(), "user-data local --config busybee.toml").ended_with(1);
    assert!(ran.err.contains(&format!("\nbusybee.toml:{line}:1: ")), "{}", ran.err);
    let ran = run_in(dir.path(), "check --config nowhere.toml").ended_with(1);
    assert!(ran.text().starts_with("nowhere.toml: "), "{}", ran.text());
}

/// What stands in the user-data, as Python's `email` reads it, which is what cloud-init reads it with.
const PARTS: &str = "import email, sys
for part in email.message_from_string(sys.stdin.read()).walk():
    if part.get_content_maintype() != 'multipart':
        text = part.get_payload(decode=True).decode()
        print(part.get_content_type(), part.get_filename(), text.splitlines()[0], len(text) > 1000)";

#[test]
fn user_data_of_the_admins_own_stands_behind_ours_as_cloud_init_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.sh"), "#!/bin/sh\necho '\u{e9}'\n").unwrap();
    let file = "[master]\nurl = \"https://ci.example.com\"\n[[pool]]\nname = \"cloud\"\nprovisioner = \"ec2\"\n\
                [pool.ec2]\nregion = \"eu-west-1\"\nami = \"ami-1\"\ninstance_types = [\"c7i.large\"]\n\
                user_data = [{ file = \"own.sh\" }, { text = \"#cloud-config\\npackages: [git]\\n\" }]\n";
    std::fs::write(dir.path().join("busybee.toml"), file).unwrap();
    let shown = run_in(dir.path(), "user-data cloud --config busybee.toml").ended_with(0);
    assert!(shown.text().contains("\u{2039}secret\u{203a}"), "the password is masked");
    let shown = shown.text().replace("\u{2039}secret\u{203a}", "secret");
    std::fs::write(dir.path().join("shown"), shown).unwrap();
    let mut python = std::process::Command::new("python3");
    python.args(["-c", PARTS]).stdin(std::fs::File::open(dir.path().join("shown")).unwrap());
    let Ok(read) = python.output() else {
        assert!(std::env::var_os("BUSYBEE_REQUIRE_TOOLS").is_none(), "this test needs python3");
        return println!("SKIPPED: there is no python3");
    };
    insta::assert_snapshot!(String::from_utf8_lossy(&read.stdout), @r"
    text/x-shellscript busybee #!/bin/sh True
    text/x-shellscript own.sh #!/bin/sh False
    text/cloud-config text #cloud-config False
    ");
}
