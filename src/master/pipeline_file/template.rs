//! The value of a variable, or the name of a concurrency group: text, and `${{ … }}` whose expressions are
//! weighed for one change.
//!
//! This is the one place where an expression becomes text. It is never a script's text: a variable
//! reaches the shell as data, whatever it holds.

use cel::Value;

use crate::master::pipeline_file::expression;
use crate::master::pipeline_file::expression::Expression;
use crate::master::pipeline_file::expression::Facts;
use crate::master::pipeline_file::expression::Outcome;
use crate::master::pipeline_file::expression::Scope;
use crate::master::pipeline_file::expression::Stands;
use crate::master::pipeline_file::expression::Wrong;

/// Expressions that are weighed for the variables of one plan. Each takes some microseconds, and a
/// pipeline's variables are weighed for each of its jobs.
const EXPRESSIONS_MAX: usize = 20_000;

/// Bytes that the variables of one plan with expressions in them come to: far more than people
/// need, and less than would trouble the master.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a variable with expressions in it. Linux takes 128 KiB for one at most.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Such a text, before it is known for which change.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Expression(Expression),
}

/// What the variables and group names of one plan may still cost.
#[derive(Debug)]
pub(super) struct Budget {
    expressions: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { expressions: EXPRESSIONS_MAX, bytes: BYTES_MAX }
    }
}

impl Template {
    /// Reads a value, and tries it with a sample of each event.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn parse(text: &str, scope: &Scope) -> Result<Template, Wrong> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${{") {
            let Some((inner, after)) = after.split_once("}}") else {
                let hint = "close the expression: ${{ event.branch }}".to_owned();
                return Err(("`${{` without `}}`".to_owned(), Some(hint)));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Expression(parse_expression(inner.trim(), scope)?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    /// Its text, where that is the same for every change.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Its text for one change.
    ///
    /// # Errors
    /// Why it has none.
    pub(super) fn text(&self, facts: Facts<'_>, budget: &mut Budget) -> Result<String, String> {
        let mut text = String::new();
        let mut is_weighed = false;
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Expression(expression) => {
                    is_weighed = true;
                    budget.expressions = budget.expressions.checked_sub(1).ok_or_else(|| {
                        format!("the variables hold more than {EXPRESSIONS_MAX} expressions")
                    })?;
                    text.push_str(&text_of(expression, facts).map_err(|(what, _hint)| what)?);
                }
            }
            if is_weighed && text.len() > VALUE_BYTES_MAX {
                return Err(format!("it comes to more than {VALUE_BYTES_MAX} bytes"));
            }
        }
        if is_weighed {
            budget.bytes = budget.bytes.checked_sub(text.len()).ok_or_else(|| {
                format!("with it, the variables come to more than {BYTES_MAX} bytes")
            })?;
        }
        Ok(text)
    }
}

fn parse_expression(text: &str, scope: &Scope) -> Result<Expression, Wrong> {
    Expression::parse_with(text, scope, Stands::Value, |expression| {
        for (context, inputs) in &expression::samples(&scope.inputs) {
            let pipeline_name = &scope.pipeline_name;
            text_of(&expression, Facts { context, pipeline_name, inputs })?;
        }
        Ok(expression)
    })
}

/// What an expression comes to, as text.
fn text_of(expression: &Expression, facts: Facts<'_>) -> Result<String, Wrong> {
    // What it may name says nothing of outcomes.
    let value = expression.value(facts, Outcome::Success);
    match value.map_err(|error| (format!("this expression has no answer: {error}"), None))? {
        Value::String(text) if text.contains('\0') => {
            Err(("a value cannot hold the character NUL".to_owned(), None))
        }
        Value::String(text) => Ok(text.as_ref().clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Int(number) => Ok(number.to_string()),
        Value::UInt(number) => Ok(number.to_string()),
        other => {
            let what = format!("this expression is a {}, which is no text", other.type_of());
            Err((what, Some("as in ${{ event.branch }}".to_owned())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::pipeline::ChangeEvent;
    use crate::master::pipeline_file::context::EventContext;
    use crate::master::pipeline_file::inputs::Input;
    use crate::master::pipeline_file::inputs::InputKind;
    use crate::master::pipeline_file::inputs::InputValue;
    use crate::master::pipeline_file::inputs::Inputs;
    use crate::model::ids::RefName;

    fn scope() -> Scope {
        let input = |name: &str, kind, default| Input {
            name: name.to_owned(),
            kind,
            default,
            description: None,
        };
        let dry_run = input("dry_run", InputKind::Flag, Some(InputValue::Flag(true)));
        let note = input("note", InputKind::Text, None);
        let inputs = Inputs::new(vec![dry_run, note], Vec::new());
        Scope { pipeline_name: "build".to_owned(), inputs }
    }

    fn text(template: &Template, budget: &mut Budget) -> Result<String, String> {
        let context = EventContext::new(ChangeEvent::Manual, RefName::from("refs/heads/main"));
        let given = [("note".to_owned(), "`id` $(id) ${{ pipeline.name }}".to_owned())];
        let context = context.with_inputs(given.into());
        let inputs = scope().inputs.values(&context).unwrap();
        template.text(Facts { context: &context, pipeline_name: "build", inputs: &inputs }, budget)
    }

    #[test]
    fn a_variable_is_text_with_the_values_of_its_expressions() {
        let check = |typed: &str, expected: &str| {
            let template =
                Template::parse(typed, &scope()).unwrap_or_else(|e| panic!("{typed}: {e:?}"));
            assert_eq!(text(&template, &mut Budget::default()).unwrap(), expected, "{typed}");
        };
        check("", "");
        check("a } b $x {{ y }}", "a } b $x {{ y }}");
        check("${{ event.branch }}", "main");
        check("${{event.inputs.dry_run}}", "true");
        check("${{ !event.inputs.dry_run }}", "false");
        check("${{ event.inputs[\"dry_run\"] ? \"--dry\" : \"\" }}", "--dry");
        check("${{ size(event.branch) }}", "4");
        check(" a-${{ pipeline.name }}-${{ event.name }}/b ", " a-build-manual/b ");
        // What somebody typed is never looked into again.
        check("<${{ event.inputs.note }}>", "<`id` $(id) ${{ pipeline.name }}>");
    }

    #[test]
    fn slips_in_variables_are_told_with_a_hint() {
        let check = |typed: &str, what: &str, hint: &str| {
            let (found, found_hint) = Template::parse(typed, &scope()).expect_err(typed);
            assert!(found.contains(what), "{typed}: {found}");
            let found_hint = found_hint.unwrap_or_default();
            assert!(found_hint.contains(hint), "{typed}: {found_hint}");
        };
        check("${{ event.branch", "without `}}`", "close");
        check("${{ }}", "not CEL", "");
        check("${{ event.inputs.dryrun }}", "event.inputs.dryrun", "event.inputs.dry_run");
        check("${{ failure() }}", "failure()", "when");
        check("${{ matrix.os }}", "\"matrix\" in an expression is not yet supported", "event");
        check("${{ [1] }}", "list", "event.branch");
        check("${{ \"\\x00\" }}", "NUL", "");
        check("${{ event.inputs }}", "\"event.inputs\" by itself", "event.inputs.dry_run");
    }

    #[test]
    fn a_plan_does_not_grow_without_end() {
        let template = Template::parse("${{ event.branch }}", &scope()).unwrap();
        let mut budget = Budget { expressions: 2, bytes: 100 };
        assert!(text(&template, &mut budget).is_ok() && text(&template, &mut budget).is_ok());
        assert!(text(&template, &mut budget).unwrap_err().contains("more than 20000 expressions"));
        let mut budget = Budget { expressions: 2, bytes: 3 };
        assert!(text(&template, &mut budget).unwrap_err().contains("bytes"));
        let long = format!("{}${{{{ event.branch }}}}", "x".repeat(VALUE_BYTES_MAX));
        let template = Template::parse(&long, &scope()).unwrap();
        assert!(text(&template, &mut Budget::default()).unwrap_err().contains("65536"));
    }
}
