//! What every provisioner must do; `main.rs` calls `check` with each of them.

use std::time::Duration;

use busybee::master::domain::event::MachineState;
use busybee::master::provisioner::LaunchOrder;
use busybee::master::provisioner::PASSWORD_PLACE;
use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Provisioner;
use busybee::model::ids::CloudId;
use busybee::model::ids::LaunchId;
use busybee::model::ids::WorkerName;
use busybee::model::secret::Secret;
use busybee::model::time::Timestamp;

/// What a test machine runs has this line in it, so that the password has its place.
pub(crate) fn with_password_place(user_data: &str) -> String {
    format!("password='{PASSWORD_PLACE}'\n{user_data}")
}

/// Prepares a launch, as the master does before it sends anything.
pub(crate) async fn order(
    provisioner: &dyn Provisioner,
    launch: &LaunchId,
    user_data: &str,
) -> LaunchOrder {
    let order = PrepareOrder {
        launch: launch.clone(),
        worker: WorkerName(format!("contract-{}", &launch.as_str()[..1])),
        candidate: 0,
        seat: None,
        user_data: with_password_place(user_data),
        expires_at: Timestamp(4_000_000_000_000),
    };
    let prepared = provisioner.prepare(order).await.expect("the launch is prepared");
    assert!(!prepared.what.is_empty(), "people are told what is asked for");
    let password = Secret::new("secret".to_owned());
    LaunchOrder { launch: launch.clone(), request: prepared.request, password }
}

/// Waits for a condition with a deadline; looks every few milliseconds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        let mut often = tokio::time::interval(Duration::from_millis(5));
        while !holds().await {
            often.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
}

/// The launches whose machines are there and not ending.
pub(crate) async fn alive(provisioner: &dyn Provisioner) -> Vec<LaunchId> {
    let machines = provisioner.list().await.expect("the listing works");
    let is_alive = |state| matches!(state, MachineState::Starting | MachineState::Running);
    let alive = machines.into_iter().filter(|machine| is_alive(machine.state));
    let mut launches: Vec<LaunchId> = alive.map(|machine| machine.launch).collect();
    launches.sort();
    launches
}

/// Launches, lists and ends machines; `user_data` must run until it is ended.
pub(crate) async fn check(provisioner: &dyn Provisioner, user_data: &str) {
    let launch = |name: &str| LaunchId(format!("{name}00000000000000000000000000000"));
    let (a, b) = (launch("a"), launch("b"));
    assert_eq!(alive(provisioner).await, [], "nothing is there before the first launch");

    let order_a = order(provisioner, &a, user_data).await;
    assert_eq!(alive(provisioner).await, [], "a preparation starts nothing");
    let first = provisioner.launch(order_a.clone()).await.expect("the launch works");
    let again = provisioner.launch(order_a).await.expect("the same launch works again");
    assert_eq!(first, again, "the same launch is the same machine");
    assert_eq!(alive(provisioner).await, std::slice::from_ref(&a), "and there is one of it");

    let order_b = order(provisioner, &b, user_data).await;
    let second = provisioner.launch(order_b).await.expect("another launch works");
    assert_ne!(first, second);
    assert_eq!(alive(provisioner).await, [a.clone(), b.clone()]);

    let end = async |launch: LaunchId, id: Option<CloudId>| {
        provisioner.terminate(launch, id).await.expect("an end can always be asked for")
    };
    end(a.clone(), Some(first.clone())).await;
    eventually("it ends", async || alive(provisioner).await == [b.clone()]).await;
    end(a, Some(first)).await;
    end(launch("never"), None).await;
    assert_eq!(alive(provisioner).await, std::slice::from_ref(&b), "and nothing else has ended");
    end(b, None).await;
    eventually("it ends", async || alive(provisioner).await.is_empty()).await;
}
