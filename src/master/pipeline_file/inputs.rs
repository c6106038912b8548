//! What whoever starts a build by hand may choose: the inputs of a pipeline, and their values.
//!
//! `input_meaning` makes them of the file. A build that nobody started by hand has the defaults, so
//! that one condition does for every event.

use std::fmt;

use crate::master::domain::pipeline::ChangeEvent;
use crate::master::pipeline_file::context::EventContext;
use crate::model::inputs;
use crate::model::inputs::GivenInputs;
use crate::runtime::config_file::suggest;

/// Options of a choice that a sentence lists; people read no longer ones.
const SHOWN_OPTIONS_MAX: usize = 8;

/// Characters of a value that a sentence shows.
const SHOWN_CHARS_MAX: usize = 60;

/// An input of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) kind: InputKind,
    /// Nothing: who starts a build must say.
    pub(super) default: Option<InputValue>,
    pub(super) description: Option<String>,
}

/// What an input's value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InputKind {
    /// True or false.
    Flag,
    /// Any text.
    Text,
    /// One of these.
    Choice(Vec<String>),
}

/// A value that fits its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InputValue {
    Flag(bool),
    Text(String),
}

/// The inputs of a pipeline, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    right: Vec<Input>,
    /// The names of those that are wrong, and reported.
    wrong: Vec<String>,
}

/// A value for each input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InputValues(Vec<(String, InputValue)>);

impl InputKind {
    /// The word for it in the file.
    pub(super) fn word(&self) -> &'static str {
        match self {
            InputKind::Flag => "boolean",
            InputKind::Text => "string",
            InputKind::Choice(_) => "choice",
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// What it may be, as the rest of "must be …", and the nearest option.
    pub(super) fn read(&self, text: &str) -> Result<InputValue, (String, Option<String>)> {
        match self {
            InputKind::Flag => match text.to_ascii_lowercase().as_str() {
                "true" => Ok(InputValue::Flag(true)),
                "false" => Ok(InputValue::Flag(false)),
                _ => Err((self.to_string(), None)),
            },
            InputKind::Text => Ok(InputValue::Text(text.to_owned())),
            InputKind::Choice(options) if options.iter().any(|option| option == text) => {
                Ok(InputValue::Text(text.to_owned()))
            }
            InputKind::Choice(options) => {
                let nearest = suggest::nearest(text, options.iter().map(String::as_str));
                Err((self.to_string(), nearest.map(str::to_owned)))
            }
        }
    }
}

impl fmt::Display for InputKind {
    /// What may be given, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputKind::Flag => f.write_str("true or false"),
            InputKind::Text => f.write_str("a text"),
            InputKind::Choice(options) => {
                let shown: Vec<String> =
                    options.iter().take(SHOWN_OPTIONS_MAX).map(|option| shown(option)).collect();
                write!(f, "one of {}", shown.join(", "))?;
                match options.len().saturating_sub(SHOWN_OPTIONS_MAX) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

impl fmt::Display for InputValue {
    /// The text that a variable holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputValue::Flag(flag) => write!(f, "{flag}"),
            InputValue::Text(text) => f.write_str(text),
        }
    }
}

impl Inputs {
    /// The inputs of a file: those that can be used, and the names of those that cannot.
    pub(super) fn new(right: Vec<Input>, wrong: Vec<String>) -> Inputs {
        Inputs { right, wrong }
    }

    /// Whether nothing is wrong with them.
    pub(super) fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// One of them, unless it is wrong.
    pub(super) fn get(&self, name: &str) -> Option<&Input> {
        self.right.iter().find(|input| input.name == name)
    }

    /// All of them that are right.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Input> {
        self.right.iter()
    }

    /// Their names, also of those that are wrong.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.right.iter().map(|input| &input.name).chain(&self.wrong).map(String::as_str)
    }

    /// The values where nobody chooses.
    pub(super) fn unchosen(&self) -> InputValues {
        self.each(|input| match (&input.default, &input.kind) {
            (Some(default), _) => default.clone(),
            (None, InputKind::Flag) => InputValue::Flag(false),
            (None, InputKind::Text | InputKind::Choice(_)) => InputValue::Text(String::new()),
        })
    }

    /// Other values that fit, for trying expressions.
    pub(super) fn otherwise(&self) -> InputValues {
        self.each(|input| match (&input.default, &input.kind) {
            (default, InputKind::Flag) => {
                InputValue::Flag(*default != Some(InputValue::Flag(true)))
            }
            (_, InputKind::Text) => InputValue::Text("x".to_owned()),
            (_, InputKind::Choice(options)) => {
                InputValue::Text(options.last().cloned().unwrap_or_default())
            }
        })
    }

    fn each(&self, value: impl Fn(&Input) -> InputValue) -> InputValues {
        InputValues(self.right.iter().map(|input| (input.name.clone(), value(input))).collect())
    }

    /// The values for one change: what it was given, and else the defaults.
    ///
    /// # Errors
    /// What was given does not fit: a sentence for who asked, with the inputs that there are.
    pub(super) fn values(&self, context: &EventContext) -> Result<InputValues, String> {
        match context.event {
            ChangeEvent::Push => Ok(self.unchosen()),
            ChangeEvent::Manual => self.given(&context.given),
        }
    }

    fn given(&self, given: &GivenInputs) -> Result<InputValues, String> {
        let mut wrong: Vec<String> =
            given.keys().filter(|name| self.get(name).is_none()).map(|n| self.unknown(n)).collect();
        let mut values = Vec::with_capacity(self.right.len());
        for input in &self.right {
            match given.get(&input.name).map(|text| read(input, text)) {
                Some(Ok(value)) => values.push((input.name.clone(), value)),
                Some(Err(sentence)) => wrong.push(sentence),
                None => match &input.default {
                    Some(default) => values.push((input.name.clone(), default.clone())),
                    None => wrong.push(format!("the input \"{}\" must be given", input.name)),
                },
            }
        }
        if wrong.is_empty() {
            return Ok(InputValues(values));
        }
        Err(format!("{}; {}", wrong.join("; "), self.list()))
    }

    fn unknown(&self, name: &str) -> String {
        match suggest::nearest(name, self.names()) {
            Some(near) => format!("there is no input \"{name}\": did you mean \"{near}\"?"),
            None => format!("there is no input \"{name}\""),
        }
    }

    /// The inputs that there are, as a sentence.
    fn list(&self) -> String {
        if self.right.is_empty() {
            return "this pipeline takes none, as its file has no triggers.manual.inputs"
                .to_owned();
        }
        let one = |input: &Input| match &input.default {
            Some(default) => {
                let default = shown(&default.to_string());
                format!("{} ({}, default {default})", input.name, input.kind)
            }
            None => format!("{} ({}, no default)", input.name, input.kind),
        };
        let all: Vec<String> = self.right.iter().map(one).collect();
        format!("the inputs are: {}", all.join(", "))
    }
}

fn read(input: &Input, text: &str) -> Result<InputValue, String> {
    let name = &input.name;
    inputs::check_value(text).map_err(|why| format!("the value of the input \"{name}\" {why}"))?;
    input.kind.read(text).map_err(|(what, nearest)| {
        let hint = nearest.map(|near| format!(": did you mean \"{near}\"?")).unwrap_or_default();
        format!("the input \"{name}\" must be {what}, not {}{hint}", quoted(text))
    })
}

/// A value as a sentence shows it.
fn shown(text: &str) -> String {
    match text {
        "" => "empty".to_owned(),
        text if text.chars().count() > SHOWN_CHARS_MAX => {
            text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
        }
        text => text.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    match text {
        "" => shown(text),
        text => format!("\"{}\"", shown(text)),
    }
}

impl InputValues {
    /// Each with its name, in the order of the file.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &InputValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// As they are remembered with a build.
    pub(super) fn texts(&self) -> GivenInputs {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::RefName;

    fn inputs() -> Inputs {
        let input = |name: &str, kind, default| Input {
            name: name.to_owned(),
            kind,
            default,
            description: None,
        };
        let options = vec!["staging".to_owned(), "production".to_owned()];
        let dry_run = input("dry_run", InputKind::Flag, Some(InputValue::Flag(true)));
        let target = input("target", InputKind::Choice(options), None);
        let note = input("note", InputKind::Text, Some(InputValue::Text(String::new())));
        Inputs::new(vec![dry_run, target, note], Vec::new())
    }

    fn start(given: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let context = EventContext::new(ChangeEvent::Manual, RefName::from("refs/heads/main"));
        let values = inputs().values(&context.with_inputs(given.collect()))?;
        Ok(values.iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn a_manual_start_has_what_it_was_given_and_else_the_defaults() {
        assert_eq!(
            start(&[("target", "staging")]).unwrap(),
            ["dry_run=true", "target=staging", "note="]
        );
        let all = start(&[("note", "a b"), ("target", "production"), ("dry_run", "FALSE")]);
        assert_eq!(all.unwrap(), ["dry_run=false", "target=production", "note=a b"]);
    }

    #[test]
    fn a_build_of_another_event_has_the_defaults_or_nothing() {
        let push = EventContext::new(ChangeEvent::Push, RefName::from("refs/heads/main"));
        let values = inputs().values(&push).unwrap().texts();
        let values: Vec<_> = values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(values, [("dry_run", "true"), ("note", ""), ("target", "")]);
    }

    #[test]
    fn what_does_not_fit_is_told_with_the_inputs_that_there_are() {
        let there_are = "the inputs are: dry_run (true or false, default true), \
                         target (one of staging, production, no default), \
                         note (a text, default empty)";
        let check = |given: &[(&str, &str)], expected: &str| {
            assert_eq!(start(given).unwrap_err(), format!("{expected}; {there_are}"));
        };
        check(&[], "the input \"target\" must be given");
        check(
            &[("target", "staging"), ("dry-rnu", "x")],
            "there is no input \"dry-rnu\": did you mean \"dry_run\"?",
        );
        check(
            &[("target", "produktion"), ("dry_run", "")],
            "the input \"dry_run\" must be true or false, not empty; the input \"target\" must \
             be one of staging, production, not \"produktion\": did you mean \"production\"?",
        );
        let long = "x".repeat(1025);
        check(
            &[("target", "staging"), ("note", &long)],
            "the value of the input \"note\" has 1025 bytes, more than 1024",
        );
        let none = Inputs::default();
        let context = EventContext::new(ChangeEvent::Manual, RefName::from("refs/heads/main"));
        let given = GivenInputs::from([("x".to_owned(), "1".to_owned())]);
        let why = none.values(&context.with_inputs(given)).unwrap_err();
        assert!(why.starts_with("there is no input \"x\"; this pipeline takes none"), "{why}");
    }
}
