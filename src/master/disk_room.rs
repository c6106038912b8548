//! Whether the disk of `data_dir` has room. Who is refused a write says so here; who begins something
//! new is told so by the domain, which is told from here.
//!
//! While it is full, nothing new begins and no log is written: what is left, the ballast's room among
//! it, is for the store, which has to say how things end.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::error;
use tracing::info;

/// Less room than this beside the ballast is too little to begin anything with: one log may want more.
const ROOM_BYTES_MIN: u64 = 16 << 20;

/// So much must be free, the ballast not aboard, until new work begins again: the ballast's own 16 MiB,
/// what must be left beside it, and as much again, or the next log would end it at once.
const ROOM_BYTES_AGAIN: u64 = 3 * ROOM_BYTES_MIN;

/// How often the room is looked at: an answer of the kernel from memory.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is known of the room. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DiskRoom {
    dir: PathBuf,
    trouble: Arc<watch::Sender<Option<String>>>,
}

impl DiskRoom {
    /// The disk that `data_dir` lies on, which has room as far as we know.
    pub fn of(data_dir: &Path) -> DiskRoom {
        DiskRoom { dir: data_dir.to_owned(), trouble: Arc::new(watch::Sender::new(None)) }
    }

    /// Whether nothing new may be written.
    pub fn is_full(&self) -> bool {
        self.trouble.borrow().is_some()
    }

    /// What people are told; nothing: there is room.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Each change of it.
    pub fn watch(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// A write was refused.
    pub fn refused(&self, why: &str) {
        self.set_full(format!(
            "the master cannot write to its disk, {}: {why}; no new work begins until it can",
            self.dir.display()
        ));
    }

    /// Looks after the room for as long as it is awaited. `release` throws the ballast off, `restore`
    /// takes it aboard again.
    pub async fn look_after(
        &self,
        release: impl Fn() -> std::io::Result<bool>,
        restore: impl Fn() -> std::io::Result<()>,
    ) {
        let mut trouble = self.watch();
        let mut is_released = false;
        loop {
            let is_full = trouble.borrow_and_update().is_some();
            if is_full && !is_released {
                is_released = true;
                if let Err(why) = release() {
                    error!("cannot give up the ballast: {why}");
                }
            } else if is_full && self.has(ROOM_BYTES_AGAIN) && restore().is_ok() {
                is_released = false;
                info!("{} has room again; new work begins", self.dir.display());
                self.trouble.send_replace(None);
            } else if !is_full && !self.has(ROOM_BYTES_MIN) {
                let (dir, room) = (self.dir.display(), ROOM_BYTES_MIN >> 20);
                self.set_full(format!(
                    "the disk of {dir} is full: less than {room} MiB are left on it; no new work \
                     begins until there is more"
                ));
                continue;
            }
            let _news_or_time = tokio::time::timeout(LOOK_EVERY, trouble.changed()).await;
        }
    }

    fn set_full(&self, sentence: String) {
        self.trouble.send_if_modified(|known| {
            let is_news = known.is_none();
            if is_news {
                error!("{sentence}");
                *known = Some(sentence);
            }
            is_news
        });
    }

    /// Whether so much is free. Where nobody says, a write will tell.
    fn has(&self, bytes: u64) -> bool {
        match rustix::fs::statvfs(&self.dir) {
            Ok(found) => found.f_bavail.saturating_mul(found.f_frsize) >= bytes,
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_refused_a_write_is_full_until_the_ballast_is_aboard_again() {
        let dir = tempfile::tempdir().unwrap();
        let room = DiskRoom::of(dir.path());
        let (released, restored) = (watch::Sender::new(0), watch::Sender::new(0));
        let mut changes = room.watch();
        room.refused("no space");
        room.refused("no space at all");
        assert!(room.trouble().unwrap().contains(": no space; no new work"), "the first is kept");
        let looking = room.look_after(
            || {
                released.send_modify(|times| *times += 1);
                Ok(true)
            },
            || {
                restored.send_modify(|times| *times += 1);
                match *restored.borrow() {
                    1 => Err(std::io::Error::other("still none")),
                    _ => Ok(()),
                }
            },
        );
        let has_room = changes.wait_for(|trouble| trouble.is_none());
        tokio::select! {
            () = looking => {}
            found = has_room => drop(found.unwrap()),
        }
        assert_eq!((*released.borrow(), *restored.borrow()), (1, 2));
        assert!(!room.is_full());
    }
}
