//! What a change would build, as people and scripts see it: `busybee pipeline plan`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::master::domain::pipeline::Concurrency;
use crate::master::domain::pipeline::JobSpec;
use crate::master::pipeline_file::context::EventContext;
use crate::master::pipeline_file::meaning::CheckedPipeline;
use crate::model::step::RunsAfter;
use crate::runtime::config_file::duration::format_duration;

/// A plan for one event on one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanView {
    /// `name:` of the file.
    pub name: Option<String>,
    /// The event.
    pub event: String,
    /// The full ref.
    #[serde(rename = "ref")]
    pub ref_name: String,
    /// Whether the triggers let it start a build.
    pub triggered: bool,
    /// Why not.
    pub left_out: Option<String>,
    /// What whoever starts a build by hand may choose, with its value in this plan.
    pub inputs: Vec<InputView>,
    /// How many builds like it run at a time, where that has a limit.
    pub concurrency: Option<ConcurrencyView>,
    /// In the order in which they can start.
    pub jobs: Vec<JobView>,
}

/// A concurrency group of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConcurrencyView {
    /// Its name.
    pub group: String,
    /// How many of it run at a time.
    pub limit: u32,
    /// What becomes of one more: `queue`, `cancel` or `skip`.
    pub on_new: String,
}

/// An input of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputView {
    /// Its name.
    pub name: String,
    /// `boolean`, `string` or `choice`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its value here.
    pub value: String,
    /// What it is for.
    pub description: Option<String>,
}

/// A job of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// The jobs before it.
    pub needs: Vec<String>,
    /// The labels it asks for; nothing: the first pool.
    pub worker: Option<Vec<String>>,
    /// How long it may take.
    pub timeout: String,
    /// Whether the commit is checked out.
    pub checkout: bool,
    /// How often it is given out again after an infrastructure failure.
    pub infra_retries: u32,
    /// How many jobs like it run at a time, where that has a limit.
    pub concurrency: Option<ConcurrencyView>,
    /// The pipeline's and the job's variables.
    pub env: BTreeMap<String, String>,
    /// The names of the secrets that its steps get.
    pub secrets: Vec<String>,
    /// Its steps.
    pub steps: Vec<StepView>,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// Its script.
    pub run: String,
    /// Its own variables.
    pub env: BTreeMap<String, String>,
    /// After which outcomes it runs: of `success`, `failure`, `cancel`; none: never.
    pub runs_after: Vec<String>,
    /// How long it may take, where it says so.
    pub timeout: Option<String>,
}

/// The plan of a pipeline for one change.
///
/// # Errors
/// An expression that has no answer for this change, or inputs that do not fit; as a sentence.
pub fn plan_view(pipeline: &CheckedPipeline, context: &EventContext) -> Result<PlanView, String> {
    let planned = pipeline.pipeline(context)?;
    let left_out = pipeline.left_out(context);
    let values = pipeline.inputs.values(context)?;
    let inputs =
        pipeline.inputs.iter().zip(values.iter()).map(|(input, (name, value))| InputView {
            name: name.to_owned(),
            kind: input.kind.word().to_owned(),
            value: value.to_string(),
            description: input.description.clone(),
        });
    Ok(PlanView {
        name: planned.name,
        event: context.event.as_str().to_owned(),
        ref_name: context.ref_name.to_string(),
        triggered: left_out.is_none(),
        left_out,
        inputs: inputs.collect(),
        concurrency: planned.concurrency.as_ref().map(concurrency_view),
        jobs: in_order(&planned.jobs).into_iter().map(job_view).collect(),
    })
}

/// Each job after those that it needs, otherwise as in the file.
fn in_order(jobs: &[JobSpec]) -> Vec<&JobSpec> {
    let mut ordered: Vec<&JobSpec> = Vec::with_capacity(jobs.len());
    let mut rest: Vec<&JobSpec> = jobs.iter().collect();
    while !rest.is_empty() {
        let before = ordered.len();
        rest.retain(|job| {
            let is_ready =
                job.needs.iter().all(|need| ordered.iter().any(|done| done.name == *need));
            if is_ready {
                ordered.push(job);
            }
            !is_ready
        });
        if ordered.len() == before {
            // There is no circle in a checked pipeline; if there were, its jobs come last.
            ordered.append(&mut rest);
        }
    }
    ordered
}

fn job_view(job: &JobSpec) -> JobView {
    let labels = |labels: &crate::model::labels::Labels| labels.0.iter().cloned().collect();
    JobView {
        name: job.name.to_string(),
        needs: job.needs.iter().map(ToString::to_string).collect(),
        worker: job.worker.as_ref().map(labels),
        timeout: format_duration(job.timeout),
        checkout: job.checkout,
        infra_retries: job.infra_retries,
        concurrency: job.concurrency.as_ref().map(concurrency_view),
        env: job.env.iter().cloned().collect(),
        secrets: job.secrets.clone(),
        steps: job
            .steps
            .iter()
            .map(|step| StepView {
                name: step.name.clone(),
                run: step.run.clone(),
                env: step.env.iter().cloned().collect(),
                runs_after: outcomes(step.when),
                timeout: step.timeout.map(format_duration),
            })
            .collect(),
    }
}

fn concurrency_view(concurrency: &Concurrency) -> ConcurrencyView {
    ConcurrencyView {
        group: concurrency.group.clone(),
        limit: concurrency.limit,
        on_new: concurrency.on_new.as_str().to_owned(),
    }
}

fn outcomes(when: RunsAfter) -> Vec<String> {
    let all = [(when.success, "success"), (when.failure, "failure"), (when.cancel, "cancel")];
    all.into_iter().filter(|(runs, _)| *runs).map(|(_, word)| word.to_owned()).collect()
}

impl ConcurrencyView {
    fn sentence(&self, noun: &str) -> String {
        let ConcurrencyView { group, limit, on_new } = self;
        let ending = if *limit == 1 { "" } else { "s" };
        let more = match on_new.as_str() {
            "cancel" => "one more ends the oldest",
            "skip" => "one more is left out",
            _ => "one more waits",
        };
        format!("{limit} {noun}{ending} of group \"{group}\" at a time; {more}")
    }
}

impl fmt::Display for PlanView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("pipeline");
        match &self.left_out {
            None => writeln!(f, "{name}: {} of {} builds", self.event, self.ref_name)?,
            Some(why) => {
                writeln!(f, "{name}: {} of {} builds nothing: {why}", self.event, self.ref_name)?;
            }
        }
        for input in &self.inputs {
            let about = input.description.as_deref().map(|text| format!("  ({text})"));
            let (value, about) = (one_line(&input.value), one_line(&about.unwrap_or_default()));
            let value = if value.is_empty() { "\"\"" } else { &value };
            writeln!(f, "  {}: {value}{about}", input.name)?;
        }
        if let Some(concurrency) = &self.concurrency {
            writeln!(f, "  {}", concurrency.sentence("build"))?;
        }
        for job in &self.jobs {
            let worker = match &job.worker {
                Some(labels) => format!("worker with {}", labels.join(", ")),
                None => "worker of the first pool".to_owned(),
            };
            let after = match job.needs.as_slice() {
                [] => String::new(),
                needs => format!(", after {}", needs.join(", ")),
            };
            writeln!(f, "\n{}  ({worker}, at most {}{after})", job.name, job.timeout)?;
            if !job.secrets.is_empty() {
                writeln!(f, "  with the secrets {}", job.secrets.join(", "))?;
            }
            if let Some(concurrency) = &job.concurrency {
                writeln!(f, "  {}", concurrency.sentence("job"))?;
            }
            if job.checkout {
                writeln!(f, "  - checkout")?;
            }
            for step in &job.steps {
                writeln!(f, "  - {}{}", step.name, condition_words(&step.runs_after))?;
            }
        }
        Ok(())
    }
}

/// A text of people's own, on one line of a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What is said of a step that does not simply run after success.
fn condition_words(runs_after: &[String]) -> String {
    match runs_after {
        [only] if only == "success" => String::new(),
        [] => "  (does not run here)".to_owned(),
        all if all.len() == 3 => "  (always)".to_owned(),
        some => format!("  (after {})", some.join(" or ")),
    }
}
