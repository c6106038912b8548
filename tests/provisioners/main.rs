//! Every provisioner against the one contract, and what is special to each.

use std::path::Path;
use std::time::Duration;

use busybee::master::provisioner::LaunchOrder;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::local::LocalProvisioner;
use busybee::model::ids::LaunchId;
use busybee::model::ids::WorkerName;
use busybee::model::secret::Secret;

mod contract;

fn local(dir: &Path) -> LocalProvisioner {
    LocalProvisioner::new(dir.join("machines"), env!("CARGO_BIN_EXE_busybee").into())
}

fn order(user_data: &str, max_lifetime: Duration) -> LaunchOrder {
    LaunchOrder {
        launch: LaunchId("0123456789abcdef".into()),
        worker: WorkerName("w".into()),
        user_data: Secret::new(user_data.into()),
        max_lifetime,
    }
}

/// Waits for a condition with a deadline; looks every few milliseconds.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        let mut often = tokio::time::interval(Duration::from_millis(5));
        while !holds().await {
            often.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(what);
}

/// Whether the process whose id stands in `file` is alive (and no zombie).
fn lives(file: &Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
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
    let order = order(&user_data, Duration::from_secs(100));
    provisioner.launch(order.clone()).await.unwrap();
    eventually("the stray starts", async || lives(&stray)).await;
    provisioner.terminate(order.launch).await.unwrap();
    assert!(!lives(&stray));
}

#[tokio::test]
async fn an_end_that_comes_while_the_start_is_under_way_leaves_no_machine() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = local(dir.path());
    for _ in 0..5 {
        let order = order("exec cat /dev/zero > /dev/null", Duration::from_secs(100));
        let (starting, launch) = (provisioner.clone(), order.launch.clone());
        let start = tokio::spawn(async move { starting.launch(order).await });
        let machine = dir.path().join("machines").join(launch.as_str());
        eventually("the start is under way", async || machine.exists()).await;
        provisioner.terminate(launch).await.unwrap();
        start.await.unwrap().unwrap();
        assert!(provisioner.list().await.unwrap().iter().all(|machine| !machine.alive));
    }
}

#[tokio::test]
async fn a_local_machine_whose_user_data_ends_is_listed_as_ended_and_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = local(dir.path());
    let stray = dir.path().join("stray");
    let user_data = format!("setsid cat /dev/zero > /dev/null & echo $! > {}", stray.display());
    let order = order(&user_data, Duration::from_secs(100));
    provisioner.launch(order.clone()).await.unwrap();
    eventually("the machine ends", async || {
        provisioner.list().await.unwrap().iter().all(|machine| !machine.alive)
    })
    .await;
    assert!(stray.exists() && !lives(&stray));
    provisioner.terminate(order.launch).await.unwrap();
}

#[tokio::test]
async fn a_local_machine_ends_itself_when_its_lifetime_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let provisioner = local(dir.path());
    provisioner
        .launch(order("exec cat /dev/zero > /dev/null", Duration::from_secs(1)))
        .await
        .unwrap();
    eventually("its time is over", async || {
        provisioner.list().await.unwrap().iter().all(|machine| !machine.alive)
    })
    .await;
}
