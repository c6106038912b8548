//! What an earlier start has left running must be within this one's reach: nothing but the pool that
//! launched a machine, with its region and its credentials, can end it.

use std::collections::BTreeMap;

use anyhow::Context;
use tracing::error;

use crate::master::config::Config;
use crate::master::config::PoolConfig;
use crate::master::domain::decision::Record;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::PoolState;
use crate::master::domain::entities::Resumes;
use crate::master::domain::pauses;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::store::Store;
use crate::model::ids::PoolName;
use crate::model::status::InstanceStatus;

/// Where the pools of the last start had their machines.
const PLACES: &str = "pool_places";

/// Machines that are named, at most.
const NAMED_MAX: usize = 5;

/// Refuses to start where something runs that could not be ended: a pool with open rows was taken out
/// of the file, or is somewhere else now. To keep such a pool by itself would need its credentials,
/// and only the file has those.
///
/// # Errors
/// What runs, and what to do; or that the database cannot be read.
pub(crate) async fn check(store: &Store, config: &Config) -> anyhow::Result<()> {
    let open = store.active_instances().await?;
    let open: Vec<&Instance> = open.iter().filter(|row| may_be_there(row)).collect();
    let before = store.meta(PLACES).await?.unwrap_or_default();
    let before: BTreeMap<String, String> = serde_json::from_str(&before).unwrap_or_default();
    let now = places(config);
    let mut wrong = Vec::new();
    let mut names: Vec<&PoolName> = open.iter().map(|row| &row.pool).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let of_pool: Vec<&Instance> =
            open.iter().copied().filter(|row| row.pool == *name).collect();
        let machines = in_words(&of_pool);
        match (before.get(name.as_str()), now.get(name.as_str())) {
            (_, None) => wrong.push(format!(
                "pool \"{name}\" is not in the file any more, and has {machines}. Put it back until \
                 busybee instance list shows none of it (busybee pool pause {name} keeps it from \
                 launching more)"
            )),
            (Some(before), Some(now)) if before != now => wrong.push(format!(
                "pool \"{name}\" was {before} and is {now} in the file, and has {machines} there. Put \
                 it back as it was until they have ended, or give the new one another name"
            )),
            (_, Some(_)) => {}
        }
    }
    if !wrong.is_empty() {
        anyhow::bail!("nobody could end what runs: {}", wrong.join("; "));
    }
    if now != before {
        let now = serde_json::to_string(&now).context("write down where pools are")?;
        if let Err(why) = store.set_meta(PLACES, now).await {
            error!("cannot remember where the pools have their machines: {why:#}");
        }
    }
    Ok(())
}

/// Lets no pool launch or end anything until somebody has confirmed that this ledger is the newest.
///
/// # Errors
/// When the database cannot be written: then nothing may be launched or ended either.
pub(crate) async fn wait_for_word(
    store: &Store,
    config: &Config,
    sight: &str,
) -> anyhow::Result<()> {
    let known = store.pools().await?;
    let launching = config.pools.iter().filter(|pool| place(pool).is_some());
    let states = launching.map(|pool| {
        let name = pool.settings.name.clone();
        let why = pauses::unconfirmed(&name, sight);
        error!("pool \"{name}\": {why}");
        let failures = known.iter().find(|state| state.name == name).map_or(0, |s| s.failures);
        let (paused, resumes) = (Some(why), Resumes::WhenConfirmed);
        Record::Pool(PoolState { name, paused, resumes, failures })
    });
    store.commit(states.collect()).await.context("keep pools from launching and ending machines")
}

/// Of a launch that was never sent there is nothing.
fn may_be_there(row: &Instance) -> bool {
    row.status != InstanceStatus::Requested || row.request.is_some()
}

/// Where each pool has its machines.
fn places(config: &Config) -> BTreeMap<String, String> {
    let pools = config.pools.iter();
    pools.filter_map(|pool| Some((pool.settings.name.0.clone(), place(pool)?))).collect()
}

/// Nothing where none are started for it.
fn place(pool: &PoolConfig) -> Option<String> {
    match (pool.settings.provisioner, &pool.ec2) {
        (ProvisionerKind::Ec2, Some(ec2)) => Some(match &ec2.profile {
            Some(profile) => format!("in {} as {profile}", ec2.region),
            None => format!("in {}", ec2.region),
        }),
        (ProvisionerKind::Local, _) => Some("local".to_owned()),
        (ProvisionerKind::Ec2 | ProvisionerKind::None, _) => None,
    }
}

/// `2 machines (i-1, i-2)`.
fn in_words(rows: &[&Instance]) -> String {
    let name = |row: &&Instance| {
        row.cloud_id.as_ref().map_or_else(|| row.launch.to_string(), ToString::to_string)
    };
    let mut names: Vec<String> = rows.iter().take(NAMED_MAX).map(name).collect();
    if rows.len() > NAMED_MAX {
        names.push("…".to_owned());
    }
    let ending = if rows.len() == 1 { "" } else { "s" };
    format!("{} machine{ending} ({})", rows.len(), names.join(", "))
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::ids::CloudId;
    use crate::model::ids::InstanceId;
    use crate::model::ids::LaunchId;
    use crate::model::ids::WorkerName;
    use crate::model::time::Timestamp;

    fn config(pools: &[(&str, &str)]) -> Config {
        let pool = |(name, region): &(&str, &str)| {
            format!(
                "[[pool]]\nname = \"{name}\"\nprovisioner = \"ec2\"\n[pool.ec2]\n\
                 region = \"{region}\"\nami = \"ami-1\"\ninstance_types = [\"t3.small\"]\n"
            )
        };
        let pools: String = pools.iter().map(pool).collect();
        let text = format!(
            "[master]\nurl = \"https://ci.example.com\"\nlisten = \"127.0.0.1:8443\"\n\
             data_dir = \"/nowhere\"\n{pools}"
        );
        Config::parse(&text, "busybee.toml", Path::new("/")).expect(&text)
    }

    /// A row of the ledger.
    pub(in crate::master) fn row(pool: &str, status: InstanceStatus) -> Record {
        Record::Instance(Instance {
            id: InstanceId(1),
            launch: LaunchId::from("L1"),
            pool: pool.into(),
            worker: WorkerName::from("w"),
            status,
            candidate: 0,
            seat: None,
            what: None,
            price_per_hour: None,
            request: None,
            cloud_id: Some(CloudId::from("i-1")),
            why_started: String::new(),
            why_ended: None,
            requested_at: Timestamp(1),
            accepted_at: None,
            running_at: None,
            contact_at: None,
            ready_at: None,
            ending_at: None,
            ended_at: None,
            runs: Vec::new(),
        })
    }

    #[tokio::test]
    async fn a_pool_whose_machines_live_can_neither_be_taken_out_of_the_file_nor_moved() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let both = config(&[("linux", "eu-west-1"), ("arm", "eu-west-1")]);
        check(&store, &both).await.unwrap();
        let refusal = async |config: &Config| check(&store, config).await.unwrap_err().to_string();

        store.commit(vec![row("arm", InstanceStatus::Running)]).await.unwrap();
        check(&store, &both).await.unwrap();
        let without = config(&[("linux", "eu-west-1")]);
        let told = refusal(&without).await;
        assert!(told.contains("\"arm\" is not in the file any more"), "{told}");
        assert!(told.contains("1 machine (i-1)") && told.contains("Put it back"), "{told}");
        let moved = config(&[("linux", "eu-west-1"), ("arm", "eu-north-1")]);
        let told = refusal(&moved).await;
        assert!(told.contains("was in eu-west-1 and is in eu-north-1"), "{told}");

        store.commit(vec![row("arm", InstanceStatus::Terminated)]).await.unwrap();
        check(&store, &without).await.unwrap();
        check(&store, &moved).await.unwrap();
    }

    #[tokio::test]
    async fn until_somebody_confirms_a_restored_ledger_every_pool_that_launches_is_paused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        wait_for_word(&store, &config(&[("linux", "eu-west-1")]), "it is a copy").await.unwrap();
        let state = store.pools().await.unwrap().pop().expect("it is remembered");
        assert_eq!(state.resumes, Resumes::WhenConfirmed);
        let told = state.paused.expect("it is paused");
        assert!(told.starts_with("it is a copy.") && told.contains("pool resume linux"), "{told}");
    }
}
