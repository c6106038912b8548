//! Whether an expression names only what there is, and what was probably meant where it does not.

use cel::IdedExpr;
use cel::common::ast::EntryExpr;
use cel::common::ast::Expr;
use cel::common::ast::LiteralValue;
use cel::common::ast::operators;

use crate::master::pipeline_file::expression::Stands;
use crate::master::pipeline_file::expression::Wrong;
use crate::master::pipeline_file::inputs::InputKind;
use crate::master::pipeline_file::inputs::Inputs;
use crate::runtime::config_file::suggest;

/// What `event` has.
const EVENT_FACTS: &[&str] = &["name", "branch", "tag", "ref", "inputs"];
/// What `pipeline` has.
const PIPELINE_FACTS: &[&str] = &["name"];
/// Functions that say after which outcomes a step runs: a variable has no outcome yet.
const OUTCOMES: &[&str] = &["success", "failure", "always"];
/// Functions of CEL that people need.
const OF_CEL: &[&str] = &["contains", "startsWith", "endsWith", "size"];
/// Specified, but not built.
const LATER: &[&str] = &["matrix", "needs", "secrets", "changed"];

/// What an expression may name.
#[derive(Clone, Copy)]
pub(super) struct Names<'n> {
    pub(super) inputs: &'n Inputs,
    pub(super) stands: Stands,
}

impl Names<'_> {
    /// Checks every name of an expression, also where evaluating it would not come by.
    pub(super) fn check(self, expr: &Expr) -> Result<(), Wrong> {
        if is_inputs(expr) {
            return Err(self.all_inputs());
        }
        match expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => Err(self.variable(name)),
            Expr::Select(select) => match &select.operand.expr {
                inputs if is_inputs(inputs) => self.input(&select.field),
                Expr::Ident(owner) => self.fact(owner, &select.field),
                operand => self.check(operand),
            },
            Expr::Call(call) => {
                self.function(&call.func_name)?;
                if let (operators::INDEX, [owner, index]) =
                    (call.func_name.as_str(), call.args.as_slice())
                {
                    return self.index(&owner.expr, &index.expr);
                }
                let target = call.target.as_deref();
                let mut parts = target.into_iter().chain(&call.args);
                parts.try_for_each(|part| self.check(&part.expr))?;
                match (call.func_name.as_str(), call.args.as_slice()) {
                    (operators::EQUALS | operators::NOT_EQUALS, [a, b]) => {
                        self.comparison(&a.expr, &b.expr)?;
                        self.comparison(&b.expr, &a.expr)
                    }
                    _ => Ok(()),
                }
            }
            Expr::List(list) => list.elements.iter().try_for_each(|item| self.check(&item.expr)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(made) => made.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            // These could be made to run for ages, and nothing here needs them.
            Expr::Comprehension(_) => Err((
                format!("{} cannot go through lists", self.article()),
                Some("use `in`, as in event.name in [\"push\", \"manual\"]".to_owned()),
            )),
        }
    }

    fn entry(self, entry: &EntryExpr) -> Result<(), Wrong> {
        let both =
            |a: &IdedExpr, b: &IdedExpr| self.check(&a.expr).and_then(|()| self.check(&b.expr));
        match entry {
            EntryExpr::StructField(field) => self.check(&field.value.expr),
            EntryExpr::MapEntry(entry) => both(&entry.key, &entry.value),
        }
    }

    /// `event["branch"]` names a fact as well, and `event.inputs["dry_run"]` an input.
    fn index(self, owner: &Expr, index: &Expr) -> Result<(), Wrong> {
        match (owner, literal(index)) {
            (owner, Some(name)) if is_inputs(owner) => self.input(name),
            (owner, None) if is_inputs(owner) => {
                let what = "an input is named, not computed".to_owned();
                Err((what, self.inputs.names().next().map(|name| format!("as in {}", path(name)))))
            }
            (Expr::Ident(name), Some(fact)) => self.fact(name, fact),
            (Expr::Ident(name), None) if matches!(name.as_str(), "event" | "pipeline") => {
                self.check(index)
            }
            (owner, _) => self.check(owner).and_then(|()| self.check(index)),
        }
    }

    fn fact(self, owner: &str, field: &str) -> Result<(), Wrong> {
        let facts = match owner {
            "event" => EVENT_FACTS,
            "pipeline" => PIPELINE_FACTS,
            other => return Err(self.variable(other)),
        };
        if facts.contains(&field) {
            return Ok(());
        }
        let hint = match suggest::nearest(field, facts.iter().copied()) {
            Some(near) => format!("did you mean {owner}.{near}?"),
            None => format!("{owner} has: {}", facts.join(", ")),
        };
        Err((format!("there is no {owner}.{field}"), Some(hint)))
    }

    fn input(self, name: &str) -> Result<(), Wrong> {
        if self.inputs.names().any(|known| known == name) {
            return Ok(());
        }
        let hint = match suggest::nearest(name, self.inputs.names()) {
            Some(near) => format!("did you mean {}?", path(near)),
            None => self.known_inputs(),
        };
        Err((format!("there is no {}", path(name)), Some(hint)))
    }

    /// `event.inputs` that stands by itself.
    fn all_inputs(self) -> Wrong {
        let hint = match self.inputs.names().next() {
            Some(name) => format!("name one of them, as in {}", path(name)),
            None => self.known_inputs(),
        };
        ("\"event.inputs\" by itself is no answer".to_owned(), Some(hint))
    }

    fn known_inputs(self) -> String {
        let names: Vec<&str> = self.inputs.names().collect();
        match names.as_slice() {
            [] => "the file has no triggers.manual.inputs".to_owned(),
            names => format!("event.inputs has: {}", names.join(", ")),
        }
    }

    /// An input that is compared with what it can never be is a slip: it would never be equal.
    fn comparison(self, input: &Expr, other: &Expr) -> Result<(), Wrong> {
        let Some(input) = named_input(input).and_then(|name| self.inputs.get(name)) else {
            return Ok(());
        };
        let name = path(&input.name);
        let Expr::Literal(value) = other else { return Ok(()) };
        match (&input.kind, value) {
            (InputKind::Flag, LiteralValue::Boolean(_))
            | (InputKind::Text, LiteralValue::String(_)) => Ok(()),
            (InputKind::Flag, _) => Err((
                format!("{name} is true or false, and is compared with something else"),
                Some(format!("write {name} or !{name}")),
            )),
            (InputKind::Choice(options), LiteralValue::String(text)) => {
                let text = text.inner();
                if text.is_empty() || options.iter().any(|option| option == text) {
                    return Ok(());
                }
                let near = suggest::nearest(text, options.iter().map(String::as_str));
                let hint = near.map(|near| format!("did you mean \"{near}\"?"));
                Err((format!("{name} is {}, never \"{text}\"", input.kind), hint))
            }
            (InputKind::Text | InputKind::Choice(_), _) => Err((
                format!("{name} is a text, and is compared with something else"),
                Some("put it in quotes".to_owned()),
            )),
        }
    }

    /// A variable that stands by itself: `event` alone is no answer either.
    fn variable(self, name: &str) -> Wrong {
        if LATER.contains(&name) {
            return self.later(name);
        }
        let what = format!("nothing is called \"{name}\" here");
        let hint = if matches!(name, "event" | "pipeline") {
            return (
                format!("\"{name}\" by itself is no answer"),
                Some(format!("name one of its facts, as in {name}.name == \"push\"")),
            );
        } else if self.functions().contains(&name) {
            format!("write {name}()")
        } else if EVENT_FACTS.contains(&name) {
            format!("did you mean event.{name}?")
        } else if self.inputs.names().any(|known| known == name) {
            format!("did you mean {}?", path(name))
        } else if let Some(near) = suggest::nearest(name, ["event", "pipeline"]) {
            format!("did you mean {near}?")
        } else {
            let inputs: String =
                self.inputs.names().map(|name| format!(", {}", path(name))).collect();
            format!(
                "a text is written \"{name}\" in quotes; variables are event.name, \
                 event.branch, event.tag, event.ref, pipeline.name{inputs}"
            )
        };
        (what, Some(hint))
    }

    fn function(self, name: &str) -> Result<(), Wrong> {
        // Operators are calls as well; their names are no words.
        let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.chars().any(|c| c.is_ascii_alphanumeric());
        let known = self.functions();
        if !is_word || known.contains(&name) {
            return Ok(());
        }
        if LATER.contains(&name) {
            return Err(self.later(name));
        }
        if OUTCOMES.contains(&name) {
            let what = format!("{name}() says after what a step runs, which is no value");
            return Err((what, Some("write it into the step's `when`".to_owned())));
        }
        let what = format!("there is no function \"{name}\"");
        let hint = match name {
            "cancelled" | "canceled" | "aborted" if self.stands == Stands::Condition => {
                "always() also runs after a cancel; success() || failure() does not".to_owned()
            }
            _ => match suggest::nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near}()?"),
                None => format!("known here: {}", known.join(", ")),
            },
        };
        Err((what, Some(hint)))
    }

    fn functions(self) -> Vec<&'static str> {
        match self.stands {
            Stands::Condition => [OUTCOMES, OF_CEL].concat(),
            Stands::Value => OF_CEL.to_vec(),
        }
    }

    fn article(self) -> String {
        match self.stands {
            Stands::Condition => format!("a {}", self.stands.noun()),
            Stands::Value => format!("an {}", self.stands.noun()),
        }
    }

    fn later(self, name: &str) -> Wrong {
        let what = format!("\"{name}\" in {} is not yet supported", self.article());
        let functions = match self.stands {
            Stands::Condition => ", success(), failure(), always()",
            Stands::Value => "",
        };
        (what, Some(format!("this version knows event, pipeline{functions}")))
    }
}

/// How an input is written.
fn path(name: &str) -> String {
    format!("event.inputs.{name}")
}

/// Whether this is `event.inputs`, written one way or the other.
fn is_inputs(expr: &Expr) -> bool {
    let is_event = |owner: &IdedExpr| matches!(&owner.expr, Expr::Ident(name) if name == "event");
    match expr {
        Expr::Select(select) => is_event(&select.operand) && select.field == "inputs",
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::INDEX, [owner, index]) => {
                is_event(owner) && literal(&index.expr) == Some("inputs")
            }
            _ => false,
        },
        _ => false,
    }
}

/// The input that an expression names, if it is nothing more than that.
fn named_input(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Select(select) if is_inputs(&select.operand.expr) => Some(&select.field),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::INDEX, [owner, index]) if is_inputs(&owner.expr) => literal(&index.expr),
            _ => None,
        },
        _ => None,
    }
}

/// The text of a literal.
fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// What people who know other languages write, and what is meant.
pub(super) fn syntax_hint(text: &str, stands: Stands) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let has_single = |symbol: char| {
        let chars: Vec<char> = text.chars().collect();
        (0..chars.len()).any(|i| {
            let near = |j: Option<usize>| j.and_then(|j| chars.get(j)).copied();
            chars[i] == symbol
                && near(i.checked_sub(1)).is_none_or(|c| c != symbol && !"=!<>".contains(c))
                && near(Some(i + 1)) != Some(symbol)
        })
    };
    let hint = if text.contains("${{") {
        "a condition is written without ${{ }}"
    } else if words.contains(&"and") || words.contains(&"or") {
        "write && and || for `and` and `or`"
    } else if words.contains(&"not") {
        "write ! for `not`, as in !success()"
    } else if text.matches('"').count() % 2 == 1 || text.matches('\'').count() % 2 == 1 {
        "a quote is missing"
    } else if has_single('=') {
        "equality is written =="
    } else if has_single('&') || has_single('|') {
        "write && and ||"
    } else if text.matches('(').count() != text.matches(')').count() {
        "a bracket is missing"
    } else if stands == Stands::Value {
        "as in ${{ event.branch }}"
    } else {
        "as in failure(), or event.branch == \"main\" && event.name == \"push\""
    };
    Some(hint.to_owned())
}
