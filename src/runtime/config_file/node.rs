//! What was typed: a tree of values that know where they stand, before anyone says what they mean.

use std::collections::BTreeSet;

use crate::runtime::config_file::problem::Place;
use crate::runtime::config_file::problem::Problem;

/// Which value or key of a document. An alias repeats the ids of what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// One value.
#[derive(Clone, Debug)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// What it is.
    pub value: Value,
}

/// The key of an entry.
#[derive(Clone, Debug)]
pub struct Key {
    /// Which.
    pub id: NodeId,
    /// Its text.
    pub text: String,
}

/// What a value can be.
#[derive(Clone, Debug)]
pub enum Value {
    /// A single value.
    Scalar {
        /// Its text as it was typed, without quotes: `3.10` stays `3.10`.
        source: String,
        /// What it was typed as.
        kind: ScalarKind,
    },
    /// Values in order.
    List(Vec<Node>),
    /// Entries in the order of the file, each key once.
    Table(Vec<(Key, Node)>),
}

/// What a single value was typed as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScalarKind {
    /// Text.
    Text,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Another number, or one too large to count with.
    Number,
    /// A date or a time (TOML).
    Moment,
}

impl Node {
    /// The value of an entry.
    pub fn entry(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(entries) => {
                entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
            }
            Value::Scalar { .. } | Value::List(_) => None,
        }
    }

    /// Its text, if it is a single value.
    pub fn scalar_source(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { source, .. } => Some(source),
            Value::List(_) | Value::Table(_) => None,
        }
    }
}

/// A whole file: its tree, the places of its nodes, and what is wrong with it so far.
#[derive(Debug)]
pub struct Document {
    /// The outermost value.
    pub root: Node,
    places: Places,
    /// Values that are wrong and reported: nothing is decoded from them.
    pub(crate) poisoned: BTreeSet<NodeId>,
    /// Keys and values about which something was said already.
    pub(crate) reported: BTreeSet<NodeId>,
    problems: Vec<Problem>,
}

/// Gives out ids and remembers their places, while a reader builds the tree.
#[derive(Debug, Default)]
pub struct Places {
    places: Vec<Place>,
}

impl Places {
    /// An id for what stands at `place`.
    pub fn add(&mut self, place: Place) -> NodeId {
        self.places.push(place);
        NodeId(u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX))
    }

    /// Where a node stands.
    pub fn get(&self, id: NodeId) -> Place {
        self.places.get(id.0 as usize).copied().unwrap_or_default()
    }
}

impl Document {
    /// A document with what its reader found wrong.
    pub fn new(
        root: Node,
        places: Places,
        poisoned: BTreeSet<NodeId>,
        problems: Vec<Problem>,
    ) -> Document {
        Document { root, places, poisoned, reported: BTreeSet::new(), problems }
    }

    /// Where a node stands.
    pub fn place(&self, id: NodeId) -> Place {
        self.places.get(id)
    }

    /// Says that something is wrong.
    pub fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// How much is wrong so far.
    pub fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// Everything that is wrong.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Whether something stands under a key of a table, be it right or wrong.
    pub fn has_entry(&self, table: NodeId, key: &str) -> bool {
        node(&self.root, table).is_some_and(|table| table.entry(key).is_some())
    }

    /// How people call a node: `jobs.test.steps "unit"`; nothing for the outermost.
    pub fn path(&self, id: NodeId) -> Option<String> {
        find(&self.root, id, "")
    }
}

fn node(from: &Node, wanted: NodeId) -> Option<&Node> {
    if from.id == wanted {
        return Some(from);
    }
    match &from.value {
        Value::Scalar { .. } => None,
        Value::List(items) => items.iter().find_map(|item| node(item, wanted)),
        Value::Table(entries) => entries.iter().find_map(|(_, value)| node(value, wanted)),
    }
}

fn find(node: &Node, wanted: NodeId, path: &str) -> Option<String> {
    if node.id == wanted {
        return (!path.is_empty()).then(|| path.to_owned());
    }
    match &node.value {
        Value::Scalar { .. } => None,
        Value::List(items) => items.iter().enumerate().find_map(|(index, item)| {
            let name = item.entry("name").and_then(Node::scalar_source);
            let step = match name {
                Some(name) => format!("{path} \"{name}\""),
                None => format!("entry {} of {path}", index + 1),
            };
            find(item, wanted, &step)
        }),
        Value::Table(entries) => entries.iter().find_map(|(key, value)| {
            let step = match path {
                "" => key.text.clone(),
                // `jobs.test.timeout`, but `timeout in entry 2 of jobs.test.steps`.
                path if path.starts_with("entry ") || path.contains('"') => {
                    format!("{} in {path}", key.text)
                }
                path => format!("{path}.{}", key.text),
            };
            if key.id == wanted { Some(step) } else { find(value, wanted, &step) }
        }),
    }
}
