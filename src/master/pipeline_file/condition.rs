//! A step's `when`: a CEL expression, weighed when a build is planned.
//!
//! The agent gets no expression, only whether the step runs after success, failure or cancel. An
//! expression is checked against a sample of each event, so that a misspelt name is found before
//! the branch that has it is ever pushed.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Context;
use cel::Env;
use cel::Program;
use cel::Value;

use crate::master::domain::pipeline::ChangeEvent;
use crate::master::pipeline_file::condition_names;
use crate::master::pipeline_file::context::EventContext;
use crate::model::ids::RefName;
use crate::model::step::RunsAfter;

/// Characters of a condition. The parser below is generated and recursive; this and the next
/// limit bound its time and its stack, and no condition that people read comes near.
const CONDITION_CHARS_MAX: usize = 500;

/// The stack for the parser of a condition. 16 brackets take 2 MiB in a debug build; memory that
/// is not touched costs nothing.
const PARSER_STACK_BYTES: usize = 16 * 1024 * 1024;

/// Brackets within each other.
const BRACKETS_MAX: usize = 16;

/// A condition that has been parsed and checked.
#[derive(Debug)]
pub struct Condition {
    program: Program,
    /// Whether it says itself after which outcomes it runs.
    names_outcome: bool,
}

/// What is wrong with a condition, and what to do.
pub type Wrong = (String, Option<String>);

/// How the steps before this one went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure,
    Cancel,
}

impl Condition {
    /// Reads a condition and tries it with a sample of each event.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str, pipeline_name: &str) -> Result<Condition, Wrong> {
        check_size(text)?;
        let parse = || Condition::parse_here(text, pipeline_name);
        // The generated parser takes tens of kilobytes for each bracket, and might panic: a
        // thread of its own has the room, and contains the panic.
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(PARSER_STACK_BYTES)
                .spawn_scoped(scope, parse)
                .ok()
                .and_then(|thread| thread.join().ok())
                .unwrap_or_else(|| Err(("this condition could not be read".to_owned(), None)))
        })
    }

    fn parse_here(text: &str, pipeline_name: &str) -> Result<Condition, Wrong> {
        let program = Env::stdlib().compile(text).map_err(|errors| {
            let first = errors.errors.first().map(|error| error.msg.as_str()).unwrap_or_default();
            let first = first.split(" expecting ").next().unwrap_or_default();
            let first = first.trim_start_matches("Syntax error: ");
            let what = format!("this condition is not CEL: {}", shorten(first));
            (what, condition_names::syntax_hint(text))
        })?;
        condition_names::check(&program.expression().expr)?;
        let references = program.references();
        let names_outcome =
            ["success", "failure", "always"].iter().any(|name| references.has_function(name));
        let condition = Condition { program, names_outcome };
        for context in samples() {
            condition.runs_after(&context, pipeline_name)?;
        }
        Ok(condition)
    }

    /// After which outcomes the step runs, for one change.
    ///
    /// # Errors
    /// Why it has no answer.
    pub fn runs_after(&self, event: &EventContext, name: &str) -> Result<RunsAfter, Wrong> {
        let holds = |outcome| self.holds(event, name, outcome);
        let success = holds(Outcome::Success)?;
        if !self.names_outcome {
            return Ok(RunsAfter { success, failure: false, cancel: false });
        }
        Ok(RunsAfter {
            success,
            failure: holds(Outcome::Failure)?,
            cancel: holds(Outcome::Cancel)?,
        })
    }

    fn holds(&self, event: &EventContext, name: &str, outcome: Outcome) -> Result<bool, Wrong> {
        let failed = |error: String| (format!("this condition has no answer: {error}"), None);
        let mut context = Context::default();
        add_names(&mut context, event, name, outcome).map_err(failed)?;
        match self.program.execute(&context) {
            Ok(Value::Bool(value)) => Ok(value),
            Ok(other) => {
                let what = format!("this condition is a {}, not true or false", other.type_of());
                Err((
                    what,
                    Some("compare it with something, as in event.branch == \"main\"".into()),
                ))
            }
            Err(error) => Err(failed(shorten(&error.to_string()))),
        }
    }
}

fn check_size(text: &str) -> Result<(), Wrong> {
    if text.chars().count() > CONDITION_CHARS_MAX {
        let what = format!("this condition has more than {CONDITION_CHARS_MAX} characters");
        return Err((what, Some("decide it in a script".into())));
    }
    let mut open = 0usize;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > BRACKETS_MAX {
            let what = format!("this condition has more than {BRACKETS_MAX} open brackets");
            return Err((what, Some("decide it in a script".into())));
        }
    }
    // What nests without brackets: `!!!x`, `a ? b : c ? d : e`, `a.b.c`.
    let nesting = text.chars().filter(|c| matches!(c, '?' | '!' | '-' | '.')).count();
    if nesting > 4 * BRACKETS_MAX {
        let what = "this condition has too many operators".to_owned();
        return Err((what, Some("decide it in a script".into())));
    }
    Ok(())
}

/// Everything a condition may name.
fn add_names(
    context: &mut Context<'_, '_>,
    event: &EventContext,
    pipeline_name: &str,
    outcome: Outcome,
) -> Result<(), String> {
    let text = |value: &str| Value::String(Arc::new(value.to_owned()));
    let facts: HashMap<String, Value> = HashMap::from([
        ("name".to_owned(), text(event.event.as_str())),
        ("ref".to_owned(), text(event.ref_name.as_str())),
        ("branch".to_owned(), text(event.ref_name.branch().unwrap_or_default())),
        ("tag".to_owned(), text(event.ref_name.tag().unwrap_or_default())),
    ]);
    let pipeline = HashMap::from([("name".to_owned(), text(pipeline_name))]);
    context.add_variable_from_value("event", Value::Map(facts.into()));
    context.add_variable_from_value("pipeline", Value::Map(pipeline.into()));
    let (success, failure) = (outcome == Outcome::Success, outcome == Outcome::Failure);
    context.add_function("success", move || success).map_err(|error| error.to_string())?;
    context.add_function("failure", move || failure).map_err(|error| error.to_string())?;
    context.add_function("always", || true).map_err(|error| error.to_string())?;
    Ok(())
}

/// One change of each kind that there is.
fn samples() -> [EventContext; 3] {
    let sample = |event, ref_name: &str| EventContext { event, ref_name: RefName::from(ref_name) };
    [
        sample(ChangeEvent::Push, "refs/heads/main"),
        sample(ChangeEvent::Push, "refs/tags/v1.0.0"),
        sample(ChangeEvent::Manual, "refs/heads/main"),
    ]
}

/// The first line of a library's message, without its tail.
fn shorten(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ref_name: &str) -> EventContext {
        EventContext { event: ChangeEvent::Push, ref_name: RefName::from(ref_name) }
    }

    #[test]
    fn a_condition_says_after_what_its_step_runs() {
        let check = |text: &str, ref_name: &str, expected: (bool, bool, bool)| {
            let condition =
                Condition::parse(text, "build").unwrap_or_else(|e| panic!("{text}: {e:?}"));
            let (success, failure, cancel) = expected;
            let found = condition.runs_after(&push(ref_name), "build").unwrap();
            assert_eq!(found, RunsAfter { success, failure, cancel }, "{text} on {ref_name}");
        };
        let main = "refs/heads/main";
        check("success()", main, (true, false, false));
        check("failure()", main, (false, true, false));
        check("always()", main, (true, true, true));
        check("!success()", main, (false, true, true));
        check("success() || failure()", main, (true, true, false));
        check("event.branch == \"main\"", main, (true, false, false));
        check("event.branch == 'main'", "refs/heads/next", (false, false, false));
        check("failure() && event.branch == \"main\"", main, (false, true, false));
        check("event.tag.startsWith(\"v\")", "refs/tags/v1", (true, false, false));
        check("event.tag != \"\"", main, (false, false, false));
        check(
            "event.ref == \"refs/heads/main\" && event.name == \"push\"",
            main,
            (true, false, false),
        );
        check("event.name in [\"manual\", \"push\"]", main, (true, false, false));
        check("pipeline.name == \"build\"", main, (true, false, false));
        check("true", main, (true, false, false));
        check("event.branch == \"main\" ? always() : failure()", main, (true, true, true));
    }

    #[test]
    fn slips_in_conditions_are_told_with_a_hint() {
        let check = |text: &str, what: &str, hint: &str| {
            let (found, found_hint) = Condition::parse(text, "").expect_err(text);
            assert!(found.contains(what), "{text}: {found}");
            assert!(
                found_hint.clone().unwrap_or_default().contains(hint),
                "{text}: {found_hint:?}"
            );
        };
        check("event.brnach == \"main\"", "event.brnach", "event.branch");
        check("success() && false && event.tga == \"\"", "event.tga", "event.tag");
        check("evnt.branch == \"main\"", "\"evnt\"", "event");
        check("event.branch = \"main\"", "not CEL", "==");
        check("failure", "\"failure\"", "failure()");
        check("faliure()", "\"faliure\"", "failure()");
        check("event.branch == main", "\"main\"", "\"main\" in quotes");
        check("branch == \"main\"", "\"branch\"", "event.branch");
        check("event.branch", "string", "compare");
        check("matrix.os == \"linux\"", "not yet", "event");
        check("needs.build-linux.outputs.x == \"1\"", "not yet", "event");
        check("changed(\"src/**\")", "not yet", "event");
        check("success() and failure()", "not CEL", "&&");
        check("not failure()", "not CEL", "!");
        check("cancelled()", "cancelled", "always()");
        check("[1, 2].all(x, x > 0)", "list", "");
        check("event.branch == \"main", "not CEL", "quote");
        check("", "not CEL", "");
    }

    #[test]
    fn hostile_conditions_end_quickly() {
        for text in [
            "(".repeat(400),
            "!".repeat(400),
            "a?".repeat(200),
            "a?b:".repeat(100),
            "-".repeat(400),
            "[".repeat(15) + &"a.".repeat(200),
            "x&&".repeat(150),
            "event".to_owned() + &"[event".repeat(16),
            "true && ".repeat(60) + "true",
            "\u{0}\u{ffff}é\"\\".to_owned(),
            "1/0 == 1".to_owned(),
            "9223372036854775807 + 1 == 0".to_owned(),
            "[1][5] == 1".to_owned(),
        ] {
            let _right_or_wrong = Condition::parse(&text, "");
        }
    }
}
