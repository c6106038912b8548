//! JSON Schema for the wrappers and words of this room.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;

use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::globs::Pattern;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::CommandText;
use crate::runtime::config_file::placed::Entries;
use crate::runtime::config_file::placed::ScalarText;
use crate::runtime::config_file::words::Label;
use crate::runtime::config_file::words::Title;

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("EntriesOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<BTreeMap<String, T>>()
    }
}

/// A type that is written as a simple value.
macro_rules! simple_schema {
    ($($name:ident $schema:tt)*) => {
        $(impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        })*
    };
}

simple_schema! {
    ScalarText { "type": ["string", "number", "boolean"] }
    CommandText { "type": ["string", "boolean"] }
    Pattern { "type": "string", "minLength": 1 }
    Label { "type": "string", "pattern": "^[A-Za-z0-9._+-]{1,64}$" }
    Title { "type": "string", "minLength": 1, "maxLength": 100 }
    Span {
        "type": "string",
        "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
        "minLength": 2
    }
}
