//! `${{ … }}`: never substituted into a script. Variables and the names of concurrency groups may hold it
//! (`template` reads those); anywhere else it is not yet evaluated.

use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::node::Node;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::node::Value;
use crate::runtime::config_file::problem::Place;
use crate::runtime::config_file::problem::Problem;

/// An item of a list, in the path to a value.
const ITEM: &str = "[]";

/// Reports every `${{` of the document, whose text is `text`, where it has no place.
pub(super) fn check(document: &mut Document, text: &str) {
    let mut found = Vec::new();
    walk(&document.root, &mut Vec::new(), &mut found);
    for (id, what, hint) in found {
        let place = within(text, document.place(id));
        document.report(Problem::new(place, what).hint(hint));
    }
}

/// Where the first `${{` stands, in a value that begins at `start` and may have many lines.
fn within(text: &str, start: Place) -> Place {
    let first = (start.line as usize).saturating_sub(1);
    for (line, number) in text.lines().skip(first).zip(start.line..) {
        let skipped =
            if number == start.line { (start.column as usize).saturating_sub(1) } else { 0 };
        let from = line.char_indices().nth(skipped).map_or(line.len(), |(at, _)| at);
        if let Some(at) = line[from..].find("${{").map(|at| from + at) {
            let before = line[..at].chars().count();
            let width =
                line[at..].find("}}").map_or(3, |end| line[at..at + end + 2].chars().count());
            let number_of = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            return Place { line: number, column: number_of(before + 1), width: number_of(width) };
        }
    }
    start
}

fn walk<'d>(node: &'d Node, path: &mut Vec<&'d str>, found: &mut Vec<(NodeId, String, String)>) {
    match &node.value {
        Value::Scalar { .. } if is_template(path) => {}
        Value::Scalar { source, .. } => {
            if let Some((_, after)) = source.split_once("${{") {
                let inner = after.split("}}").next().unwrap_or_default().trim();
                let key = path.iter().rfind(|key| **key != ITEM).copied().unwrap_or_default();
                let (what, hint) = sentence(key, inner);
                found.push((node.id, what, hint));
            }
        }
        Value::List(items) => {
            path.push(ITEM);
            items.iter().for_each(|item| walk(item, path, found));
            path.pop();
        }
        Value::Table(entries) => {
            for (entry_key, value) in entries {
                if entry_key.text.contains("${{") {
                    let what = "`${{ }}` in a key is never replaced".to_owned();
                    found.push((entry_key.id, what, "write the name out".to_owned()));
                }
                path.push(&entry_key.text);
                walk(value, path, found);
                path.pop();
            }
        }
    }
}

/// Whether the value at a path is a variable's, or the name of a group.
fn is_template(path: &[&str]) -> bool {
    matches!(
        path,
        ["env", _]
            | ["jobs", _, "env", _]
            | ["jobs", _, "steps", ITEM, "env", _]
            | ["concurrency", "group"]
            | ["jobs", _, "concurrency", "group"]
    )
}

fn sentence(key: &str, inner: &str) -> (String, String) {
    match key {
        "run" => {
            let what = "`${{ }}` is never put into a script: what it stands for could be a command";
            (what.to_owned(), format!("use the variable {}", variable(inner)))
        }
        "when" => {
            let what = "`${{ }}` has no place in a condition";
            (what.to_owned(), format!("write only: {inner}"))
        }
        _ => {
            let what = "`${{ }}` is not yet supported here";
            (what.to_owned(), "write the value out for now".to_owned())
        }
    }
}

/// The environment variable that holds what an expression names.
fn variable(inner: &str) -> String {
    let known = match inner {
        "event.branch" => "\"$BUSYBEE_BRANCH\"",
        "event.ref" | "event.tag" => "\"$BUSYBEE_REF\"",
        "event.name" => "\"$BUSYBEE_EVENT\"",
        "event.commit" | "event.sha" => "\"$BUSYBEE_COMMIT\"",
        _ => "",
    };
    if !known.is_empty() {
        return format!("{known} instead");
    }
    let is_word = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if let Some(input) = inner.strip_prefix("event.inputs.").filter(|name| is_word(name)) {
        let name = input.to_ascii_uppercase();
        return format!("\"${name}\", with env: {{ {name}: \"${{{{ {inner} }}}}\" }} in the step");
    }
    match inner.split_once('.') {
        Some(("matrix", axis)) if is_word(axis) => {
            format!("\"$MATRIX_{}\" instead", axis.to_ascii_uppercase())
        }
        Some(("secrets", name)) if is_word(name) => {
            format!("\"${name}\", with secrets: [{name}] in the job")
        }
        Some(("env" | "vars", name)) if is_word(name) => format!("\"${name}\" instead"),
        _ => "\"$NAME\", set in the `env` of the step".to_owned(),
    }
}
