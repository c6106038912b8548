//! Where answers go: plain text or bytes for a pipe, colours and relative times for a terminal.
//!
//! What comes from builds and machines (subjects, reasons, names) is stripped of control
//! characters before it is shown, so that no commit message can move somebody's cursor. Logs are
//! the exception: their bytes are passed on as they are.

use std::io;
use std::io::IsTerminal;
use std::io::Write;

use crate::client::exit::Failure;
use crate::client::moment;
use crate::runtime::clock;

/// What a piece of text means, where colours can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// What a table or a section begins with.
    Heading,
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// It is going on.
    Busy,
    /// Somebody should know, but nothing is wrong.
    Notable,
    /// Beside the point.
    Faint,
}

impl Tone {
    /// The terminal's code for it; nothing: none.
    fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Heading => Some("1"),
            Tone::Good => Some("32"),
            Tone::Bad => Some("31"),
            Tone::Busy => Some("36"),
            Tone::Notable => Some("33"),
            Tone::Faint => Some("2"),
        }
    }
}

/// The tone of a status, whoever's it is: the words mean the same everywhere.
pub fn tone_of(status: &str) -> Tone {
    match status {
        "passed" | "idle" => Tone::Good,
        "failed" | "infra" | "lost" => Tone::Bad,
        "running" | "busy" | "starting" | "bootstrapping" | "requested" | "pending" => Tone::Busy,
        "cancelled" | "draining" | "paused" => Tone::Notable,
        "queued" | "waiting" | "skipped" | "gone" | "stopped" | "stopping" | "terminating"
        | "terminated" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// The standard output, and what may be done to it.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    has_colours: bool,
    /// Whoever read us is gone; nothing more needs to be written.
    closed: bool,
}

impl Screen {
    /// The standard output of this process, with what its environment wishes.
    pub fn standard() -> Screen {
        let is_terminal = io::stdout().is_terminal();
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Screen {
            is_terminal,
            has_colours: is_terminal && !is_set("NO_COLOR") && !is_dumb,
            closed: false,
        }
    }

    /// An output that nobody looks at: no colours, exact times.
    pub fn plain() -> Screen {
        Screen { is_terminal: false, has_colours: false, closed: false }
    }

    /// Whether a person is looking.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether the reader has gone: `busybee build logs … | head`.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The text in its tone, where there are colours.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        match tone.code() {
            Some(code) if self.has_colours => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    /// A moment: how long ago for a person, the exact time for a pipe.
    pub fn moment(&self, at: &str) -> String {
        match moment::parse(at) {
            Some(at) if self.is_terminal => moment::ago(clock::now(), at),
            Some(_) | None => visible(at),
        }
    }

    /// Writes bytes as they are, and lets them be seen at once.
    ///
    /// # Errors
    /// The output cannot be written (a full disk). A reader that left is no error: see
    /// [`Screen::is_closed`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::wrong(format!("cannot write the output: {error}"))),
        }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// As [`Screen::bytes`].
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }
}

/// Tells the person something that is no part of the answer: it goes to the standard error.
pub fn remark(text: &str) {
    // Nobody to tell that the standard error is closed.
    let _gone = writeln!(io::stderr(), "{text}");
}

/// The text without what would move a cursor or change a colour.
pub fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_cannot_move_the_cursor() {
        assert_eq!(visible("fix \x1b[2J\r\nall"), "fix  [2J  all");
    }
}
