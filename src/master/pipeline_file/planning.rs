//! A checked pipeline and a change → what is built.

use crate::master::domain::pipeline::ChangeEvent;
use crate::master::domain::pipeline::JobSpec;
use crate::master::domain::pipeline::Pipeline;
use crate::master::domain::pipeline::Planned;
use crate::master::pipeline_file::context::EventContext;
use crate::master::pipeline_file::meaning::CheckedJob;
use crate::master::pipeline_file::meaning::CheckedPipeline;
use crate::master::pipeline_file::meaning::CheckedStep;
use crate::master::pipeline_file::typed::PushTrigger;
use crate::model::labels::Labels;
use crate::model::step::RunsAfter;
use crate::model::step::StepSpec;
use crate::runtime::config_file::globs;
use crate::runtime::config_file::globs::Pattern;

impl CheckedPipeline {
    /// What is built for a change.
    pub fn for_change(&self, context: &EventContext) -> Planned {
        if let Some(sentence) = self.left_out(context) {
            return Planned::NotTriggered(sentence);
        }
        match self.pipeline(context) {
            Ok(pipeline) => Planned::Pipeline(pipeline),
            Err(sentence) => Planned::Broken(sentence),
        }
    }

    /// The jobs, whether or not the triggers leave the change out.
    ///
    /// # Errors
    /// A condition that has no answer for this change, as a sentence.
    pub fn pipeline(&self, context: &EventContext) -> Result<Pipeline, String> {
        let name = self.name.as_deref().unwrap_or_default();
        let jobs: Result<_, String> =
            self.jobs.iter().map(|job| job_spec(job, context, name)).collect();
        Ok(Pipeline { name: self.name.clone(), jobs: jobs? })
    }

    /// What `check` warns of: jobs whose labels no pool of these offers. They would wait.
    pub fn without_pool(&self, pools: &[Labels]) -> Vec<String> {
        let is_offered = |wanted: &Labels| pools.iter().any(|offered| offered.satisfy(wanted));
        let sentence = |job: &CheckedJob| {
            let wanted = job.worker.as_ref().filter(|wanted| !is_offered(wanted))?;
            Some(format!("no pool offers {wanted}, so jobs.{} will wait", job.name))
        };
        self.jobs.iter().filter_map(sentence).collect()
    }

    /// Why the triggers leave a change out; nothing: they do not.
    pub fn left_out(&self, context: &EventContext) -> Option<String> {
        match context.event {
            // Somebody wants it.
            ChangeEvent::Manual => return None,
            ChangeEvent::Push => {}
        }
        let Some(push) = self.triggers.as_ref()? else {
            return Some("its triggers have no push".to_owned());
        };
        let PushTrigger { branches, tags } = push;
        let is_all = branches.is_none() && tags.is_none();
        let check = |kind: &str, name: &str, patterns: &Option<Vec<Pattern>>| match patterns {
            Some(patterns) if globs::any_matches(patterns, name) => None,
            Some(patterns) => {
                let list: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
                Some(format!("the {kind} {name} fits none of triggers.push: {}", list.join(", ")))
            }
            None if is_all => None,
            None => Some(format!("triggers.push names no pattern for a {kind}")),
        };
        match (context.ref_name.branch(), context.ref_name.tag()) {
            (Some(branch), _) => check("branch", branch, branches),
            (None, Some(tag)) => check("tag", tag, tags),
            (None, None) => Some(format!("{} is neither a branch nor a tag", context.ref_name)),
        }
    }
}

fn job_spec(job: &CheckedJob, context: &EventContext, pipeline: &str) -> Result<JobSpec, String> {
    let steps = job.steps.iter().map(|step| {
        step_spec(step, context, pipeline)
            .map_err(|sentence| format!("jobs.{}, step \"{}\": {sentence}", job.name, step.name))
    });
    Ok(JobSpec {
        name: job.name.clone(),
        needs: job.needs.clone(),
        worker: job.worker.clone(),
        env: job.env.clone(),
        checkout: job.checkout,
        keep_workspace: job.keep_workspace,
        timeout: job.timeout,
        infra_retries: job.infra_retries,
        steps: steps.collect::<Result<_, String>>()?,
    })
}

fn step_spec(step: &CheckedStep, context: &EventContext, name: &str) -> Result<StepSpec, String> {
    let when = match &step.when {
        None => RunsAfter::SUCCESS,
        Some(condition) => condition.runs_after(context, name).map_err(|(what, _hint)| what)?,
    };
    Ok(StepSpec {
        name: step.name.clone(),
        run: step.run.clone(),
        shell: step.shell,
        env: step.env.clone(),
        timeout: step.timeout,
        when,
    })
}
