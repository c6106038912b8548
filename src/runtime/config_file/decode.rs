//! Fills serde types from a document, and goes on after a mistake.
//!
//! A serde type stops at its first mistake. So the decoder reports it, poisons the value it stood
//! in, and starts again without that value, until the rest decodes: several mistakes show at once,
//! wherever they are. A value that cannot be without its poisoned part is poisoned in its turn,
//! in silence.

use std::cell::RefCell;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::de::Deserializer;
use serde::de::Unexpected;
use serde::de::Visitor;

use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::node::Key;
use crate::runtime::config_file::node::Node;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::node::ScalarKind;
use crate::runtime::config_file::node::Value;
use crate::runtime::config_file::placed::AT;
use crate::runtime::config_file::placed::COMMAND;
use crate::runtime::config_file::placed::SCALAR;
use crate::runtime::config_file::problem::PROBLEMS_MAX;
use crate::runtime::config_file::problem::Problem;
use crate::runtime::config_file::suggest;

mod access;

/// Keys that are specified but not built, by the name of the struct they would stand in.
pub type Later = &'static [(&'static str, &'static [&'static str])];

/// Why a value was not taken.
#[derive(Debug)]
pub struct Fault {
    /// The innermost value it is about, once known.
    at: Option<NodeId>,
    what: String,
    hint: Option<String>,
    /// The key that is missing, where that is the fault.
    missing: Option<&'static str>,
}

impl Fault {
    fn new(node: &Node, what: impl Into<String>, hint: Option<String>) -> Fault {
        Fault { at: Some(node.id), what: what.into(), hint, missing: None }
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl serde::de::Error for Fault {
    /// A message may bring its hint in a second line.
    fn custom<T: fmt::Display>(message: T) -> Fault {
        let message = message.to_string();
        let (what, hint) = match message.split_once('\n') {
            Some((what, hint)) => (what.to_owned(), Some(hint.to_owned())),
            None => (message, None),
        };
        Fault { at: None, what, hint, missing: None }
    }

    fn invalid_type(_found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Fault {
        Fault { at: None, what: format!("must be {expected}"), hint: None, missing: None }
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault { at: None, what: String::new(), hint: None, missing: Some(field) }
    }
}

/// Decodes a document as far as it can be; what is wrong is reported to the document. Nothing:
/// the file is too wrong to make anything of it.
pub fn decode<T: DeserializeOwned>(document: &mut Document, later: Later) -> Option<T> {
    loop {
        let unknown = RefCell::new(Vec::new());
        let result = {
            let scope = Scope { document, later, unknown: &unknown };
            T::deserialize(Decoder { scope: &scope, node: &document.root })
        };
        for (id, problem) in unknown.into_inner() {
            if document.reported.insert(id) {
                document.report(problem);
            }
        }
        let fault = match result {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        let at = fault.at.unwrap_or(document.root.id);
        report(document, at, fault);
        let is_new = document.poisoned.insert(at);
        if at == document.root.id || !is_new || document.problem_count() > PROBLEMS_MAX {
            return None;
        }
    }
}

/// Reports a fault, unless it only follows from one that was reported.
fn report(document: &mut Document, at: NodeId, fault: Fault) {
    let path = document.path(at);
    let place = document.place(at);
    let what = match fault.missing {
        Some(key) => {
            if find(&document.root, at).is_some_and(|node| explains(document, node, key)) {
                return;
            }
            match path {
                Some(path) => format!("{path} has no \"{key}\""),
                None => format!("the file has no \"{key}\""),
            }
        }
        None if fault.what.starts_with("must be ") => {
            format!("{} {}", path.as_deref().unwrap_or("the file"), fault.what)
        }
        None => fault.what,
    };
    document.report(Problem { place, what, hint: fault.hint });
}

/// Whether something that was said of a table's entries explains that `key` is missing: it is
/// there, but wrong, or misspelt.
fn explains(document: &Document, table: &Node, key: &str) -> bool {
    let Value::Table(entries) = &table.value else { return false };
    entries.iter().any(|(entry, _)| entry.text == key || document.reported.contains(&entry.id))
}

fn find(node: &Node, id: NodeId) -> Option<&Node> {
    if node.id == id {
        return Some(node);
    }
    match &node.value {
        Value::Scalar { .. } => None,
        Value::List(items) => items.iter().find_map(|item| find(item, id)),
        Value::Table(entries) => entries.iter().find_map(|(_, value)| find(value, id)),
    }
}

/// What is the same for all values of one pass.
struct Scope<'d> {
    document: &'d Document,
    later: Later,
    unknown: &'d RefCell<Vec<(NodeId, Problem)>>,
}

impl Scope<'_> {
    fn is_poisoned(&self, id: NodeId) -> bool {
        self.document.poisoned.contains(&id)
    }

    /// Notes a key that the struct `owner` does not have.
    fn note_unknown(&self, owner: &'static str, table: &Node, key: &Key, known: &[&str]) {
        let place = self.document.place(key.id);
        let within = match self.document.path(table.id) {
            Some(path) => format!(" in {path}"),
            None => String::new(),
        };
        let later = self.later.iter().filter(|(name, _)| *name == owner);
        let is_later = later.flat_map(|(_, keys)| *keys).any(|name| *name == key.text);
        let problem = if is_later {
            Problem::new(place, format!("\"{}\"{within} is not yet supported", key.text))
                .hint("this version of Busybee cannot do it; take it out for now")
        } else {
            let mut problem = Problem::new(place, format!("unknown key \"{}\"{within}", key.text));
            problem.hint = suggest::hint(&key.text, known);
            problem
        };
        self.unknown.borrow_mut().push((key.id, problem));
    }
}

/// Serde's view of one value.
#[derive(Clone, Copy)]
struct Decoder<'d> {
    scope: &'d Scope<'d>,
    node: &'d Node,
}

impl<'d> Decoder<'d> {
    /// A fault that does not know yet which value it is about is about this one.
    fn locate<T>(self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| Fault { at: fault.at.or(Some(self.node.id)), ..fault })
    }

    fn must_be<T>(self, expected: &str, hint: Option<String>) -> Result<T, Fault> {
        let found = match &self.node.value {
            Value::List(_) => "a list",
            Value::Table(_) => "a mapping",
            Value::Scalar { kind, .. } => match kind {
                ScalarKind::Text => "text",
                ScalarKind::Bool(_) => "true or false",
                ScalarKind::Integer(_) | ScalarKind::Number => "a number",
                ScalarKind::Moment => "a date or time",
            },
        };
        Err(Fault::new(self.node, format!("must be {expected}, not {found}"), hint))
    }

    /// The text of a value; of other single values too, where `takes` says so.
    fn text(self, takes: fn(ScalarKind) -> bool) -> Result<&'d str, Fault> {
        match &self.node.value {
            Value::Scalar { source, kind: ScalarKind::Text } => Ok(source),
            Value::Scalar { source, kind } if takes(*kind) => Ok(source),
            Value::Scalar { source, .. } => {
                self.must_be("text", Some(format!("put it in quotes: \"{source}\"")))
            }
            Value::List(_) | Value::Table(_) => self.must_be("text", None),
        }
    }

    fn integer(self) -> Result<i64, Fault> {
        match &self.node.value {
            Value::Scalar { kind: ScalarKind::Integer(number), .. } => Ok(*number),
            _ => self.must_be("a whole number", None),
        }
    }

    fn list(self) -> Result<&'d [Node], Fault> {
        match &self.node.value {
            Value::List(items) => Ok(items),
            Value::Scalar { source, .. } if source.len() < 40 && !source.contains('\n') => {
                self.must_be("a list", Some(format!("write [{source}]")))
            }
            Value::Table(_) => self.must_be("a list", Some("write [{ … }]".to_owned())),
            Value::Scalar { .. } => self.must_be("a list", None),
        }
    }

    fn table(self) -> Result<&'d [(Key, Node)], Fault> {
        match &self.node.value {
            Value::Table(entries) => Ok(entries),
            Value::Scalar { .. } | Value::List(_) => self.must_be("a mapping", None),
        }
    }
}

/// Whole numbers that do not fit say what would.
macro_rules! whole_numbers {
    ($($method:ident $visit:ident $number:ident,)*) => {
        $(fn $method<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
            let number = self.integer()?;
            let Ok(number) = $number::try_from(number) else {
                let (least, most) = ($number::MIN, $number::MAX);
                let what = format!("must be from {least} to {most}, not {number}");
                return Err(Fault::new(self.node, what, None));
            };
            self.locate(visitor.$visit(number))
        })*
    };
}

impl<'d> Deserializer<'d> for Decoder<'d> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.node.value {
            Value::List(_) => return self.deserialize_seq(visitor),
            Value::Table(_) => return self.deserialize_map(visitor),
            Value::Scalar { source, kind } => match kind {
                ScalarKind::Text | ScalarKind::Number | ScalarKind::Moment => {
                    visitor.visit_str(source)
                }
                ScalarKind::Bool(value) => visitor.visit_bool(*value),
                ScalarKind::Integer(number) => visitor.visit_i64(*number),
            },
        };
        self.locate(result)
    }

    fn deserialize_bool<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Scalar { kind: ScalarKind::Bool(value), .. } => {
                self.locate(visitor.visit_bool(*value))
            }
            _ => self.must_be("true or false", None),
        }
    }

    fn deserialize_i64<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        let number = self.integer()?;
        self.locate(visitor.visit_i64(number))
    }

    whole_numbers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_str<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        let text = self.text(|_| false)?;
        self.locate(visitor.visit_str(text))
    }

    fn deserialize_string<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.locate(visitor.visit_some(self))
    }

    fn deserialize_newtype_struct<V: Visitor<'d>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = match name {
            SCALAR => visitor.visit_str(self.text(|_| true)?),
            COMMAND => visitor.visit_str(self.text(|kind| matches!(kind, ScalarKind::Bool(_)))?),
            _ => visitor.visit_newtype_struct(self),
        };
        self.locate(result)
    }

    fn deserialize_seq<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        let items = access::Items::new(self.scope, self.list()?);
        self.locate(visitor.visit_seq(items))
    }

    fn deserialize_tuple_struct<V: Visitor<'d>>(
        self,
        name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match name {
            AT => self.locate(visitor.visit_seq(access::Placed::value(self))),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Fault> {
        let entries = access::Fields::all(self.scope, self.table()?);
        self.locate(visitor.visit_map(entries))
    }

    fn deserialize_struct<V: Visitor<'d>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let entries = self.table()?;
        for (key, _value) in entries {
            if !fields.contains(&key.text.as_str()) {
                self.scope.note_unknown(name, self.node, key, fields);
            }
        }
        let known = access::Fields::known(self.scope, entries, fields);
        self.locate(visitor.visit_map(known))
    }

    fn deserialize_enum<V: Visitor<'d>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let text = self.text(|_| false)?;
        if !variants.contains(&text) {
            let what = format!("must be one of {}, not \"{text}\"", variants.join(", "));
            let nearest = suggest::nearest(text, variants.iter().copied());
            let hint = nearest.map(|word| format!("did you mean \"{word}\"?"));
            return Err(Fault::new(self.node, what, hint));
        }
        self.locate(visitor.visit_enum(access::Word(text)))
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'d>>
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
