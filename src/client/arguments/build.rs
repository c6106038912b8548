//! What can be typed about builds.

use clap::Args;
use clap::Subcommand;

use crate::client::arguments::input::key_and_value;
use crate::client::arguments::target::TargetArguments;
use crate::client::build_name::BuildName;

/// How many builds `build list` shows unless told: a screenful.
const LIST_LIMIT: u32 = 20;

/// How many it shows at most: what one page of the API may hold.
const LIST_LIMIT_MAX: i64 = 1000;

/// `busybee build …`
#[derive(Debug, Args)]
pub struct BuildArguments {
    /// Which master.
    #[command(flatten)]
    pub target: TargetArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: BuildCommand,
}

/// What can be done with builds.
#[derive(Debug, Subcommand)]
pub enum BuildCommand {
    /// Start a build of a project.
    ///
    /// The ref is looked up at the project's remote, so that what is built is what stands there
    /// now. With --wait the exit code says how the build ended.
    Start(StartArguments),
    /// List builds, newest first.
    List(ListArguments),
    /// Show a build with its jobs, what they wait for and why they ended.
    Show {
        /// Which build, such as hello/12
        #[arg(value_name = "PROJECT/N")]
        build: BuildName,
    },
    /// Print what a build's steps have printed.
    ///
    /// A pipe gets exactly the bytes of the last attempt, job after job and step after step,
    /// without prefix or header. A terminal gets a header over each job and step.
    Logs(LogsArguments),
    /// End a build that has not ended.
    Cancel {
        /// Which build, such as hello/12
        #[arg(value_name = "PROJECT/N")]
        build: BuildName,
    },
    /// Run a finished build's jobs again, in the same build.
    Retry {
        /// Which build, such as hello/12
        #[arg(value_name = "PROJECT/N")]
        build: BuildName,
        /// Only the jobs that did not pass, and those that need them
        #[arg(long)]
        failed: bool,
    },
}

/// `busybee build start …`
#[derive(Debug, Args)]
pub struct StartArguments {
    /// Which project of the master's file
    pub project: String,
    /// A branch, tag or commit; without it, the remote's HEAD
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// A value for one of the pipeline's inputs; may be given several times
    #[arg(long = "input", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub inputs: Vec<(String, String)>,
    /// Stay until the build has ended, and exit as it did
    #[arg(long)]
    pub wait: bool,
    /// Print the build's output as it comes; implies --wait
    #[arg(long)]
    pub follow: bool,
}

/// `busybee build list …`
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only builds of this project
    pub project: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = LIST_LIMIT,
          value_parser = clap::value_parser!(u32).range(1..=LIST_LIMIT_MAX))]
    pub limit: u32,
}

/// `busybee build logs …`
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// Which build, such as hello/12
    #[arg(value_name = "PROJECT/N")]
    pub build: BuildName,
    /// Only this job
    #[arg(long)]
    pub job: Option<String>,
    /// Only the steps of this name, or of this number (0 is the checkout)
    #[arg(long)]
    pub step: Option<String>,
    /// Stay, and print what comes, until the build has ended
    #[arg(long)]
    pub follow: bool,
}
