//! Whether the repositories of the projects answer: for pages, not remembered over a restart.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::model::ids::ProjectName;
use crate::model::time::Timestamp;

/// How it stands with a project's repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectHealth {
    /// When it answered last.
    pub answered_at: Option<Timestamp>,
    /// Why it does not answer now, and since when it was last asked; nothing: it does.
    pub trouble: Option<(Timestamp, String)>,
}

/// The health of all projects.
#[derive(Debug, Default)]
pub(super) struct HealthBoard {
    projects: Mutex<BTreeMap<ProjectName, ProjectHealth>>,
}

impl HealthBoard {
    pub(super) fn answered(&self, project: &ProjectName, now: Timestamp) {
        let healthy = ProjectHealth { answered_at: Some(now), trouble: None };
        self.lock().insert(project.clone(), healthy);
    }

    pub(super) fn failed(&self, project: &ProjectName, now: Timestamp, sentence: String) {
        self.lock().entry(project.clone()).or_default().trouble = Some((now, sentence));
    }

    pub(super) fn all(&self) -> BTreeMap<ProjectName, ProjectHealth> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProjectName, ProjectHealth>> {
        // Each entry is written whole: a panic elsewhere leaves nothing half done.
        self.projects.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
