//! What serde walks over: the items of a list, the entries of a table, a value with its place.

use serde::de::DeserializeSeed;
use serde::de::EnumAccess;
use serde::de::IntoDeserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::VariantAccess;
use serde::de::Visitor;
use serde::de::value::StrDeserializer;
use serde::de::value::U32Deserializer;

use crate::runtime::config_file::decode::Decoder;
use crate::runtime::config_file::decode::Fault;
use crate::runtime::config_file::decode::Scope;
use crate::runtime::config_file::node::Key;
use crate::runtime::config_file::node::Node;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::placed::AT;

/// The items of a list that are not poisoned.
pub(super) struct Items<'d> {
    scope: &'d Scope<'d>,
    rest: std::slice::Iter<'d, Node>,
}

impl<'d> Items<'d> {
    pub(super) fn new(scope: &'d Scope<'d>, items: &'d [Node]) -> Items<'d> {
        Items { scope, rest: items.iter() }
    }
}

impl<'d> SeqAccess<'d> for Items<'d> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'d>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let scope = self.scope;
        let Some(node) = self.rest.find(|node| !scope.is_poisoned(node.id)) else {
            return Ok(None);
        };
        let decoder = Decoder { scope, node };
        decoder.locate(seed.deserialize(decoder)).map(Some)
    }
}

/// The entries of a table that are neither unknown nor poisoned.
pub(super) struct Fields<'d> {
    scope: &'d Scope<'d>,
    rest: std::slice::Iter<'d, (Key, Node)>,
    known: Option<&'static [&'static str]>,
    value: Option<&'d Node>,
}

impl<'d> Fields<'d> {
    /// Every entry: its names are people's own.
    pub(super) fn all(scope: &'d Scope<'d>, entries: &'d [(Key, Node)]) -> Fields<'d> {
        Fields { scope, rest: entries.iter(), known: None, value: None }
    }

    /// The entries with these names.
    pub(super) fn known(
        scope: &'d Scope<'d>,
        entries: &'d [(Key, Node)],
        known: &'static [&'static str],
    ) -> Fields<'d> {
        Fields { scope, rest: entries.iter(), known: Some(known), value: None }
    }
}

impl<'d> MapAccess<'d> for Fields<'d> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'d>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let (scope, known) = (self.scope, self.known);
        let wanted = |(key, node): &&(Key, Node)| {
            let is_known = known.is_none_or(|names| names.contains(&key.text.as_str()));
            is_known && !scope.is_poisoned(key.id) && !scope.is_poisoned(node.id)
        };
        let Some((key, node)) = self.rest.find(wanted) else {
            return Ok(None);
        };
        self.value = Some(node);
        let result = seed.deserialize(KeyDecoder { key });
        result.map(Some).map_err(|fault| Fault { at: fault.at.or(Some(key.id)), ..fault })
    }

    fn next_value_seed<S: DeserializeSeed<'d>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let node = self.value.take().expect("serde asks for a value only after its key");
        let decoder = Decoder { scope: self.scope, node };
        decoder.locate(seed.deserialize(decoder))
    }
}

/// Serde's view of a key: text, or text with its place.
struct KeyDecoder<'d> {
    key: &'d Key,
}

impl<'d> serde::Deserializer<'d> for KeyDecoder<'d> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(&self.key.text)
    }

    fn deserialize_tuple_struct<V: Visitor<'d>>(
        self,
        name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match name {
            AT => visitor.visit_seq(Placed { id: Some(self.key.id), value: Some(self) }),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'d>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple map struct enum identifier ignored_any
    }
}

/// The two parts of a value with its place: the node's number, then the value.
pub(super) struct Placed<D> {
    id: Option<NodeId>,
    value: Option<D>,
}

impl<'d> Placed<Decoder<'d>> {
    pub(super) fn value(decoder: Decoder<'d>) -> Placed<Decoder<'d>> {
        Placed { id: Some(decoder.node.id), value: Some(decoder) }
    }
}

impl<'d, D: serde::Deserializer<'d, Error = Fault>> SeqAccess<'d> for Placed<D> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'d>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        if let Some(id) = self.id.take() {
            let number: U32Deserializer<Fault> = id.0.into_deserializer();
            return seed.deserialize(number).map(Some);
        }
        self.value.take().map(|value| seed.deserialize(value)).transpose()
    }
}

/// One of an enum's words.
pub(super) struct Word<'d>(pub(super) &'d str);

impl<'d> EnumAccess<'d> for Word<'d> {
    type Error = Fault;
    type Variant = Word<'d>;

    fn variant_seed<S: DeserializeSeed<'d>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let name: StrDeserializer<'d, Fault> = self.0.into_deserializer();
        seed.deserialize(name).map(|value| (value, self))
    }
}

impl<'d> VariantAccess<'d> for Word<'d> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'d>>(self, _seed: S) -> Result<S::Value, Fault> {
        Err(only_words())
    }

    fn tuple_variant<V: Visitor<'d>>(self, _len: usize, _visitor: V) -> Result<V::Value, Fault> {
        Err(only_words())
    }

    fn struct_variant<V: Visitor<'d>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(only_words())
    }
}

fn only_words() -> Fault {
    <Fault as serde::de::Error>::custom("must be a single word")
}
