//! The real program, run as people and scripts run it: into pipes, or on a terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// No command of these tests takes a fraction of this; one that hangs fails instead.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    /// What it wrote, as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("the output is text")
    }

    /// What it wrote, as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It must have ended with this code; on failure, the test shows everything it said.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Ran {
        assert_eq!(
            self.code,
            code,
            "out: {}\nerr: {}",
            String::from_utf8_lossy(&self.out),
            self.err
        );
        self
    }
}

/// The program with these arguments, and nothing of the environment that could change its mind.
pub(crate) fn busybee(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_busybee"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["BUSYBEE_URL", "BUSYBEE_TOKEN", "BUSYBEE_CA", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.env("BUSYBEE_RECONNECT_TRIES", "4").env("COLUMNS", "100").env("TERM", "xterm");
    command
}

/// Runs it into pipes.
#[track_caller]
pub(crate) fn run(mut command: Command) -> Ran {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    finish(child)
}

/// Waits for a program whose output goes into pipes.
#[track_caller]
pub(crate) fn finish(child: Child) -> Ran {
    let pid = child.id();
    let output = within_deadline(pid, move || child.wait_with_output().unwrap());
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs it on a terminal of 100 columns; both outputs come as one.
#[track_caller]
pub(crate) fn run_on_terminal(mut command: Command) -> Ran {
    let (mut ours, its) = terminal();
    command.stdout(its.try_clone().unwrap()).stderr(its);
    let mut child = command.spawn().unwrap();
    // The command holds the terminal's other end, and would keep it open.
    drop(command);
    within_deadline(child.id(), move || {
        let mut out = Vec::new();
        // Linux ends the reading with an error once nobody holds the other end.
        let _end = ours.read_to_end(&mut out);
        let code = child.wait().unwrap().code().unwrap_or(-1);
        Ran { code, out, err: String::new() }
    })
}

/// Does something that may hang; if it does, ends the process and fails.
#[track_caller]
fn within_deadline<T: Send + 'static>(pid: u32, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(act()));
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        signal(pid, libc::SIGKILL);
        panic!("the program did not end in {DEADLINE:?}")
    })
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: kill(2) takes numbers alone.
    unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) };
}

/// A terminal: the end a person sits at, and the end a program sees.
fn terminal() -> (File, File) {
    // SAFETY: plain system calls on a descriptor that is checked and then owned here; the size
    // outlives the call that reads it.
    let ours = unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(fd >= 0, "no terminal to be had");
        assert_eq!(libc::grantpt(fd) + libc::unlockpt(fd), 0);
        let size = libc::winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        assert_eq!(libc::ioctl(fd, libc::TIOCSWINSZ, &size), 0);
        File::from(OwnedFd::from_raw_fd(fd))
    };
    let mut number: libc::c_uint = 0;
    // SAFETY: the call writes one number to where the pointer points.
    assert_eq!(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTN, &mut number) }, 0);
    let its = File::options().read(true).write(true).open(format!("/dev/pts/{number}")).unwrap();
    (ours, its)
}
