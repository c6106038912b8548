//! The signals of a new process.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// A program that is started with signals as they are by default.
///
/// Both what is ignored and what is blocked passes from a process to its children, and a shell cannot
/// trap what was ignored when it began (POSIX, `trap`). Under `nohup`, after `&` in a script, or below a
/// process that reads its signals from a descriptor, a program would be deaf to a hang-up, an interrupt
/// or the end of its own children.
pub trait DefaultSignals {
    /// Lets the program begin with every signal at its default and none blocked.
    fn default_signals(&mut self) -> &mut Self;
}

impl DefaultSignals for Command {
    fn default_signals(&mut self) -> &mut Command {
        // SAFETY: signal, sigemptyset and sigprocmask are async-signal-safe, and the set lives on the
        // closure's own stack frame.
        unsafe {
            self.pre_exec(|| {
                for signal in 1..=libc::SIGRTMAX() {
                    // Refused for KILL, STOP and those that the C library keeps to itself.
                    libc::signal(signal, libc::SIG_DFL);
                }
                let mut none = std::mem::zeroed::<libc::sigset_t>();
                libc::sigemptyset(&raw mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
                Ok(())
            })
        }
    }
}
