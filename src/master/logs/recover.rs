//! Takes up a log's file after a start: finds its end, cuts a torn tail off, mends its index.

use std::fs::File;
use std::fs::OpenOptions;
use std::path::Path;

use crate::master::logs::index::Entry;
use crate::master::logs::index::Index;
use crate::master::logs::log;
use crate::master::logs::log::End;
use crate::master::logs::walk::Walk;

/// A log's file as it is after recovery.
pub(super) struct Recovered {
    /// Open for reading and writing.
    pub(super) file: File,
    /// Where it ends. All of it is durable.
    pub(super) end: End,
    /// Of all of the file.
    pub(super) index: Index,
    /// How many of its entries are on disk.
    pub(super) indexed: usize,
}

/// Opens the log at `path`; nothing where there is none.
///
/// Reads the index and what comes after its last entry, some 64 KiB. Only a log whose index is
/// lost or wrong is read through.
pub(super) fn open(path: &Path) -> std::io::Result<Option<Recovered>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let file_len = file.metadata()?.len();
    let mut index = Index::read(path, file_len)?;
    let mut on_disk = Some(index.len());
    let end = match walk_to_end(&file, file_len, &mut index)? {
        Some(end) => end,
        None => {
            // The index points to where no chunk starts: it belongs to another file.
            (index, on_disk) = (Index::default(), None);
            walk_to_end(&file, file_len, &mut index)?.unwrap_or_default()
        }
    };
    if end.file_len < file_len {
        let torn = file_len - end.file_len;
        tracing::warn!("cut a torn tail of {torn} bytes off {}", path.display());
        file.set_len(end.file_len)?;
    }
    // What survived a crash of this process may still be in memory only.
    log::sync(&file, path, false)?;
    let stored_len = std::fs::metadata(Index::path_of(path)).map_or(0, |found| found.len());
    let mut indexed = index.len();
    if on_disk.is_none() || stored_len != index.stored_len() {
        let kept = on_disk.unwrap_or(0);
        if Index::write(path, kept, &index.stored(kept, index.len())).is_err() {
            // A full disk can be read all the same.
            indexed = kept;
        }
    }
    Ok(Some(Recovered { file, end, index, indexed }))
}

/// The end of the last sound chunk, with the index grown up to it; nothing if the place where
/// the index ends is not a chunk's start.
fn walk_to_end(file: &File, file_len: u64, index: &mut Index) -> std::io::Result<Option<End>> {
    let start = index.last();
    let mut walk = Walk::new(file, start.file_offset, file_len);
    let mut end = End {
        file_len: start.file_offset,
        raw_len: start.raw_offset,
        lines: start.lines_before,
        ends_line: false,
    };
    while let Some(chunk) = walk.next()? {
        let header = chunk.header;
        let follows = header.raw_offset == end.raw_len && header.lines_before == end.lines;
        if !follows || !chunk.is_sound() {
            break;
        }
        index.note(&header, chunk.file_offset);
        end = log::after(chunk.file_offset, &header);
    }
    let moved = end.file_len > start.file_offset;
    Ok((moved || start == Entry::default()).then_some(end))
}
