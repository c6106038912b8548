//! `busybee completions …`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::client::arguments::CommandLine;
use crate::client::arguments::here::ShellWord;

/// The completion script for a shell.
pub fn script(shell: ShellWord) -> Vec<u8> {
    let shell = match shell {
        ShellWord::Bash => Shell::Bash,
        ShellWord::Zsh => Shell::Zsh,
        ShellWord::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "busybee", &mut script);
    script
}
