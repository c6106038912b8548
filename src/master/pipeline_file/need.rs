//! One entry of `needs`. Today the name of a job; subsets of a fan-out come with the matrix.

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

/// The name of a job that must have passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need(pub String);

const LATER: &str = "a subset of a job is not yet supported in \"needs\"\nname the job alone";

impl<'de> Deserialize<'de> for Need {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Need, D::Error> {
        struct NeedVisitor;

        impl<'de> Visitor<'de> for NeedVisitor {
            type Value = Need;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a job")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Need, E> {
                if text.contains('[') {
                    return Err(E::custom(LATER));
                }
                Ok(Need(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, _entries: A) -> Result<Need, A::Error> {
                Err(A::Error::custom(LATER))
            }
        }

        deserializer.deserialize_any(NeedVisitor)
    }
}

impl JsonSchema for Need {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Need".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[a-z0-9_-]{1,64}$" })
    }
}
