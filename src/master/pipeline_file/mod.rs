//! `.busybee.yaml`: what was typed → what it means (`domain/pipeline.rs`).
//!
//! `yaml_reader` makes a tree, `typed` has the keys, `meaning` fills defaults in and checks names
//! and expressions, `planning` applies it to one change, `plan_view` shows that to people. Nothing
//! here reads files or the network. A key to come is in `typed::LATER` until then.

mod concurrency;
mod condition;
pub mod context;
mod expression;
mod expression_names;
mod graph;
mod input_meaning;
mod inputs;
pub mod meaning;
mod need;
mod placeholder;
pub mod plan_view;
mod planning;
mod step_name;
mod template;
mod typed;
mod yaml_reader;
mod yaml_scalar;

use crate::master::domain::pipeline::Planned;
use crate::master::pipeline_file::context::EventContext;
use crate::master::pipeline_file::meaning::CheckedPipeline;
use crate::master::pipeline_file::typed::PipelineFile;
use crate::runtime::config_file::decode;
use crate::runtime::config_file::problem::Problems;

/// Where a repository has its pipeline.
pub const FILE_NAME: &str = ".busybee.yaml";

/// A pipeline file, at most. What is longer was not written by a person, and takes long to check.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// What the pipeline file of a commit says about one change.
///
/// # Errors
/// The inputs that it was given do not fit: a sentence for who gave them.
pub fn plan(text: &str, file_name: &str, context: &EventContext) -> Result<Planned, String> {
    match check(text, file_name) {
        Ok(pipeline) => pipeline.for_change(context),
        Err(problems) => Ok(Planned::Broken(problems.to_string())),
    }
}

/// Whether a pipeline file is right.
///
/// # Errors
/// Everything that is wrong with it, for people.
pub fn check(text: &str, file_name: &str) -> Result<CheckedPipeline, Problems> {
    if text.len() > FILE_BYTES_MAX {
        let what = format!("the file has {} bytes, more than {FILE_BYTES_MAX}", text.len());
        return Err(Problems::whole_file(file_name, what, "move scripts into files of their own"));
    }
    let mut document =
        yaml_reader::read(text).map_err(|problems| Problems::new(file_name, text, problems))?;
    placeholder::check(&mut document, text);
    let file = decode::decode::<PipelineFile>(&mut document, typed::LATER);
    let checked = file.map(|file| meaning::of(&mut document, file));
    let problems = document.into_problems();
    match checked {
        Some(pipeline) if problems.is_empty() => Ok(pipeline),
        _ => Err(Problems::new(file_name, text, problems)),
    }
}

/// The JSON Schema of pipeline files, for editors.
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft07();
    let schema = settings.into_generator().into_root_schema_for::<PipelineFile>();
    let mut schema = schema.to_value();
    without_null(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "Busybee pipeline".into());
    }
    schema
}

/// A key that may be left out may not be empty: `null` is taken out wherever serde's `Option`
/// put it.
fn without_null(schema: &mut serde_json::Value) {
    let is_null = |value: &serde_json::Value| value == "null" || value["type"] == "null";
    if let Some(table) = schema.as_object_mut() {
        if let Some(serde_json::Value::Array(types)) = table.get_mut("type") {
            types.retain(|value| !is_null(value));
            if let [only] = types.as_slice() {
                let only = only.clone();
                table.insert("type".to_owned(), only);
            }
        }
        if let Some(serde_json::Value::Array(choices)) = table.get_mut("anyOf") {
            choices.retain(|value| !is_null(value));
            if choices.len() == 1
                && let Some(serde_json::Value::Object(only)) = choices.pop()
            {
                table.remove("anyOf");
                table.extend(only);
            }
        }
        table.values_mut().for_each(without_null);
    } else if let Some(items) = schema.as_array_mut() {
        items.iter_mut().for_each(without_null);
    }
}
