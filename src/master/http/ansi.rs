//! A log's bytes → lines of HTML, as a terminal would have left them.
//!
//! Colours become classes (the stylesheet has both schemes), carriage returns overwrite, what
//! moves the cursor to other lines is left out: a log has no screen. Whatever the bytes are,
//! the HTML holds nothing but escaped text in `<b class="…">`.

use std::fmt::Write;

use vte::Params;
use vte::Parser;
use vte::Perform;

use crate::master::http::ansi_style::Style;

/// Characters of one line that are shown, at most. Minified files and progress bars make longer
/// ones; the raw log has them whole.
const LINE_CELLS_MAX: usize = 1000;

/// Makes lines of bytes as they come. Line ends are the byte `\n` and nothing else, so numbers
/// agree with the log's own index.
pub struct Renderer {
    parser: Parser,
    line: Line,
    /// The beginning of a character whose other bytes are still to come. The parser would lose what
    /// follows a character that came in two pieces.
    begun: Vec<u8>,
}

/// The line that is being written.
#[derive(Default)]
struct Line {
    cells: Vec<(char, Style)>,
    column: usize,
    style: Style,
    /// Characters that did not fit.
    cut: u64,
}

impl Renderer {
    /// Begins at a line's start, with the style that the lines before left.
    pub fn new(style: Style) -> Renderer {
        let line = Line { style, ..Line::default() };
        Renderer { parser: Parser::new(), line, begun: Vec::new() }
    }

    /// Takes bytes without a line end.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut joined = std::mem::take(&mut self.begun);
        let bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let (whole, begun) = bytes.split_at(bytes.len() - unfinished(bytes));
        self.begun = begun.to_vec();
        self.parser.advance(&mut self.line, whole);
    }

    /// The line so far.
    pub fn html(&self) -> String {
        self.line.html()
    }

    /// Counts what of the line is not fed at all: it would not be shown anyway.
    pub fn leave_out(&mut self, characters: u64) {
        self.line.cut += characters;
    }

    /// Whether the line has more than is shown.
    pub fn is_cut(&self) -> bool {
        self.line.cut > 0
    }

    /// The line at its end; the next one begins.
    pub fn end_line(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.begun);
        // A character ends with its line, whether or not it was whole.
        rest.push(b'\n');
        self.parser.advance(&mut self.line, &rest);
        let html = self.line.html();
        self.line = Line { style: self.line.style, ..Line::default() };
        html
    }

    /// The style at the place where the bytes ended.
    pub fn style(&self) -> Style {
        self.line.style
    }
}

/// How many bytes at the end are the beginning of a character in UTF-8.
fn unfinished(bytes: &[u8]) -> usize {
    for (before, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        let here = before + 1;
        return if here < length { here } else { 0 };
    }
    0
}

impl Line {
    fn html(&self) -> String {
        let mut html = String::with_capacity(self.cells.len() + 16);
        for run in self.cells.chunk_by(|left, right| left.1 == right.1) {
            let classes = run[0].1.classes();
            if !classes.is_empty() {
                write!(html, "<b class=\"{classes}\">").expect("writing to a String cannot fail");
            }
            for (character, _) in run {
                match character {
                    '<' => html.push_str("&lt;"),
                    '>' => html.push_str("&gt;"),
                    '&' => html.push_str("&amp;"),
                    '"' => html.push_str("&quot;"),
                    '\'' => html.push_str("&#39;"),
                    other => html.push(*other),
                }
            }
            if !classes.is_empty() {
                html.push_str("</b>");
            }
        }
        if self.cut > 0 {
            write!(html, "<b class=\"cut\"> … {} more characters: see the raw log</b>", self.cut)
                .expect("writing to a String cannot fail");
        }
        html
    }

    fn put(&mut self, character: char) {
        if self.column >= LINE_CELLS_MAX {
            self.cut += 1;
            return;
        }
        while self.cells.len() < self.column {
            self.cells.push((' ', Style::default()));
        }
        let cell = (character, self.style);
        match self.cells.get_mut(self.column) {
            Some(there) => *there = cell,
            None => self.cells.push(cell),
        }
        self.column += 1;
    }

    fn erase(&mut self, mode: u16) {
        match mode {
            0 => self.cells.truncate(self.column),
            1 => {
                let end = self.column.saturating_add(1).min(self.cells.len());
                self.cells[..end].fill((' ', Style::default()));
            }
            2 => self.cells.clear(),
            _ => return,
        }
        self.cut = 0;
    }
}

impl Perform for Line {
    fn print(&mut self, character: char) {
        // Marks that reorder text could make a log say what it does not (CVE-2021-42574).
        let reorders = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        self.put(if reorders { char::REPLACEMENT_CHARACTER } else { character });
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' => self.column = 0,
            b'\t' => self.put('\t'),
            0x08 => self.column = self.column.saturating_sub(1),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if ignore || !intermediates.is_empty() {
            return;
        }
        let first = params.iter().next().map_or(0, |param| param[0]);
        let count = usize::from(first.max(1));
        match action {
            'm' => self.style.apply(params),
            'K' => self.erase(first),
            'G' => self.column = (count - 1).min(LINE_CELLS_MAX),
            'C' => self.column = (self.column + count).min(LINE_CELLS_MAX),
            'D' => self.column = self.column.saturating_sub(count),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(bytes: &[u8]) -> String {
        let mut renderer = Renderer::new(Style::default());
        renderer.feed(bytes);
        renderer.html()
    }

    #[test]
    fn html_in_a_log_is_text() {
        assert_eq!(
            render(b"<script>alert('1' & \"2\")</script>"),
            "&lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)&lt;/script&gt;"
        );
    }

    #[test]
    fn colours_become_classes_and_end_where_they_end() {
        assert_eq!(render(b"\x1b[1;31mred\x1b[0m plain"), "<b class=\"f1 bo\">red</b> plain");
        assert_eq!(render(b"\x1b[92mok\x1b[39m."), "<b class=\"f10\">ok</b>.");
        assert_eq!(render(b"\x1b[7mx"), "<b class=\"iv\">x</b>");
    }

    #[test]
    fn wide_palettes_become_the_nearest_colour_in_both_spellings() {
        assert_eq!(render(b"\x1b[38;5;196mx"), "<b class=\"f1\">x</b>");
        assert_eq!(render(b"\x1b[38;2;0;200;0mx"), "<b class=\"f2\">x</b>");
        assert_eq!(render(b"\x1b[38:2::0:200:0mx"), "<b class=\"f2\">x</b>");
        assert_eq!(render(b"\x1b[48;5;250mx"), "<b class=\"g7\">x</b>");
        assert_eq!(render(b"\x1b[38;5mx\x1b[38mx\x1b[38;2;1mx"), "xxx");
    }

    #[test]
    fn a_carriage_return_overwrites_what_a_progress_bar_said_before() {
        assert_eq!(render(b" 10 %\r 90 %\r100 %"), "100 %");
        assert_eq!(render(b"downloading\r\x1b[Kdone"), "done");
        assert_eq!(render(b"abc\x08\x08X"), "aXc");
        assert_eq!(render(b"text\r"), "text");
    }

    #[test]
    fn no_bytes_break_the_renderer_or_escape_the_text() {
        let mut noise: Vec<u8> = (0..=255u8).cycle().take(5000).collect();
        noise.extend_from_slice(
            b"\x1b]0;title\x07\x1b[999999999C\x1b[99999999999m\x1b[1K<i>\xff\xfe",
        );
        noise.retain(|byte| *byte != b'\n');
        let html = render(&noise);
        assert!(!html.contains("<i>") && html.len() < 200_000);
    }

    #[test]
    fn a_long_line_is_cut_and_says_by_how_much() {
        let html = render(&vec![b'x'; LINE_CELLS_MAX + 7]);
        assert!(html.ends_with("<b class=\"cut\"> … 7 more characters: see the raw log</b>"));
    }

    #[test]
    fn a_style_goes_on_over_line_ends_and_survives_a_reconnect() {
        let mut renderer = Renderer::new(Style::default());
        renderer.feed(b"\x1b[1;7;33;44mone");
        renderer.end_line();
        renderer.feed(b"two");
        let style = Style::from_code(&renderer.style().to_code());
        assert_eq!(style, renderer.style());
        let mut resumed = Renderer::new(style);
        resumed.feed(b"two");
        assert_eq!(resumed.html(), renderer.html());
    }

    #[test]
    fn what_a_line_shows_does_not_depend_on_where_its_bytes_were_cut() {
        let odd = [
            "grün; ✓ done; \u{1f41d}!".as_bytes(),
            b"\xd9\x80;\xed",
            b"\xf0\x9f;\xe2\x9c;x\xc3",
            b"\x1b[3\xc3\xa4mx\xff\xfe\xc3(",
        ];
        for bytes in odd {
            let mut whole = Renderer::new(Style::default());
            whole.feed(bytes);
            let whole = whole.end_line();
            for piece in 1..bytes.len() {
                let mut renderer = Renderer::new(Style::default());
                bytes.chunks(piece).for_each(|bytes| renderer.feed(bytes));
                assert_eq!(renderer.end_line(), whole, "{bytes:x?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn half_a_character_does_not_go_on_in_the_next_line() {
        let mut renderer = Renderer::new(Style::default());
        renderer.feed(b"a\xd9");
        assert_eq!(renderer.end_line(), "a\u{fffd}");
        renderer.feed(b"\x80;b");
        assert_eq!(renderer.end_line(), ";b", "a control character of its own is not shown");
    }

    #[test]
    fn a_control_character_is_no_text_wherever_its_bytes_were_cut() {
        let whole = "a\u{9b}1mb\u{85}c".as_bytes();
        let mut renderer = Renderer::new(Style::default());
        whole.chunks(1).for_each(|byte| renderer.feed(byte));
        assert_eq!(renderer.html(), render(whole));
        assert!(!renderer.html().contains(char::is_control));
    }

    #[test]
    fn marks_that_reorder_text_are_shown_as_such() {
        assert_eq!(render("a\u{202e}b".as_bytes()), "a\u{fffd}b");
    }
}
