//! Watching one build: each time it has changed, the build as it stands now.
//!
//! The master's event stream says only "read again", so that nothing is missed however slowly
//! one reads; see `api::event`. A master that goes away is waited for, with `patience`.

use std::time::Duration;

use reqwest::Response;

use crate::api::build::Build;
use crate::client::build_name::BuildName;
use crate::client::connection::Connection;
use crate::client::document::Document;
use crate::client::exit::Failure;
use crate::client::patience::Patience;

/// A stream without so much as a comment for this long is taken for dead: the master sends one
/// several times as often.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// No line of an event stream is longer, or it is none.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A build, and the stream that tells of its changes.
#[derive(Debug)]
pub struct Watch {
    connection: Connection,
    name: BuildName,
    stream: Option<Response>,
    /// What came of a line that is not whole yet.
    line: Vec<u8>,
    /// Events that came and were not acted on.
    pending: bool,
    patience: Patience,
}

impl Watch {
    /// Nothing is asked yet.
    pub fn new(connection: Connection, name: BuildName) -> Watch {
        let patience = Patience::new();
        Watch { connection, name, stream: None, line: Vec::new(), pending: false, patience }
    }

    /// The build after its next change; the first time, the build as it stands.
    ///
    /// # Errors
    /// There is no such build, or the master stays away for too long.
    pub async fn next(&mut self) -> Result<(Document, Build), Failure> {
        while let Err(failure) = self.changed().await {
            self.stream = None;
            self.patience.after(failure).await?;
        }
        self.now().await
    }

    /// The build as it stands.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn now(&mut self) -> Result<(Document, Build), Failure> {
        loop {
            match self.connection.build(&self.name).await {
                Ok(document) => {
                    self.patience.restore();
                    let build = document.read()?;
                    return Ok((document, build));
                }
                Err(failure) => self.patience.after(failure).await?,
            }
        }
    }

    /// Returns once the build may have changed.
    async fn changed(&mut self) -> Result<(), Failure> {
        if self.stream.is_none() {
            self.line.clear();
            let (number, project) = (self.name.number.to_string(), self.name.project.as_str());
            let path = ["projects", project, "builds", &number, "events"];
            self.stream = Some(self.connection.stream(&path, &()).await?);
        }
        while !std::mem::take(&mut self.pending) {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            match tokio::time::timeout(SILENCE_MAX, stream.chunk()).await {
                Ok(Ok(Some(bytes))) => self.take(&bytes),
                Ok(Ok(None)) => {
                    // After a build's end, or because the master stops: then it is asked again,
                    // but not in a hurry.
                    self.stream = None;
                    self.patience.pause().await;
                    return Ok(());
                }
                Ok(Err(error)) => return Err(self.connection.broken(&error)),
                Err(_) => return Err(Failure::unreachable("the master's event stream is dead")),
            }
        }
        Ok(())
    }

    /// Takes bytes of the stream: a whole line that begins with `data` is an event.
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() < LINE_BYTES_MAX {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                self.pending |= self.line.starts_with(b"data");
                self.line.clear();
            }
        }
    }
}
