//! A CEL expression: read, its names checked, and weighed with the facts of one change.
//!
//! `condition` makes a step's `when` of one, `template` puts its value into a variable.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Context;
use cel::Env;
use cel::Program;
use cel::Value;
use cel::objects::Map;

use crate::master::domain::pipeline::ChangeEvent;
use crate::master::pipeline_file::context::EventContext;
use crate::master::pipeline_file::expression_names;
use crate::master::pipeline_file::expression_names::Names;
use crate::master::pipeline_file::inputs::InputValue;
use crate::master::pipeline_file::inputs::InputValues;
use crate::master::pipeline_file::inputs::Inputs;
use crate::model::ids::RefName;

/// Characters of an expression. The parser below is generated and recursive; this and the next
/// limit bound its time and its stack, and nothing that people read comes near.
const EXPRESSION_CHARS_MAX: usize = 500;

/// The stack for the parser of an expression. 16 brackets take 2 MiB in a debug build; memory that
/// is not touched costs nothing.
const PARSER_STACK_BYTES: usize = 16 * 1024 * 1024;

/// Brackets within each other.
const BRACKETS_MAX: usize = 16;

/// An expression that has been parsed, and names only what there is.
#[derive(Debug)]
pub(super) struct Expression {
    program: Program,
}

/// What is wrong with an expression, and what to do.
pub(super) type Wrong = (String, Option<String>);

/// Where an expression stands, which decides what it may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// It is a `when`.
    Condition,
    /// It is the value of a variable, or a part of it.
    Value,
}

impl Stands {
    /// What people call it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Stands::Condition => "condition",
            Stands::Value => "expression",
        }
    }
}

/// What is the same for every expression of a file.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// `name:` of the file, or nothing.
    pub(super) pipeline_name: String,
    /// What whoever starts a build may choose.
    pub(super) inputs: Inputs,
}

/// What is known of one change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'f> {
    pub(super) context: &'f EventContext,
    pub(super) pipeline_name: &'f str,
    pub(super) inputs: &'f InputValues,
}

/// How the steps before went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
    Cancel,
}

impl Expression {
    /// Reads an expression, and hands it to `with` where there is room for what it holds.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn parse_with<T: Send>(
        text: &str,
        scope: &Scope,
        stands: Stands,
        with: impl FnOnce(Expression) -> Result<T, Wrong> + Send,
    ) -> Result<T, Wrong> {
        check_size(text, stands)?;
        let parse = || Expression::parse_here(text, scope, stands).and_then(with);
        // The generated parser takes tens of kilobytes for each bracket, and might panic: a
        // thread of its own has the room, and contains the panic.
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(PARSER_STACK_BYTES)
                .spawn_scoped(scope, parse)
                .ok()
                .and_then(|thread| thread.join().ok())
                .unwrap_or_else(|| Err((format!("this {} could not be read", stands.noun()), None)))
        })
    }

    fn parse_here(text: &str, scope: &Scope, stands: Stands) -> Result<Expression, Wrong> {
        let program = Env::stdlib().compile(text).map_err(|errors| {
            let first = errors.errors.first().map(|error| error.msg.as_str()).unwrap_or_default();
            let first = first.split(" expecting ").next().unwrap_or_default();
            let first = first.trim_start_matches("Syntax error: ");
            let what = format!("this {} is not CEL: {}", stands.noun(), shorten(first));
            (what, expression_names::syntax_hint(text, stands))
        })?;
        Names { inputs: &scope.inputs, stands }.check(&program.expression().expr)?;
        Ok(Expression { program })
    }

    /// Whether it calls a function.
    pub(super) fn calls(&self, function: &str) -> bool {
        self.program.references().has_function(function)
    }

    /// What it comes to; a condition also depends on how the steps before went.
    ///
    /// # Errors
    /// Why it has no answer.
    pub(super) fn value(&self, facts: Facts<'_>, outcome: Outcome) -> Result<Value, String> {
        let mut context = Context::default();
        add_names(&mut context, facts, outcome)?;
        self.program.execute(&context).map_err(|error| shorten(&error.to_string()))
    }
}

/// Changes of each kind that there is, with the inputs as they are where nobody chooses, and once
/// with others. None where the inputs themselves are wrong: what follows from that is no news.
pub(super) fn samples(inputs: &Inputs) -> Vec<(EventContext, InputValues)> {
    if !inputs.is_right() {
        return Vec::new();
    }
    let sample =
        |event, ref_name: &str, values| (EventContext::new(event, RefName::from(ref_name)), values);
    vec![
        sample(ChangeEvent::Push, "refs/heads/main", inputs.unchosen()),
        sample(ChangeEvent::Push, "refs/tags/v1.0.0", inputs.unchosen()),
        sample(ChangeEvent::Manual, "refs/heads/main", inputs.unchosen()),
        sample(ChangeEvent::Manual, "refs/heads/main", inputs.otherwise()),
    ]
}

fn check_size(text: &str, stands: Stands) -> Result<(), Wrong> {
    let refuse = |what: String| {
        let hint = match stands {
            Stands::Condition => "decide it in a script",
            Stands::Value => "put it together in a script",
        };
        Err((format!("this {} has {what}", stands.noun()), Some(hint.to_owned())))
    };
    if text.chars().count() > EXPRESSION_CHARS_MAX {
        return refuse(format!("more than {EXPRESSION_CHARS_MAX} characters"));
    }
    let mut open = 0usize;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > BRACKETS_MAX {
            return refuse(format!("more than {BRACKETS_MAX} open brackets"));
        }
    }
    // What nests without brackets: `!!!x`, `a ? b : c ? d : e`, `a.b.c`.
    let nesting = text.chars().filter(|c| matches!(c, '?' | '!' | '-' | '.')).count();
    if nesting > 4 * BRACKETS_MAX {
        return refuse("too many operators".to_owned());
    }
    Ok(())
}

/// Everything an expression may name.
fn add_names(
    context: &mut Context<'_, '_>,
    facts: Facts<'_>,
    outcome: Outcome,
) -> Result<(), String> {
    let text = |value: &str| Value::String(Arc::new(value.to_owned()));
    let EventContext { event, ref_name, given: _ } = facts.context;
    let inputs: HashMap<String, Value> = facts
        .inputs
        .iter()
        .map(|(name, value)| match value {
            InputValue::Flag(flag) => (name.to_owned(), Value::Bool(*flag)),
            InputValue::Text(value) => (name.to_owned(), text(value)),
        })
        .collect();
    let event: HashMap<String, Value> = HashMap::from([
        ("name".to_owned(), text(event.as_str())),
        ("ref".to_owned(), text(ref_name.as_str())),
        ("branch".to_owned(), text(ref_name.branch().unwrap_or_default())),
        ("tag".to_owned(), text(ref_name.tag().unwrap_or_default())),
        ("inputs".to_owned(), Value::Map(Map::from(inputs))),
    ]);
    let pipeline = HashMap::from([("name".to_owned(), text(facts.pipeline_name))]);
    context.add_variable_from_value("event", Value::Map(event.into()));
    context.add_variable_from_value("pipeline", Value::Map(pipeline.into()));
    let (success, failure) = (outcome == Outcome::Success, outcome == Outcome::Failure);
    context.add_function("success", move || success).map_err(|error| error.to_string())?;
    context.add_function("failure", move || failure).map_err(|error| error.to_string())?;
    context.add_function("always", || true).map_err(|error| error.to_string())?;
    Ok(())
}

/// The first line of a library's message, without its tail.
fn shorten(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.chars().take(120).collect()
}
