//! Where an attempt's commands run and what they may write: as the agent's own user, or, where the
//! agent is root, as the steps' user with folders in that user's home.
//!
//! ```text
//! ~USER/busybee/workspaces/p-PROJECT   as BB_HOME/workspaces elsewhere: stays for the next job
//! ~USER/busybee/attempt/               scripts, git's key, TMPDIR: this attempt's, and gone after it
//! ```

use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::agent::attempt_dir::AttemptDir;
use crate::agent::domain::step_user::StepUser;
use crate::agent::files;
use crate::agent::privileges;

/// The folders of an attempt's commands, and the user that these run as.
pub(super) struct Stage {
    /// Where steps run.
    pub(super) workspace: PathBuf,
    /// What TMPDIR says.
    pub(super) tmp: PathBuf,
    /// What commands must be able to read and nobody else may.
    private: PathBuf,
    /// Absent: as whoever this process runs as.
    user: Option<StepUser>,
}

impl Stage {
    pub(super) fn new(dir: &AttemptDir, project: &str, user: Option<StepUser>) -> Stage {
        let (base, private) = match &user {
            Some(user) => {
                let base = user.home.join("busybee");
                let private = base.join("attempt");
                (base, private)
            }
            None => (dir.home().to_owned(), dir.path().to_owned()),
        };
        let workspace = base.join("workspaces").join(folder_name(project));
        Stage { workspace, tmp: private.join("tmp"), private, user }
    }

    /// Makes the folders that commands need besides the workspace.
    pub(super) fn prepare(&self) -> std::io::Result<()> {
        self.act(|| {
            files::make_private_dir(&self.tmp)?;
            // Its parent, that is: the workspace itself is the checkout's to make.
            files::make_private_dir(self.workspace.parent().unwrap_or(&self.workspace))
        })
    }

    /// Removes what is this attempt's alone; an own attempt directory goes when the master says so.
    pub(super) fn clear(&self) -> std::io::Result<()> {
        match self.user {
            Some(_) => self.act(|| remove_tree(&self.private)),
            None => Ok(()),
        }
    }

    /// Works on files with the rights of the steps' user.
    pub(super) fn act<T>(&self, work: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
        match &self.user {
            Some(user) => privileges::act_as(user, work),
            None => work(),
        }
    }

    /// Lets a command run as the steps' user.
    pub(super) fn adopt(&self, command: &mut Command) {
        if let Some(user) = &self.user {
            privileges::adopt(user, command);
        }
    }

    /// Writes a file that commands of this attempt can read and nobody else.
    pub(super) fn write_private(&self, name: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
        let path = self.private.join(name);
        self.act(|| files::write_whole(&path, bytes))?;
        Ok(path)
    }

    /// Whether something is there, as far as commands can tell.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.act(|| path.try_exists()).unwrap_or(false)
    }

    /// Removes the workspace, whatever modes its folders have.
    pub(super) fn remove_workspace(&self) -> std::io::Result<()> {
        self.act(|| remove_tree(&self.workspace))
    }

    /// What the user's environment says that this process's own does not.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let Some(user) = &self.user else { return Vec::new() };
        let home = user.home.display().to_string();
        let own = [("HOME", &*home), ("USER", &user.name), ("LOGNAME", &user.name)];
        let own = own.into_iter().chain([("SHELL", "/bin/sh")]);
        own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// A project's name as a folder's: names are the admin's, and may hold a slash.
fn folder_name(project: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = project.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    format!("p-{plain}")
}

/// Removes a folder with all that is in it, also where a step took its own right to write (as Go's
/// module cache does). That there is none is as good.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    let remove = || match std::fs::remove_dir_all(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    };
    remove().or_else(|_| {
        open_up(path)?;
        remove()
    })
}

/// Gives the owner back every right on each folder of a tree.
fn open_up(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
