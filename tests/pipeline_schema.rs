//! The JSON Schema of pipeline files accepts what Busybee accepts, and knows every key.
//!
//! The checker here knows the words that the schema uses and panics on any other, so that it
//! cannot pass by not looking.

use std::path::Path;

use busybee::master::pipeline_file;
use serde_json::Value;
use serde_json::json;

/// Why a value does not fit; nothing: it does.
fn misfit(schema: &Value, value: &Value, root: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(reference.trim_start_matches('#')).expect("a $ref has a target");
        return misfit(target, value, root, at);
    }
    for (word, rule) in schema.as_object().expect("a schema is an object") {
        let wrong = match word.as_str() {
            "title" | "description" | "$schema" | "definitions" | "format" | "pattern" => None,
            "type" => (!fits_type(rule, value)).then(|| format!("{at} is not {rule}")),
            "properties" | "additionalProperties" if !value.is_object() => None,
            "properties" => value
                .as_object()?
                .iter()
                .find_map(|(key, part)| misfit(rule.get(key)?, part, root, &format!("{at}.{key}"))),
            "additionalProperties" => value.as_object()?.iter().find_map(|(key, part)| {
                let known = schema.get("properties").is_some_and(|known| known.get(key).is_some());
                match rule {
                    _ if known => None,
                    Value::Bool(false) => Some(format!("{at} may not have {key}")),
                    rule => misfit(rule, part, root, &format!("{at}.{key}")),
                }
            }),
            "required" => rule.as_array()?.iter().find_map(|key| {
                let is_there = value.get(key.as_str()?).is_some();
                (!is_there).then(|| format!("{at} has no {key}"))
            }),
            "items" => value
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
                .find_map(|(index, item)| misfit(rule, item, root, &format!("{at}[{index}]"))),
            "enum" => (!rule.as_array()?.contains(value)).then(|| format!("{at} is not in {rule}")),
            "const" => (rule != value).then(|| format!("{at} is not {rule}")),
            "oneOf" | "anyOf" => {
                let mut choices = rule.as_array()?.iter();
                let fits = choices.any(|choice| misfit(choice, value, root, at).is_none());
                (!fits).then(|| format!("{at} fits none of {word}"))
            }
            "minimum" => (value.is_number() && value.as_f64() < rule.as_f64())
                .then(|| format!("{at} is too small")),
            "maximum" => (value.as_f64() > rule.as_f64()).then(|| format!("{at} is too large")),
            "minLength" => {
                let length = value.as_str().map(|text| text.chars().count() as u64);
                (length.is_some() && length < rule.as_u64()).then(|| format!("{at} is too short"))
            }
            "maxLength" => {
                let length = value.as_str().map(|text| text.chars().count() as u64);
                (length > rule.as_u64()).then(|| format!("{at} is too long"))
            }
            "minItems" => {
                let length = value.as_array().map(|items| items.len() as u64);
                (length.is_some() && length < rule.as_u64()).then(|| format!("{at} is too short"))
            }
            "minProperties" => {
                let length = value.as_object().map(|entries| entries.len() as u64);
                (length.is_some() && length < rule.as_u64()).then(|| format!("{at} has too little"))
            }
            "propertyNames" => None,
            "maxItems" => {
                let length = value.as_array().map(|items| items.len() as u64);
                (length > rule.as_u64()).then(|| format!("{at} is too long"))
            }
            "maxProperties" => {
                let length = value.as_object().map(|entries| entries.len() as u64);
                (length > rule.as_u64()).then(|| format!("{at} has too much"))
            }
            other => panic!("the schema says \"{other}\" at {at}, which this test does not know"),
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

fn fits_type(rule: &Value, value: &Value) -> bool {
    match rule {
        Value::Array(types) => types.iter().any(|rule| fits_type(rule, value)),
        rule => match rule.as_str().expect("a type is a word") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            other => panic!("type {other}"),
        },
    }
}

fn check(value: &Value) -> Option<String> {
    let schema = pipeline_file::schema();
    misfit(&schema, value, &schema, "$")
}

#[test]
fn the_schema_accepts_every_right_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pipelines/right");
    let mut n_files = 0;
    for entry in std::fs::read_dir(folder).expect("the fixtures are there") {
        let path = entry.expect("the folder is readable").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).expect("a fixture is text");
            let value: Value = serde_saphyr::from_str(&text).expect("a right fixture is YAML");
            assert_eq!(check(&value), None, "{}", path.display());
            n_files += 1;
        }
    }
    assert!(n_files >= 3);
}

#[test]
fn the_schema_refuses_what_busybee_refuses() {
    let job = |job: Value| json!({ "version": 1, "jobs": { "t": job } });
    let step = |step: Value| job(json!({ "steps": [step] }));
    let inputs = |inputs: Value| {
        let jobs = json!({ "t": { "steps": [{ "run": "x" }] } });
        json!({ "version": 1, "triggers": { "manual": { "inputs": inputs } }, "jobs": jobs })
    };
    let many: serde_json::Map<String, Value> =
        (0..33).map(|n| (format!("i{n}"), json!({}))).collect();
    for (value, reason) in [
        (inputs(json!({ "a": { "type": "bool" } })), "inputs.a"),
        (inputs(json!({ "a": { "option": [] } })), "may not have option"),
        (inputs(json!({ "a": { "type": "choice", "options": [] } })), "too short"),
        (inputs(json!({ "a": null })), "is not \"object\""),
        (inputs(many.into()), "too much"),
        (json!({ "version": 2, "jobs": { "t": { "steps": [{ "run": "x" }] } } }), "too large"),
        (json!({ "version": 1 }), "has no \"jobs\""),
        (json!({ "version": 1, "jobs": {} }), "too little"),
        (job(json!({})), "has no \"steps\""),
        (job(json!({ "steps": [] })), "too short"),
        (job(json!({ "steps": [{ "run": "x" }], "matrix": {} })), "may not have matrix"),
        (job(json!({ "steps": [{ "run": "x" }], "timeout": null })), "is not \"string\""),
        (job(json!({ "steps": [{ "run": "x" }], "worker": "linux" })), "is not \"array\""),
        (step(json!({ "rnu": "x" })), "rnu"),
        (step(json!({ "run": "x", "shell": "zsh" })), "shell"),
        (step(json!({ "run": "x", "env": { "A": [1] } })), "env.A"),
    ] {
        let found = check(&value).unwrap_or_else(|| panic!("accepted: {value}"));
        assert!(found.contains(reason), "{found} for {value}");
    }
}
