//! `busybee pool …`

use crate::api::fleet::Pool;
use crate::api::fleet::PoolList;
use crate::client::answer;
use crate::client::arguments::fleet::PoolCommand;
use crate::client::connection::Connection;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::money;
use crate::client::screen::Screen;
use crate::client::table::Cell;
use crate::client::table::Table;

/// Carries out a command about pools.
///
/// # Errors
/// It cannot be carried out.
pub async fn run(
    connection: Connection,
    command: PoolCommand,
    json: bool,
) -> Result<Exit, Failure> {
    let screen = Screen::standard();
    let empty = serde_json::json!({});
    match command {
        PoolCommand::List => list(&connection, json, screen).await,
        PoolCommand::Pause { name } => {
            let done = connection.post(&["pools", &name, "pause"], &empty).await?;
            let sentence = format!("{name} is paused: it launches nothing until it is resumed");
            answer::acknowledge(screen, &done, json, &sentence)
        }
        PoolCommand::Resume { name } => {
            let done = connection.post(&["pools", &name, "resume"], &empty).await?;
            answer::acknowledge(screen, &done, json, &format!("{name} launches again"))
        }
    }
}

async fn list(connection: &Connection, json: bool, mut screen: Screen) -> Result<Exit, Failure> {
    let document = connection.get(&["pools"], &()).await?;
    if json {
        screen.line(&document.text())?;
        return Ok(Exit::Done);
    }
    let heading = [
        "POOL",
        "STATE",
        "PROVISIONER",
        "WORKERS",
        "IDLE",
        "MAX",
        "AHEAD",
        "TODAY",
        "LABELS",
        "REASON",
    ];
    let mut table = Table::new(&heading);
    for pool in document.read::<PoolList>()?.pools {
        let reasons: Vec<&str> =
            [&pool.reason, &pool.budget_hold].into_iter().flatten().map(String::as_str).collect();
        let ahead = pool.look_ahead.map(|of| format!("{} of {}", of.hits, of.hits + of.misses));
        table.row(vec![
            Cell::plain(&pool.name),
            if pool.paused { Cell::status("paused") } else { Cell::plain("ready") },
            Cell::plain(&pool.provisioner),
            Cell::plain(workers(&pool)),
            Cell::plain(pool.idle.to_string()),
            Cell::plain(pool.max_instances.to_string()),
            Cell::or_dash(ahead.as_deref()),
            Cell::or_dash(today(&pool).as_deref()),
            Cell::or_dash(Some(&pool.labels.join(","))),
            Cell::plain(reasons.join("; ")),
        ]);
    }
    answer::table(screen, &table, "the master's file has no pool")
}

/// How many workers it has, and how many of them rest.
fn workers(pool: &Pool) -> String {
    match pool.stopped {
        0 => pool.workers.to_string(),
        stopped => format!("{} ({stopped} stopped)", pool.workers),
    }
}

/// What it has spent today, and of how much.
fn today(pool: &Pool) -> Option<String> {
    let spent = money::cost(pool.spent_today.as_deref(), pool.spent_in_part);
    match &pool.daily_budget {
        None => spent,
        Some(budget) => {
            let spent = spent.unwrap_or_else(|| money::short("0.00"));
            Some(format!("{spent} of {}", money::short(budget)))
        }
    }
}
