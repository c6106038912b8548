//! One log: its file, how it grows, and how it becomes durable.
//!
//! Three ends follow each other: *written* (in the file), *visible* (viewers are told; the same
//! moment), *durable* (survives a loss of power; the agent is told and forgets its copy). A log
//! that cannot be made durable is cut back to where it was, and the agent sends the rest again.
//!
//! Everything here blocks: the threads of `writers.rs` call it, and tokio's blocking ones.

use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::watch;

use crate::master::logs::chunk_header::ChunkHeader;
use crate::master::logs::error::LogError;
use crate::master::logs::frame;
use crate::master::logs::frame::Unpacker;
use crate::master::logs::index::Entry;
use crate::master::logs::index::Index;
use crate::master::logs::recover;
use crate::model::attempt::LogChunk;

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log, which now ends at `end` (raw bytes).
    Stored {
        /// Where the next chunk must start.
        end: u64,
    },
    /// It does not start where the log ends: send from `to` on.
    Rewind {
        /// Where the next chunk must start.
        to: u64,
    },
}

/// An end of a log, in every unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Bytes of the file.
    pub(super) file_len: u64,
    /// Raw bytes.
    pub(super) raw_len: u64,
    /// Line feeds.
    pub(super) lines: u64,
    /// Whether the last raw byte is a line feed.
    pub(super) ends_line: bool,
}

/// What a reader needs, as of one moment.
pub(super) struct View {
    /// The file; nothing: nothing was ever written.
    pub(super) file: Option<Arc<File>>,
    /// How far it may be read.
    pub(super) end: End,
    /// Where to start.
    pub(super) start: Entry,
}

/// One log. There is one of these per file at any time (`LogStore` sees to it).
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// Whoever changes the file's length has the turn. Readers never need it.
    turn: Mutex<()>,
    state: Mutex<State>,
    visible: watch::Sender<u64>,
    durable: watch::Sender<u64>,
    /// How often it fell back to what is durable.
    falls: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    opened: bool,
    file: Option<Arc<File>>,
    index: Index,
    /// How many entries of the index are on disk.
    indexed: usize,
    written: End,
    durable: End,
    /// Whether the folder's entry for the file is durable.
    named: bool,
    /// Whether a flush is queued or under way.
    flushing: bool,
}

impl Log {
    /// The log at `path`, which is not looked at yet.
    pub(super) fn at(path: PathBuf) -> Log {
        Log {
            path,
            turn: Mutex::new(()),
            state: Mutex::new(State::default()),
            visible: watch::Sender::new(0),
            durable: watch::Sender::new(0),
            falls: watch::Sender::new(0),
        }
    }

    /// Looks at the file, once: cuts a torn tail off and mends the index. What it then holds is
    /// durable.
    pub(super) fn open(&self) -> Result<(), LogError> {
        let _turn = lock(&self.turn);
        if lock(&self.state).opened {
            return Ok(());
        }
        let found = recover::open(&self.path)
            .map_err(|error| LogError::disk("open", &self.path, &error))?;
        let mut state = lock(&self.state);
        state.opened = true;
        if let Some(found) = found {
            state.indexed = found.indexed;
            state.index = found.index;
            state.file = Some(Arc::new(found.file));
            state.named = true;
            (state.written, state.durable) = (found.end, found.end);
            publish(&self.visible, found.end.raw_len);
            publish(&self.durable, found.end.raw_len);
        }
        Ok(())
    }

    /// Adds a chunk, if it is the next. Whether to flush the log then.
    pub(super) fn append(
        &self,
        chunk: &LogChunk,
        unpacker: &mut Unpacker,
    ) -> Result<(Appended, bool), LogError> {
        self.open()?;
        let _turn = lock(&self.turn);
        let (file, end) = {
            let state = lock(&self.state);
            (state.file.clone(), state.written)
        };
        if chunk.offset != end.raw_len {
            return Ok((Appended::Rewind { to: end.raw_len }, false));
        }
        let raw = unpacker
            .unpack(&chunk.frame, chunk.raw_len)
            .map_err(|why| LogError::Refused(format!("the log chunk at {} {why}", chunk.offset)))?;
        let header = ChunkHeader {
            raw_offset: end.raw_len,
            lines_before: end.lines,
            first_at: chunk.first_at,
            last_at: chunk.last_at,
            raw_len: chunk.raw_len,
            frame_len: u32::try_from(chunk.frame.len()).unwrap_or(u32::MAX),
            lines: frame::count_lines(raw),
            ends_line: raw.last() == Some(&b'\n'),
        };
        let file = match file {
            Some(file) => file,
            None => self.create().map_err(|error| LogError::disk("make", &self.path, &error))?,
        };
        if let Err(error) = file.write_all_at(&header.with_frame(&chunk.frame), end.file_len) {
            // What was written of it lies behind the end, where nobody looks and the next one
            // goes; cutting it off only gives its room back.
            let _best_effort = file.set_len(end.file_len);
            return Err(LogError::disk("write", &self.path, &error));
        }
        Ok((Appended::Stored { end: header.raw_end() }, self.grow(&header)))
    }

    /// Tells the readers of a chunk that was written. Whether to flush the log.
    fn grow(&self, chunk: &ChunkHeader) -> bool {
        let mut state = lock(&self.state);
        let file_offset = state.written.file_len;
        state.index.note(chunk, file_offset);
        state.written = after(file_offset, chunk);
        publish(&self.visible, state.written.raw_len);
        !std::mem::replace(&mut state.flushing, true)
    }

    /// Makes the file, with its folders.
    fn create(&self) -> std::io::Result<Arc<File>> {
        let open = || {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .mode(0o600)
                .open(&self.path)
        };
        let file = match open() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make_folder(folder_of(&self.path))?;
                open()?
            }
            other => other?,
        };
        let file = Arc::new(file);
        lock(&self.state).file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Makes durable what is written, and says so. Whether more came meanwhile: flush again.
    ///
    /// Only one flush of a log is ever queued or under way.
    pub(super) fn flush(&self) -> bool {
        let (file, target, named) = {
            let state = lock(&self.state);
            (state.file.clone(), state.written, state.named)
        };
        let synced = match &file {
            Some(file) => sync(file, &self.path, named),
            None => Ok(()),
        };
        match synced {
            Ok(()) => self.settle(target),
            Err(error) => {
                let path = self.path.display();
                tracing::error!("cannot make {path} durable: {error}; its agent sends it again");
                self.fall_back();
                false
            }
        }
    }

    /// Notes that all up to `target` is durable. Whether more came meanwhile.
    fn settle(&self, target: End) -> bool {
        let (indexed, due, stored) = {
            let mut state = lock(&self.state);
            state.named = true;
            let due = state.index.count_below(target.file_len);
            (state.indexed, due, state.index.stored(state.indexed, due))
        };
        // An index that cannot be written is made anew from the log one day.
        let wrote = !stored.is_empty() && Index::write(&self.path, indexed, &stored).is_ok();
        let mut state = lock(&self.state);
        if wrote {
            state.indexed = due;
        }
        state.durable = target;
        publish(&self.durable, target.raw_len);
        state.flushing = state.written != target;
        state.flushing
    }

    /// Cuts the log back to what is durable: of what the kernel failed to write once, nobody can
    /// say what it holds (a second fsync would call it good).
    pub(super) fn fall_back(&self) {
        let _turn = lock(&self.turn);
        let mut state = lock(&self.state);
        state.flushing = false;
        state.written = state.durable;
        let count = state.index.count_below(state.durable.file_len);
        state.index.truncate(count);
        if let Some(file) = &state.file {
            let _best_effort = file.set_len(state.durable.file_len);
        }
        publish(&self.visible, state.durable.raw_len);
        self.falls.send_modify(|falls| *falls += 1);
    }

    /// What a reader needs to read from where `start` says.
    pub(super) fn view(&self, start: impl Fn(&Index) -> Entry) -> Result<View, LogError> {
        self.open()?;
        let state = lock(&self.state);
        Ok(View { file: state.file.clone(), end: state.written, start: start(&state.index) })
    }

    /// Where the log lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The visible end, and each change of it.
    pub(super) fn watch_visible(&self) -> watch::Receiver<u64> {
        self.visible.subscribe()
    }

    /// Each time that it falls back.
    pub(super) fn watch_falls(&self) -> watch::Receiver<u64> {
        self.falls.subscribe()
    }

    /// The durable end, and each change of it.
    pub(super) fn watch_durable(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }
}

/// The end of a log whose last chunk lies at `file_offset`.
pub(super) fn after(file_offset: u64, chunk: &ChunkHeader) -> End {
    End {
        file_len: file_offset + u64::try_from(chunk.stored_len()).unwrap_or(u64::MAX),
        raw_len: chunk.raw_end(),
        lines: chunk.lines_end(),
        ends_line: chunk.ends_line,
    }
}

/// Makes a file durable, and its name as well unless that is `named` already.
pub(super) fn sync(file: &File, path: &Path, named: bool) -> std::io::Result<()> {
    file.sync_data()?;
    if !named {
        File::open(folder_of(path))?.sync_all()?;
    }
    Ok(())
}

/// Makes a folder and those above it, durably: without its name a file is lost as well.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    make_folder(folder_of(folder))?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(folder_of(folder))?.sync_all()
}

/// The folder that something lies in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Tells the watchers of a new end, if it is one.
fn publish(sender: &watch::Sender<u64>, end: u64) {
    sender.send_if_modified(|last| std::mem::replace(last, end) != end);
}

/// Nothing of ours panics while it holds these; and a log is recovered from its file anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
