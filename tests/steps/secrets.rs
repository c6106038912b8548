//! Secrets of a job: variables of its steps, hidden in what they print.

use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::SecretVariable;
use busybee::model::secret::Secret;
use busybee::model::step::StepOutcome;

use crate::bench::Bench;
use crate::bench::step;

fn secret(name: &str, value: &str) -> SecretVariable {
    SecretVariable { name: name.into(), value: Ok(Secret::new(value.into())) }
}

fn run(secrets: Vec<SecretVariable>, scripts: &[&str]) -> crate::bench::Done {
    let mut bench = Bench::with(scripts.iter().map(|script| step(script)).collect());
    bench.spec.secrets = secrets;
    bench.into_done()
}

#[test]
fn a_step_gets_its_secret_and_nothing_that_it_prints_shows_it() {
    let scripts = [
        "test \"$DEPLOY_TOKEN\" = hunter2-hunter2; echo \"the token is $DEPLOY_TOKEN.\"",
        // By a program that writes byte by byte, and into a pipe that others write to as well.
        "printf '%s' \"$DEPLOY_TOKEN\" | fold -w 1 | while read -r c || [ \"$c\" ]; do printf '%s' \"$c\"; done",
        "set -x; : curl -H \"Authorization: Bearer $DEPLOY_TOKEN\"",
        "printf '%s' \"me:$DEPLOY_TOKEN\" | base64; env | grep DEPLOY; exec sh -c 'exit 3'",
    ];
    let done = run(vec![secret("DEPLOY_TOKEN", "hunter2-hunter2")], &scripts);
    assert_eq!(done.log(1), "the token is ***.\n");
    assert_eq!(done.log(2), "***");
    assert_eq!(done.log(3), "+ : curl -H Authorization: Bearer ***\n");
    let log = done.log(4);
    assert!(log.contains("DEPLOY_TOKEN=***\n") && !log.contains("aHVudGVyMi1odW50ZXIy"), "{log}");
    assert_eq!(done.step(4), &StepOutcome::Exited(3));
}

#[test]
fn a_key_of_many_lines_is_hidden_whole_and_in_part() {
    let line = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ";
    let key = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{line}0\n{line}1\n-----END KEY-----");
    let scripts = ["echo \"$KEY\" >key; cat key; echo; sed -n 3p key; tail -c 300 key | tac"];
    let done = run(vec![secret("KEY", &key)], &scripts);
    assert_eq!(done.log(1), "***\n\n***\n***\n***\n***\n***\n");
}

#[test]
fn a_long_log_keeps_every_byte_but_the_secrets() {
    // Secrets at any place of the blocks that are read, and the hash of what is left (`bench` checks it).
    let script = "seq 1 200000 | sed 's/7$/hunter2-hunter2/'";
    let done = run(vec![secret("A", "hunter2-hunter2"), secret("B", "r2-h")], &[script]);
    let expected: String = (1..=200_000_u32)
        .map(|n| n.to_string())
        .map(|n| n.strip_suffix('7').map_or(n.clone(), |head| format!("{head}***")) + "\n")
        .collect();
    assert!(done.log(1) == expected, "something is lost, or shown");
}

#[test]
fn what_is_held_back_comes_at_the_end() {
    let done = run(vec![secret("A", "hunter2-hunter2")], &["printf 'hunter2-hunter'"]);
    assert_eq!(done.log(1), "hunter2-hunter");
}

#[test]
fn a_job_without_one_of_its_secrets_runs_no_step() {
    let missing = SecretVariable {
        name: "DEPLOY_TOKEN".into(),
        value: Err("the secret in /etc/token cannot be used: No such file".into()),
    };
    let done = run(vec![secret("A", "hunter2"), missing], &["echo never"]);
    let AttemptOutcome::Infra(why) = &done.outcome else { panic!("{:?}", done.outcome) };
    assert!(why.contains("DEPLOY_TOKEN") && why.contains("/etc/token"), "{why}");
    assert_eq!(done.log(1), "");
}
