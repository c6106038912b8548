//! How long to keep asking a master that does not answer: through a restart, not for ever.

use std::time::Duration;

use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::model::backoff::Backoff;
use crate::runtime::random;

/// The first wait: a restart of the master takes a fraction of a second.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Tries without any success in between, at most. Their waits add up to 22 to 45 seconds, enough
/// for an upgrade of the master; `BUSYBEE_RECONNECT_TRIES` says otherwise.
const TRIES_MAX: u32 = 10;

/// Counts tries, and says when it is enough.
#[derive(Debug)]
pub struct Patience {
    tries: u32,
    tries_max: u32,
}

impl Patience {
    /// As much as the environment allows.
    pub fn new() -> Patience {
        let wished = std::env::var("BUSYBEE_RECONNECT_TRIES").ok();
        let tries_max = wished.and_then(|text| text.parse().ok()).unwrap_or(TRIES_MAX);
        Patience { tries: 0, tries_max }
    }

    /// Something came: all is well again.
    pub fn restore(&mut self) {
        self.tries = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The failure itself, where asking again cannot help or has been tried often enough.
    pub async fn after(&mut self, mut failure: Failure) -> Result<(), Failure> {
        match failure.exit {
            // Infra is what a stopping master says.
            Exit::Unreachable | Exit::Infra if self.tries < self.tries_max => {}
            _ => {
                if self.tries > 0 && failure.exit != Exit::Wrong {
                    failure.sentence.push_str(&format!(" (tried {} times)", self.tries + 1));
                }
                return Err(failure);
            }
        }
        self.pause().await;
        Ok(())
    }

    /// Waits a while, longer each time: for a master that answers, but has nothing to say.
    pub async fn pause(&mut self) {
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT).expect("the first wait is shorter");
        // A named backoff: nothing tells a client that a master is back.
        tokio::time::sleep(backoff.delay(self.tries, random::number())).await;
        self.tries = self.tries.saturating_add(1);
    }
}

impl Default for Patience {
    fn default() -> Patience {
        Patience::new()
    }
}
