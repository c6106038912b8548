//! Root's rights put aside: commands that run as the steps' user, and file operations that are done
//! with that user's rights, so that no link which a step has laid leads root anywhere.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::agent::domain::step_user::StepUser;

/// What a step makes, others may read: nobody else logs in here, but services of a test may be others.
const UMASK: u32 = 0o022;

/// Finds the user, in `/etc/passwd` alone: it is a user of this machine, made for this.
///
/// # Errors
/// When there is none, it has root's rights, or this process is not root and could not become it.
pub(crate) fn find(name: &str) -> anyhow::Result<StepUser> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "run steps as the user {name}: BB_USER is set, but only root can run steps as another user; \
         take BB_USER out, or start the agent as root"
    );
    let passwd = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    StepUser::in_passwd(&passwd, name)
        .map_err(|why| anyhow::anyhow!("run steps as the user {name} of BB_USER: {why}"))
}

/// Makes the user's home if it is missing.
///
/// # Errors
/// When it cannot be made, or belongs to somebody else.
pub(crate) fn provide_home(user: &StepUser) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    use std::os::unix::fs::MetadataExt;
    let home = &user.home;
    if !home.exists() {
        let made = std::fs::DirBuilder::new().mode(0o755).create(home);
        made.and_then(|()| std::os::unix::fs::lchown(home, Some(user.uid), Some(user.gid)))
            .with_context(|| format!("make the home of {}: {}", user.name, home.display()))?;
    }
    let owner = std::fs::metadata(home).with_context(|| format!("look at {}", home.display()))?;
    anyhow::ensure!(
        owner.is_dir() && owner.uid() == user.uid,
        "run steps as the user {}: {} is not a folder of its own",
        user.name,
        home.display()
    );
    Ok(())
}

/// Lets a command run as the user, without any other group, and without a way back: `sudo`, `su` and
/// file capabilities give it nothing.
pub(crate) fn adopt(user: &StepUser, command: &mut Command) {
    // With `uid`, std gives up every other group as well.
    command.uid(user.uid).gid(user.gid);
    // SAFETY: the closure makes system calls only, which are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            rustix::thread::set_no_new_privs(true)?;
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(UMASK));
            Ok(())
        });
    }
}

/// Does something with files as the user would: what it may not touch, this may not either. For
/// processes with one thread: the rights are a thread's.
///
/// # Errors
/// Those of the work; and when the rights cannot be changed, in which case nothing is done.
pub(crate) fn act_as<T>(
    user: &StepUser,
    work: impl FnOnce() -> std::io::Result<T>,
) -> std::io::Result<T> {
    let root = FileRights { uid: set_file_uid(None), gid: set_file_gid(None) };
    // The group first: without root's rights it could not be changed any more.
    set_file_gid(Some(user.gid));
    set_file_uid(Some(user.uid));
    let has_changed = set_file_uid(None) == user.uid && set_file_gid(None) == user.gid;
    let done = match has_changed {
        true => work(),
        false => Err(std::io::ErrorKind::PermissionDenied.into()),
    };
    drop(root);
    done
}

/// The rights to come back to, whatever happens in between.
struct FileRights {
    uid: u32,
    gid: u32,
}

impl Drop for FileRights {
    fn drop(&mut self) {
        set_file_uid(Some(self.uid));
        set_file_gid(Some(self.gid));
    }
}

/// Sets the user id of file operations, or only asks. The call knows no errors: it answers with the one
/// before, and an id that cannot be (`None`) changes nothing.
fn set_file_uid(uid: Option<u32>) -> u32 {
    // SAFETY: plain system call without memory.
    unsafe { libc::setfsuid(uid.unwrap_or(u32::MAX)) }.cast_unsigned()
}

/// The same for the group.
fn set_file_gid(gid: Option<u32>) -> u32 {
    // SAFETY: plain system call without memory.
    unsafe { libc::setfsgid(gid.unwrap_or(u32::MAX)) }.cast_unsigned()
}

/// Gives up this process's other groups: [`act_as`] would still have them.
///
/// # Errors
/// When this process is not root.
pub(crate) fn drop_groups() -> anyhow::Result<()> {
    rustix::thread::set_thread_groups(&[]).context("give up the supervisor's groups")
}

/// Sends a signal to every process of the user at once, from a child that is that user: no fork can get
/// away in between, and no number that was given to another process meanwhile can be hit.
pub(crate) fn signal_all(user: &StepUser, signal: rustix::process::Signal) {
    let number = signal.as_raw();
    let mut command = Command::new(Path::new("/nowhere"));
    command.uid(user.uid).gid(user.gid);
    // SAFETY: the closure makes one system call; the kernel leaves its caller and process 1 out. It
    // never gets to /nowhere: an error ends the child.
    unsafe {
        command.pre_exec(move || {
            if rustix::process::getuid().is_root() {
                return Err(rustix::io::Errno::PERM.into());
            }
            libc::kill(-1, number);
            Err(rustix::io::Errno::CANCELED.into())
        });
    }
    // One that the others have killed first counts as started.
    if let Ok(mut killed) = command.spawn() {
        let _already_reaped = killed.wait();
    }
}
