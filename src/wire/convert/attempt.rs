//! Attempts, their steps and their outcomes, between their two spellings.

use std::time::Duration;

use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::CheckoutSpec;
use crate::model::attempt::GitCredential;
use crate::model::attempt::SecretVariable;
use crate::model::ids::AttemptId;
use crate::model::ids::Commit;
use crate::model::ids::Fence;
use crate::model::ids::JobName;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::model::secret::Secret;
use crate::model::step::RunsAfter;
use crate::model::step::Shell;
use crate::model::step::StepOutcome;
use crate::model::step::StepSpec;
use crate::model::time::Timestamp;
use crate::wire::convert::ProtocolError;
use crate::wire::convert::ms;
use crate::wire::convert::sentence;
use crate::wire::convert::variables_from_proto;
use crate::wire::convert::variables_to_proto;
use crate::wire::generated as proto;
use crate::wire::generated::attempt_result::Kind as AttemptKind;
use crate::wire::generated::secret_variable::Content;
use crate::wire::generated::step_outcome::Kind;
use crate::wire::message::StepResult;

/// What an outcome of a kind we do not know becomes: nobody's fault, and tried again.
const UNKNOWN_OUTCOME: &str = "the agent told an outcome that this master does not know";

pub(crate) fn id_to_proto(id: AttemptRef) -> proto::AttemptRef {
    proto::AttemptRef { attempt: id.attempt.0, fence: id.fence.0 }
}

pub(crate) fn id_from_proto(id: Option<proto::AttemptRef>) -> Result<AttemptRef, ProtocolError> {
    let id = id.ok_or(ProtocolError::Missing("an attempt"))?;
    Ok(AttemptRef { attempt: AttemptId(id.attempt), fence: Fence(id.fence) })
}

pub(crate) fn spec_to_proto(spec: AttemptSpec) -> proto::AttemptSpec {
    proto::AttemptSpec {
        id: Some(id_to_proto(spec.id)),
        project: spec.project.0,
        job: spec.job.0,
        env: variables_to_proto(spec.env),
        secrets: spec.secrets.into_iter().map(secret_to_proto).collect(),
        checkout: spec.checkout.map(checkout_to_proto),
        keep_workspace: spec.keep_workspace,
        steps: spec.steps.into_iter().map(step_to_proto).collect(),
        timeout_ms: ms(spec.timeout),
        lease_ms: ms(spec.lease),
    }
}

pub(crate) fn spec_from_proto(spec: proto::AttemptSpec) -> Result<AttemptSpec, ProtocolError> {
    let steps: Result<Vec<StepSpec>, ProtocolError> =
        spec.steps.into_iter().map(step_from_proto).collect();
    Ok(AttemptSpec {
        id: id_from_proto(spec.id)?,
        project: ProjectName(spec.project),
        job: JobName(spec.job),
        env: variables_from_proto(spec.env),
        secrets: spec.secrets.into_iter().map(secret_from_proto).collect(),
        checkout: spec.checkout.map(checkout_from_proto),
        keep_workspace: spec.keep_workspace,
        steps: steps?,
        timeout: Duration::from_millis(spec.timeout_ms),
        lease: Duration::from_millis(spec.lease_ms),
    })
}

fn secret_to_proto(secret: SecretVariable) -> proto::SecretVariable {
    let content = match secret.value {
        Ok(value) => Content::Value(value.reveal().clone()),
        Err(why) => Content::Missing(sentence(why)),
    };
    proto::SecretVariable { name: secret.name, content: Some(content) }
}

/// Without the one or the other it is missing: no step may run without what it was promised.
fn secret_from_proto(secret: proto::SecretVariable) -> SecretVariable {
    let value = match secret.content {
        Some(Content::Value(value)) => Ok(Secret::new(value)),
        Some(Content::Missing(why)) => Err(sentence(why)),
        None => Err("the master gave it no value".to_owned()),
    };
    SecretVariable { name: secret.name, value }
}

fn checkout_to_proto(checkout: CheckoutSpec) -> proto::Checkout {
    let credential = match checkout.credential {
        GitCredential::None => None,
        GitCredential::Token(token) => {
            Some(proto::checkout::Credential::Token(token.reveal().clone()))
        }
        GitCredential::SshKey { key, known_hosts } => {
            let key = key.reveal().clone();
            Some(proto::checkout::Credential::SshKey(proto::SshKey { key, known_hosts }))
        }
    };
    proto::Checkout {
        repo: checkout.repo,
        commit: checkout.commit.0,
        ref_name: checkout.ref_name.0,
        credential,
    }
}

fn checkout_from_proto(checkout: proto::Checkout) -> CheckoutSpec {
    let credential = match checkout.credential {
        None => GitCredential::None,
        Some(proto::checkout::Credential::Token(token)) => GitCredential::Token(Secret::new(token)),
        Some(proto::checkout::Credential::SshKey(ssh)) => {
            GitCredential::SshKey { key: Secret::new(ssh.key), known_hosts: ssh.known_hosts }
        }
    };
    CheckoutSpec {
        repo: checkout.repo,
        commit: Commit(checkout.commit),
        ref_name: RefName(checkout.ref_name),
        credential,
    }
}

fn step_to_proto(step: StepSpec) -> proto::Step {
    let shell = match step.shell {
        Shell::Sh => proto::step::Shell::Sh,
        Shell::Bash => proto::step::Shell::Bash,
    };
    proto::Step {
        name: step.name,
        run: step.run,
        shell: shell.into(),
        env: variables_to_proto(step.env),
        timeout_ms: step.timeout.map(ms),
        after_success: step.when.success,
        after_failure: step.when.failure,
        after_cancel: step.when.cancel,
    }
}

fn step_from_proto(step: proto::Step) -> Result<StepSpec, ProtocolError> {
    let shell = match proto::step::Shell::try_from(step.shell) {
        Ok(proto::step::Shell::Unspecified | proto::step::Shell::Sh) => Shell::Sh,
        Ok(proto::step::Shell::Bash) => Shell::Bash,
        // The safe state is to run nothing: another shell may read the script quite differently.
        Err(_) => return Err(ProtocolError::Impossible("shell")),
    };
    Ok(StepSpec {
        name: step.name,
        run: step.run,
        shell,
        env: variables_from_proto(step.env),
        timeout: step.timeout_ms.map(Duration::from_millis),
        when: RunsAfter {
            success: step.after_success,
            failure: step.after_failure,
            cancel: step.after_cancel,
        },
    })
}

pub(crate) fn outcome_to_proto(outcome: StepOutcome) -> proto::StepOutcome {
    let (kind, number, text) = match outcome {
        StepOutcome::Exited(code) => (Kind::Exited, code, String::new()),
        StepOutcome::Signalled(signal) => (Kind::Signalled, signal, String::new()),
        StepOutcome::TimedOut => (Kind::TimedOut, 0, String::new()),
        StepOutcome::OutOfMemory => (Kind::OutOfMemory, 0, String::new()),
        StepOutcome::Cancelled => (Kind::Cancelled, 0, String::new()),
        StepOutcome::Skipped => (Kind::Skipped, 0, String::new()),
        StepOutcome::Infra(text) => (Kind::Infra, 0, sentence(text)),
    };
    proto::StepOutcome { kind: kind.into(), number, sentence: text }
}

/// A missing or unknown outcome is an infrastructure failure, never a pass.
pub(crate) fn outcome_from_proto(outcome: Option<proto::StepOutcome>) -> StepOutcome {
    let Some(outcome) = outcome else { return StepOutcome::Infra(UNKNOWN_OUTCOME.to_owned()) };
    match Kind::try_from(outcome.kind) {
        Ok(Kind::Exited) => StepOutcome::Exited(outcome.number),
        Ok(Kind::Signalled) => StepOutcome::Signalled(outcome.number),
        Ok(Kind::TimedOut) => StepOutcome::TimedOut,
        Ok(Kind::OutOfMemory) => StepOutcome::OutOfMemory,
        Ok(Kind::Cancelled) => StepOutcome::Cancelled,
        Ok(Kind::Skipped) => StepOutcome::Skipped,
        Ok(Kind::Infra) => StepOutcome::Infra(sentence(outcome.sentence)),
        Ok(Kind::Unspecified) | Err(_) => StepOutcome::Infra(UNKNOWN_OUTCOME.to_owned()),
    }
}

pub(crate) fn step_result_to_proto(result: StepResult) -> proto::StepResult {
    proto::StepResult {
        attempt: Some(id_to_proto(result.attempt)),
        step: result.step,
        outcome: Some(outcome_to_proto(result.outcome)),
        started_at_ms: result.started_at.0,
        duration_ms: result.duration_ms,
        log_bytes: result.log_bytes,
        log_sha256: result.log_sha256,
    }
}

pub(crate) fn step_result_from_proto(
    result: proto::StepResult,
) -> Result<StepResult, ProtocolError> {
    Ok(StepResult {
        attempt: id_from_proto(result.attempt)?,
        step: result.step,
        outcome: outcome_from_proto(result.outcome),
        started_at: Timestamp(result.started_at_ms),
        duration_ms: result.duration_ms,
        log_bytes: result.log_bytes,
        log_sha256: result.log_sha256,
    })
}

pub(crate) fn result_to_proto(id: AttemptRef, outcome: AttemptOutcome) -> proto::AttemptResult {
    let (kind, text) = match outcome {
        AttemptOutcome::Passed => (AttemptKind::Passed, String::new()),
        AttemptOutcome::Failed => (AttemptKind::Failed, String::new()),
        AttemptOutcome::Cancelled => (AttemptKind::Cancelled, String::new()),
        AttemptOutcome::Infra(text) => (AttemptKind::Infra, sentence(text)),
    };
    proto::AttemptResult { attempt: Some(id_to_proto(id)), kind: kind.into(), sentence: text }
}

pub(crate) fn result_from_proto(
    result: proto::AttemptResult,
) -> Result<(AttemptRef, AttemptOutcome), ProtocolError> {
    let outcome = match AttemptKind::try_from(result.kind) {
        Ok(AttemptKind::Passed) => AttemptOutcome::Passed,
        Ok(AttemptKind::Failed) => AttemptOutcome::Failed,
        Ok(AttemptKind::Cancelled) => AttemptOutcome::Cancelled,
        Ok(AttemptKind::Infra) => AttemptOutcome::Infra(sentence(result.sentence)),
        Ok(AttemptKind::Unspecified) | Err(_) => AttemptOutcome::Infra(UNKNOWN_OUTCOME.to_owned()),
    };
    Ok((id_from_proto(result.attempt)?, outcome))
}
