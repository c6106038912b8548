//! `ami = "ami-…"` or `ami = { owners = ["…"], name = "…" }`.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;

use crate::master::provisioner::ec2::settings::Image;

/// What an instance's root disk is made of, as it is typed.
#[derive(Clone, Debug)]
pub(super) struct Ami(pub(super) Image);

/// The second way to write it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewestFile {
    owners: Vec<String>,
    name: String,
}

fn by_id(id: &str) -> Result<Ami, String> {
    let digits = id.strip_prefix("ami-").unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let hint = "write an id such as \"ami-0123456789abcdef0\", or { owners = [\"…\"], \
                    name = \"…\" } for the newest of a name";
        return Err(format!("\"{id}\" is not the id of an image\n{hint}"));
    }
    Ok(Ami(Image::Id(id.to_owned())))
}

fn newest(typed: NewestFile) -> Result<Ami, String> {
    let NewestFile { owners, name } = typed;
    let fits = |owner: &String| {
        let is_account = owner.len() == 12 && owner.bytes().all(|byte| byte.is_ascii_digit());
        is_account || ["self", "amazon", "aws-marketplace"].contains(&owner.as_str())
    };
    if owners.is_empty() {
        let hint = "name the account whose images you trust: anybody can publish an image of any \
                    name";
        return Err(format!("owners is empty\n{hint}"));
    }
    if let Some(owner) = owners.iter().find(|owner| !fits(owner)) {
        let hint = "write an account of 12 digits, \"self\" or \"amazon\"";
        return Err(format!("\"{owner}\" is not an owner of images\n{hint}"));
    }
    if name.is_empty() {
        return Err("name is empty\nwrite one such as \"debian-12-amd64-*\"".to_owned());
    }
    Ok(Ami(Image::Newest { owners, name }))
}

impl<'de> Deserialize<'de> for Ami {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ami, D::Error> {
        struct AmiVisitor;

        impl<'de> Visitor<'de> for AmiVisitor {
            type Value = Ami;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"ami-…\", or { owners = [\"…\"], name = \"…\" }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Ami, E> {
                by_id(text).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Ami, A::Error> {
                let typed = NewestFile::deserialize(MapAccessDeserializer::new(entries))?;
                newest(typed).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(AmiVisitor)
    }
}

impl JsonSchema for Ami {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ami".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let newest = generator.subschema_for::<NewestFile>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, newest] })
    }
}
