//! What a job needs and what a pool offers.

use std::collections::BTreeSet;
use std::fmt;

/// A set of labels such as `linux`, `x64`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub BTreeSet<String>);

impl Labels {
    /// Whether what is offered here covers all that `needed` asks for.
    pub fn satisfy(&self, needed: &Labels) -> bool {
        needed.0.is_subset(&self.0)
    }
}

impl<S: Into<String>> FromIterator<S> for Labels {
    fn from_iter<I: IntoIterator<Item = S>>(labels: I) -> Labels {
        Labels(labels.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&labels.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_serves_a_job_only_if_it_offers_every_label() {
        let offered: Labels = ["linux", "x64"].into_iter().collect();
        assert!(offered.satisfy(&["linux"].into_iter().collect()));
        assert!(offered.satisfy(&Labels::default()));
        assert!(!offered.satisfy(&["linux", "arm64"].into_iter().collect()));
    }
}
