//! What a person should know of a machine, said once when it begins: its disk is nearly full, the kernel ends
//! processes for want of memory.

/// What there is to see of a machine. Nothing: it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes that are free where workspaces lie.
    pub disk_free: Option<u64>,
    /// All bytes of that disk.
    pub disk_size: Option<u64>,
    /// How many processes the kernel has ended for want of memory, since its start.
    pub oom_kills: Option<u64>,
}

/// Less than this part of a disk is nearly nothing.
const DISK_LEFT_PART: u64 = 20;

/// Until so much of it is free again, it is not said again.
const DISK_FREE_AGAIN_PART: u64 = 10;

/// What was said already.
#[derive(Debug, Default)]
pub struct Notices {
    is_disk_short: bool,
    oom_kills: Option<u64>,
}

impl Notices {
    /// What there is to say of what is seen now.
    pub fn look(&mut self, figures: Figures) -> Vec<String> {
        let mut said = Vec::new();
        if let (Some(free), Some(size)) = (figures.disk_free, figures.disk_size) {
            if free < size / DISK_LEFT_PART && !std::mem::replace(&mut self.is_disk_short, true) {
                let (free, size) = (mib(free), mib(size));
                said.push(format!("the disk is nearly full: {free} MiB of {size} MiB are free"));
            }
            if free > size / DISK_FREE_AGAIN_PART {
                self.is_disk_short = false;
            }
        }
        if let Some(count) = figures.oom_kills {
            let before = self.oom_kills.replace(count).unwrap_or(count);
            match count.saturating_sub(before) {
                0 => {}
                1 => said.push("memory ran out: the kernel has ended a process".to_owned()),
                more => said.push(format!("memory ran out: the kernel has ended {more} processes")),
            }
        }
        said
    }
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_gets_full_is_told_once_until_it_has_room_again() {
        let mut notices = Notices::default();
        let gib = 1024 * 1024 * 1024;
        let mut look = |free: u64| {
            let figures =
                Figures { disk_free: Some(free), disk_size: Some(8 * gib), ..Figures::default() };
            notices.look(figures)
        };
        assert!(look(gib).is_empty());
        let told = ["the disk is nearly full: 300 MiB of 8192 MiB are free"];
        assert_eq!(look(300 * 1024 * 1024), told);
        assert!(look(200 * 1024 * 1024).is_empty());
        assert!(look(500 * 1024 * 1024).is_empty());
        assert!(look(300 * 1024 * 1024).is_empty(), "it was never free again");
        assert!(look(2 * gib).is_empty());
        assert_eq!(look(300 * 1024 * 1024), told);
    }

    #[test]
    fn what_the_kernel_ended_before_the_first_look_is_not_told() {
        let mut notices = Notices::default();
        let mut look =
            |kills: u64| notices.look(Figures { oom_kills: Some(kills), ..Figures::default() });
        assert!(look(7).is_empty());
        assert!(look(7).is_empty());
        assert_eq!(look(8), ["memory ran out: the kernel has ended a process"]);
        assert_eq!(look(11), ["memory ran out: the kernel has ended 3 processes"]);
        assert!(Notices::default().look(Figures::default()).is_empty());
    }
}
