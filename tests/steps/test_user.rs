//! A user of this machine for one test, and what only root can arrange for it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;

use busybee::agent::supervisor::StepsRunAs;
use busybee::runtime::random;

use crate::bench::Bench;

/// `useradd` refuses rather than waits when another one is at work.
static PASSWD: Mutex<()> = Mutex::new(());

/// The user; gone with its home when dropped.
pub(crate) struct TestUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

/// Says that a test cannot run here. With BUSYBEE_REQUIRE_TOOLS=1 that is a failure.
pub(crate) fn skipped(why: &str) {
    let required = std::env::var("BUSYBEE_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(!required, "{why}, and BUSYBEE_REQUIRE_TOOLS=1 is set");
    println!("SKIPPED: {why}");
}

/// Runs a command as root; whether it passed.
pub(crate) fn passes(words: &[&str]) -> bool {
    let output = Command::new(words[0]).args(&words[1..]).output();
    output.is_ok_and(|output| {
        if !output.status.success() {
            println!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    })
}

impl TestUser {
    /// `None` where none can be made.
    pub(crate) fn new() -> Option<TestUser> {
        if !rustix::process::geteuid().is_root() {
            skipped("steps as another user need root");
            return None;
        }
        let number = u32::from_le_bytes(random::bytes());
        let name = format!("bbtest-{number:08x}");
        // Not below /tmp: what is the user's there does not survive a sweep.
        let home = PathBuf::from(format!("/var/lib/{name}"));
        let path = home.display().to_string();
        let made = {
            let _one_at_a_time = PASSWD.lock().unwrap_or_else(PoisonError::into_inner);
            passes(&["useradd", "-r", "-M", "-U", "-d", &path, "-s", "/bin/sh", &name])
        };
        if !made {
            skipped("useradd cannot make a user here");
            return None;
        }
        let mut this = TestUser { name, uid: 0, gid: 0, home };
        let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        let line = passwd.lines().find(|line| line.starts_with(&format!("{}:", this.name)));
        let fields: Vec<&str> = line.expect("its entry").split(':').collect();
        this.uid = fields[2].parse().expect("a number");
        this.gid = fields[3].parse().expect("a number");
        assert_ne!(this.uid, 0);
        std::fs::create_dir(&this.home).expect("a fresh home");
        this.own(&this.home);
        Some(this)
    }

    /// Gives a file, or a folder with all that is in it, to the user.
    pub(crate) fn own(&self, path: &Path) {
        let owner = format!("{}:{}", self.uid, self.gid);
        assert!(passes(&["chown", "-R", &owner, &path.display().to_string()]));
    }

    /// Lets the bench's steps run as this user, on a machine that is swept.
    pub(crate) fn on(&self, mut bench: Bench) -> Bench {
        bench.runs_as = StepsRunAs::User { name: self.name.clone(), is_swept: true };
        bench
    }

    /// A command of this user that is no child of any supervisor.
    pub(crate) fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.uid(self.uid).gid(self.gid).current_dir("/").process_group(0);
        command
    }

    /// Where its steps run.
    pub(crate) fn workspace(&self) -> PathBuf {
        self.home.join("busybee/workspaces/p-hello")
    }
}

impl Drop for TestUser {
    fn drop(&mut self) {
        let _one_at_a_time = PASSWD.lock().unwrap_or_else(PoisonError::into_inner);
        let _is_unused = passes(&["userdel", "--force", &self.name]);
        let _best_effort = std::fs::remove_dir_all(&self.home);
    }
}
