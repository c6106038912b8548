//! What is wrong with a file, as people read it: place, line, caret, hint.

use std::fmt;

/// Problems that are shown of one file; a person mends a few and asks again.
pub const PROBLEMS_MAX: usize = 20;

/// Characters of a line that are shown; the rest of a longer one helps nobody.
const SNIPPET_CHARS_MAX: usize = 120;

/// Where something stands. Lines and columns count from 1, columns in characters; line 0 is the
/// file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
    /// How many characters of the line belong to it; at least one caret is drawn.
    pub width: u32,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What; no capital, no dot.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(place: Place, what: impl Into<String>) -> Problem {
        Problem { place, what: what.into(), hint: None }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

/// Everything that is wrong with one file. Displayed as `file:line:column: what; hint`, with the
/// line and a caret below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    shown: Vec<(Problem, String)>,
    left_out: usize,
}

impl Problems {
    /// The problems of a file whose text is `text`: in its order, each once.
    pub fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> Problems {
        problems.sort_by(|a, b| (a.place, &a.what).cmp(&(b.place, &b.what)));
        problems.dedup();
        let left_out = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        let lines: Vec<&str> = text.lines().collect();
        let line_of = |problem: &Problem| {
            let index = (problem.place.line as usize).checked_sub(1)?;
            lines.get(index).map(|line| (*line).to_owned())
        };
        let shown = problems
            .into_iter()
            .map(|problem| {
                let line = line_of(&problem).unwrap_or_default();
                (problem, line)
            })
            .collect();
        Problems { file: file.to_owned(), shown, left_out }
    }

    /// A file that is wrong as a whole: missing, too large.
    pub fn whole_file(file: &str, what: impl Into<String>, hint: impl Into<String>) -> Problems {
        let problem = Problem::new(Place::default(), what).hint(hint);
        Problems { file: file.to_owned(), shown: vec![(problem, String::new())], left_out: 0 }
    }

    /// The problems, without their lines.
    pub fn list(&self) -> impl Iterator<Item = &Problem> {
        self.shown.iter().map(|(problem, _line)| problem)
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (problem, line)) in self.shown.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write_problem(f, &self.file, problem, line)?;
        }
        if self.left_out > 0 {
            writeln!(f, "\n… and {} more", self.left_out)?;
        }
        Ok(())
    }
}

fn write_problem(
    f: &mut fmt::Formatter<'_>,
    file: &str,
    problem: &Problem,
    line: &str,
) -> fmt::Result {
    let Place { line: number, column, width } = problem.place;
    if number == 0 {
        write!(f, "{file}: {}", printable(&problem.what))?;
    } else {
        write!(f, "{file}:{number}:{column}: {}", printable(&problem.what))?;
    }
    if let Some(hint) = &problem.hint {
        write!(f, "; {}", printable(hint))?;
    }
    writeln!(f)?;
    if number == 0 {
        return Ok(());
    }
    // A long line is shown around the place, not from its start.
    let before = (column as usize).saturating_sub(1);
    let cut = before.saturating_sub(SNIPPET_CHARS_MAX / 2);
    let snippet: String = line.chars().skip(cut).take(SNIPPET_CHARS_MAX).collect();
    let room = snippet.chars().count().saturating_sub(before - cut).max(1);
    let carets = (width as usize).clamp(1, room);
    writeln!(f, "{number:>5} | {}", printable(&snippet).trim_end())?;
    writeln!(f, "      | {}{}", " ".repeat(before - cut), "^".repeat(carets))
}

/// A text that cannot play tricks on a terminal or a page: each control character becomes one
/// visible character, so that carets still point to the right place.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() || is_direction_mark(c) => '·',
            c => c,
        })
        .collect()
}

/// Marks that make a terminal show text in another order than it has.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_place_its_line_and_what_to_do() {
        let place = Place { line: 2, column: 3, width: 5 };
        let problem = Problem::new(place, "unknown key \"stesp\"").hint("did you mean \"steps\"?");
        let shown = Problems::new("p.yaml", "a: 1\n  stesp: 2\n", vec![problem]).to_string();
        let expected = "p.yaml:2:3: unknown key \"stesp\"; did you mean \"steps\"?\n    \
                        2 |   stesp: 2\n      |   ^^^^^\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_terminal_is_not_played_tricks_on() {
        let place = Place { line: 1, column: 900, width: 4000 };
        let line = format!("{}\u{1b}[31m\u{202e}tail", "x".repeat(899));
        let shown = Problems::new("f", &line, vec![Problem::new(place, "bad \u{7}")]).to_string();
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
        assert!(shown.lines().all(|line| line.chars().count() < 140), "{shown}");
    }
}
