//! `user_data`: files and texts of the admin's own, read with the master's file and put behind ours.

use std::path::Path;

use crate::master::config::meaning::Reading;
use crate::master::config::typed::UserDataFile;
use crate::master::user_data;
use crate::master::user_data::parts;
use crate::master::user_data::parts::Part;
use crate::runtime::config_file::one_or_more::OneOrMore;
use crate::runtime::config_file::placed::At;

/// The parts, as cloud-init takes them. Together with ours they must fit what EC2 takes.
pub(super) fn of(
    reading: &mut Reading<'_>,
    typed: Option<At<OneOrMore<UserDataFile>>>,
) -> Vec<Part> {
    let Some(At { id, value: OneOrMore(typed) }) = typed else { return Vec::new() };
    let mut found = Vec::new();
    for typed in typed {
        let part = part(reading.folder, typed);
        found.extend(reading.refuse(id, part));
    }
    let ours = "x".repeat(user_data::MAX_BYTES);
    let length = parts::join(&ours, &found).len();
    if length > parts::EC2_BYTES_MAX {
        let what = format!(
            "the user-data would have {length} bytes with ours, and EC2 takes {}",
            parts::EC2_BYTES_MAX
        );
        let hint = "shorten the files, or let one of them fetch the rest";
        reading.wrong(id, what, hint);
    }
    found
}

fn part(folder: &Path, typed: UserDataFile) -> Result<Part, String> {
    match typed {
        UserDataFile { file: Some(file), text: None } => {
            let path = folder.join(&file);
            let text = std::fs::read_to_string(&path).map_err(|why| {
                format!("{} cannot be read: {why}\nput it there, as UTF-8 text", path.display())
            })?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            Part::new(&name.unwrap_or_default(), text)
        }
        UserDataFile { file: None, text: Some(text) } => Part::new("text", text),
        UserDataFile { .. } => {
            Err("user_data needs a file, or a text\nwrite as in { file = \"own.sh\" }".to_owned())
        }
    }
}
