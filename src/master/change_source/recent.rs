//! Changes that were resolved lately: the same commit for the same ref needs no git again.

use std::collections::HashMap;

use crate::master::domain::event::Resolved;
use crate::model::ids::Commit;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;

/// Changes that are remembered. A plan has some kilobytes; a retry or a busy bench asks for few.
const REMEMBERED_MAX: usize = 128;

/// What was asked for, where the answer can only be one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub project: ProjectName,
    pub commit: Commit,
    /// The ref of a push; nothing: somebody gave the commit alone.
    pub pushed: Option<RefName>,
}

/// The answers, the longest unused forgotten first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    answers: HashMap<Asked, (u64, Resolved)>,
    uses: u64,
}

impl Recent {
    /// The answer, if it is remembered.
    pub(super) fn get(&mut self, asked: &Asked) -> Option<Resolved> {
        self.uses += 1;
        let (last_use, resolved) = self.answers.get_mut(asked)?;
        *last_use = self.uses;
        Some(resolved.clone())
    }

    /// Remembers an answer.
    pub(super) fn put(&mut self, asked: Asked, resolved: Resolved) {
        self.uses += 1;
        self.answers.insert(asked, (self.uses, resolved));
        if self.answers.len() > REMEMBERED_MAX {
            let oldest = self.answers.iter().min_by_key(|(_, (last_use, _))| *last_use);
            if let Some(oldest) = oldest.map(|(asked, _)| asked.clone()) {
                self.answers.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::pipeline::Planned;

    #[test]
    fn the_longest_unused_answer_is_forgotten_first() {
        let asked = |n: usize| Asked {
            project: "p".into(),
            commit: Commit(format!("{n:040}")),
            pushed: None,
        };
        let resolved = Resolved {
            ref_name: "refs/heads/main".into(),
            commit: "c".into(),
            subject: String::new(),
            author: String::new(),
            planned: Planned::NotTriggered(String::new()),
        };
        let mut recent = Recent::default();
        for n in 0..REMEMBERED_MAX {
            recent.put(asked(n), resolved.clone());
        }
        assert!(recent.get(&asked(0)).is_some());
        recent.put(asked(REMEMBERED_MAX), resolved);
        assert!(recent.get(&asked(0)).is_some() && recent.get(&asked(1)).is_none());
    }
}
