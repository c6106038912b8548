//! `busybee build …`: one file per thing that can be done with builds.

pub mod list;
pub mod logs;
pub mod show;
pub mod start;

use crate::api::build::RetryBuild;
use crate::client::answer::acknowledge;
use crate::client::arguments::build::BuildCommand;
use crate::client::build_name::BuildName;
use crate::client::connection::Connection;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::screen::Screen;

/// Carries out a command about builds.
///
/// # Errors
/// It cannot be carried out.
pub async fn run(
    connection: Connection,
    command: BuildCommand,
    json: bool,
) -> Result<Exit, Failure> {
    let screen = Screen::standard();
    match command {
        BuildCommand::Start(arguments) => start::run(&connection, arguments, json, screen).await,
        BuildCommand::List(arguments) => list::run(&connection, arguments, json, screen).await,
        BuildCommand::Show { build } => show::run(&connection, &build, json, screen).await,
        BuildCommand::Logs(arguments) => logs::run(&connection, arguments, json, screen).await,
        BuildCommand::Cancel { build } => cancel(&connection, &build, json, screen).await,
        BuildCommand::Retry { build, failed } => {
            retry(&connection, &build, failed, json, screen).await
        }
    }
}

async fn cancel(
    connection: &Connection,
    build: &BuildName,
    json: bool,
    screen: Screen,
) -> Result<Exit, Failure> {
    let number = build.number.to_string();
    let path = ["projects", build.project.as_str(), "builds", &number, "cancel"];
    let done = connection.post(&path, &serde_json::json!({})).await?;
    acknowledge(screen, &done, json, &format!("{build} is cancelled: its running jobs are ending"))
}

async fn retry(
    connection: &Connection,
    build: &BuildName,
    failed_only: bool,
    json: bool,
    screen: Screen,
) -> Result<Exit, Failure> {
    let number = build.number.to_string();
    let path = ["projects", build.project.as_str(), "builds", &number, "retry"];
    let done = connection.post(&path, &RetryBuild { failed_only }).await?;
    let what = if failed_only { "the jobs that did not pass" } else { "all its jobs" };
    acknowledge(screen, &done, json, &format!("{build} runs again: {what}"))
}
