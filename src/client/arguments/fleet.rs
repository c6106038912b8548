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
    List(InstanceListArguments),
    /// End what nobody can want any more, by its tags alone: no master need run, none is asked.
    ///
    /// Each instance, and each request for a spot instance, carries the id of its master and a moment
    /// after which it has no use: its pool's max_lifetime, with when_idle = "stop" also its
    /// stopped_max_age, and ten minutes, from when it was asked for. This reads the regions and
    /// credentials of the pools in the master's file (--config), ends what is past that moment, stopped
    /// ones too, and says what it left alone and why. It is safe beside a running master, and meant for
    /// cron on another machine.
    Reap(ReapArguments),
}

/// `busybee instance list …`
#[derive(Debug, Args)]
pub struct InstanceListArguments {
    /// Also those that have ended: the whole ledger
    #[arg(long)]
    pub all: bool,
}

/// `busybee instance reap …`
#[derive(Debug, Args)]
pub struct ReapArguments {
    /// What is past its expiry: nothing else is ever ended so
    #[arg(long, required = true)]
    pub expired: bool,
    /// Only say what would be ended
    #[arg(long)]
    pub dry_run: bool,
    /// Of the master with this id (the tag busybee:master); without it, that of the file
    #[arg(long, value_name = "ID")]
    pub master: Option<String>,
}
