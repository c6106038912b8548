//! What every provisioner must do; `main.rs` calls `check` with each of them.

use std::time::Duration;

use busybee::master::provisioner::LaunchOrder;
use busybee::master::provisioner::Provisioner;
use busybee::model::ids::LaunchId;
use busybee::model::ids::WorkerName;
use busybee::model::secret::Secret;

/// Launches, lists and ends machines; `user_data` must run until it is ended.
pub(crate) async fn check(provisioner: &dyn Provisioner, user_data: &str) {
    let order = |name: &str| LaunchOrder {
        launch: LaunchId(format!("{name}00000000000000000000000000000")),
        worker: WorkerName(format!("contract-{name}")),
        user_data: Secret::new(user_data.to_owned()),
        max_lifetime: Duration::from_secs(120),
    };
    let alive = async || {
        let machines = provisioner.list().await.expect("the listing works");
        let alive = machines.into_iter().filter(|machine| machine.alive);
        let mut launches: Vec<LaunchId> = alive.map(|machine| machine.launch).collect();
        launches.sort();
        launches
    };

    assert_eq!(alive().await, [], "nothing is there before the first launch");
    let first = provisioner.launch(order("a")).await.expect("the launch works");
    let again = provisioner.launch(order("a")).await.expect("the same launch works again");
    assert_eq!(first, again, "the same launch is the same machine");
    assert_eq!(alive().await, [order("a").launch], "and there is one of it");

    let second = provisioner.launch(order("b")).await.expect("another launch works");
    assert_ne!(first, second);
    assert_eq!(alive().await, [order("a").launch, order("b").launch]);

    provisioner.terminate(order("a").launch).await.expect("it ends");
    provisioner.terminate(order("a").launch).await.expect("ending it again is no error");
    provisioner.terminate(order("never").launch).await.expect("nor is what never was");
    assert_eq!(alive().await, [order("b").launch], "and nothing else has ended");
    provisioner.terminate(order("b").launch).await.expect("it ends");
    assert_eq!(alive().await, []);
}
