//! The options that every client command has: which master, and in what form to answer.

use std::path::PathBuf;

use clap::Args;

/// The heading over these options in help texts.
const HEADING: &str = "Which master";

/// Which master to ask, and whether to answer in JSON. May stand after any part of a command.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetArguments {
    /// The master's address, such as https://ci.example.com:8443 [env: BUSYBEE_URL]
    #[arg(long, global = true, help_heading = HEADING, conflicts_with = "config")]
    pub url: Option<String>,
    /// The token to show it; better given in the environment, where no process list has it
    /// [env: BUSYBEE_TOKEN]
    #[arg(long, global = true, help_heading = HEADING)]
    pub token: Option<String>,
    /// The only certificate authority to trust, a PEM file; without it, those that this machine
    /// trusts [env: BUSYBEE_CA]
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub ca: Option<PathBuf>,
    /// On the master's own machine: its busybee.toml. The master is then asked through the Unix
    /// socket in its data directory, without address or token
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub config: Option<PathBuf>,
    /// Answer in JSON: one document, or one a line for what comes bit by bit
    #[arg(long, global = true)]
    pub json: bool,
}
