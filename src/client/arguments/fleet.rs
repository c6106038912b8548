//! What can be typed about workers, pools and instances.

use clap::Args;
use clap::Subcommand;

use crate::client::arguments::target::TargetArguments;

/// `busybee worker …`
#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// Which master.
    #[command(flatten)]
    pub target: TargetArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: WorkerCommand,
}

/// What can be done with workers.
#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// List the workers there are.
    List,
    /// Show a worker: where it stands, why, and what it is at.
    Show {
        /// Its name
        name: String,
    },
    /// Let a worker finish its job and take no other; it ends then.
    Drain {
        /// Its name
        name: String,
    },
    /// End a worker at once. The job it has counts as an infrastructure failure.
    Stop {
        /// Its name
        name: String,
    },
    /// Add a machine of your own to a pool with provisioner = "none".
    ///
    /// Prints the BB_ lines with which busybee-agent is started there. They hold the worker's
    /// password and are shown this once.
    Add {
        /// The worker's name, which nobody may have had before
        name: String,
        /// Which pool it joins
        #[arg(long)]
        pool: String,
    },
}

/// `busybee pool …`
#[derive(Debug, Args)]
pub struct PoolArguments {
    /// Which master.
    #[command(flatten)]
    pub target: TargetArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: PoolCommand,
}

/// What can be done with pools.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// List the pools of the master's file; one that is paused says why.
    List,
    /// Let a pool launch nothing more. Workers it has go on.
    Pause {
        /// Its name
        name: String,
    },
    /// Let a paused pool launch again.
    Resume {
        /// Its name
        name: String,
    },
}

/// `busybee instance …`
#[derive(Debug, Args)]
pub struct InstanceArguments {
    /// Which master.
    #[command(flatten)]
    pub target: TargetArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: InstanceCommand,
}

/// What can be done with instances.
#[derive(Debug, Subcommand)]
pub enum InstanceCommand {
    /// List instances, newest first.
    List {
        /// Also those that have ended: the whole ledger
        #[arg(long)]
        all: bool,
    },
}
