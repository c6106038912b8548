//! What can be typed: every command of `busybee`, with its help.
//!
//! The master's own commands are parsed here too and carried out elsewhere: `bin/busybee.rs` has
//! the one match. Help is prose for people; `tests/command_line.rs` keeps a snapshot of it.

pub mod build;
pub mod fleet;
pub mod here;
pub mod input;
pub mod target;

use clap::Parser;
use clap::Subcommand;

use crate::client::arguments::build::BuildArguments;
use crate::client::arguments::fleet::InstanceArguments;
use crate::client::arguments::fleet::PoolArguments;
use crate::client::arguments::fleet::WorkerArguments;
use crate::client::arguments::here::CheckArguments;
use crate::client::arguments::here::CompletionsArguments;
use crate::client::arguments::here::DemoArguments;
use crate::client::arguments::here::DoctorArguments;
use crate::client::arguments::here::PipelineArguments;
use crate::client::arguments::here::ServeArguments;
use crate::client::arguments::here::UserDataArguments;

/// Columns of help text at most: longer lines are hard to read.
const HELP_COLUMNS_MAX: usize = 100;

/// What stands below the list of commands.
const AFTER_HELP: &str = "\
The commands build, worker, pool and instance ask a running master. Tell them which one with
--url, --token and --ca (or BUSYBEE_URL, BUSYBEE_TOKEN and BUSYBEE_CA), or, on the master's own
machine, with --config FILE. Each of them takes --json. `instance reap` asks the cloud itself.

Exit codes: 0 done, or the build passed; 1 the build failed, or what was asked for is wrong;
2 wrong usage; 3 the build was cancelled; 4 it could not be carried out (infrastructure);
5 the master cannot be reached.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "busybee",
    version,
    about = "CI whose build machines exist only while there is work.",
    after_help = AFTER_HELP,
    max_term_width = HELP_COLUMNS_MAX,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, in the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a whole build on this machine, with a throw-away master.
    ///
    /// Starts a master with a scratch directory, makes a sample git repository, pushes to it,
    /// starts a worker by the same road that an instance in a cloud would take, runs the build
    /// and prints the address of its page. Needs no root and no network, and leaves nothing
    /// behind.
    Demo(DemoArguments),
    /// Write a first file: .busybee.yaml in a git repository, busybee.toml elsewhere.
    ///
    /// Stands the file in the current directory, with a comment at each key. It never overwrites
    /// one that is there.
    Init,
    /// Check a master's file, and say what is wrong with it.
    ///
    /// Each finding has its file, line and column, what is wrong and what to do about it. Exits
    /// with 1 if the file is wrong; warnings alone do not count.
    Check(CheckArguments),
    /// Ask the cloud, the repositories and this machine whether a master's file would work.
    ///
    /// Looks at the disk, the ledger, the address that instances are told and what answers there,
    /// each repository, and for each pool of EC2 at credentials and clock, the image, the types and
    /// where they are offered, quotas, the way out of each subnet, groups, keys and roles, and what
    /// an earlier life has left; and makes a dry run of the real request. Each finding says what to
    /// do. Starts and changes nothing, but with --launch; exits with 1 if builds will not run.
    Doctor(DoctorArguments),
    /// Run the master.
    ///
    /// Creates its data directory, certificate authority and first token if need be, then serves
    /// pages, API and agents on one port until it is told to stop (SIGTERM, SIGINT). Workers go
    /// on without it and report when it is back.
    Serve(ServeArguments),
    /// Print the user-data script that an instance of a pool would get, its secrets masked.
    UserData(UserDataArguments),
    /// Look at a pipeline file, without a master.
    Pipeline(PipelineArguments),
    /// Start, watch and end builds.
    Build(BuildArguments),
    /// See and end workers, and add machines of your own.
    Worker(WorkerArguments),
    /// See, pause and resume pools.
    Pool(PoolArguments),
    /// Read the ledger: why each instance was started and ended; and end what has expired.
    Instance(InstanceArguments),
    /// Print a completion script for a shell.
    ///
    /// For example: busybee completions bash > ~/.local/share/bash-completion/completions/busybee
    Completions(CompletionsArguments),
    /// Be a machine of a local pool: the master starts this, nobody else.
    #[command(hide = true)]
    LocalMachine {
        /// Its directory.
        dir: std::path::PathBuf,
        /// How long it may live.
        lifetime_secs: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        CommandLine::command().debug_assert();
    }

    fn parse(words: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(words.split_whitespace())
    }

    #[test]
    fn everything_that_the_contract_lists_is_understood() {
        for words in [
            "busybee serve --config busybee.toml",
            "busybee demo --listen 127.0.0.1:0 --data-dir d --exit",
            "busybee init",
            "busybee doctor --config busybee.toml",
            "busybee doctor --config busybee.toml --json",
            "busybee check --config busybee.toml",
            "busybee user-data linux --config busybee.toml",
            "busybee user-data linux --config busybee.toml --json",
            "busybee pipeline check",
            "busybee pipeline check file.yaml",
            "busybee pipeline plan --ref main --event pull_request",
            "busybee pipeline plan file.yaml --event schedule",
            "busybee pipeline schema",
            "busybee build start hello --ref main --input a=b --input c=d=e --wait --follow",
            "busybee build list --limit 3",
            "busybee build list hello --json",
            "busybee build show hello/1 --config busybee.toml",
            "busybee build logs hello/1 --job test[x64] --step unit --follow",
            "busybee build cancel hello/1",
            "busybee build retry hello/1 --failed",
            "busybee build --json --url http://127.0.0.1:1 list",
            "busybee worker list",
            "busybee worker show w-1",
            "busybee worker drain w-1",
            "busybee worker stop w-1",
            "busybee worker add w-1 --pool own",
            "busybee pool list",
            "busybee pool pause linux",
            "busybee pool resume linux",
            "busybee instance list --all --token t --ca ca.pem",
            "busybee completions zsh",
        ] {
            assert!(parse(words).is_ok(), "{words}: {}", parse(words).unwrap_err());
        }
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_wrong_usage() {
        for words in [
            "busybee",
            "busybee build",
            "busybee serve",
            "busybee check",
            "busybee user-data linux",
            "busybee build show hello",
            "busybee build start hello --input novalue",
            "busybee build list --url http://a --config f",
            "busybee worker add w-1",
            "busybee pipeline plan --event deploy",
        ] {
            assert_eq!(parse(words).map(|_| ()).unwrap_err().exit_code(), 2, "{words}");
        }
    }
}
