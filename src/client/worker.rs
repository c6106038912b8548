//! `busybee worker …`

use crate::api::fleet::AddWorker;
use crate::api::fleet::Instance;
use crate::api::fleet::Worker;
use crate::api::fleet::WorkerAdded;
use crate::api::fleet::WorkerList;
use crate::client::answer;
use crate::client::arguments::fleet::WorkerCommand;
use crate::client::connection::Connection;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::moment;
use crate::client::screen::Screen;
use crate::client::screen::remark;
use crate::client::screen::tone_of;
use crate::client::screen::visible;
use crate::client::table::Cell;
use crate::client::table::Table;

/// Carries out a command about workers.
///
/// # Errors
/// It cannot be carried out.
pub async fn run(
    connection: Connection,
    command: WorkerCommand,
    json: bool,
) -> Result<Exit, Failure> {
    let screen = Screen::standard();
    let empty = serde_json::json!({});
    match command {
        WorkerCommand::List => list(&connection, json, screen).await,
        WorkerCommand::Show { name } => show(&connection, &name, json, screen).await,
        WorkerCommand::Drain { name } => {
            let done = connection.post(&["workers", &name, "drain"], &empty).await?;
            let sentence = format!("{name} drains: it finishes its job, takes no other and ends");
            answer::acknowledge(screen, &done, json, &sentence)
        }
        WorkerCommand::Stop { name } => {
            let done = connection.post(&["workers", &name, "stop"], &empty).await?;
            answer::acknowledge(screen, &done, json, &format!("{name} is being ended"))
        }
        WorkerCommand::Add { name, pool } => {
            add(&connection, AddWorker { name, pool }, json, screen).await
        }
    }
}

async fn list(connection: &Connection, json: bool, mut screen: Screen) -> Result<Exit, Failure> {
    let document = connection.get(&["workers"], &()).await?;
    if json {
        screen.line(&document.text())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["WORKER", "POOL", "STATUS", "JOBS", "CREATED", "REASON"]);
    for worker in document.read::<WorkerList>()?.workers {
        table.row(vec![
            Cell::plain(&worker.name),
            Cell::plain(&worker.pool),
            Cell::status(&worker.status),
            Cell::plain(worker.jobs_given.to_string()),
            Cell::plain(screen.moment(&worker.created_at)),
            Cell::plain(worker.reason.as_deref().unwrap_or_default()),
        ]);
    }
    answer::table(screen, &table, "no workers: they are made when there is work for them")
}

async fn show(
    connection: &Connection,
    name: &str,
    json: bool,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let document = connection.get(&["workers", name], &()).await?;
    if json {
        screen.line(&document.text())?;
        return Ok(Exit::Done);
    }
    let worker: Worker = document.read()?;
    let status = screen.paint(tone_of(&worker.status), &visible(&worker.status));
    screen.line(&format!("{} {status}", visible(&worker.name)))?;
    let moment = |at: &Option<String>| at.as_ref().map(|at| screen.moment(at));
    let facts = [
        ("pool", Some(worker.pool.clone())),
        ("reason", worker.reason.clone()),
        ("notice", worker.notice.clone()),
        ("instance", worker.instance.map(|id| id.to_string())),
        ("project", worker.project.clone()),
        ("jobs", Some(worker.jobs_given.to_string())),
        ("created", Some(screen.moment(&worker.created_at))),
        ("idle", moment(&worker.idle_since)),
        ("ends by", worker.idle_until.clone()),
        ("ended", moment(&worker.ended_at)),
    ];
    for (key, value) in facts {
        if let Some(value) = value {
            screen.line(&format!("  {key:<8} {}", visible(&value)))?;
        }
    }
    if let Some(machine) = &worker.machine {
        life(machine, &mut screen)?;
    }
    boot_log(connection, name, &mut screen).await?;
    Ok(Exit::Done)
}

/// When what happened to its machine, and what it did.
fn life(machine: &Instance, screen: &mut Screen) -> Result<(), Failure> {
    let jobs = machine.jobs.iter().map(|job| {
        let what = format!("{}/{} {} {}", job.project, job.number, job.job, job.state);
        (Some(&job.from), what)
    });
    let moments = [
        (Some(&machine.requested_at), "requested"),
        (machine.accepted_at.as_ref(), "accepted"),
        (machine.running_at.as_ref(), "running"),
        (machine.contact_at.as_ref(), "agent called"),
        (machine.ready_at.as_ref(), "ready"),
        (machine.ending_at.as_ref(), "told to end"),
        (machine.ended_at.as_ref(), "gone"),
    ];
    let moments = moments.into_iter().chain(rests(machine));
    let moments = moments.map(|(at, what)| (at, what.to_owned()));
    let all = moments.chain(jobs).filter_map(|(at, what)| Some((at?, what)));
    let mut all: Vec<(&String, String)> = all.collect();
    // RFC 3339 in UTC: the order of the text is that of time; what comes at one moment stays in order.
    all.sort_by_key(|(at, _)| *at);
    screen.line("\nits machine")?;
    let first = machine.requested_at.as_str();
    for (at, what) in all {
        let since = moment::parse(at).zip(moment::parse(first)).map(|(at, first)| at.since(first));
        let after = since.map(moment::duration).unwrap_or_default();
        screen.line(&format!(
            "  {}  {:>9}  {}",
            visible(at),
            format!("+{after}"),
            visible(&what)
        ))?;
    }
    Ok(())
}

/// Its stops, and what came after them.
fn rests(machine: &Instance) -> Vec<(Option<&String>, &'static str)> {
    let mut moments = Vec::new();
    for (index, run) in machine.runs.iter().enumerate() {
        if index > 0 {
            moments.push((Some(&run.asked_at), "started again"));
            moments.push((run.ready_at.as_ref(), "ready again"));
        }
        let is_last = index + 1 == machine.runs.len();
        // The last run may have ended with the machine. Clouds tell that in whole seconds.
        let end = machine.ending_at.as_ref().or(machine.ended_at.as_ref());
        let is_end = |stopped: &String| end.is_some_and(|end| end.get(..19) <= stopped.get(..19));
        if !is_last || !run.ended_at.as_ref().is_some_and(is_end) {
            moments.push((run.ended_at.as_ref(), "stopped"));
        }
    }
    moments
}

/// What its machine and its bootstrap script have said so far.
async fn boot_log(connection: &Connection, name: &str, screen: &mut Screen) -> Result<(), Failure> {
    let mut log = connection.stream(&["workers", name, "log"], &()).await?;
    let mut is_first = true;
    while let Some(bytes) = log.chunk().await.map_err(|error| connection.broken(&error))? {
        if std::mem::take(&mut is_first) {
            screen.line("\nboot log")?;
        }
        screen.bytes(&bytes)?;
    }
    Ok(())
}

/// Adds a machine of one's own. Its lines go to the output as they are, so that they can be sent
/// to a file; what to do with them goes to the standard error.
async fn add(
    connection: &Connection,
    question: AddWorker,
    json: bool,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let document = connection.post(&["workers"], &question).await?;
    if json {
        screen.line(&document.text())?;
        return Ok(Exit::Done);
    }
    let added: WorkerAdded = document.read()?;
    remark(&format!(
        "{} joins pool {} when `busybee-agent run --config FILE` is started on its machine, with \
         these lines as FILE (mode 0600: they hold the worker's password) and the master's ca.pem \
         where BB_CA says. They are shown this once:",
        visible(&added.name),
        visible(&added.pool)
    ));
    for line in &added.environment {
        screen.line(&visible(line))?;
    }
    Ok(Exit::Done)
}
