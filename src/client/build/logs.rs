//! `busybee build logs`

use crate::client::arguments::build::LogsArguments;
use crate::client::connection::Connection;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::follow::Follower;
use crate::client::follow::Part;
use crate::client::log_output::LogOutput;
use crate::client::screen::Screen;

/// Prints what a build's steps have printed.
///
/// # Errors
/// There is no such build, job or step; the master stays away; the output cannot be written.
pub async fn run(
    connection: &Connection,
    arguments: LogsArguments,
    json: bool,
    screen: Screen,
) -> Result<Exit, Failure> {
    let LogsArguments { build, job, step, follow } = arguments;
    let mut output = LogOutput::new(screen, json);
    let follower = Follower::new(connection, &build, Part { job, step });
    if follow {
        follower.follow(&mut output).await?;
    } else {
        follower.show(&mut output).await?;
    }
    Ok(Exit::Done)
}
