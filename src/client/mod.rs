//! The command line's other half: what people type, and what they see.
//!
//! It speaks the REST API only, and knows the master from outside. `arguments` says what can be
//! typed (the master's own commands too, so that there is one page of help); each noun's file
//! carries its commands out; `exit` says with which code it ends. Below them: `connection` asks,
//! `watch` and `log_stream` keep asking, `screen` shows.

pub mod arguments;
pub mod exit;

pub mod build;
pub mod completions;
pub mod instance;
pub mod pool;
pub mod worker;

pub mod connection;
pub mod document;
pub mod follow;
pub mod log_output;
pub mod log_stream;
pub mod patience;
pub mod target;
pub mod trouble;
pub mod watch;

pub mod answer;
pub mod build_name;
pub mod moment;
pub mod money;
pub mod screen;
pub mod table;

use crate::client::arguments::build::BuildArguments;
use crate::client::arguments::fleet::InstanceListArguments;
use crate::client::arguments::fleet::PoolArguments;
use crate::client::arguments::fleet::WorkerArguments;
use crate::client::arguments::target::TargetArguments;
use crate::client::connection::Connection;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::target::Target;

/// What can be asked of a running master.
#[derive(Debug)]
pub enum Question {
    /// About builds.
    Build(BuildArguments),
    /// About workers.
    Worker(WorkerArguments),
    /// About pools.
    Pool(PoolArguments),
    /// About instances.
    Instance(TargetArguments, InstanceListArguments),
}

/// Asks a master, and shows what it says.
///
/// # Errors
/// It cannot be asked, or refuses.
pub fn ask(question: Question) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::wrong(format!("cannot begin: {error}")))?;
    runtime.block_on(async {
        match question {
            Question::Build(BuildArguments { target, command }) => {
                build::run(connect(&target)?, command, target.json).await
            }
            Question::Worker(WorkerArguments { target, command }) => {
                worker::run(connect(&target)?, command, target.json).await
            }
            Question::Pool(PoolArguments { target, command }) => {
                pool::run(connect(&target)?, command, target.json).await
            }
            Question::Instance(target, list) => {
                instance::run(connect(&target)?, list, target.json).await
            }
        }
    })
}

fn connect(typed: &TargetArguments) -> Result<Connection, Failure> {
    Connection::new(&Target::new(typed, |name| std::env::var(name).ok())?)
}
