//! What can be typed that asks no running master: it happens on this machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;

use crate::client::arguments::input::key_and_value;

/// The pipeline file that is looked at if none is named.
pub const PIPELINE_FILE: &str = ".busybee.yaml";

/// `busybee serve …`
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// The master's file, busybee.toml
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `busybee demo …`
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Where to serve the page; without it, a free port of the loopback interface
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where to keep the demo's files; without it, a scratch directory that goes away
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Leave after the build, with 0 if it passed
    #[arg(long)]
    pub exit: bool,
}

/// `busybee check …`
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The master's file, busybee.toml
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Answer with one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `busybee doctor …`
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The master's file, busybee.toml
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// If all is well, also start one machine of this pool, run `true` on it and end it, and say
    /// how long each part took and what it cost. The master must not be running meanwhile
    #[arg(long, value_name = "POOL")]
    pub launch: Option<String>,
    /// Answer with one JSON document (one a line, with --launch)
    #[arg(long)]
    pub json: bool,
}

/// `busybee user-data …`
#[derive(Debug, Args)]
pub struct UserDataArguments {
    /// Which pool of the file
    pub pool: String,
    /// The master's file, busybee.toml
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Answer with one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `busybee pipeline …`
#[derive(Debug, Args)]
pub struct PipelineArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: PipelineCommand,
}

/// What can be done with a pipeline file.
#[derive(Debug, Subcommand)]
pub enum PipelineCommand {
    /// Say what is wrong with a pipeline file, each mistake with its line and a hint.
    Check {
        /// The file
        #[arg(default_value = PIPELINE_FILE)]
        file: PathBuf,
        /// Answer with one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show which jobs would run, in which order and on which workers.
    Plan(PlanArguments),
    /// Print the JSON Schema of pipeline files, for editors.
    Schema,
}

/// `busybee pipeline plan …`
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The file
    #[arg(default_value = PIPELINE_FILE)]
    pub file: PathBuf,
    /// For which ref: main is the branch main, refs/tags/v1 the tag v1
    #[arg(long = "ref", value_name = "REF", default_value = "main")]
    pub reference: String,
    /// For what kind of event; without it: push, or manual where inputs are given
    #[arg(long, value_enum)]
    pub event: Option<EventWord>,
    /// A value for one of the pipeline's inputs; may be given several times
    #[arg(long = "input", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub inputs: Vec<(String, String)>,
    /// Answer with one JSON document
    #[arg(long)]
    pub json: bool,
}

/// What can start a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum EventWord {
    /// A branch or tag moved
    Push,
    /// Somebody proposes a change
    PullRequest,
    /// Somebody asked for it
    Manual,
    /// Its time came
    Schedule,
}

impl EventWord {
    /// The word as it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            EventWord::Push => "push",
            EventWord::PullRequest => "pull_request",
            EventWord::Manual => "manual",
            EventWord::Schedule => "schedule",
        }
    }
}

/// `busybee completions …`
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// For which shell
    #[arg(value_enum)]
    pub shell: ShellWord,
}

/// The shells for which there are completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShellWord {
    /// The GNU shell
    Bash,
    /// The Z shell
    Zsh,
    /// The friendly shell
    Fish,
}
