//! How logs are written: as they are for a pipe, with headers for a terminal, as JSON lines.

use serde_json::json;

use crate::api::build::Job;
use crate::api::build::Step;
use crate::client::exit::Failure;
use crate::client::screen::Screen;
use crate::client::screen::Tone;
use crate::client::screen::visible;

/// A log line longer than this becomes several JSON lines, so that memory stays bounded.
const JSON_LINE_BYTES_MAX: usize = 64 * 1024;

/// In what form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bytes, and nothing else.
    Raw,
    /// Headers over each job and step.
    Headed,
    /// One JSON document a line.
    Json,
}

/// Which step's bytes come.
#[derive(Clone, Debug)]
struct At {
    job: String,
    attempt: u32,
    step: u32,
    name: String,
}

/// Where logs go.
#[derive(Debug)]
pub struct LogOutput {
    screen: Screen,
    form: Form,
    at: Option<At>,
    /// A line that is not whole yet (JSON only).
    line: Vec<u8>,
    /// Where in the step's log `line` begins.
    offset: u64,
    /// Whether the cursor stands at a line's beginning.
    at_line_start: bool,
}

impl LogOutput {
    /// An output in this form; without one, as suits whoever reads.
    pub fn new(screen: Screen, json: bool) -> LogOutput {
        let form = match (json, screen.is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Headed,
            (false, false) => Form::Raw,
        };
        let (line, at_line_start) = (Vec::new(), true);
        LogOutput { screen, form, at: None, line, offset: 0, at_line_start }
    }

    /// In what form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whether the reader has gone.
    pub fn is_closed(&self) -> bool {
        self.screen.is_closed()
    }

    /// Gives the screen back.
    pub fn into_screen(self) -> Screen {
        self.screen
    }

    /// From now on, bytes are this step's.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn begin_step(&mut self, job: &Job, step: &Step) -> Result<(), Failure> {
        let is_new_attempt = self
            .at
            .as_ref()
            .is_none_or(|at| (at.job.as_str(), at.attempt) != (job.name.as_str(), job.attempts));
        self.at = Some(At {
            job: job.name.clone(),
            attempt: job.attempts,
            step: step.step,
            name: step.name.clone(),
        });
        self.offset = 0;
        if self.form != Form::Headed {
            return Ok(());
        }
        if is_new_attempt {
            let on = job.worker.as_deref().map(|name| format!(" on {name}")).unwrap_or_default();
            let again = match job.attempts {
                0 | 1 => String::new(),
                attempt => format!(", attempt {attempt}"),
            };
            let header = visible(&format!("=== {}{on}{again}", job.name));
            self.screen.line(&self.screen.paint(Tone::Heading, &header))?;
        }
        let header = visible(&format!("--- {}", step.name));
        self.screen.line(&self.screen.paint(Tone::Busy, &header))
    }

    /// Writes bytes of the log.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(last) = bytes.last() {
            self.at_line_start = *last == b'\n';
        }
        if self.form != Form::Json {
            return self.screen.bytes(bytes);
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(JSON_LINE_BYTES_MAX) {
                self.line.extend_from_slice(piece);
                if piece.ends_with(b"\n") || self.line.len() >= JSON_LINE_BYTES_MAX {
                    self.json_line()?;
                }
            }
        }
        Ok(())
    }

    /// Ends the step: what stands on a terminal begins on a new line, what is held is written.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn end_step(&mut self, step: Option<&Step>) -> Result<(), Failure> {
        if !self.line.is_empty() {
            self.json_line()?;
        }
        if self.form == Form::Headed {
            if !self.at_line_start {
                self.screen.line("")?;
                self.at_line_start = true;
            }
            if let Some(reason) = step.and_then(|step| step.reason.as_deref()) {
                let text = format!("--- {}", visible(reason));
                self.screen.line(&self.screen.paint(Tone::Bad, &text))?;
            }
        }
        Ok(())
    }

    /// Says something that is no log, where only a person sees it.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn aside(&mut self, text: &str) -> Result<(), Failure> {
        match self.form {
            Form::Headed => self.screen.line(&self.screen.paint(Tone::Faint, &visible(text))),
            Form::Raw | Form::Json => Ok(()),
        }
    }

    fn json_line(&mut self) -> Result<(), Failure> {
        let Some(at) = &self.at else { return Ok(()) };
        let text = String::from_utf8_lossy(&self.line);
        let document = json!({
            "job": at.job, "attempt": at.attempt, "step": at.step, "name": at.name,
            "offset": self.offset, "text": text.strip_suffix('\n').unwrap_or(&text),
        });
        self.offset += self.line.len() as u64;
        self.line.clear();
        self.screen.line(&document.to_string())
    }
}
