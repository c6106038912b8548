//! A pipeline file of anybody's repository, read and planned.
//!
//! Reading ends soon and says something: a plan, or problems with lines of this very file. What is
//! planned keeps what the domain relies on: names are unique and well formed, every need exists and
//! the needs have no cycle, no job is without steps or time; and the same file gives the same plan.

#![no_main]

use std::collections::BTreeSet;

use busybee::master::domain::pipeline::ChangeEvent;
use busybee::master::domain::pipeline::Pipeline;
use busybee::master::domain::pipeline::Planned;
use busybee::master::pipeline_file;
use busybee::master::pipeline_file::FILE_NAME;
use busybee::master::pipeline_file::context::EventContext;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let [context, ..] = contexts();
    let planned = pipeline_file::plan(text, FILE_NAME, &context);
    let checked = match pipeline_file::check(text, FILE_NAME) {
        Ok(checked) => checked,
        Err(problems) => {
            let said = problems.to_string();
            assert!(!said.is_empty());
            assert_eq!(planned, Ok(Planned::Broken(said)));
            return;
        }
    };
    assert_eq!(planned, checked.for_change(&context));
    for context in contexts() {
        match checked.for_change(&context) {
            Ok(Planned::Pipeline(pipeline)) => check(&pipeline),
            Ok(Planned::NotTriggered(why) | Planned::Broken(why)) | Err(why) => {
                assert!(!why.is_empty());
            }
        }
    }
});

fn contexts() -> [EventContext; 3] {
    let branch = EventContext::new(ChangeEvent::Push, "refs/heads/main".into());
    let tag = EventContext::new(ChangeEvent::Push, "refs/tags/v1.2".into());
    let manual = EventContext::new(ChangeEvent::Manual, "refs/heads/release/1".into());
    let given = [("target".to_owned(), "staging".to_owned())].into_iter().collect();
    [branch, tag, manual.with_inputs(given)]
}

fn check(pipeline: &Pipeline) {
    let mut done = BTreeSet::new();
    let mut waiting: Vec<_> = pipeline.jobs.iter().collect();
    for job in &waiting {
        let (name, axes) =
            job.name.as_str().split_once(['[', ' ']).unwrap_or((job.name.as_str(), ""));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        assert!((1..=64).contains(&name.len()) && name.chars().all(plain), "{name} {axes}");
        assert!(!job.timeout.is_zero());
        assert!(!job.steps.is_empty() || job.checkout, "{}: nothing to do", job.name);
        for (variable, value) in job.env.iter().chain(job.steps.iter().flat_map(|step| &step.env)) {
            assert!(!variable.contains(['=', '\0']) && !variable.is_empty());
            assert!(!value.contains('\0'), "no program can be given that");
        }
        for step in &job.steps {
            assert!(!step.run.contains('\0') && step.timeout.is_none_or(|time| !time.is_zero()));
        }
    }
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|job| {
            let ready = job.needs.iter().all(|need| done.contains(need));
            if ready {
                assert!(done.insert(job.name.clone()), "{} is there twice", job.name);
            }
            !ready
        });
        assert!(waiting.len() < before, "a need that is not there, or a cycle");
    }
}
