//! Wrappers for serde types that are filled by `decode`: values with their place, entries in the
//! order of the file, single values by their text.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;

use crate::runtime::config_file::node::NodeId;

/// By this name the decoder knows that a value's node is asked for as well.
pub(crate) const AT: &str = "$at";
/// By this name the decoder knows that any single value will do, by its text.
pub(crate) const SCALAR: &str = "$scalar";
/// By this name the decoder knows that text is wanted, and that `true` is a fine command.
pub(crate) const COMMAND: &str = "$command";

/// A value, and which node it came from.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// Which node.
    pub id: NodeId,
    /// What it says.
    pub value: T,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At<T>, D::Error> {
        struct AtVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
                let id = parts.next_element::<u32>()?;
                let value = parts.next_element::<T>()?;
                match (id, value) {
                    (Some(id), Some(value)) => Ok(At { id: NodeId(id), value }),
                    _ => Err(A::Error::custom("has no place")),
                }
            }
        }

        deserializer.deserialize_tuple_struct(AT, 2, AtVisitor(PhantomData))
    }
}

/// Entries under names that people choose, in the order of the file.
#[derive(Clone, Debug)]
pub struct Entries<T>(pub Vec<(At<String>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Entries<T> {
        Entries(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<T>, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// Text, a number or a boolean, by its text in the file: `3.10` stays `3.10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalarText(pub String);

/// A command. `run: true` means the program of that name, whatever YAML thinks of the word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandText(pub String);

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        // Neither a script nor a variable can hold one: the kernel takes it for the end.
        if text.contains('\0') {
            return Err(E::custom("a text cannot hold the character NUL"));
        }
        Ok(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for ScalarText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ScalarText, D::Error> {
        deserializer.deserialize_newtype_struct(SCALAR, TextVisitor).map(ScalarText)
    }
}

impl<'de> Deserialize<'de> for CommandText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CommandText, D::Error> {
        deserializer.deserialize_newtype_struct(COMMAND, TextVisitor).map(CommandText)
    }
}
