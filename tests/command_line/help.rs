//! Help, wrong usage and completions.

use crate::program::busybee;
use crate::program::run;

#[test]
fn the_first_page_of_help_reads_as_prose() {
    let help = run(busybee(&["--help"])).ended_with(0);
    insta::assert_snapshot!(help.text());
}

#[test]
fn every_command_has_a_page_of_help_that_says_what_it_does() {
    for command in [
        "serve",
        "demo",
        "init",
        "check",
        "user-data",
        "pipeline",
        "pipeline check",
        "pipeline plan",
        "pipeline schema",
        "build",
        "build start",
        "build list",
        "build show",
        "build logs",
        "build cancel",
        "build retry",
        "worker",
        "worker list",
        "worker show",
        "worker drain",
        "worker stop",
        "worker add",
        "pool",
        "pool list",
        "pool pause",
        "pool resume",
        "instance",
        "instance list",
        "completions",
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = run(busybee(&words)).ended_with(0);
        let first = help.text().lines().next().unwrap_or_default();
        assert!(first.len() > 10, "{command}: {first:?}");
        let is_client = ["build", "worker", "pool", "instance"].contains(&words[0]);
        assert_eq!(help.text().contains("--url"), is_client, "{command}");
        let looks_at_files =
            ["check", "user-data", "pipeline check", "pipeline plan"].contains(&command);
        assert_eq!(help.text().contains("--json"), is_client || looks_at_files, "{command}");
    }
}

#[test]
fn help_never_shows_a_token_of_the_environment() {
    let mut command = busybee(&["build", "list", "--help"]);
    command.env("BUSYBEE_TOKEN", "hunter2");
    assert!(!run(command).ended_with(0).text().contains("hunter2"));
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    for (words, said) in [
        (&["biuld"] as &[&str], "'build'"),
        (&["build", "show", "hello"], "PROJECT/N, such as hello/12"),
        (&["build", "show", "12"], "such as hello/12"),
        (&["build", "show", "hello/one"], "count from 1"),
        (&["build", "list", "--limit", "0"], "1..=1000"),
        (&["build", "list", "--url", "ci.example.com"], "https://HOST:PORT"),
        (&["build", "list"], "--url"),
        (&["build", "start", "hello", "--input", "x", "--url", "http://a"], "KEY=VALUE"),
        (&["serve"], "--config"),
    ] {
        let ran = run(busybee(words)).ended_with(2);
        assert!(ran.err.contains(said), "{words:?}: {}", ran.err);
        assert!(ran.out.is_empty(), "{words:?}");
    }
}

#[test]
fn completions_know_the_commands_in_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(busybee(&["completions", shell])).ended_with(0);
        for word in ["build", "retry", "failed", "instance"] {
            assert!(script.text().contains(word), "{shell}: {word}");
        }
    }
}
