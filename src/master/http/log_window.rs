//! A few lines of a log as HTML, wherever they stand in it, at a bounded cost.

use crate::master::http::ansi::Renderer;
use crate::master::http::ansi_style::Style;
use crate::master::logs::LogStore;
use crate::master::logs::key::LogKey;
use crate::master::logs::read::LogSize;

/// Lines of a window, at most.
pub const LINES_MAX: u64 = 200;

/// HTML of a window, at most: with the rest of a build's page it stays under 60 KB.
const HTML_BYTES_MAX: usize = 32 * 1024;

/// What the markup around a line costs beside its own text and its address.
const MARKUP_BYTES: usize = 60;

/// Log bytes read for a window, at most. 200 ordinary lines are a tenth of it.
const READ_BYTES_MAX: u64 = 256 * 1024;

/// Log bytes read at once, and of one line at most: more does not fit on a line of the page.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Log bytes before a window in which its first style is looked for.
const STYLE_BYTES_MAX: usize = 64 * 1024;

/// A line, ready for the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Counted from 1.
    pub number: u64,
    /// Escaped text in `<b class="…">`.
    pub html: String,
}

/// Where a renderer stands: the start of a line, and the style it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Of the line's first byte.
    pub offset: u64,
    /// The line's number.
    pub line: u64,
    /// What the lines before have set.
    pub style: Style,
}

impl Position {
    /// The start of a log.
    pub const START: Position = Position { offset: 0, line: 1, style: Style::PLAIN };

    /// As text, for an event stream's id and an address.
    pub fn to_code(self) -> String {
        format!("{}-{}-{}", self.offset, self.line, self.style.to_code())
    }

    /// Reads [`Position::to_code`] back; nothing where it is none.
    pub fn from_code(code: &str) -> Option<Position> {
        let mut words = code.splitn(3, '-');
        let offset = words.next()?.parse().ok()?;
        let line = words.next()?.parse().ok().filter(|line| *line > 0)?;
        Some(Position { offset, line, style: Style::from_code(words.next()?) })
    }
}

/// Some lines of a log.
#[derive(Clone, Debug)]
pub struct Window {
    /// In order, without gaps.
    pub lines: Vec<LogLine>,
    /// The number of the log's last line.
    pub last_line: u64,
    /// Bytes of the log that are here.
    pub bytes: u64,
    /// Where a stream goes on; only of a window that reaches the end.
    pub end: Option<Position>,
}

/// Lines from a number on, or the last ones. `address_bytes`: what each line's address costs.
///
/// # Errors
/// The log file cannot be read.
pub async fn read(
    logs: &LogStore,
    key: &LogKey,
    from: Option<u64>,
    address_bytes: usize,
) -> anyhow::Result<Window> {
    let LogSize { bytes, lines: last_line } = logs.size(key).await?;
    let first = match from {
        Some(from) => from.clamp(1, last_line.max(1)),
        None => first_of_tail(logs, key, bytes, last_line).await?,
    };
    let mut reading = Reading {
        logs,
        key,
        bytes,
        last_line,
        cost: 0,
        markup: MARKUP_BYTES + address_bytes,
        lines: Vec::new(),
    };
    let end = reading.from(first, from.is_some()).await?;
    let mut lines = reading.lines;
    if from.is_none() {
        drop_first_beyond(&mut lines, MARKUP_BYTES + address_bytes);
    }
    Ok(Window { lines, last_line, bytes, end })
}

/// Where a line begins; the log's end where it has not so many.
async fn line_start(logs: &LogStore, key: &LogKey, line: u64) -> anyhow::Result<u64> {
    // The log files count lines from 0; people do from 1.
    Ok(logs.read_lines(key, line.saturating_sub(1), 1, 0).await?.offset)
}

/// The style that the bytes before a line leave, as far as they are looked at: a colour that was set and
/// not reset since. What was set long before is not found, so that any line opens at the same cost.
async fn style_before(logs: &LogStore, key: &LogKey, offset: u64) -> anyhow::Result<Style> {
    let from = offset.saturating_sub(STYLE_BYTES_MAX as u64);
    let wanted = usize::try_from(offset - from)?;
    let mut before = Renderer::new(Style::PLAIN);
    if wanted > 0 {
        before.feed(&logs.read_at(key, from, wanted).await?.bytes);
    }
    Ok(before.style())
}

/// The first of the last lines: fewer where they are long, so that what is read stays bounded.
async fn first_of_tail(
    logs: &LogStore,
    key: &LogKey,
    bytes: u64,
    last_line: u64,
) -> anyhow::Result<u64> {
    let mut count = LINES_MAX;
    loop {
        let first = last_line.saturating_sub(count - 1).max(1);
        let start = line_start(logs, key, first).await?;
        if bytes - start.min(bytes) <= READ_BYTES_MAX || count == 1 {
            return Ok(first);
        }
        count = count.div_ceil(2);
    }
}

/// Keeps the last lines that fit.
fn drop_first_beyond(lines: &mut Vec<LogLine>, markup: usize) {
    let mut cost = 0;
    let fits = |line: &&LogLine| {
        cost += line.html.len() + markup;
        cost <= HTML_BYTES_MAX
    };
    let n_kept = lines.iter().rev().take_while(fits).count().max(1);
    lines.drain(..lines.len().saturating_sub(n_kept));
}

struct Reading<'a> {
    logs: &'a LogStore,
    key: &'a LogKey,
    bytes: u64,
    last_line: u64,
    cost: usize,
    markup: usize,
    lines: Vec<LogLine>,
}

impl Reading<'_> {
    /// Renders lines until there are enough; where the log ended before that, its end.
    async fn from(&mut self, first: u64, stop_when_full: bool) -> anyhow::Result<Option<Position>> {
        let mut number = first;
        let mut offset = line_start(self.logs, self.key, first).await?;
        let mut renderer = Renderer::new(style_before(self.logs, self.key, offset).await?);
        let mut read = 0;
        loop {
            let position = Position { offset, line: number, style: renderer.style() };
            let is_full = self.lines.len() as u64 >= LINES_MAX
                || (stop_when_full && self.cost > HTML_BYTES_MAX)
                || read >= READ_BYTES_MAX;
            if offset >= self.bytes {
                return Ok(Some(position));
            }
            if is_full {
                return Ok(None);
            }
            let wanted = LINE_BYTES_MAX.min(usize::try_from(self.bytes - offset)?);
            let chunk = self.logs.read_at(self.key, offset, wanted).await?.bytes;
            anyhow::ensure!(!chunk.is_empty(), "the log is shorter than it says");
            let taken = self.take_lines(&chunk, &mut number, &mut renderer);
            if taken > 0 {
                offset += taken as u64;
                read += taken as u64;
                continue;
            }
            read += chunk.len() as u64;
            match self.take_start(position, &chunk, &mut renderer).await? {
                Some(next) => (offset, number) = (next, number + 1),
                None => return Ok(Some(position)),
            }
        }
    }

    /// Renders the whole lines of a chunk and says how many bytes they had.
    fn take_lines(&mut self, chunk: &[u8], number: &mut u64, renderer: &mut Renderer) -> usize {
        let mut taken = 0;
        while let Some(length) = chunk[taken..].iter().position(|byte| *byte == b'\n') {
            if self.lines.len() as u64 >= LINES_MAX {
                break;
            }
            renderer.feed(&chunk[taken..taken + length]);
            self.push(*number, renderer.end_line());
            *number += 1;
            taken += length + 1;
        }
        taken
    }

    /// Renders the start of a line that is too long to be read whole, or has not ended yet.
    /// Says where the line after it begins, if there is one.
    async fn take_start(
        &mut self,
        position: Position,
        chunk: &[u8],
        renderer: &mut Renderer,
    ) -> anyhow::Result<Option<u64>> {
        renderer.feed(chunk);
        let is_last = position.line >= self.last_line;
        let next = match is_last {
            true => None,
            false => Some(line_start(self.logs, self.key, position.line + 1).await?),
        };
        let line_end = next.map_or(self.bytes, |next| next - 1);
        renderer.leave_out(line_end.saturating_sub(position.offset + chunk.len() as u64));
        self.push(position.line, renderer.end_line());
        Ok(next)
    }

    fn push(&mut self, number: u64, html: String) {
        self.cost += html.len() + self.markup;
        self.lines.push(LogLine { number, html });
    }
}
