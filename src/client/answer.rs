//! Answers that are one line or one table.

use crate::client::document::Document;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::screen::Screen;
use crate::client::table::Table;

/// Says that something is done.
///
/// # Errors
/// The output cannot be written.
pub fn acknowledge(
    mut screen: Screen,
    document: &Document,
    json: bool,
    sentence: &str,
) -> Result<Exit, Failure> {
    screen.line(&if json { document.text() } else { sentence.to_owned() })?;
    Ok(Exit::Done)
}

/// Prints a table, or that there is nothing in it (on the standard error: a pipe gets nothing
/// but the heading).
///
/// # Errors
/// The output cannot be written.
pub fn table(mut screen: Screen, table: &Table, if_empty: &str) -> Result<Exit, Failure> {
    if table.is_empty() {
        crate::client::screen::remark(if_empty);
    } else {
        screen.bytes(table.render(&screen).as_bytes())?;
    }
    Ok(Exit::Done)
}
