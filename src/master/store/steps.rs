//! The table `steps`: row ↔ [`StepRun`].

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::StepRun;
use crate::master::store::Store;
use crate::master::store::columns;
use crate::model::ids::AttemptId;
use crate::model::step::StepOutcome;

impl Store {
    /// The steps of an attempt that have started, in order.
    pub async fn steps_of(&self, attempt: AttemptId) -> anyhow::Result<Vec<StepRun>> {
        self.read(move |connection| Ok(of_attempt(connection, attempt)?)).await
    }

    /// The steps of several attempts: attempt by attempt as asked for, in order within each.
    pub async fn steps_of_many(&self, attempts: Vec<AttemptId>) -> anyhow::Result<Vec<StepRun>> {
        self.read(move |connection| {
            let mut steps = Vec::new();
            for attempt in attempts {
                steps.extend(of_attempt(connection, attempt)?);
            }
            Ok(steps)
        })
        .await
    }
}

/// The steps of an attempt that have started, in order.
pub(super) fn of_attempt(
    connection: &Connection,
    attempt: AttemptId,
) -> rusqlite::Result<Vec<StepRun>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM steps WHERE attempt = ?1 ORDER BY step")?;
    statement.query_map([columns::put(attempt.0)], from_row)?.collect()
}

/// Writes a step over the one before, unless that has ended: after each reconnect an agent tells all
/// again, its starts as well. Only a log that was given up and then came after all is news.
pub(super) fn write(connection: &Connection, step: &StepRun) -> rusqlite::Result<()> {
    let (outcome, code, sentence) = match &step.outcome {
        None => (None, None, None),
        Some(outcome) => {
            let (word, code, sentence) = words(outcome);
            (Some(word), code, sentence)
        }
    };
    let mut statement = connection.prepare_cached(
        "INSERT INTO steps (attempt, step, name, outcome, code, sentence, started_at, \
         duration_ms, log_bytes, log_incomplete) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (attempt, step) DO UPDATE SET name = ?3, outcome = ?4, code = ?5, \
         sentence = ?6, started_at = ?7, duration_ms = ?8, log_bytes = ?9, log_incomplete = ?10 \
         WHERE steps.outcome IS NULL \
         OR (steps.log_incomplete AND excluded.outcome IS NOT NULL AND NOT excluded.log_incomplete)",
    )?;
    statement.execute(params![
        columns::put(step.attempt.0),
        step.step,
        step.name,
        outcome,
        code,
        sentence,
        columns::put(step.started_at.0),
        columns::put_opt(step.duration_ms),
        columns::put_opt(step.log_bytes),
        step.log_incomplete,
    ])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<StepRun> {
    Ok(StepRun {
        attempt: AttemptId(columns::number(row, "attempt")?),
        step: row.get("step")?,
        name: row.get("name")?,
        outcome: outcome_from(row)?,
        started_at: columns::time(row, "started_at")?,
        duration_ms: columns::number_opt(row, "duration_ms")?,
        log_bytes: columns::number_opt(row, "log_bytes")?,
        log_incomplete: row.get("log_incomplete")?,
    })
}

fn words(outcome: &StepOutcome) -> (&'static str, Option<i32>, Option<&str>) {
    match outcome {
        StepOutcome::Exited(code) => ("exited", Some(*code), None),
        StepOutcome::Signalled(signal) => ("signalled", Some(*signal), None),
        StepOutcome::TimedOut => ("timed out", None, None),
        StepOutcome::OutOfMemory => ("out of memory", None, None),
        StepOutcome::Cancelled => ("cancelled", None, None),
        StepOutcome::Skipped => ("skipped", None, None),
        StepOutcome::Infra(sentence) => ("infra", None, Some(sentence)),
    }
}

fn outcome_from(row: &Row<'_>) -> rusqlite::Result<Option<StepOutcome>> {
    let Some(word) = row.get::<_, Option<String>>("outcome")? else { return Ok(None) };
    let outcome = match word.as_str() {
        "exited" => StepOutcome::Exited(row.get("code")?),
        "signalled" => StepOutcome::Signalled(row.get("code")?),
        "timed out" => StepOutcome::TimedOut,
        "out of memory" => StepOutcome::OutOfMemory,
        "cancelled" => StepOutcome::Cancelled,
        "skipped" => StepOutcome::Skipped,
        "infra" => StepOutcome::Infra(row.get("sentence")?),
        other => {
            let why = format!("unknown step outcome {other}");
            return Err(columns::unreadable(row, "outcome", why.into()));
        }
    };
    Ok(Some(outcome))
}
