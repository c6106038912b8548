//! TOML text → a document.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::node::Key;
use crate::runtime::config_file::node::Node;
use crate::runtime::config_file::node::Places;
use crate::runtime::config_file::node::ScalarKind;
use crate::runtime::config_file::node::Value;
use crate::runtime::config_file::problem::Place;
use crate::runtime::config_file::problem::Problem;

/// Reads TOML. Where its syntax is wrong, that is all that is said: what the rest means is unsure.
///
/// # Errors
/// The syntax errors, several at once where the parser finds its way back.
pub fn read(text: &str) -> Result<Document, Vec<Problem>> {
    let lines = Lines::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| syntax_problem(error, &lines)).collect());
    }
    let mut reader = Reader { lines, places: Places::default() };
    let id = reader.places.add(Place { line: 1, column: 1, width: 1 });
    let value = reader.table(root.into_inner());
    let root = Node { id, value };
    Ok(Document::new(root, reader.places, BTreeSet::new(), Vec::new()))
}

fn syntax_problem(error: &toml::de::Error, lines: &Lines<'_>) -> Problem {
    let place = lines.place(error.span().unwrap_or(0..0));
    let message = error.message().trim().replace('\n', ", ");
    Problem::new(place, message).hint("this is not TOML; https://toml.io shows how it is written")
}

struct Reader<'t> {
    lines: Lines<'t>,
    places: Places,
}

impl Reader<'_> {
    fn table(&mut self, table: DeTable<'_>) -> Value {
        let mut entries: Vec<_> = table.into_iter().collect();
        // The parser sorts by name; people expect the order of their file.
        entries.sort_by_key(|(key, _value)| key.span().start);
        let entries = entries.into_iter().map(|(key, value)| {
            let id = self.places.add(self.lines.place(key.span()));
            let key = Key { id, text: key.into_inner().into_owned() };
            (key, self.node(value))
        });
        Value::Table(entries.collect())
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>) -> Node {
        let id = self.places.add(self.lines.place(value.span()));
        let scalar = |source: String, kind: ScalarKind| Value::Scalar { source, kind };
        let value = match value.into_inner() {
            DeValue::String(text) => scalar(text.into_owned(), ScalarKind::Text),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                let parsed = i64::from_str_radix(&digits, number.radix());
                scalar(number.to_string(), parsed.map_or(ScalarKind::Number, ScalarKind::Integer))
            }
            DeValue::Float(number) => scalar(number.as_str().to_owned(), ScalarKind::Number),
            DeValue::Boolean(value) => scalar(value.to_string(), ScalarKind::Bool(value)),
            DeValue::Datetime(moment) => scalar(moment.to_string(), ScalarKind::Moment),
            DeValue::Array(items) => {
                Value::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            DeValue::Table(table) => self.table(table),
        };
        Node { id, value }
    }
}

/// Finds lines and columns of byte offsets.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Lines<'t> {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(after_breaks.map(|(index, _)| index + 1)).collect();
        Lines { text, starts }
    }

    fn place(&self, span: Range<usize>) -> Place {
        let line = self.starts.partition_point(|start| *start <= span.start).max(1);
        let start = self.starts[line - 1];
        let end = self.starts.get(line).map_or(self.text.len(), |next| next - 1);
        let chars = |range: Range<usize>| {
            let count = self.text.get(range).map_or(0, |part| part.chars().count());
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        Place {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: chars(start..span.start.max(start)).saturating_add(1),
            width: chars(span.start..span.end.min(end).max(span.start)).max(1),
        }
    }
}
