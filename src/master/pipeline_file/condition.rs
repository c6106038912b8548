//! A step's `when`: a CEL expression, weighed when a build is planned.
//!
//! The agent gets no expression, only whether the step runs after success, failure or cancel. An
//! expression is checked against a sample of each event, so that a misspelt name is found before
//! the branch that has it is ever pushed.

use cel::Value;

use crate::master::pipeline_file::expression;
use crate::master::pipeline_file::expression::Expression;
use crate::master::pipeline_file::expression::Facts;
use crate::master::pipeline_file::expression::Outcome;
use crate::master::pipeline_file::expression::Scope;
use crate::master::pipeline_file::expression::Stands;
use crate::master::pipeline_file::expression::Wrong;
use crate::model::step::RunsAfter;

/// A condition that has been parsed and checked.
#[derive(Debug)]
pub(super) struct Condition {
    expression: Expression,
    /// Whether it says itself after which outcomes it runs.
    names_outcome: bool,
}

impl Condition {
    /// Reads a condition and tries it with a sample of each event.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn parse(text: &str, scope: &Scope) -> Result<Condition, Wrong> {
        Expression::parse_with(text, scope, Stands::Condition, |expression| {
            let names_outcome =
                ["success", "failure", "always"].iter().any(|name| expression.calls(name));
            let condition = Condition { expression, names_outcome };
            for (context, inputs) in &expression::samples(&scope.inputs) {
                let pipeline_name = &scope.pipeline_name;
                condition.runs_after(Facts { context, pipeline_name, inputs })?;
            }
            Ok(condition)
        })
    }

    /// After which outcomes the step runs, for one change.
    ///
    /// # Errors
    /// Why it has no answer.
    pub(super) fn runs_after(&self, facts: Facts<'_>) -> Result<RunsAfter, Wrong> {
        let holds = |outcome| self.holds(facts, outcome);
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

    fn holds(&self, facts: Facts<'_>, outcome: Outcome) -> Result<bool, Wrong> {
        match self.expression.value(facts, outcome) {
            Ok(Value::Bool(value)) => Ok(value),
            Ok(other) => {
                let what = format!("this condition is a {}, not true or false", other.type_of());
                Err((
                    what,
                    Some("compare it with something, as in event.branch == \"main\"".into()),
                ))
            }
            Err(error) => Err((format!("this condition has no answer: {error}"), None)),
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

    fn push(ref_name: &str) -> EventContext {
        EventContext::new(ChangeEvent::Push, RefName::from(ref_name))
    }

    fn scope() -> Scope {
        let input = |name: &str, kind, default| Input {
            name: name.to_owned(),
            kind,
            default,
            description: None,
        };
        let options = vec!["staging".to_owned(), "production".to_owned()];
        let inputs = vec![
            input("dry_run", InputKind::Flag, Some(InputValue::Flag(true))),
            input("target", InputKind::Choice(options), None),
            input("note", InputKind::Text, None),
        ];
        Scope { pipeline_name: "build".to_owned(), inputs: Inputs::new(inputs, Vec::new()) }
    }

    #[test]
    fn a_condition_says_after_what_its_step_runs() {
        let check = |text: &str, ref_name: &str, expected: (bool, bool, bool)| {
            let condition =
                Condition::parse(text, &scope()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            let (success, failure, cancel) = expected;
            let (context, inputs) = (push(ref_name), scope().inputs.unchosen());
            let facts = Facts { context: &context, pipeline_name: "build", inputs: &inputs };
            let found = condition.runs_after(facts).unwrap();
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
        check("event.inputs.dry_run", main, (true, false, false));
        check("!event.inputs.dry_run && failure()", main, (false, false, false));
        check("event.inputs[\"target\"] == \"\"", main, (true, false, false));
        check("event[\"inputs\"].target != \"staging\"", main, (true, false, false));
        check("event.branch == \"main\" ? always() : failure()", main, (true, true, true));
    }

    #[test]
    fn slips_in_conditions_are_told_with_a_hint() {
        let check = |text: &str, what: &str, hint: &str| {
            let (found, found_hint) = Condition::parse(text, &scope()).expect_err(text);
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
        check("event.inputs.dryrun", "event.inputs.dryrun", "event.inputs.dry_run");
        check("event.input.dry_run", "event.input", "event.inputs");
        check("inputs.dry_run", "\"inputs\"", "event.inputs");
        check("dry_run", "\"dry_run\"", "event.inputs.dry_run");
        check("event.inputs[\"not\"] == \"\"", "event.inputs.not", "event.inputs.note");
        check("event[\"inputs\"][\"zzz\"] == 1", "event.inputs.zzz", "dry_run, target, note");
        check("event.inputs[event.branch]", "named", "event.inputs.dry_run");
        check("\"x\" in event.inputs", "by itself", "event.inputs.dry_run");
        check("event.inputs.dry_run == \"true\"", "true or false", "!event.inputs.dry_run");
        check("\"true\" != event.inputs.dry_run", "true or false", "!event.inputs.dry_run");
        check("event.inputs.note == 1", "is a text", "quotes");
        check("event.inputs.target == \"stagng\"", "never \"stagng\"", "staging");
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
            let _right_or_wrong = Condition::parse(&text, &scope());
        }
    }
}
