//! What commits were found to be, so that one that is built again is not fetched again.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Mutex;

use crate::master::domain::event::Resolved;
use crate::master::domain::pipeline::ChangeEvent;
use crate::model::ids::Commit;
use crate::model::ids::ProjectName;

/// Plans kept, at most: some kilobytes each.
const PLANS_MAX: usize = 256;

type Key = (ProjectName, Commit, &'static str);

/// The newest plans.
#[derive(Debug, Default)]
pub(super) struct Plans {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    plans: BTreeMap<Key, Resolved>,
    /// Oldest first.
    order: VecDeque<Key>,
}

impl Plans {
    pub(super) fn get(
        &self,
        project: &ProjectName,
        commit: &Commit,
        event: ChangeEvent,
    ) -> Option<Resolved> {
        let kept = self.kept.lock().expect("nothing panics with the lock held");
        kept.plans.get(&(project.clone(), commit.clone(), event.as_str())).cloned()
    }

    pub(super) fn put(&self, project: &ProjectName, event: ChangeEvent, resolved: &Resolved) {
        let key = (project.clone(), resolved.commit.clone(), event.as_str());
        let mut kept = self.kept.lock().expect("nothing panics with the lock held");
        if kept.plans.insert(key.clone(), resolved.clone()).is_none() {
            kept.order.push_back(key);
        }
        if kept.order.len() > PLANS_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.plans.remove(&oldest);
        }
    }
}
