//! Aligned columns.

use crate::client::screen::Screen;
use crate::client::screen::Tone;
use crate::client::screen::visible;

/// One cell: its text, and what it means.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Plain text. Control characters in it are shown as blanks.
    pub fn plain(text: impl AsRef<str>) -> Cell {
        Cell::toned(Tone::Plain, text)
    }

    /// Text with a meaning.
    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Cell {
        Cell { text: visible(text.as_ref()), tone }
    }

    /// A status word in its own tone.
    pub fn status(word: &str) -> Cell {
        Cell::toned(crate::client::screen::tone_of(word), word)
    }

    /// Text, or a dash where there is none.
    pub fn or_dash(text: Option<&str>) -> Cell {
        match text {
            Some(text) if !text.is_empty() => Cell::plain(text),
            _ => Cell::toned(Tone::Faint, "-"),
        }
    }
}

/// A heading, and rows as wide as it.
#[derive(Debug)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table of these columns.
    pub fn new(heading: &[&'static str]) -> Table {
        Table { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the heading's are not shown.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Whether there is nothing but the heading.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, one line a row, without blanks at the ends of lines.
    pub fn render(&self, screen: &Screen) -> String {
        let heading: Vec<Cell> =
            self.heading.iter().map(|text| Cell::toned(Tone::Heading, text)).collect();
        let widths = self.widths();
        let mut text = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            let mut gap = 0;
            for (cell, width) in row.iter().zip(&widths) {
                if !cell.text.is_empty() {
                    line.push_str(&" ".repeat(gap));
                    line.push_str(&screen.paint(cell.tone, &cell.text));
                    gap = 0;
                }
                gap += width.saturating_sub(columns(&cell.text)) + GAP_COLUMNS;
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.heading.iter().map(|text| columns(text)).collect();
        for row in &self.rows {
            for (cell, width) in row.iter().zip(&mut widths) {
                *width = columns(&cell.text).max(*width);
            }
        }
        widths
    }
}

/// Blanks between columns.
const GAP_COLUMNS: usize = 2;

/// How many columns a text takes: one a character, which is wrong only for wide scripts.
fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_blanks() {
        let mut table = Table::new(&["BUILD", "STATUS", "REASON"]);
        table.row(vec![Cell::plain("hello/1"), Cell::status("passed"), Cell::plain("")]);
        table.row(vec![Cell::plain("a/1000"), Cell::status("infra"), Cell::plain("grün\nx")]);
        assert_eq!(
            table.render(&Screen::plain()),
            "BUILD    STATUS  REASON\nhello/1  passed\na/1000   infra   grün x\n"
        );
    }
}
