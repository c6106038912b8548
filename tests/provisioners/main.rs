//! Every provisioner against the one contract, and what is special to each.

use std::path::Path;
use std::time::Duration;

use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::local::LocalProvisioner;
use busybee::model::ids::LaunchId;

use crate::contract::alive;
use crate::contract::eventually;
use crate::contract::order;

mod belongings;
mod contract;
mod control;
mod dictated;
mod doctor;
mod ec2;
mod machines;
mod matrix;
mod policy;
mod reap;
mod refusals;
mod scripted;
mod signatures;
mod slips;
mod small_master;

/// Machines end themselves after a time that no test needs.
fn local(dir: &Path) -> LocalProvisioner {
    local_for(dir, Duration::from_secs(120))
}

fn local_for(dir: &Path, max_lifetime: Duration) -> LocalProvisioner {
    LocalProvisioner::new(dir.join("machines"), env!("CARGO_BIN_EXE_busybee").into(), max_lifetime)
}

fn launch() -> LaunchId {
    LaunchId("0123456789abcdef".into())
}

/// Whether the process whose id stands in `file` is alive (and no zombie).
fn lives(file: &Path) -> bool {
    // Without a number `/proc//stat` would be read, which is always there.
    let Some(pid) =
        std::fs::read_to_string(file).ok().and_then(|pid| pid.trim().parse::<u32>().ok())
    else {
        return false;
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn the_local_provisioner_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::check(&local(dir.path()), "exec cat /dev/zero > /dev/null").await;
    let left = std::fs::read_dir(dir.path().join("machines")).unwrap().count();
    assert_eq!(left, 0, "the directories of ended machines are gone");
}

#[tokio::test]
async fn ending_a_local_machine_ends_what_fled_into_sessions_of_its_own_and_ignores_term() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = local(dir.path());
    let stray = dir.path().join("stray");
    let user_data = format!(
        "setsid sh -c 'trap \"\" TERM; echo $$ > {0}.new; mv {0}.new {0}; while :; do read x; done < /dev/zero' &\nwait",
        stray.display()
    );
    let order = order(&provisioner, &launch(), &user_data).await;
    provisioner.launch(order).await.unwrap();
    eventually("the stray starts", async || lives(&stray)).await;
    provisioner.terminate(launch(), None).await.unwrap();
    assert!(!lives(&stray));
}

#[tokio::test]
async fn an_end_that_comes_while_the_start_is_under_way_leaves_no_machine() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = local(dir.path());
    for _ in 0..5 {
        let order = order(&provisioner, &launch(), "exec cat /dev/zero > /dev/null").await;
        let starting = provisioner.clone();
        let start = tokio::spawn(async move { starting.launch(order).await });
        let machine = dir.path().join("machines").join(launch().as_str());
        eventually("the start is under way", async || machine.exists()).await;
        provisioner.terminate(launch(), None).await.unwrap();
        start.await.unwrap().unwrap();
        assert!(alive(&provisioner).await.is_empty());
    }
}

#[tokio::test]
async fn a_local_machine_whose_user_data_ends_is_listed_as_ended_and_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = local(dir.path());
    let stray = dir.path().join("stray");
    let user_data = format!("setsid cat /dev/zero > /dev/null & echo $! > {}", stray.display());
    let order = order(&provisioner, &launch(), &user_data).await;
    provisioner.launch(order).await.unwrap();
    eventually("the machine ends", async || alive(&provisioner).await.is_empty()).await;
    assert!(stray.exists() && !lives(&stray));
    provisioner.terminate(launch(), None).await.unwrap();
}

#[tokio::test]
async fn a_local_machine_ends_itself_when_its_lifetime_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = local_for(dir.path(), Duration::from_secs(1));
    let order = order(&provisioner, &launch(), "exec cat /dev/zero > /dev/null").await;
    provisioner.launch(order).await.unwrap();
    eventually("its time is over", async || alive(&provisioner).await.is_empty()).await;
}

#[tokio::test]
async fn the_console_of_a_local_machine_is_what_its_user_data_printed() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = local(dir.path());
    let order = order(&provisioner, &launch(), "echo \"$password is here\"; exec cat").await;
    let cloud_id = provisioner.launch(order).await.unwrap();
    eventually("it prints", async || {
        let console = provisioner.console(launch(), cloud_id.clone()).await.unwrap();
        console.contains("secret is here")
    })
    .await;
    provisioner.terminate(launch(), None).await.unwrap();
}
