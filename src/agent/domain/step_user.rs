//! The user that checkouts and steps run as where the agent itself is root: who may be one, and what
//! belongs to one. Reading `/etc/passwd` and `/proc` is for others.

use std::path::PathBuf;

/// A user without rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

impl StepUser {
    /// Finds a user in the text of `/etc/passwd`. Refused is whoever has root's rights, and whose
    /// home could not be a folder of its own.
    ///
    /// # Errors
    /// A sentence that says what is wrong with this user.
    pub fn in_passwd(passwd: &str, name: &str) -> Result<StepUser, String> {
        let fields = |line: &'_ str| -> Option<Vec<String>> {
            let fields: Vec<String> = line.split(':').map(str::to_owned).collect();
            (fields.len() == 7 && fields[0] == name).then_some(fields)
        };
        let found = passwd.lines().find_map(fields);
        let entry = found.ok_or_else(|| format!("there is no user {name} in /etc/passwd"))?;
        let number = |text: &str| {
            text.parse::<u32>()
                .map_err(|_| format!("the entry of {name} in /etc/passwd is damaged"))
        };
        let (uid, gid, home) = (number(&entry[2])?, number(&entry[3])?, PathBuf::from(&entry[5]));
        if uid == 0 || gid == 0 {
            return Err(format!("{name} has the rights of root; steps need a user without any"));
        }
        if !home.is_absolute() || home.parent().is_none() {
            return Err(format!("the home of {name} is \"{}\"; steps need one", home.display()));
        }
        Ok(StepUser { name: name.to_owned(), uid, gid, home })
    }

    /// The name of the process whose `/proc/PID/status` this is, if it lives and is this user's.
    pub fn process_name(&self, status: &str) -> Option<String> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(':')).map(str::trim)
        };
        let has_ended = field("State").is_some_and(|state| state.starts_with(['Z', 'X']));
        let own = self.uid.to_string();
        // Real, effective, saved and the file system's: one of them is enough.
        let is_own = field("Uid")?.split_whitespace().any(|uid| uid == own);
        (is_own && !has_ended).then(|| field("Name").unwrap_or_default().to_owned())
    }

    /// Whether this user can enter somebody else's folder of this group and mode.
    pub fn may_enter(&self, gid: u32, mode: u32) -> bool {
        mode & 0o001 != 0 || (gid == self.gid && mode & 0o010 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        toor:x:0:7:::/bin/sh\n\
        builders:x:998:998::/var/lib/other:/bin/sh\n\
        builder:x:997:996::/var/lib/busybee-builder:/bin/sh\n\
        homeless:x:995:995::/:/bin/sh\n\
        wheelie:x:994:0::/home/w:/bin/sh\n\
        torn:x:99\n";

    #[test]
    fn only_a_user_without_rights_and_with_a_home_will_do() {
        let found = StepUser::in_passwd(PASSWD, "builder").unwrap();
        assert_eq!((found.uid, found.gid), (997, 996));
        assert_eq!(found.home, PathBuf::from("/var/lib/busybee-builder"));
        for (name, why) in [
            ("nobody-such", "there is no user nobody-such"),
            ("root", "rights of root"),
            ("toor", "rights of root"),
            ("wheelie", "rights of root"),
            ("homeless", "the home of homeless"),
            ("torn", "there is no user torn"),
        ] {
            let sentence = StepUser::in_passwd(PASSWD, name).unwrap_err();
            assert!(sentence.contains(why), "{name}: {sentence}");
        }
    }

    #[test]
    fn a_process_is_the_users_by_any_of_its_ids_while_it_lives() {
        let user = StepUser::in_passwd(PASSWD, "builder").unwrap();
        let status =
            |state: &str, ids: &str| format!("Name:\tmy job\nState:\t{state}\nUid:\t{ids}\n");
        let name = Some("my job".to_owned());
        assert_eq!(user.process_name(&status("S (sleeping)", "997\t997\t997\t997")), name);
        assert_eq!(user.process_name(&status("D (disk)", "0\t0\t997\t0")), name);
        assert_eq!(user.process_name(&status("Z (zombie)", "997\t997\t997\t997")), None);
        assert_eq!(user.process_name(&status("S (sleeping)", "9970\t0\t0\t0")), None);
        assert_eq!(user.process_name(""), None);
    }
}
