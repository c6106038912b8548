//! `kill -9` of what owns a step, and of the step itself: another law. The job does not go on as if
//! nothing had been, but it is told what happened, its log is what was printed until then, and it
//! never runs twice at the same time.

use std::path::Path;
use std::time::Duration;

use busybee::master::logs::LogStore;
use busybee::master::logs::key::LogKey;
use busybee::model::ids::AttemptId;

use crate::dice::Dice;
use crate::fault::kill;
use crate::house::House;
use crate::house::Plan;
use crate::printed;
use crate::printed::Printed;

/// A step that prints what is known, and notes when another one like it runs at the same time.
struct Guarded {
    house: House,
    printed: Vec<u8>,
    folder: tempfile::TempDir,
}

impl Guarded {
    fn begin() -> Guarded {
        let folder = tempfile::Builder::new().prefix("kills-").tempdir().expect("a directory");
        let printed = Printed::new("guarded", &mut Dice::new(11));
        let script = printed.write_script(folder.path());
        let at = folder.path().display();
        let pipeline = format!(
            r#"version: 1
jobs:
  guarded:
    checkout: false
    steps:
      - name: print
        run: |
          exec 9> '{at}/lock'
          flock -n 9 || touch '{at}/twice'
          . '{script}'
          [ -e '{at}/open' ] || touch '{at}/half-way'
          until [ -e '{at}/open' ]; do sleep 0.05; done
          cat '{at}/more'
"#,
            script = script.display()
        );
        let more = printed::noise(50_000, &mut Dice::new(12));
        std::fs::write(folder.path().join("more"), &more).expect("write what comes after");
        let pool = "max_instances = 2\nidle_timeout = \"1s\"";
        let house = House::open(&Plan { pipeline: &pipeline, pool });
        house.json(&["build", "start", "hello"]);
        let printed = [printed.bytes(), more].concat();
        let this = Guarded { house, printed, folder };
        this.house.eventually("the step is half way", |_| this.has("half-way"));
        this
    }

    fn has(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    fn open_gate(&self) {
        std::fs::write(self.folder.path().join("open"), "").expect("open the gate");
    }

    fn kill(&self, word: &str) {
        let found = self.house.processes(word);
        assert_eq!(found.len(), 1, "{word}: {found:?}");
        kill(found[0]);
    }

    /// What the master has of an attempt's only step.
    fn log_of(&mut self, attempt: u64) -> Vec<u8> {
        self.house.kill_master();
        let key = LogKey::Step { attempt: AttemptId(attempt), step: 1 };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let log = runtime.block_on(async {
            let logs = LogStore::open(&self.house.data_dir()).expect("the logs can be opened");
            logs.read_at(&key, 0, 1 << 24).await.expect("the log is readable").bytes
        });
        self.house.start_master();
        log
    }
}

#[test]
fn a_job_whose_supervisor_is_killed_is_given_out_again_and_never_runs_twice_at_once() {
    let mut guarded = Guarded::begin();
    guarded.kill("step-supervisor");
    guarded.house.eventually("the job runs again", |house| {
        house.json(&["build", "show", "hello/1"])["jobs"][0]["attempts"] == 2
    });
    guarded.house.eventually("nothing of the first attempt is left", |house| {
        house.processes("step-supervisor").len() == 1
    });
    guarded.open_gate();
    let build = guarded.house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", guarded.house.story());
    assert!(!guarded.has("twice"), "both attempts ran at the same time");
    let log = guarded.house.log(&["hello/1", "--step", "print"]);
    assert_eq!(printed::difference(&guarded.printed, &log), None);
    // What the first one printed before it was killed.
    let first = guarded.log_of(1);
    assert!(!first.is_empty() && guarded.printed.starts_with(&first), "{} bytes", first.len());
}

#[test]
fn a_step_that_is_killed_fails_and_its_log_ends_where_it_was_killed() {
    let guarded = Guarded::begin();
    let step = |word: &str| guarded.house.processes(word);
    guarded.house.eventually("the step can be found", |_| !step("1.sh").is_empty());
    for pid in step("1.sh") {
        kill(pid);
    }
    let build = guarded.house.finished(1);
    assert_eq!(build["status"], "failed", "{build:#}\n{}", guarded.house.story());
    assert_eq!(build["jobs"][0]["attempts"], 1);
    assert_eq!(build["jobs"][0]["steps"][0]["reason"], "killed by signal 9, perhaps for memory");
    let log = guarded.house.log(&["hello/1", "--step", "print"]);
    let same = log.iter().zip(&guarded.printed).take_while(|(left, right)| left == right).count();
    let rest = String::from_utf8_lossy(&log[same..]).into_owned();
    assert!(rest.contains("killed by signal 9") && rest.lines().count() <= 3, "{rest:?}");
    assert!(log_is_long(same), "{same} bytes");
    let left = Duration::from_secs(5);
    guarded.house.within(left, "nothing of it is left", |_| !lives(guarded.folder.path()));
}

/// Whether what was printed before the gate is all there.
fn log_is_long(bytes: usize) -> bool {
    bytes >= Printed::new("guarded", &mut Dice::new(11)).bytes().len()
}

/// Whether a process still has the step's lock open.
fn lives(folder: &Path) -> bool {
    let lock = std::fs::File::open(folder.join("lock")).expect("the step has made it");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
}
