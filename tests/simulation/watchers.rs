//! Who watches builds: pages, `--follow`, reporters. They are told that a build has changed, read it
//! then, and read everything when they connect anew; that is all the reporting there is so far.

use std::collections::BTreeMap;

use busybee::master::notices::Notice;
use busybee::model::ids::BuildNumber;
use busybee::model::ids::ProjectName;
use busybee::model::status::BuildStatus;

use crate::planted::Planted;
use crate::world::World;

/// What watchers believe.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    pub(crate) builds: BTreeMap<(ProjectName, BuildNumber), BuildStatus>,
}

impl World {
    /// A notice reaches every watcher, after its commit.
    pub(crate) fn publish(&mut self, notice: Notice) {
        let Notice::Build { project, number, .. } = notice else { return };
        let key = (project, number);
        let Some(status) = self.status_of(&key) else { return };
        if self.planted == Planted::NoticeDropped && status.is_final() && self.random(20) == 0 {
            return;
        }
        self.watchers.builds.insert(key, status);
    }

    /// A new process of the master: every watcher calls again, and reads everything.
    pub(crate) fn watchers_come_back(&mut self) {
        let builds = self.disk.builds.values();
        let all = builds.map(|build| ((build.project.clone(), build.number), build.status));
        self.watchers.builds = all.collect();
    }

    /// Every finished build is reported.
    pub(crate) fn laws_of_watchers(&self) {
        for build in self.disk.builds.values() {
            let told = self.watchers.builds.get(&(build.project.clone(), build.number));
            assert_eq!(told, Some(&build.status), "who watches {build:?} is told of its end");
        }
    }

    fn status_of(&self, key: &(ProjectName, BuildNumber)) -> Option<BuildStatus> {
        let mut builds = self.disk.builds.values();
        let build = builds.find(|build| build.project == key.0 && build.number == key.1)?;
        Some(build.status)
    }
}
