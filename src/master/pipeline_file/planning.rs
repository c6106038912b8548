//! A checked pipeline and a change → what is built.

use std::sync::Arc;

use crate::master::domain::pipeline::ChangeEvent;
use crate::master::domain::pipeline::JobSpec;
use crate::master::domain::pipeline::Pipeline;
use crate::master::domain::pipeline::Planned;
use crate::master::pipeline_file::context::EventContext;
use crate::master::pipeline_file::expression::Facts;
use crate::master::pipeline_file::inputs::InputValues;
use crate::master::pipeline_file::meaning::CheckedJob;
use crate::master::pipeline_file::meaning::CheckedPipeline;
use crate::master::pipeline_file::meaning::CheckedStep;
use crate::master::pipeline_file::template::Budget;
use crate::master::pipeline_file::template::Template;
use crate::master::pipeline_file::typed::PushTrigger;
use crate::model::inputs::GivenInputs;
use crate::model::labels::Labels;
use crate::model::step::RunsAfter;
use crate::model::step::StepSpec;
use crate::runtime::config_file::globs;
use crate::runtime::config_file::globs::Pattern;

impl CheckedPipeline {
    /// What is built for a change.
    ///
    /// # Errors
    /// The inputs it was given do not fit: a sentence for who gave them.
    pub fn for_change(&self, context: &EventContext) -> Result<Planned, String> {
        if let Some(sentence) = self.left_out(context) {
            return Ok(Planned::NotTriggered(sentence));
        }
        let inputs = self.inputs.values(context)?;
        Ok(match self.with_inputs(context, &inputs) {
            Ok(pipeline) => Planned::Pipeline(pipeline),
            Err(sentence) => Planned::Broken(sentence),
        })
    }

    /// The jobs, whether or not the triggers leave the change out.
    ///
    /// # Errors
    /// An expression that has no answer for this change, or inputs that do not fit; as a sentence.
    pub fn pipeline(&self, context: &EventContext) -> Result<Pipeline, String> {
        self.with_inputs(context, &self.inputs.values(context)?)
    }

    fn with_inputs(
        &self,
        context: &EventContext,
        inputs: &InputValues,
    ) -> Result<Pipeline, String> {
        let pipeline_name = self.name.as_deref().unwrap_or_default();
        let facts = Facts { context, pipeline_name, inputs };
        let mut budget = Budget::default();
        let concurrency = self.concurrency.as_ref();
        let concurrency =
            concurrency.map(|group| group.for_change(facts, &mut budget)).transpose()?;
        let jobs: Result<_, String> =
            self.jobs.iter().map(|job| job_spec(job, facts, &mut budget)).collect();
        let inputs = match context.event {
            ChangeEvent::Manual => inputs.texts(),
            // Nobody chose them: they are the commit's own.
            ChangeEvent::Push => GivenInputs::new(),
        };
        Ok(Pipeline { name: self.name.clone(), inputs, concurrency, jobs: jobs? })
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

fn job_spec(job: &CheckedJob, facts: Facts<'_>, budget: &mut Budget) -> Result<JobSpec, String> {
    let of_job = |sentence| format!("jobs.{}: {sentence}", job.name);
    let env = variables(&job.env, facts, budget).map_err(of_job)?;
    let concurrency = job.concurrency.as_ref().map(|group| group.for_change(facts, budget));
    let concurrency = concurrency.transpose().map_err(of_job)?;
    let steps = job.steps.iter().map(|step| {
        step_spec(step, facts, budget)
            .map_err(|sentence| format!("jobs.{}, step \"{}\": {sentence}", job.name, step.name))
    });
    Ok(JobSpec {
        name: job.name.clone(),
        needs: job.needs.clone(),
        worker: job.worker.clone(),
        env,
        secrets: job.secrets.clone(),
        checkout: job.checkout,
        keep_workspace: job.keep_workspace,
        timeout: job.timeout,
        infra_retries: job.infra_retries,
        concurrency,
        steps: steps.collect::<Result<_, String>>()?,
    })
}

fn step_spec(
    step: &CheckedStep,
    facts: Facts<'_>,
    budget: &mut Budget,
) -> Result<StepSpec, String> {
    let when = match &step.when {
        None => RunsAfter::SUCCESS,
        Some(condition) => condition.runs_after(facts).map_err(|(what, _hint)| what)?,
    };
    Ok(StepSpec {
        name: step.name.clone(),
        run: step.run.clone(),
        shell: step.shell,
        env: variables(&step.env, facts, budget)?,
        timeout: step.timeout,
        when,
    })
}

fn variables(
    env: &[(String, Arc<Template>)],
    facts: Facts<'_>,
    budget: &mut Budget,
) -> Result<Vec<(String, String)>, String> {
    env.iter()
        .map(|(name, template)| {
            let text = template.text(facts, budget);
            Ok((name.clone(), text.map_err(|why| format!("the variable {name}: {why}"))?))
        })
        .collect()
}
