//! What an agent is told when it is given a job: its steps, its variables, what to check out.

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::Attempt;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::CheckoutSpec;
use crate::model::attempt::GitCredential;
use crate::model::attempt::SecretVariable;
use crate::model::ids::AttemptId;

impl Coordinator {
    /// Tells the attempt's worker to carry it out.
    pub(super) fn tell_to_run(&mut self, id: AttemptId) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        if let Some(spec) = self.spec_of(attempt) {
            let worker = attempt.worker.clone();
            self.tell(&worker, ToAgent::Run(Box::new(spec)));
        }
    }

    fn spec_of(&self, attempt: &Attempt) -> Option<AttemptSpec> {
        let job = self.jobs.get(&attempt.job)?;
        let build = self.builds.get(&job.build)?;
        let pool = self.pool_of(&attempt.worker)?;
        let mut projects = self.settings.projects.iter();
        let repo = projects.find(|known| known.name == build.project)?.repo.clone();
        let url =
            format!("{}/projects/{}/builds/{}", self.settings.url, build.project, build.number);
        let branch = build.ref_name.branch().unwrap_or_default();
        let facts = [
            ("CI", "true".to_owned()),
            ("BUSYBEE", "true".to_owned()),
            ("BUSYBEE_PROJECT", build.project.to_string()),
            ("BUSYBEE_BUILD", build.number.to_string()),
            ("BUSYBEE_JOB", job.spec.name.to_string()),
            ("BUSYBEE_ATTEMPT", attempt.number.to_string()),
            ("BUSYBEE_COMMIT", build.commit.to_string()),
            ("BUSYBEE_REF", build.ref_name.to_string()),
            ("BUSYBEE_BRANCH", branch.to_owned()),
            ("BUSYBEE_EVENT", build.event.as_str().to_owned()),
            ("BUSYBEE_URL", url),
        ];
        let mut env: Vec<(String, String)> =
            facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        env.extend(pool.settings.env.iter().cloned());
        env.extend(job.spec.env.iter().cloned());
        Some(AttemptSpec {
            id: attempt.id,
            project: build.project.clone(),
            job: job.spec.name.clone(),
            env,
            secrets: job.spec.secrets.iter().map(|name| not_read(name)).collect(),
            checkout: job.spec.checkout.then(|| CheckoutSpec {
                repo,
                commit: build.commit.clone(),
                ref_name: build.ref_name.clone(),
                // The channel's adapter adds it: the domain holds no secrets.
                credential: GitCredential::None,
            }),
            keep_workspace: job.spec.keep_workspace,
            steps: job.spec.steps.clone(),
            timeout: job.spec.timeout,
            lease: pool.settings.lease,
        })
    }
}

/// The channel's adapter puts the value in: the domain holds no secrets.
fn not_read(name: &str) -> SecretVariable {
    SecretVariable { name: name.to_owned(), value: Err("it was not read".to_owned()) }
}
