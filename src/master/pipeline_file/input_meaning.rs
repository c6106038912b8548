//! `triggers.manual.inputs` as typed → the inputs of the pipeline.

use crate::master::pipeline_file::inputs::Input;
use crate::master::pipeline_file::inputs::InputKind;
use crate::master::pipeline_file::inputs::Inputs;
use crate::master::pipeline_file::typed::InputFile;
use crate::master::pipeline_file::typed::InputType;
use crate::master::pipeline_file::typed::Triggers;
use crate::model::inputs;
use crate::model::inputs::INPUT_NAME_BYTES_MAX;
use crate::model::inputs::INPUTS_MAX;
use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::node::Value;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::ScalarText;
use crate::runtime::config_file::problem::Problem;

/// Options of a choice: more is a list that nobody reads to its end.
const OPTIONS_MAX: usize = 64;

/// Words that CEL keeps for itself: `event.inputs.in` would be no expression.
const CEL_WORDS: &[&str] = &["true", "false", "null", "in"];

/// What is wrong with an input: where, what, and what to do.
struct Fault(NodeId, String, Option<String>);

/// The inputs of a file; what is wrong with them is reported to the document.
pub(super) fn of(document: &mut Document, triggers: Option<&Triggers>) -> Inputs {
    let typed = names_as_typed(document);
    let entries = triggers
        .and_then(|triggers| triggers.manual.as_ref()?.inputs.as_ref())
        .map(|inputs| inputs.0.as_slice())
        .unwrap_or_default();
    if let Some((first_too_many, _)) = entries.get(INPUTS_MAX) {
        let what = format!("{} inputs are more than {INPUTS_MAX}", entries.len());
        let problem = Problem::new(document.place(first_too_many.id), what);
        document.report(problem.hint("let one input name a file with the rest"));
        return Inputs::new(Vec::new(), typed);
    }
    let mut right = Vec::new();
    for (name, input) in entries {
        match check_name(name).and_then(|()| input_of(name, input)) {
            Ok(input) => right.push(input),
            Err(Fault(node, what, hint)) => {
                let place = document.place(node);
                document.report(Problem { place, what, hint });
            }
        }
    }
    let is_right = |name: &String| right.iter().any(|input: &Input| input.name == *name);
    let wrong = typed.into_iter().filter(|name| !is_right(name)).collect();
    Inputs::new(right, wrong)
}

/// The names that stand in the file, also over what could not be decoded.
fn names_as_typed(document: &Document) -> Vec<String> {
    let manual = document.root.entry("triggers").and_then(|triggers| triggers.entry("manual"));
    match manual.and_then(|manual| manual.entry("inputs")).map(|inputs| &inputs.value) {
        Some(Value::Table(entries)) => entries.iter().map(|(key, _)| key.text.clone()).collect(),
        _ => Vec::new(),
    }
}

fn fault<T>(at: &At<T>, what: impl Into<String>, hint: impl Into<String>) -> Fault {
    Fault(at.id, what.into(), Some(hint.into()))
}

fn check_name(name: &At<String>) -> Result<(), Fault> {
    let text = &name.value;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_name = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= INPUT_NAME_BYTES_MAX
        && text.chars().all(fits);
    if !is_name {
        let hint = format!(
            "use up to {INPUT_NAME_BYTES_MAX} lower-case letters, digits and `_`, first a letter"
        );
        return Err(fault(name, format!("\"{text}\" is not a name for an input"), hint));
    }
    if CEL_WORDS.contains(&text.as_str()) {
        let what = format!("\"{text}\" is a word of conditions, not a name for an input");
        return Err(fault(name, what, "choose another"));
    }
    Ok(())
}

fn input_of(name: &At<String>, input: &InputFile) -> Result<Input, Fault> {
    let kind = kind_of(name, input)?;
    let default = match &input.default {
        None => None,
        Some(default) => {
            check_value(default, &default.value.0, "the default")?;
            let read = kind.read(&default.value.0).map_err(|(what, nearest)| {
                let what = format!("the default of \"{}\" must be {what}", name.value);
                let hint = nearest.map(|near| format!("did you mean \"{near}\"?"));
                Fault(default.id, what, hint)
            })?;
            Some(read)
        }
    };
    let description = input.description.as_ref().map(|text| text.trim().to_owned());
    Ok(Input { name: name.value.clone(), kind, default, description })
}

fn kind_of(name: &At<String>, input: &InputFile) -> Result<InputKind, Fault> {
    let word = input.kind.as_ref().map_or(InputType::String, |kind| kind.value);
    match (word, &input.options) {
        (InputType::Choice, Some(options)) => Ok(InputKind::Choice(options_of(name, options)?)),
        (InputType::Choice, None) => {
            let what = format!("the input \"{}\" is a choice without options", name.value);
            let at = input.kind.as_ref().map_or(name.id, |kind| kind.id);
            Err(Fault(at, what, Some("add options: [one, another]".to_owned())))
        }
        (InputType::Boolean | InputType::String, Some(options)) => {
            let what = format!("the input \"{}\" has options, but is no choice", name.value);
            Err(fault(options, what, "write type: choice, or take the options out"))
        }
        (InputType::Boolean, None) => Ok(InputKind::Flag),
        (InputType::String, None) => Ok(InputKind::Text),
    }
}

fn options_of(name: &At<String>, options: &At<Vec<At<ScalarText>>>) -> Result<Vec<String>, Fault> {
    let all = &options.value;
    if all.is_empty() || all.len() > OPTIONS_MAX {
        let what = format!("the choice \"{}\" has {} options", name.value, all.len());
        return Err(fault(options, what, format!("give it 1 to {OPTIONS_MAX}")));
    }
    let mut seen: Vec<String> = Vec::with_capacity(all.len());
    for option in all {
        let text = &option.value.0;
        check_value(option, text, "this option")?;
        if text.is_empty() {
            // An empty value is what builds have that nobody chose one for.
            return Err(fault(option, "an empty option", "name what it stands for, such as none"));
        }
        if seen.contains(text) {
            return Err(fault(
                option,
                format!("\"{text}\" is an option twice"),
                "keep one of them",
            ));
        }
        seen.push(text.clone());
    }
    Ok(seen)
}

fn check_value<T>(at: &At<T>, text: &str, what: &str) -> Result<(), Fault> {
    inputs::check_value(text)
        .map_err(|why| fault(at, format!("{what} {why}"), "let it name a file with the rest"))
}
