//! For which change a pipeline is planned.

use crate::master::domain::pipeline::ChangeEvent;
use crate::model::ids::RefName;
use crate::model::inputs::GivenInputs;
use crate::runtime::config_file::suggest;

/// What is known of a change before its commit is looked into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventContext {
    /// What started it.
    pub event: ChangeEvent,
    /// The full ref.
    pub ref_name: RefName,
    /// What a manual start was given; nothing for other events.
    pub given: GivenInputs,
}

impl EventContext {
    /// A change that was given no inputs.
    pub fn new(event: ChangeEvent, ref_name: RefName) -> EventContext {
        EventContext { event, ref_name, given: GivenInputs::new() }
    }

    /// The same with what it was given.
    pub fn with_inputs(self, given: GivenInputs) -> EventContext {
        EventContext { given, ..self }
    }

    /// From what people type for `busybee pipeline plan`: `--event push`, `--ref main`.
    ///
    /// # Errors
    /// Why there is no such event or ref, for people.
    pub fn from_words(
        event: Option<&str>,
        reference: Option<&str>,
    ) -> Result<EventContext, String> {
        let event = match event.unwrap_or("push") {
            "push" => ChangeEvent::Push,
            "manual" => ChangeEvent::Manual,
            later @ ("pull_request" | "schedule") => {
                return Err(format!(
                    "the event \"{later}\" is not yet supported; push and manual are"
                ));
            }
            other => {
                let hint = suggest::hint(other, &["push", "manual"]).unwrap_or_default();
                return Err(format!("there is no event \"{other}\"; {hint}"));
            }
        };
        let reference = reference.unwrap_or("main");
        let full = match reference.strip_prefix("refs/") {
            Some(_) => reference.to_owned(),
            None => format!("refs/heads/{reference}"),
        };
        let is_known = full.starts_with("refs/heads/") || full.starts_with("refs/tags/");
        let has_name = full.splitn(3, '/').nth(2).is_some_and(|name| !name.is_empty());
        if !is_known || !has_name || full.chars().any(|c| c.is_control() || c == ' ') {
            return Err(format!(
                "\"{reference}\" is not a branch or tag; write main, refs/heads/main or \
                    refs/tags/v1"
            ));
        }
        Ok(EventContext::new(event, RefName(full)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_ref_is_a_branch() {
        let check = |event: Option<&str>, reference: Option<&str>, expected: &str| {
            let context = EventContext::from_words(event, reference).unwrap();
            assert_eq!(context.ref_name.as_str(), expected);
        };
        check(None, None, "refs/heads/main");
        check(Some("manual"), Some("release/1"), "refs/heads/release/1");
        check(Some("push"), Some("refs/tags/v1"), "refs/tags/v1");
    }

    #[test]
    fn what_is_no_event_or_ref_is_refused() {
        let sentence = |event, reference| EventContext::from_words(event, reference).unwrap_err();
        assert!(sentence(Some("schedule"), None).contains("not yet"));
        assert!(sentence(Some("psuh"), None).contains("did you mean \"push\""));
        assert!(sentence(None, Some("refs/notes/x")).contains("not a branch or tag"));
        assert!(sentence(None, Some("")).contains("not a branch or tag"));
    }
}
