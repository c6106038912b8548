//! Pipeline files as people write them, right and wrong: `fixtures/pipelines`.
//!
//! What a wrong file is told is a snapshot beside it; read it as prose when it changes.

use std::path::Path;
use std::path::PathBuf;

use busybee::master::config::Config;
use busybee::master::domain::pipeline::Concurrency;
use busybee::master::domain::pipeline::OnNew;
use busybee::master::domain::pipeline::Pipeline;
use busybee::master::domain::pipeline::Planned;
use busybee::master::pipeline_file;
use busybee::master::pipeline_file::context::EventContext;
use busybee::master::pipeline_file::plan_view::plan_view;
use busybee::model::step::RunsAfter;
use busybee::model::step::Shell;
use busybee::runtime::clock;

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pipelines").join(folder);
    let entries = std::fs::read_dir(&folder).expect("the fixtures are there");
    let paths = entries.map(|entry| entry.expect("the folder is readable").path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ext| ext == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn read(path: &Path) -> (String, String) {
    let name = path.file_stem().expect("a fixture has a name").to_string_lossy().into_owned();
    (name, std::fs::read_to_string(path).expect("a fixture is text"))
}

fn context(event: &str, reference: &str) -> EventContext {
    EventContext::from_words(Some(event), Some(reference)).expect("the test's words are right")
}

fn planned(text: &str, event: &str, reference: &str) -> Pipeline {
    planned_for(text, &context(event, reference))
}

fn planned_for(text: &str, context: &EventContext) -> Pipeline {
    match pipeline_file::plan(text, ".busybee.yaml", context) {
        Ok(Planned::Pipeline(pipeline)) => pipeline,
        other => panic!("{other:?}"),
    }
}

/// One of the right files.
fn right(wanted: &str) -> String {
    let mut all = fixtures("right").into_iter().map(|path| read(&path));
    all.find(|(name, _)| name == wanted).expect("the fixture is there").1
}

/// A start by hand with these inputs.
fn start(given: &[(&str, &str)]) -> EventContext {
    let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    context("manual", "main").with_inputs(given.collect())
}

#[test]
fn every_right_file_is_planned_as_its_snapshot_says() {
    for path in fixtures("right") {
        let (name, text) = read(&path);
        let pipeline = pipeline_file::check(&text, ".busybee.yaml")
            .unwrap_or_else(|problems| panic!("{name}:\n{problems}"));
        let view = plan_view(&pipeline, &context("push", "main")).expect("it can be planned");
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("fixtures/pipelines/right");
        settings.set_prepend_module_to_snapshot(false);
        settings.bind(|| insta::assert_snapshot!(name, view.to_string()));
    }
}

#[test]
fn every_wrong_file_is_told_what_its_snapshot_says() {
    for path in fixtures("wrong") {
        let (name, text) = read(&path);
        let problems = pipeline_file::check(&text, ".busybee.yaml").expect_err(&name);
        assert!(problems.list().all(|problem| problem.place.line >= 1), "{problems}");
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("fixtures/pipelines/wrong");
        settings.set_prepend_module_to_snapshot(false);
        settings.bind(|| insta::assert_snapshot!(name, problems.to_string()));
    }
}

#[test]
fn a_file_means_what_it_says() {
    let text = right("everything");
    let pipeline = planned(&text, "push", "main");
    assert_eq!(pipeline.name.as_deref(), Some("build"));
    let [lint, test, deploy] = pipeline.jobs.as_slice() else { panic!("{pipeline:?}") };

    assert_eq!(lint.steps[0].name, "cargo fmt --check");
    assert_eq!((lint.infra_retries, lint.timeout.as_secs(), lint.checkout), (1, 1800, true));
    let env: Vec<_> = lint.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected =
        [("CARGO_TERM_COLOR", "always"), ("LEVEL", "3"), ("DEBUG", "false"), ("VERSION", "3.10")];
    assert_eq!(env, expected);

    assert!(test.keep_workspace);
    assert_eq!(test.timeout.as_secs(), 5400);
    assert_eq!(test.env.last().map(|(k, v)| (k.as_str(), v.as_str())), Some(("LEVEL", "9")));
    assert_eq!(test.env.len(), 4, "a job's variable replaces the pipeline's");
    assert_eq!(test.steps[0].run, "cargo test --lib\ncargo test --doc\n");
    assert_eq!(test.steps[0].shell, Shell::Bash);
    assert_eq!(test.steps[0].timeout.map(|t| t.as_secs()), Some(1200));
    assert_eq!(test.steps[1].when, RunsAfter { success: false, failure: true, cancel: false });
    assert_eq!(test.steps[2].when, RunsAfter { success: true, failure: true, cancel: true });

    assert_eq!((deploy.infra_retries, deploy.checkout), (0, false));
    assert_eq!(deploy.needs.len(), 2);
    assert!(deploy.steps[0].when.success && !deploy.steps[1].when.success);
    let tagged = planned(&text, "push", "refs/tags/v2");
    let steps = &tagged.jobs[2].steps;
    assert!(!steps[0].when.success && steps[1].when.success);
}

#[test]
fn a_group_is_named_for_each_change_and_never_without_a_name() {
    let text = "version: 1\nconcurrency: { group: '${{ event.branch }}', on_new: skip }\n\
         jobs: { t: { steps: [{ run: x }] } }\n";
    let group = planned(text, "push", "next").concurrency.expect("it has a group");
    let expected = Concurrency { group: "next".to_owned(), limit: 1, on_new: OnNew::Skip };
    assert_eq!(group, expected);
    let of_a_tag = pipeline_file::plan(text, "f", &context("push", "refs/tags/v1"));
    let Ok(Planned::Broken(why)) = &of_a_tag else { panic!("{of_a_tag:?}") };
    assert!(why.contains("concurrency.group: a group has a name, and this is empty"), "{why}");
}

#[test]
fn what_is_not_said_is_as_documented() {
    let pipeline = planned(&right("smallest"), "push", "any/branch");
    let job = &pipeline.jobs[0];
    assert_eq!((job.timeout.as_secs(), job.infra_retries), (3600, 2));
    assert_eq!((job.checkout, job.keep_workspace, job.worker.clone()), (true, false, None));
    assert_eq!(job.steps[0].when, RunsAfter::SUCCESS);
    assert_eq!((job.steps[0].shell, job.steps[0].timeout), (Shell::Sh, None));
}

#[test]
fn triggers_leave_out_what_they_do_not_name() {
    let check = |triggers: &str, event: &str, reference: &str, is_built: bool| {
        let text = format!("version: 1\n{triggers}\njobs: {{ t: {{ steps: [{{ run: x }}] }} }}\n");
        match pipeline_file::plan(&text, "f", &context(event, reference)) {
            Ok(Planned::Pipeline(_)) => assert!(is_built, "{triggers} {event} {reference}"),
            Ok(Planned::NotTriggered(why)) => {
                assert!(!is_built, "{triggers} {reference}: {why}");
            }
            other => panic!("{other:?}"),
        }
    };
    check("", "push", "main", true);
    check("", "push", "refs/tags/v1", true);
    check("", "manual", "main", true);
    let branches = "triggers: { push: { branches: [main, 'release/*'] } }";
    check(branches, "push", "main", true);
    check(branches, "push", "release/1", true);
    check(branches, "push", "release/1/2", false);
    check(branches, "push", "next", false);
    check(branches, "push", "refs/tags/main", false);
    check(branches, "manual", "next", true);
    check("triggers: { push: { tags: ['v*'] } }", "push", "refs/tags/v1", true);
    check("triggers: { push: { tags: ['v*'] } }", "push", "main", false);
    check("triggers: { push: {} }", "push", "anything", true);
    check("triggers: {}", "push", "main", false);
    check("triggers: { manual: {} }", "push", "main", false);
    check("triggers: { manual: { inputs: {} } }", "manual", "main", true);
    check("triggers: {}", "manual", "main", true);
}

/// What the steps of the file with inputs get to see, for one change: the variables, and which of
/// the steps that have a condition run.
fn seen(context: &EventContext) -> (Vec<String>, [bool; 2]) {
    let pipeline = planned_for(&right("inputs"), context);
    let steps = &pipeline.jobs[0].steps;
    let env = pipeline.jobs[0].env.iter().chain(&steps[0].env);
    let env = env.map(|(name, value)| format!("{name}={value}")).collect();
    (env, [steps[1].when.success, steps[2].when.success])
}

#[test]
fn inputs_reach_variables_and_conditions() {
    let (env, runs) = seen(&start(&[("target", "production"), ("dry_run", "false")]));
    assert_eq!(env[0], "REF=refs/heads/main");
    assert_eq!(env[1..], ["DRY_RUN=false", "TARGET=deploy-to-production", "NOTE="]);
    assert_eq!(runs, [true, true]);
    let (env, runs) = seen(&start(&[("target", "staging"), ("note", "$(id) \"x\"")]));
    assert_eq!(env[1..], ["DRY_RUN=true", "TARGET=deploy-to-staging", "NOTE=$(id) \"x\""]);
    assert_eq!(runs, [false, false]);
    let (env, runs) = seen(&context("push", "main"));
    assert_eq!(env[1..], ["DRY_RUN=true", "TARGET=deploy-to-", "NOTE="]);
    assert_eq!(runs, [false, false]);
}

#[test]
fn a_build_that_somebody_started_remembers_all_of_its_inputs() {
    let texts = |pipeline: Pipeline| {
        pipeline.inputs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    let started = planned_for(&right("inputs"), &start(&[("target", "staging")]));
    assert_eq!(texts(started), ["dry_run=true", "note=", "target=staging"]);
    assert!(planned(&right("inputs"), "push", "main").inputs.is_empty());
}

#[test]
fn inputs_that_do_not_fit_start_nothing() {
    let why = |text: &str, given: &[(&str, &str)]| {
        pipeline_file::plan(text, ".busybee.yaml", &start(given)).expect_err("they do not fit")
    };
    let there_are = "the inputs are: dry_run (true or false, default true), \
                     target (one of staging, production, no default), note (a text, default empty)";
    let text = right("inputs");
    assert_eq!(why(&text, &[]), format!("the input \"target\" must be given; {there_are}"));
    let unknown = why(&text, &[("target", "staging"), ("dryrun", "true")]);
    let sentence = "there is no input \"dryrun\": did you mean \"dry_run\"?";
    assert_eq!(unknown, format!("{sentence}; {there_are}"));
    let none = why(&right("smallest"), &[("x", "1")]);
    assert!(none.contains("this pipeline takes none"), "{none}");
    // A broken file is a red build, whatever it was given.
    let broken = pipeline_file::plan("version: 1\n", "f", &start(&[("x", "1")]));
    assert!(matches!(broken, Ok(Planned::Broken(_))), "{broken:?}");
}

#[test]
fn there_are_not_more_inputs_than_people_fill_in() {
    let check = |n: usize| {
        let inputs: String = (0..n).map(|n| format!("      i{n}: {{}}\n")).collect();
        let text = format!(
            "version: 1\ntriggers:\n  manual:\n    inputs:\n{inputs}\
             jobs: {{ t: {{ steps: [{{ run: x, when: event.inputs.i0 == \"\" }}] }} }}\n"
        );
        pipeline_file::check(&text, "f").map(|_| ()).map_err(|problems| problems.to_string())
    };
    assert_eq!(check(32), Ok(()));
    let problems = check(33).expect_err("they are too many");
    assert!(problems.starts_with("f:37:7: 33 inputs are more than 32"), "{problems}");
    assert_eq!(problems.matches("f:").count(), 1, "{problems}");
}

#[test]
fn a_job_that_no_pool_would_serve_is_a_warning() {
    let pipeline = pipeline_file::check(&right("everything"), "f").expect("it is right");
    let pools = [["linux", "x64"].into_iter().collect()];
    let warnings = pipeline.without_pool(&pools);
    assert_eq!(warnings, ["no pool offers arm64, linux, so jobs.test will wait"]);
}

#[test]
fn a_plan_can_be_read_by_a_program() {
    let text = right("smallest");
    let pipeline = pipeline_file::check(&text, "f").expect("it is right");
    let view = plan_view(&pipeline, &context("push", "refs/tags/v1")).expect("it can be planned");
    let json = serde_json::to_value(&view).expect("a view is plain data");
    assert_eq!(json["ref"], "refs/tags/v1");
    assert_eq!(json["jobs"][0]["steps"][0]["runs_after"], serde_json::json!(["success"]));
    let pipeline = pipeline_file::check(&right("inputs"), "f").expect("it is right");
    let view = plan_view(&pipeline, &start(&[("target", "staging")])).expect("it can be planned");
    let json = serde_json::to_value(&view).expect("a view is plain data");
    let target = serde_json::json!({
        "name": "target", "type": "choice", "value": "staging", "description": "Where it goes"
    });
    assert_eq!(json["inputs"][1], target);
    assert_eq!(json["jobs"][0]["steps"][0]["env"]["TARGET"], "deploy-to-staging");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let text = format!("version: 1 # {}\n", "x".repeat(300_000));
    let problems = pipeline_file::check(&text, "f").expect_err("it is too large");
    assert!(problems.to_string().contains("more than 262144"), "{problems}");
}

#[test]
fn many_mistakes_end_in_a_short_list() {
    let jobs: String =
        (0..300).map(|n| format!("  j{n}: {{ needs: [k{n}], stps: [] }}\n")).collect();
    let problems =
        pipeline_file::check(&format!("version: 1\njobs:\n{jobs}"), "f").expect_err("no");
    assert!(problems.list().count() <= 20);
    assert!(problems.to_string().contains("more"), "{problems}");
}

#[test]
fn mangled_files_are_refused_or_planned_but_never_worse() {
    let texts: Vec<String> =
        fixtures("right").iter().chain(&fixtures("wrong")).map(|path| read(path).1).collect();
    mangled(&texts, |text| {
        let _right_or_wrong = pipeline_file::plan(text, "f", &context("push", "main"));
    });
}

#[test]
fn a_mangled_file_of_the_master_is_refused_or_taken_but_never_worse() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/busybee.example.toml");
    let text = std::fs::read_to_string(example).expect("the example is there");
    mangled(&[text], |text| {
        let _right_or_wrong = Config::parse(text, "f", Path::new("/"));
    });
}

/// Tries mutations of texts, from a fixed seed: a failure prints the text, and shows again.
fn mangled(texts: &[String], attempt: impl Fn(&str) + std::panic::RefUnwindSafe) {
    let mut random = Random(0x5eed);
    let pieces = [
        "{", "}", "[", "]", ": ", "- ", "\n", "  ", "&a ", "*a", "!x ", "|", ">", "\"", "'", "#",
        "<<: *a", "${{ ", "\t", "\0", "é", "~", "?", "@", "%", "when: ", "---\n", "0x", "\u{feff}",
        " = ", "[[", "\"\"\"", "\\u", "1e999", ".",
    ];
    let started = clock::monotonic();
    let mut rounds = 0;
    while rounds < 2000 && (clock::monotonic() - started).as_secs() < 20 {
        rounds += 1;
        let mut text = random.pick(texts).clone();
        for _ in 0..1 + random.below(4) {
            mangle(&mut text, &mut random, &pieces);
        }
        let one_started = clock::monotonic();
        let outcome = std::panic::catch_unwind(|| attempt(&text));
        let took = clock::monotonic() - one_started;
        assert!(outcome.is_ok() && took.as_secs() < 5, "{took:?} for:\n{text}");
    }
    assert!(rounds > 100, "only {rounds} rounds");
}

fn mangle(text: &mut String, random: &mut Random, pieces: &[&str]) {
    let edges: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let at = *random.pick(&edges);
    match random.below(4) {
        0 => {
            let piece: &&str = random.pick(pieces);
            text.insert_str(at, piece);
        }
        1 => text.truncate(at),
        2 => {
            let end = edges.iter().copied().find(|edge| *edge >= at + 12).unwrap_or(text.len());
            text.drain(at..end);
        }
        _ => {
            let end = *random.pick(&edges);
            let copy = text[at.min(end)..at.max(end)].to_owned();
            if text.len() < 8000 {
                text.insert_str(at, &copy);
            }
        }
    }
}

/// A small generator (splitmix64): the tests must not need the system's randomness.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below a usize")
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        let index = self.below(from.len());
        &from[index]
    }
}
