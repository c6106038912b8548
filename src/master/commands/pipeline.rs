//! `busybee pipeline check|plan|schema`: a pipeline file, without a master, a pool or git.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::master::commands::findings::Findings;
use crate::master::domain::pipeline::ChangeEvent;
use crate::master::pipeline_file;
use crate::master::pipeline_file::FILE_BYTES_MAX;
use crate::master::pipeline_file::context::EventContext;
use crate::master::pipeline_file::meaning::CheckedPipeline;
use crate::master::pipeline_file::plan_view::plan_view;
use crate::model::inputs;
use crate::model::inputs::GivenInputs;
use crate::runtime::config_file::problem::Problems;

/// A plan, as people read it and as one JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For people.
    pub text: String,
    /// For scripts.
    pub json: String,
}

/// What is wrong with a pipeline file.
pub fn check(file: &Path) -> Findings {
    Findings { file: file.display().to_string(), problems: read(file).err(), warnings: None }
}

/// Which jobs would run for an event on a ref.
///
/// # Errors
/// There is no such event, ref or input, or the file is wrong: all of it, each with its place.
pub fn plan(
    file: &Path,
    event: Option<&str>,
    reference: &str,
    given: GivenInputs,
) -> Result<Plan, String> {
    let context = context(event, reference, given)?;
    // On lines of their own, so that an editor finds the places.
    let pipeline =
        read(file).map_err(|problems| format!("there is nothing to plan:\n{problems}"))?;
    let view = plan_view(&pipeline, &context)
        .map_err(|sentence| format!("{}: {sentence}", file.display()))?;
    let json =
        serde_json::to_string(&view).map_err(|error| format!("cannot write JSON: {error}"))?;
    Ok(Plan { text: view.to_string(), json })
}

/// For which change is planned: inputs make it a start by hand.
fn context(
    event: Option<&str>,
    reference: &str,
    given: GivenInputs,
) -> Result<EventContext, String> {
    if given.is_empty() {
        return EventContext::from_words(event, Some(reference));
    }
    inputs::check(&given)?;
    let context = EventContext::from_words(event.or(Some("manual")), Some(reference))?;
    match context.event {
        ChangeEvent::Manual => Ok(context.with_inputs(given)),
        ChangeEvent::Push => {
            Err("a push is given no inputs; leave --event push out, or --input".to_owned())
        }
    }
}

/// The JSON Schema of pipeline files.
pub fn schema() -> String {
    format!("{:#}", pipeline_file::schema())
}

fn read(file: &Path) -> Result<CheckedPipeline, Problems> {
    let shown = file.display().to_string();
    let text = read_text(file, &shown)?;
    pipeline_file::check(&text, &shown)
}

/// Reads no more than a pipeline file may have, whatever is behind the name.
fn read_text(file: &Path, shown: &str) -> Result<String, Problems> {
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX as u64 + 1;
    File::open(file).and_then(|open| open.take(limit).read_to_end(&mut bytes)).map_err(
        |error| {
            let hint = "`busybee init` writes one to begin with";
            Problems::whole_file(shown, format!("cannot be read: {error}"), hint)
        },
    )?;
    if bytes.len() > FILE_BYTES_MAX {
        let what = format!("has more than {FILE_BYTES_MAX} bytes");
        return Err(Problems::whole_file(shown, what, "move scripts into files of their own"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let what = format!("is no UTF-8 text after byte {place}");
        Problems::whole_file(shown, what, "save it as UTF-8")
    })
}
