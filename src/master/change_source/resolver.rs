//! What a change turned out to be: its commit, who wrote it, and what its pipeline file says.

use std::sync::Mutex;

use crate::master::change_source::recent::Asked;
use crate::master::change_source::recent::Recent;
use crate::master::change_source::refs;
use crate::master::change_source::repository::CommitFacts;
use crate::master::change_source::repository::FetchFailure;
use crate::master::change_source::repository::PipelineText;
use crate::master::change_source::repository::Repository;
use crate::master::domain::decision::Unresolved;
use crate::master::domain::decision::Wanted;
use crate::master::domain::event::Event;
use crate::master::domain::event::Resolved;
use crate::master::domain::pipeline::ChangeEvent;
use crate::master::domain::pipeline::Pipeline;
use crate::master::domain::pipeline::Planned;
use crate::master::pipeline_file;
use crate::master::pipeline_file::context::EventContext;
use crate::model::ids::Commit;
use crate::model::ids::RefName;
use crate::model::inputs::GivenInputs;
use crate::runtime::config_file::suggest;

/// Why a change could not be resolved.
struct Trouble {
    sentence: String,
    worth_retrying: bool,
}

/// The event that answers `Action::ResolveChange`, if the answer is known without running git.
pub(super) fn remembered(
    repository: &Repository,
    recent: &Mutex<Recent>,
    unresolved: &Unresolved,
) -> Option<Event> {
    let resolved = lock(recent).get(&asked(repository, &unresolved.wanted)?)?;
    Some(Event::ChangeResolved(unresolved.change, resolved))
}

/// The event that answers `Action::ResolveChange`.
pub(super) async fn resolve(
    repository: &Repository,
    recent: &Mutex<Recent>,
    unresolved: Unresolved,
) -> Event {
    let Unresolved { change, project, wanted } = unresolved;
    let asked = asked(repository, &wanted);
    let result = match wanted {
        Wanted::Push { ref_name, commit } => push(repository, ref_name, commit).await,
        Wanted::Manual { reference, inputs } => {
            manual(repository, reference.as_deref(), inputs).await
        }
    };
    match result {
        Ok(resolved) => {
            if let Some(asked) = asked {
                lock(recent).put(asked, resolved.clone());
            }
            Event::ChangeResolved(change, resolved)
        }
        Err(Trouble { sentence, worth_retrying }) => {
            let sentence = format!("{project}: {sentence}");
            Event::ChangeUnresolved { change, sentence, worth_retrying }
        }
    }
}

/// What is asked, if the answer will be the same for ever: a branch moves, a commit does not. What
/// is asked with inputs is rarely asked again.
fn asked(repository: &Repository, wanted: &Wanted) -> Option<Asked> {
    let project = repository.source().project.clone();
    match wanted {
        Wanted::Push { ref_name, commit } => {
            Some(Asked { project, commit: commit.clone(), pushed: Some(ref_name.clone()) })
        }
        Wanted::Manual { reference: Some(text), inputs }
            if refs::is_commit(text) && inputs.is_empty() =>
        {
            Some(Asked { project, commit: Commit::from(text.as_str()), pushed: None })
        }
        Wanted::Manual { .. } => None,
    }
}

fn lock(recent: &Mutex<Recent>) -> std::sync::MutexGuard<'_, Recent> {
    // What a panic left half done is a remembered answer more or less.
    recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn push(
    repository: &Repository,
    ref_name: RefName,
    commit: Commit,
) -> Result<Resolved, Trouble> {
    if !refs::is_commit(commit.as_str()) {
        return Err(Trouble {
            sentence: format!("\"{commit}\" is not a commit"),
            worth_retrying: false,
        });
    }
    let facts = get(repository, &commit, &ref_name).await?;
    let context = EventContext::new(ChangeEvent::Push, ref_name);
    resolved(repository, context, commit, facts).await
}

async fn manual(
    repository: &Repository,
    wanted: Option<&str>,
    inputs: GivenInputs,
) -> Result<Resolved, Trouble> {
    let wanted = wanted.map(str::trim).filter(|text| !text.is_empty());
    let listed = repository.list().await;
    let listed = listed.map_err(|sentence| Trouble { sentence, worth_retrying: true })?;
    // A branch may be called like a commit; nobody means that.
    let (ref_name, commit) = match wanted.map(str::to_ascii_lowercase) {
        Some(text) if refs::is_commit(&text) => {
            let commit = Commit(text);
            let mut tips = listed.refs.iter().filter(|(_, tip)| *tip == commit);
            let is_head = |(name, _): &&(RefName, Commit)| Some(name) == listed.head.as_ref();
            let tip = tips.clone().find(is_head).or_else(|| tips.next());
            let ref_name = match tip {
                Some((name, _)) => name.clone(),
                None => containing(repository, &commit, listed.head.as_ref()).await?,
            };
            (ref_name, commit)
        }
        _ => {
            listed.choose(wanted).map_err(|sentence| Trouble { sentence, worth_retrying: false })?
        }
    };
    let facts = get(repository, &commit, &ref_name).await?;
    let context = EventContext::new(ChangeEvent::Manual, ref_name).with_inputs(inputs);
    resolved(repository, context, commit, facts).await
}

async fn containing(
    repository: &Repository,
    commit: &Commit,
    head: Option<&RefName>,
) -> Result<RefName, Trouble> {
    repository.containing(commit, head).await.map_err(|failure| match failure {
        FetchFailure::Unreachable(sentence) => Trouble { sentence, worth_retrying: true },
        FetchFailure::Gone => Trouble {
            sentence: format!("no branch or tag of the repository contains the commit {commit}"),
            worth_retrying: false,
        },
    })
}

async fn get(
    repository: &Repository,
    commit: &Commit,
    ref_name: &RefName,
) -> Result<CommitFacts, Trouble> {
    if let Some(facts) = repository.facts(commit).await {
        return Ok(facts);
    }
    repository.fetch(commit, ref_name).await.map_err(|failure| match failure {
        FetchFailure::Unreachable(sentence) => Trouble { sentence, worth_retrying: true },
        FetchFailure::Gone => Trouble {
            sentence: format!(
                "the repository no longer has the commit {commit}: {ref_name} was changed \
                    or deleted since"
            ),
            worth_retrying: false,
        },
    })?;
    repository.facts(commit).await.ok_or_else(|| Trouble {
        sentence: format!("the commit {commit} was fetched, but cannot be read"),
        worth_retrying: true,
    })
}

/// A pipeline that lists a secret which the project does not have is broken: no job of it may run
/// without what it was promised.
fn with_secrets(repository: &Repository, pipeline: Pipeline) -> Planned {
    let source = repository.source();
    for job in &pipeline.jobs {
        if let Some(name) = job.secrets.iter().find(|name| !source.secret_files.contains_key(*name))
        {
            let known = source.secret_files.keys().map(String::as_str);
            let hint = suggest::nearest(name, known).map_or_else(
                || "name its file under secret_files in the master's file".to_owned(),
                |near| format!("did you mean {near}?"),
            );
            let project = &source.project;
            return Planned::Broken(format!(
                "jobs.{}.secrets: project {project} has no secret {name}; {hint}",
                job.name
            ));
        }
    }
    Planned::Pipeline(pipeline)
}

async fn resolved(
    repository: &Repository,
    context: EventContext,
    commit: Commit,
    facts: CommitFacts,
) -> Result<Resolved, Trouble> {
    let ref_name = context.ref_name.clone();
    let planned = match facts.pipeline {
        PipelineText::Unreadable(sentence) => Planned::Broken(sentence),
        PipelineText::Text(text) => {
            // A long file full of mistakes takes a while; others must not wait for it.
            let plan = move || pipeline_file::plan(&text, pipeline_file::FILE_NAME, &context);
            let planned = tokio::task::spawn_blocking(plan).await.unwrap_or_else(|_stopped| {
                let sentence = "the pipeline file could not be read to its end".to_owned();
                Ok(Planned::Broken(sentence))
            });
            match planned.map_err(|sentence| Trouble { sentence, worth_retrying: false })? {
                Planned::Pipeline(pipeline) => with_secrets(repository, pipeline),
                other => other,
            }
        }
    };
    Ok(Resolved { ref_name, commit, subject: facts.subject, author: facts.author, planned })
}
