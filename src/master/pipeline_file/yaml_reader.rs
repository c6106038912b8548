//! YAML text → a document, strictly.
//!
//! Reads the events of the parser below serde-saphyr instead of its serde side: only so a scalar
//! keeps its text (`3.10`), aliases, tags and merge keys are seen where they stand, and reading
//! goes on after a mistake.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_saphyr::granit_parser::Event;
use serde_saphyr::granit_parser::Marker;
use serde_saphyr::granit_parser::Options;
use serde_saphyr::granit_parser::Parser;
use serde_saphyr::granit_parser::ScalarStyle;
use serde_saphyr::granit_parser::Span;

use crate::master::pipeline_file::yaml_scalar;
use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::node::Key;
use crate::runtime::config_file::node::Node;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::node::Places;
use crate::runtime::config_file::node::ScalarKind;
use crate::runtime::config_file::node::Value;
use crate::runtime::config_file::problem::PROBLEMS_MAX;
use crate::runtime::config_file::problem::Place;
use crate::runtime::config_file::problem::Problem;

/// Levels of lists and tables within each other. A pipeline has seven.
const DEPTH_MAX: usize = 24;

/// Values and keys after aliases were replaced by what they stand for. A file of the full size
/// has fewer; nine anchors that each repeat the one before nine times have a billion.
const NODES_MAX: usize = 200_000;

/// Reads YAML.
///
/// # Errors
/// What is wrong with its syntax. Smaller mistakes (a tag, an empty value) are in the document.
pub(super) fn read(text: &str) -> Result<Document, Vec<Problem>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    let mut reader = Reader::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let step = match next {
            Ok((event, span)) => reader.take(event, span),
            Err(error) => {
                let place = place_of_mark(*error.marker());
                Err(syntax_problem(place, &error.info(), text))
            }
        };
        if let Err(problem) = step {
            reader.problems.push(problem);
            return Err(reader.problems);
        }
        if reader.problems.len() > PROBLEMS_MAX {
            return Err(reader.problems);
        }
    }
    match reader.root {
        Some(root) => Ok(Document::new(root, reader.places, reader.poisoned, reader.problems)),
        None => {
            let place = Place { line: 1, column: 1, width: 1 };
            Err(vec![Problem::new(place, "the file is empty").hint(SMALLEST)])
        }
    }
}

/// What an empty file should have been.
const SMALLEST: &str =
    "the smallest pipeline is: version: 1, jobs: { test: { steps: [{ run: make test }] } }";

fn syntax_problem(place: Place, info: &str, text: &str) -> Problem {
    let line = text.lines().nth((place.line as usize).saturating_sub(1)).unwrap_or_default();
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    let hint = if indent.contains('\t') {
        "YAML is indented with spaces, not with tabs"
    } else if line.matches('"').count() % 2 == 1 || line.matches('\'').count() % 2 == 1 {
        "a quote may be missing at the end of a text on this line or above it"
    } else if line.contains(": ") {
        "put a text that contains `: `, `#` or begins with a special character in quotes"
    } else {
        "look at the indentation and the brackets of this line and the one above"
    };
    Problem::new(place, format!("this is not YAML: {info}")).hint(hint)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn place_of(span: Span) -> Place {
    let width = match span.end.line() == span.start.line() {
        true => span.end.col().saturating_sub(span.start.col()).max(1),
        false => 1,
    };
    Place {
        line: number(span.start.line()),
        column: number(span.start.col() + 1),
        width: number(width),
    }
}

fn place_of_mark(mark: Marker) -> Place {
    Place { line: number(mark.line()), column: number(mark.col() + 1), width: 1 }
}

/// A list or table that is not closed yet.
struct Open {
    id: NodeId,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Table { entries: Vec<(Key, Node)>, key: KeyState },
}

/// What a table expects next.
enum KeyState {
    /// A key.
    Wanted,
    /// The value of this key.
    Got(Key),
    /// A value that is dropped: its key was wrong.
    Wrong,
}

#[derive(Default)]
struct Reader {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Node, usize)>,
    places: Places,
    poisoned: BTreeSet<NodeId>,
    problems: Vec<Problem>,
    documents: usize,
    nodes: usize,
}

impl Reader {
    /// Takes the next event.
    ///
    /// # Errors
    /// A mistake after which nothing further can be trusted.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let place = place_of(span);
        let tag_place = event.tag().map(|_| span.tag_start.map_or(place, place_of_mark));
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let problem = Problem::new(place, "a second document begins here");
                    return Err(problem.hint("a pipeline file holds one; take out the `---`"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, _tag) => {
                let id = self.places.add(place);
                if let Some(at) = tag_place {
                    self.refuse_tag(at, id);
                }
                let is_written = span.start.index() != span.end.index();
                // The parser calls a value that is not written `~`, which is one that is.
                let text = if is_written { text.into_owned() } else { String::new() };
                self.scalar(id, place, text, style, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(place, anchor, OpenKind::List(Vec::new()), tag_place)
            }
            Event::MappingStart(_, anchor, _) => {
                let kind = OpenKind::Table { entries: Vec::new(), key: KeyState::Wanted };
                self.begin(place, anchor, kind, tag_place)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(place, anchor),
            Event::UnresolvedAlias(name) => {
                let what = format!("no anchor \"&{name}\" stands above this alias");
                self.wrong_value(
                    place,
                    Problem::new(place, what).hint("to begin a text with `*`, put it in quotes"),
                )
            }
            // Streams, the end of the document, and what was not asked for.
            _ => Ok(()),
        }
    }

    fn refuse_tag(&mut self, place: Place, id: NodeId) {
        let hint = "to begin a text with `!`, put it in quotes: \"!failure()\"";
        self.problems.push(Problem::new(place, "tags such as `!name` are not allowed").hint(hint));
        self.poisoned.insert(id);
    }

    fn scalar(
        &mut self,
        id: NodeId,
        place: Place,
        text: String,
        style: ScalarStyle,
        anchor: usize,
    ) -> Result<(), Problem> {
        let is_plain = style == ScalarStyle::Plain;
        let is_written = !(is_plain && text.is_empty());
        if self.wants_key() {
            return self.key(id, place, text, is_plain);
        }
        let kind = if is_plain { yaml_scalar::kind(&text) } else { Some(ScalarKind::Text) };
        if kind.is_none() && self.poisoned.insert(id) {
            let owner = match self.open.last().map(|open| &open.kind) {
                Some(OpenKind::Table { key: KeyState::Got(key), .. }) => Some(key),
                _ => None,
            };
            let what = owner.map_or("an empty value".to_owned(), |key| {
                format!("\"{}\" has no value", key.text)
            });
            // A value that is not even written has no place of its own.
            let place = match owner {
                Some(key) if !is_written => self.places.get(key.id),
                _ => place,
            };
            self.problems.push(Problem::new(place, what).hint("give it one, or take the key out"));
        }
        let value = Value::Scalar { source: text, kind: kind.unwrap_or(ScalarKind::Text) };
        self.add(Node { id, value }, anchor, 1)
    }

    fn wants_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open { kind: OpenKind::Table { key: KeyState::Wanted, .. }, .. })
        )
    }

    fn key(
        &mut self,
        id: NodeId,
        place: Place,
        text: String,
        is_plain: bool,
    ) -> Result<(), Problem> {
        let Some(Open { kind: OpenKind::Table { entries, key }, .. }) = self.open.last_mut() else {
            return Ok(());
        };
        let earlier = entries.iter().find(|(key, _)| key.text == text).map(|(key, _)| key.id);
        let problem = if is_plain && text == "<<" {
            let what = "merge keys (`<<`) are not part of YAML 1.2";
            Some(Problem::new(place, what).hint("write the entries out, or use `defaults`"))
        } else if text.is_empty() {
            Some(Problem::new(place, "an empty key").hint("give the value a name"))
        } else if let Some(earlier) = earlier {
            let line = self.places.get(earlier).line;
            let what = format!("\"{text}\" stands here twice, first on line {line}");
            Some(Problem::new(place, what).hint("keep one of them"))
        } else {
            None
        };
        *key = match problem {
            None => KeyState::Got(Key { id, text }),
            Some(problem) => {
                self.problems.push(problem);
                KeyState::Wrong
            }
        };
        Ok(())
    }

    fn begin(
        &mut self,
        place: Place,
        anchor: usize,
        kind: OpenKind,
        tag_place: Option<Place>,
    ) -> Result<(), Problem> {
        if self.wants_key() {
            let problem = Problem::new(place, "a key must be a single word or text");
            return Err(problem.hint("to begin a text with `{` or `[`, put it in quotes"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Problem::new(
                place,
                format!("more than {DEPTH_MAX} levels within each other"),
            ));
        }
        let id = self.places.add(place);
        if let Some(at) = tag_place {
            self.refuse_tag(at, id);
        }
        self.open.push(Open { id, anchor, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Table { entries, .. } => Value::Table(entries),
        };
        self.add(Node { id: open.id, value }, open.anchor, 1)
    }

    fn alias(&mut self, place: Place, anchor: usize) -> Result<(), Problem> {
        match self.anchors.get(&anchor) {
            Some((node, size)) if depth(node) + self.open.len() <= DEPTH_MAX => {
                let (node, size) = (node.clone(), *size);
                if self.wants_key() {
                    let text = node.scalar_source().unwrap_or_default().to_owned();
                    let id = self.places.add(place);
                    return self.key(id, place, text, true);
                }
                self.add(node, 0, size)
            }
            Some(_) => {
                Err(Problem::new(place, format!("more than {DEPTH_MAX} levels within each other")))
            }
            None => {
                let problem = Problem::new(place, "an alias of the value that it stands in");
                self.wrong_value(place, problem.hint("write the value out"))
            }
        }
    }

    /// Reports a value, and puts a placeholder where it stands.
    fn wrong_value(&mut self, place: Place, problem: Problem) -> Result<(), Problem> {
        self.problems.push(problem);
        let id = self.places.add(place);
        if self.wants_key() {
            if let Some(Open { kind: OpenKind::Table { key, .. }, .. }) = self.open.last_mut() {
                *key = KeyState::Wrong;
            }
            return Ok(());
        }
        self.poisoned.insert(id);
        let value = Value::Scalar { source: String::new(), kind: ScalarKind::Text };
        self.add(Node { id, value }, 0, 1)
    }

    /// Puts a finished value where it belongs. `size` counts it with all that it holds, where
    /// that was not counted on the way.
    fn add(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), Problem> {
        self.nodes += size;
        if self.nodes > NODES_MAX {
            let place = self.places.get(node.id);
            let what = format!("aliases make this file longer than {NODES_MAX} values");
            return Err(Problem::new(place, what).hint("write out what is needed"));
        }
        if anchor != 0 {
            let size = count(&node);
            self.anchors.insert(anchor, (node.clone(), size));
            // An anchor's copy is memory as well.
            self.nodes += size;
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Table { entries, key }) => {
                if let KeyState::Got(key) = std::mem::replace(key, KeyState::Wanted) {
                    entries.push((key, node));
                }
            }
        }
        Ok(())
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 0,
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Table(entries) => 1 + entries.iter().map(|(_, node)| depth(node)).max().unwrap_or(0),
    }
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Table(entries) => 1 + entries.iter().map(|(_, node)| 1 + count(node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let problems = match read(text) {
            Ok(document) => document.into_problems(),
            Err(problems) => problems,
        };
        let found: Vec<String> = problems
            .iter()
            .map(|p| format!("{}:{}: {}", p.place.line, p.place.column, p.what))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_strict_yaml_leaves_out_is_refused_where_it_stands() {
        check("a: 1\na: 2\n", &["2:1: \"a\" stands here twice, first on line 1"]);
        check("when: !failure()\n", &["1:7: tags such as `!name` are not allowed"]);
        check("a: !!str 5\n", &["1:4: tags such as `!name` are not allowed"]);
        check("x: !list [1]\n", &["1:4: tags such as `!name` are not allowed"]);
        check("a:\nb: ~\n", &["1:1: \"a\" has no value", "2:4: \"b\" has no value"]);
        check("- null\n-\n", &["1:3: an empty value", "2:2: an empty value"]);
        check("b: &b {c: 1}\na:\n  <<: *b\n", &["3:3: merge keys (`<<`) are not part of YAML 1.2"]);
        check("? [a]\n: 1\n", &["1:3: a key must be a single word or text"]);
        check("a: *nobody\n", &["1:4: no anchor \"&nobody\" stands above this alias"]);
        check("a: &a [*a]\n", &["1:8: an alias of the value that it stands in"]);
        check("a: 1\n---\nb: 1\n", &["2:1: a second document begins here"]);
        check("", &["1:1: the file is empty"]);
        check("# only a comment\n", &["1:1: the file is empty"]);
    }

    #[test]
    fn a_scalar_keeps_its_text_and_an_alias_repeats_its_anchor() {
        let document = read("v: 3.10\na: &x [yes, \"no\"]\nb: *x\n").unwrap();
        assert_eq!(document.root.entry("v").and_then(Node::scalar_source), Some("3.10"));
        let repeated = document.root.entry("b").unwrap();
        assert!(matches!(&repeated.value, Value::List(items) if items.len() == 2));
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let items = vec![format!("*a{}", level - 1); 9].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let problems = read(&bomb).unwrap_err();
        assert!(problems[0].what.starts_with("aliases make this file longer"), "{problems:?}");
        for deep in ["[".repeat(200_000), "- ".repeat(100_000), "{a: ".repeat(60_000)] {
            assert!(read(&deep).is_err());
        }
    }
}
