//! `busybee instance list`: the ledger. What asks no master (`reap`) is the master's own command.

use std::time::Duration;

use crate::api::fleet::InstanceList;
use crate::api::fleet::InstanceQuery;
use crate::client::answer;
use crate::client::arguments::fleet::InstanceListArguments;
use crate::client::connection::Connection;
use crate::client::document::Document;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::moment;
use crate::client::money;
use crate::client::screen::Screen;
use crate::client::screen::remark;
use crate::client::table::Cell;
use crate::client::table::Table;

/// How many rows one question brings: the API's own limit.
const PAGE_ROWS: u32 = 100;

/// How many rows are shown at most. A ledger of years is for the API, page by page.
const ROWS_MAX: usize = 10_000;

/// Lists instances.
///
/// # Errors
/// It cannot be carried out.
pub async fn run(
    connection: Connection,
    list: InstanceListArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let mut screen = Screen::standard();
    let InstanceListArguments { all } = list;
    let document = pages(&connection, all).await?;
    if document.next_page().is_some() {
        remark(&format!("only the newest {} are shown", document.items("instances")));
    }
    if json {
        screen.line(&document.text())?;
        return Ok(Exit::Done);
    }
    let table = ledger(&document, &screen)?;
    let if_empty = match all {
        true => "no instance was ever started",
        false => "no instances now; --all shows those that have ended",
    };
    answer::table(screen, &table, if_empty)
}

fn ledger(document: &Document, screen: &Screen) -> Result<Table, Failure> {
    let heading = [
        "ID",
        "POOL",
        "WORKER",
        "STATUS",
        "REQUESTED",
        "BILLED",
        "COST",
        "WHY STARTED",
        "WHY ENDED",
    ];
    let mut table = Table::new(&heading);
    for row in document.read::<InstanceList>()?.instances {
        table.row(vec![
            Cell::plain(row.id.to_string()),
            Cell::plain(&row.pool),
            Cell::plain(&row.worker),
            Cell::status(&row.status),
            Cell::plain(screen.moment(&row.requested_at)),
            Cell::plain(match row.seconds {
                0 => "-".to_owned(),
                seconds => moment::duration(Duration::from_secs(seconds)),
            }),
            Cell::or_dash(row.cost.as_deref().map(money::short).as_deref()),
            Cell::plain(&row.why_started),
            Cell::plain(row.why_ended.as_deref().unwrap_or_default()),
        ]);
    }
    Ok(table)
}

/// The whole list as one document, newest first.
async fn pages(connection: &Connection, all: bool) -> Result<Document, Failure> {
    let query =
        |before| InstanceQuery { all: Some(true).filter(|_| all), before, limit: Some(PAGE_ROWS) };
    let path = ["instances"];
    let mut rows = connection.get(&path, &query(None)).await?;
    while let Some(before) = rows.next_page() {
        let page = connection.get(&path, &query(Some(before))).await?;
        if page.items("instances") == 0 || rows.items("instances") >= ROWS_MAX {
            break;
        }
        rows.append("instances", page);
    }
    Ok(rows)
}
