//! What was typed → what it means: defaults filled in, names checked, conditions parsed.

use std::sync::Arc;
use std::time::Duration;

use crate::master::pipeline_file::concurrency;
use crate::master::pipeline_file::concurrency::CheckedConcurrency;
use crate::master::pipeline_file::condition::Condition;
use crate::master::pipeline_file::expression::Scope;
use crate::master::pipeline_file::graph;
use crate::master::pipeline_file::input_meaning;
use crate::master::pipeline_file::inputs::Inputs;
use crate::master::pipeline_file::need::Need;
use crate::master::pipeline_file::step_name;
use crate::master::pipeline_file::template::Template;
use crate::master::pipeline_file::typed::Defaults;
use crate::master::pipeline_file::typed::JobFile;
use crate::master::pipeline_file::typed::PipelineFile;
use crate::master::pipeline_file::typed::PushTrigger;
use crate::master::pipeline_file::typed::Retry;
use crate::master::pipeline_file::typed::ShellWord;
use crate::master::pipeline_file::typed::StepFile;
use crate::master::pipeline_file::typed::Workspace;
use crate::model::ids::JobName;
use crate::model::labels::Labels;
use crate::model::step::Shell;
use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::node::Node;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::node::Value;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::Entries;
use crate::runtime::config_file::placed::ScalarText;
use crate::runtime::config_file::problem::Problem;
use crate::runtime::config_file::words;
use crate::runtime::config_file::words::Label;

/// How long a job may take that does not say so itself: longer than nearly every build, shorter
/// than anyone wants to pay for one that hangs.
pub const JOB_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3600);

/// How often a job is given out again after infrastructure failed, where the file does not say.
pub const INFRA_RETRIES_DEFAULT: u32 = 2;

/// The most it may say: what fails eleven times is not bad luck.
pub const INFRA_RETRIES_MAX: u32 = 10;

/// Jobs of a pipeline. Each is a row on every page of its build.
pub const JOBS_MAX: usize = 256;

/// Steps of a job.
pub const STEPS_MAX: usize = 500;

/// Secrets of a job.
const SECRETS_MAX: usize = 32;

/// A pipeline that is right, before it is known for which change.
#[derive(Debug)]
pub struct CheckedPipeline {
    pub(super) name: Option<String>,
    pub(super) triggers: Option<Option<PushTrigger>>,
    pub(super) inputs: Inputs,
    pub(super) concurrency: Option<CheckedConcurrency>,
    pub(super) jobs: Vec<CheckedJob>,
}

/// A job of it.
#[derive(Debug)]
pub(super) struct CheckedJob {
    pub(super) name: JobName,
    pub(super) needs: Vec<JobName>,
    pub(super) worker: Option<Labels>,
    pub(super) env: Vec<(String, Arc<Template>)>,
    pub(super) secrets: Vec<String>,
    pub(super) checkout: bool,
    pub(super) keep_workspace: bool,
    pub(super) timeout: Duration,
    pub(super) infra_retries: u32,
    pub(super) concurrency: Option<CheckedConcurrency>,
    pub(super) steps: Vec<CheckedStep>,
}

/// A step of it.
#[derive(Debug)]
pub(super) struct CheckedStep {
    pub(super) name: String,
    pub(super) run: String,
    pub(super) shell: Shell,
    pub(super) env: Vec<(String, Arc<Template>)>,
    pub(super) timeout: Option<Duration>,
    pub(super) when: Option<Condition>,
}

/// What holds for all jobs of the file.
struct Common {
    scope: Scope,
    env: Vec<(String, Arc<Template>)>,
    worker: Option<Vec<Label>>,
    timeout: Option<Duration>,
    infra_retries: u32,
}

/// Says what a file means; what is wrong is reported to the document.
pub(super) fn of(document: &mut Document, file: PipelineFile) -> CheckedPipeline {
    if file.version.value != 1 {
        let what = format!("this version of Busybee knows version 1, not {}", file.version.value);
        document
            .report(Problem::new(document.place(file.version.id), what).hint("write version: 1"));
    }
    let jobs = file.jobs.value.0;
    if jobs.is_empty() && !has_entries(document, "jobs") {
        let problem = Problem::new(document.place(file.jobs.id), "there are no jobs");
        document.report(problem.hint("add one: test: { steps: [{ run: make test }] }"));
    }
    if jobs.len() > JOBS_MAX {
        let what = format!("{} jobs are more than {JOBS_MAX}", jobs.len());
        document.report(Problem::new(document.place(file.jobs.id), what));
        let inputs = Inputs::default();
        let (name, triggers, concurrency, jobs) = (None, None, None, Vec::new());
        return CheckedPipeline { name, triggers, inputs, concurrency, jobs };
    }
    check_needs(document, &jobs);
    let name = file.name.map(|title| title.0);
    let inputs = input_meaning::of(document, file.triggers.as_ref());
    let scope = Scope { pipeline_name: name.clone().unwrap_or_default(), inputs };
    let concurrency = file.concurrency.and_then(|typed| concurrency::of(document, &scope, typed));
    let common = common(document, scope, file.env, file.defaults);
    let jobs =
        jobs.into_iter().map(|(name, job)| job_meaning(document, &common, name, job)).collect();
    let triggers = file.triggers.map(|triggers| triggers.push);
    CheckedPipeline { name, triggers, inputs: common.scope.inputs, concurrency, jobs }
}

/// Whether the file has something under a key, right or wrong.
fn has_entries(document: &Document, key: &str) -> bool {
    let node = document.root.entry(key);
    matches!(node.map(|node| &node.value), Some(Value::Table(entries)) if !entries.is_empty())
}

fn check_needs(document: &mut Document, jobs: &[(At<String>, JobFile)]) {
    let all: Vec<String> = match document.root.entry("jobs").map(|node| &node.value) {
        Some(Value::Table(entries)) => entries.iter().map(|(key, _)| key.text.clone()).collect(),
        _ => Vec::new(),
    };
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let needs_of = |job: &'_ JobFile| -> Vec<At<Need>> { job.needs.clone().unwrap_or_default() };
    let owned: Vec<_> =
        jobs.iter().map(|(name, job)| (name.value.as_str(), needs_of(job))).collect();
    if let Some((job, _)) = owned.iter().find(|(_, needs)| needs.len() > JOBS_MAX) {
        let what = format!("{job} needs more than {JOBS_MAX} jobs");
        document.report(Problem::new(document.place(document.root.id), what));
        return;
    }
    let graph: Vec<_> = owned.iter().map(|(name, needs)| (*name, needs.as_slice())).collect();
    graph::check(document, &graph, &names);
}

fn common(
    document: &mut Document,
    scope: Scope,
    env: Option<Entries<At<ScalarText>>>,
    defaults: Option<Defaults>,
) -> Common {
    let defaults = defaults.unwrap_or(Defaults { worker: None, timeout: None, retry: None });
    Common {
        env: variables(document, &scope, env),
        scope,
        worker: defaults.worker,
        timeout: defaults.timeout.and_then(|timeout| positive(document, &timeout)),
        infra_retries: infra_retries(document, defaults.retry).unwrap_or(INFRA_RETRIES_DEFAULT),
    }
}

fn job_meaning(
    document: &mut Document,
    common: &Common,
    name: At<String>,
    job: JobFile,
) -> CheckedJob {
    refuse(document, name.id, words::check_name(&name.value));
    let checkout = job.checkout.unwrap_or(true);
    let mut env = common.env.clone();
    let own = variables(document, &common.scope, job.env);
    env.retain(|(key, _)| own.iter().all(|(own_key, _)| own_key != key));
    env.extend(own);
    let secrets = secrets(document, job.secrets.unwrap_or_default(), &env, &job.steps.value);
    let infra_retries = infra_retries(document, job.retry).unwrap_or(common.infra_retries);
    let timeout = job.timeout.and_then(|timeout| positive(document, &timeout));
    let steps = steps_meaning(document, common, &name.value, checkout, job.steps);
    let worker = job.worker.or_else(|| common.worker.clone());
    let concurrency = job.concurrency;
    let concurrency = concurrency.and_then(|typed| concurrency::of(document, &common.scope, typed));
    CheckedJob {
        needs: job
            .needs
            .unwrap_or_default()
            .into_iter()
            .map(|need| JobName(need.value.0))
            .collect(),
        worker: worker.map(|labels| labels.into_iter().map(|label| label.0).collect()),
        env,
        secrets,
        checkout,
        keep_workspace: job.workspace == Some(Workspace::Keep),
        timeout: timeout.or(common.timeout).unwrap_or(JOB_TIMEOUT_DEFAULT),
        infra_retries,
        concurrency,
        steps,
        name: JobName(name.value),
    }
}

fn steps_meaning(
    document: &mut Document,
    common: &Common,
    job: &str,
    has_checkout: bool,
    steps: At<Vec<StepFile>>,
) -> Vec<CheckedStep> {
    let place = document.place(steps.id);
    if steps.value.len() > STEPS_MAX {
        let what = format!("{} steps are more than {STEPS_MAX}", steps.value.len());
        document.report(Problem::new(place, what).hint("put them into a script"));
        return Vec::new();
    }
    let had_any = |node: &Node| matches!(&node.value, Value::List(items) if !items.is_empty());
    let typed = document.root.entry("jobs").and_then(|jobs| jobs.entry(job)?.entry("steps"));
    if steps.value.is_empty() && !typed.is_some_and(had_any) {
        let problem = Problem::new(place, format!("jobs.{job} has no steps"));
        document.report(problem.hint("add one: { run: make test }"));
    }
    let wanted = steps.value.iter().map(|step| match &step.name {
        Some(title) => title.0.clone(),
        None => step_name::from_script(&step.run.value.0),
    });
    let names = step_name::unique(wanted, has_checkout);
    let named = names.into_iter().zip(steps.value);
    named.map(|(name, step)| step_meaning(document, common, name, step)).collect()
}

fn step_meaning(
    document: &mut Document,
    common: &Common,
    name: String,
    step: StepFile,
) -> CheckedStep {
    let run = step.run.value.0;
    if run.trim().is_empty() {
        let problem = Problem::new(document.place(step.run.id), "an empty script");
        document.report(problem.hint("say what to run, or take the step out"));
    }
    // What has `${{ }}` is reported already; as CEL it would be wrong once more.
    let typed = step.when.filter(|when| !when.value.contains("${{"));
    let when = typed.and_then(|when| {
        Condition::parse(when.value.trim(), &common.scope)
            .map_err(|(what, hint)| {
                document.report(Problem { place: document.place(when.id), what, hint });
            })
            .ok()
    });
    CheckedStep {
        name,
        run,
        shell: match step.shell {
            None | Some(ShellWord::Sh) => Shell::Sh,
            Some(ShellWord::Bash) => Shell::Bash,
        },
        env: variables(document, &common.scope, step.env),
        timeout: step.timeout.and_then(|timeout| positive(document, &timeout)),
        when,
    }
}

fn variables(
    document: &mut Document,
    scope: &Scope,
    env: Option<Entries<At<ScalarText>>>,
) -> Vec<(String, Arc<Template>)> {
    let entries = env.unwrap_or_default().0;
    let mut variables = Vec::with_capacity(entries.len());
    for (key, text) in entries {
        refuse(document, key.id, words::check_variable(&key.value));
        match Template::parse(&text.value.0, scope) {
            Ok(template) => variables.push((key.value, Arc::new(template))),
            Err((what, hint)) => {
                document.report(Problem { place: document.place(text.id), what, hint });
            }
        }
    }
    variables
}

/// The secrets of a job: each a variable that has no other value.
fn secrets(
    document: &mut Document,
    typed: Vec<At<String>>,
    env: &[(String, Arc<Template>)],
    steps: &[StepFile],
) -> Vec<String> {
    if let Some(first_too_many) = typed.get(SECRETS_MAX) {
        let what = format!("{} secrets are more than {SECRETS_MAX}", typed.len());
        document.report(Problem::new(document.place(first_too_many.id), what));
    }
    let in_steps = || steps.iter().filter_map(|step| step.env.as_ref());
    let is_variable = |name: &str| {
        env.iter().any(|(key, _)| key == name)
            || in_steps().any(|env| env.0.iter().any(|(key, _)| key.value == name))
    };
    let mut secrets: Vec<String> = Vec::with_capacity(typed.len());
    for At { id, value: name } in typed {
        refuse(document, id, words::check_variable(&name));
        if is_variable(&name) {
            let what = format!("\"{name}\" is a secret, and a variable under env");
            document.report(Problem::new(document.place(id), what).hint("rename one of them"));
        }
        if !secrets.contains(&name) {
            secrets.push(name);
        }
    }
    secrets
}

fn infra_retries(document: &mut Document, retry: Option<Retry>) -> Option<u32> {
    let infra = retry?.infra?;
    if infra.value > INFRA_RETRIES_MAX {
        let what = format!("{} retries are more than {INFRA_RETRIES_MAX}", infra.value);
        document.report(Problem::new(document.place(infra.id), what));
    }
    Some(infra.value)
}

/// A timeout that lets something run.
fn positive(document: &mut Document, span: &At<Span>) -> Option<Duration> {
    let duration = span.value.0;
    if duration.is_zero() {
        let problem = Problem::new(document.place(span.id), "a timeout of nothing");
        document.report(problem.hint("for the longest there is, write \"366d\""));
        return None;
    }
    Some(duration)
}

/// Reports what a check of a word found.
fn refuse(document: &mut Document, id: NodeId, checked: Result<(), String>) {
    if let Err(message) = checked {
        let (what, hint) = message.split_once('\n').unwrap_or((&message, ""));
        document.report(Problem::new(document.place(id), what).hint(hint));
    }
}
