//! One message of every kind, for the tests: names never change their meaning.

use std::time::Duration;

use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::CheckoutSpec;
use crate::model::attempt::GitCredential;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::model::attempt::SecretVariable;
use crate::model::ids::AttemptId;
use crate::model::ids::Fence;
use crate::model::secret::Secret;
use crate::model::step::RunsAfter;
use crate::model::step::Shell;
use crate::model::step::StepOutcome;
use crate::model::step::StepSpec;
use crate::model::time::Timestamp;
use crate::wire::message::Bootstrap;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;
use crate::wire::message::GoodbyeCode;
use crate::wire::message::Heartbeat;
use crate::wire::message::Hello;
use crate::wire::message::HelloProof;
use crate::wire::message::Inventory;
use crate::wire::message::InventoryItem;
use crate::wire::message::StepResult;
use crate::wire::message::Welcome;

const ATTEMPT: AttemptRef = AttemptRef { attempt: AttemptId(300), fence: Fence(2) };
const AT: Timestamp = Timestamp(1_700_000_000_123);

fn hello(proof: HelloProof) -> FromAgent {
    FromAgent::Hello(Hello {
        proto_min: 1,
        proto_max: 2,
        worker: "linux-1".into(),
        instance_claim: "i-0123".into(),
        boot_id: "boot".into(),
        epoch: 7,
        public_key: vec![1; 4],
        proof,
        version: "0.1.0".into(),
    })
}

fn result(outcome: StepOutcome) -> FromAgent {
    FromAgent::StepResult(StepResult {
        attempt: ATTEMPT,
        step: 1,
        outcome,
        started_at: AT,
        duration_ms: 1500,
        log_bytes: 70_000,
        log_sha256: vec![9; 4],
    })
}

fn ended(outcome: AttemptOutcome) -> FromAgent {
    FromAgent::AttemptResult { attempt: ATTEMPT, outcome }
}

fn chunk(owner: LogOwner) -> FromAgent {
    FromAgent::LogChunk(LogChunk {
        owner,
        offset: 65_536,
        raw_len: 100,
        first_at: AT,
        last_at: Timestamp(AT.0 + 20),
        frame: vec![0x28, 0xb5, 0x2f, 0xfd],
    })
}

/// Every kind of message of an agent.
pub(crate) fn of_agent() -> Vec<(&'static str, FromAgent)> {
    let item = |finished| InventoryItem { attempt: ATTEMPT, finished };
    vec![
        ("hello_bind", hello(HelloProof::Bind(vec![2; 4]))),
        ("hello_resume", hello(HelloProof::Resume(vec![3; 4]))),
        ("inventory_empty", FromAgent::Inventory(Inventory::default())),
        (
            "inventory",
            FromAgent::Inventory(Inventory {
                bootstrapped: true,
                attempts: vec![item(true), item(false)],
                up: Duration::ZERO,
            }),
        ),
        (
            "inventory_up",
            FromAgent::Inventory(Inventory {
                up: Duration::from_millis(3500),
                ..Inventory::default()
            }),
        ),
        (
            "heartbeat",
            FromAgent::Heartbeat(Heartbeat {
                number: 1,
                load: 0.5,
                memory_available_bytes: 1 << 33,
                disk_free_bytes: 1 << 40,
                spool_bytes: 12,
            }),
        ),
        (
            "bootstrap_result",
            FromAgent::BootstrapResult {
                outcome: StepOutcome::Exited(100),
                log_bytes: 11,
                tail: "E: no".into(),
            },
        ),
        ("attempt_accepted", FromAgent::AttemptAccepted(ATTEMPT)),
        (
            "attempt_rejected",
            FromAgent::AttemptRejected { attempt: ATTEMPT, sentence: "no room".into() },
        ),
        ("step_started", FromAgent::StepStarted { attempt: ATTEMPT, step: 0, started_at: AT }),
        ("log_chunk_step", chunk(LogOwner::Step { attempt: ATTEMPT, step: 3 })),
        ("log_chunk_boot", chunk(LogOwner::Boot)),
        ("step_exited", result(StepOutcome::Exited(0))),
        ("step_exited_minus", result(StepOutcome::Exited(-1))),
        ("step_signalled", result(StepOutcome::Signalled(9))),
        ("step_timed_out", result(StepOutcome::TimedOut)),
        ("step_out_of_memory", result(StepOutcome::OutOfMemory)),
        ("step_cancelled", result(StepOutcome::Cancelled)),
        ("step_skipped", result(StepOutcome::Skipped)),
        ("step_infra", result(StepOutcome::Infra("disk full".into()))),
        ("attempt_passed", ended(AttemptOutcome::Passed)),
        ("attempt_failed", ended(AttemptOutcome::Failed)),
        ("attempt_cancelled", ended(AttemptOutcome::Cancelled)),
        ("attempt_infra", ended(AttemptOutcome::Infra("rebooted".into()))),
        ("notice", FromAgent::Notice("memory is short".into())),
        (
            "interruption",
            FromAgent::Interruption { ends_in: Duration::from_secs(120), sentence: "spot".into() },
        ),
        ("agent_goodbye", FromAgent::Goodbye { sentence: "told so".into() }),
    ]
}

fn attempt(credential: GitCredential, secrets: Vec<SecretVariable>) -> FromMaster {
    let step = |shell, timeout, when| StepSpec {
        name: "test".into(),
        run: "make check\n".into(),
        shell,
        env: vec![("B".into(), "2".into()), ("A".into(), "ü".into())],
        timeout,
        when,
    };
    FromMaster::RunAttempt(Box::new(AttemptSpec {
        id: ATTEMPT,
        project: "hello".into(),
        job: "unit".into(),
        env: vec![("CI".into(), "true".into())],
        secrets,
        checkout: Some(CheckoutSpec {
            repo: "https://git.example.com/hello.git".into(),
            commit: "0123456789abcdef".into(),
            ref_name: "refs/heads/main".into(),
            credential,
        }),
        keep_workspace: true,
        steps: vec![
            step(Shell::Sh, None, RunsAfter::SUCCESS),
            step(
                Shell::Bash,
                Some(Duration::from_secs(60)),
                RunsAfter { success: false, failure: true, cancel: true },
            ),
        ],
        timeout: Duration::from_secs(3600),
        lease: Duration::from_secs(1800),
    }))
}

/// Every kind of message of a master.
pub(crate) fn of_master() -> Vec<(&'static str, FromMaster)> {
    let owner = LogOwner::Step { attempt: ATTEMPT, step: 3 };
    let goodbye = |code| FromMaster::Goodbye { code, sentence: "why".into() };
    vec![
        (
            "welcome",
            FromMaster::Welcome(Welcome {
                proto: 1,
                master_key: vec![4; 4],
                proof: vec![5; 4],
                heartbeat_busy: Duration::from_secs(10),
                heartbeat_idle: Duration::from_secs(30),
                lease: Duration::from_secs(1800),
                server_time: AT,
            }),
        ),
        (
            "bootstrap",
            FromMaster::Bootstrap(Bootstrap {
                url: "https://ci.example.com/bootstrap/debian.sh".into(),
                sha256: "ab".repeat(32),
                args: vec!["git".into(), String::new()],
                env: vec![("A".into(), "1".into())],
                timeout: Duration::from_secs(1200),
            }),
        ),
        ("run_public", attempt(GitCredential::None, Vec::new())),
        ("run_token", attempt(GitCredential::Token(Secret::new("t0ken".into())), Vec::new())),
        (
            "run_ssh_key",
            attempt(
                GitCredential::SshKey {
                    key: Secret::new("KEY".into()),
                    known_hosts: "host ssh-ed25519 AAAA".into(),
                },
                Vec::new(),
            ),
        ),
        (
            "run_secrets",
            attempt(
                GitCredential::None,
                vec![
                    SecretVariable {
                        name: "DEPLOY_TOKEN".into(),
                        value: Ok(Secret::new("hunter2".into())),
                    },
                    SecretVariable { name: "LOST".into(), value: Err("no such file".into()) },
                ],
            ),
        ),
        ("cancel", FromMaster::Cancel(ATTEMPT)),
        ("forget", FromMaster::Forget(ATTEMPT)),
        ("log_ack", FromMaster::LogAck { owner, durable_offset: 65_636, rewind_to: None }),
        (
            "log_ack_rewind",
            FromMaster::LogAck { owner: LogOwner::Boot, durable_offset: 0, rewind_to: Some(0) },
        ),
        ("heartbeat_ack", FromMaster::HeartbeatAck { heartbeat: 1 }),
        ("drain", FromMaster::Drain),
        ("shutdown", FromMaster::Shutdown { sentence: "idle".into() }),
        ("goodbye_retry", goodbye(GoodbyeCode::Retry)),
        ("goodbye_refused", goodbye(GoodbyeCode::Refused)),
    ]
}
