//! `bootstrap = "debian.sh"` or `bootstrap = { url = "https://…", sha256 = "…" }`.

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

/// The script that makes a worker of a bare machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// A file of `bootstrap_dir`.
    File(String),
    /// One from elsewhere, which must be exactly this.
    Url {
        /// Where.
        url: String,
        /// Its SHA-256, as 64 hex digits.
        sha256: String,
    },
}

/// The second way to write it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UrlFile {
    url: String,
    sha256: String,
}

fn file(name: &str) -> Result<Bootstrap, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(fits) {
        let hint = "write a file's name such as \"debian.sh\", without directories";
        return Err(format!("\"{name}\" is not a file of bootstrap_dir\n{hint}"));
    }
    Ok(Bootstrap::File(name.to_owned()))
}

fn from_url(typed: UrlFile) -> Result<Bootstrap, String> {
    let UrlFile { url, sha256 } = typed;
    if !url.starts_with("https://") || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("\"{url}\" is not an https:// address\nscripts come over TLS alone"));
    }
    let is_hex = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex {
        let hint = "write the 64 digits that sha256sum prints for the script";
        return Err(format!("\"{sha256}\" is not a SHA-256\n{hint}"));
    }
    Ok(Bootstrap::Url { url, sha256: sha256.to_ascii_lowercase() })
}

impl<'de> Deserialize<'de> for Bootstrap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bootstrap, D::Error> {
        struct BootstrapVisitor;

        impl<'de> Visitor<'de> for BootstrapVisitor {
            type Value = Bootstrap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file of bootstrap_dir, or { url = \"https://…\", sha256 = \"…\" }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bootstrap, E> {
                file(text).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Bootstrap, A::Error> {
                let typed = UrlFile::deserialize(MapAccessDeserializer::new(entries))?;
                from_url(typed).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(BootstrapVisitor)
    }
}

impl JsonSchema for Bootstrap {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Bootstrap".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let url = generator.subschema_for::<UrlFile>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, url] })
    }
}
