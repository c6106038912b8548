//! Whether a condition names only what there is, and what was probably meant where it does not.

use cel::IdedExpr;
use cel::common::ast::EntryExpr;
use cel::common::ast::Expr;

use crate::master::pipeline_file::condition::Wrong;
use crate::runtime::config_file::suggest;

/// What `event` has.
const EVENT_FACTS: &[&str] = &["name", "branch", "tag", "ref"];
/// What `pipeline` has.
const PIPELINE_FACTS: &[&str] = &["name"];
/// Functions of ours, and those of CEL that conditions need.
const FUNCTIONS: &[&str] =
    &["success", "failure", "always", "contains", "startsWith", "endsWith", "size"];
/// Specified, but not built.
const LATER: &[&str] = &["matrix", "needs", "inputs", "secrets", "changed"];

/// Checks every name of an expression, also where evaluating it would not come by.
pub(super) fn check(expr: &Expr) -> Result<(), Wrong> {
    match expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => Err(variable(name)),
        Expr::Select(select) => match &select.operand.expr {
            Expr::Ident(owner) => fact(owner, &select.field),
            operand => check(operand),
        },
        Expr::Call(call) => {
            function(&call.func_name)?;
            // `event["branch"]` names a fact as well.
            if call.func_name == "_[_]"
                && let [owner, index] = call.args.as_slice()
                && let Expr::Ident(name) = &owner.expr
                && matches!(name.as_str(), "event" | "pipeline")
            {
                return check(&index.expr);
            }
            let target = call.target.as_deref();
            target.into_iter().chain(&call.args).try_for_each(|part| check(&part.expr))
        }
        Expr::List(list) => list.elements.iter().try_for_each(|item| check(&item.expr)),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| entry_names(&entry.expr)),
        Expr::Struct(made) => made.entries.iter().try_for_each(|entry| entry_names(&entry.expr)),
        // These could be made to run for ages, and no condition here needs them.
        Expr::Comprehension(_) => Err((
            "a condition cannot go through lists".to_owned(),
            Some("use `in`, as in event.name in [\"push\", \"manual\"]".to_owned()),
        )),
    }
}

fn entry_names(entry: &EntryExpr) -> Result<(), Wrong> {
    let both = |a: &IdedExpr, b: &IdedExpr| check(&a.expr).and_then(|()| check(&b.expr));
    match entry {
        EntryExpr::StructField(field) => check(&field.value.expr),
        EntryExpr::MapEntry(entry) => both(&entry.key, &entry.value),
    }
}

fn fact(owner: &str, field: &str) -> Result<(), Wrong> {
    let facts = match owner {
        "event" => EVENT_FACTS,
        "pipeline" => PIPELINE_FACTS,
        other => return Err(variable(other)),
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

/// A variable that stands by itself: `event` alone is no answer either.
fn variable(name: &str) -> Wrong {
    if LATER.contains(&name) {
        return later(name);
    }
    let what = format!("nothing is called \"{name}\" here");
    let hint = if matches!(name, "event" | "pipeline") {
        return (
            format!("\"{name}\" by itself is no answer"),
            Some(format!("name one of its facts, as in {name}.name == \"push\"")),
        );
    } else if FUNCTIONS.contains(&name) {
        format!("write {name}()")
    } else if EVENT_FACTS.contains(&name) {
        format!("did you mean event.{name}?")
    } else if let Some(near) = suggest::nearest(name, ["event", "pipeline"]) {
        format!("did you mean {near}?")
    } else {
        format!(
            "a text is written \"{name}\" in quotes; variables are event.name, \
                event.branch, event.tag, event.ref, pipeline.name"
        )
    };
    (what, Some(hint))
}

fn function(name: &str) -> Result<(), Wrong> {
    // Operators are calls as well; their names are no words.
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().any(|c| c.is_ascii_alphanumeric());
    if !is_word || FUNCTIONS.contains(&name) {
        return Ok(());
    }
    if LATER.contains(&name) {
        return Err(later(name));
    }
    let what = format!("there is no function \"{name}\"");
    let hint = match name {
        "cancelled" | "canceled" | "aborted" => {
            "always() also runs after a cancel; success() || failure() does not".to_owned()
        }
        _ => match suggest::nearest(name, FUNCTIONS.iter().copied()) {
            Some(near) => format!("did you mean {near}()?"),
            None => format!("known here: {}", FUNCTIONS.join(", ")),
        },
    };
    Err((what, Some(hint)))
}

fn later(name: &str) -> Wrong {
    let what = format!("\"{name}\" in a condition is not yet supported");
    (what, Some("this version knows event, pipeline, success(), failure(), always()".into()))
}

/// What people who know other languages write, and what is meant.
pub(super) fn syntax_hint(text: &str) -> Option<String> {
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
    } else {
        "as in failure(), or event.branch == \"main\" && event.name == \"push\""
    };
    Some(hint.to_owned())
}
