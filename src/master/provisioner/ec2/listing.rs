//! What exists of a master: by its tags, and by the beginning of its ClientTokens where somebody has
//! taken a tag off.

use std::collections::BTreeMap;

use crate::master::domain::event::Machine;
use crate::master::domain::event::MachineState;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::PAGE;
use crate::master::provisioner::ec2::PAGES_MAX;
use crate::master::provisioner::ec2::answers::Instance;
use crate::master::provisioner::ec2::answers::InstancesPage;
use crate::master::provisioner::ec2::causes;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::instances_of;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;
use crate::model::ids::CloudId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;

impl Ec2Provisioner {
    /// Everything of this master that is this pool's, or no pool's of the file, in whatever state; EC2
    /// shows what has ended for an hour.
    pub(super) async fn list_now(&self) -> Result<Vec<Machine>, CallError> {
        let tag = format!("tag:{}", run_instances::TAG_MASTER);
        let mut all = self.all(&tag, &self.master).await?;
        let prefix = run_instances::token_prefix(&self.master);
        for (id, instance) in self.all("client-token", &format!("{prefix}*")).await? {
            all.entry(id).or_insert(instance);
        }
        let ours = all.values().filter(|instance| {
            is_ours(instance.tag(run_instances::TAG_POOL), &self.pool, &self.pools)
        });
        Ok(ours.filter_map(|instance| machine(instance, &prefix)).collect())
    }

    /// All pages of what a filter finds, by id.
    async fn all(&self, name: &str, value: &str) -> Result<BTreeMap<String, Instance>, CallError> {
        let query = Query::new("DescribeInstances").with_filter(1, name, &[value]);
        let query = query.with("MaxResults", PAGE);
        let mut found = BTreeMap::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let query = query.clone().with_opt("NextToken", next.as_deref());
            let mut page: InstancesPage = self.client.call(&query).await?;
            next = page.next_token.take().filter(|token| !token.is_empty());
            let instances = instances_of(page);
            found.extend(instances.map(|instance| (instance.instance_id.clone(), instance)));
            if next.is_none() {
                return Ok(found);
            }
        }
        Err(CallError::unreadable("DescribeInstances", "its pages do not end"))
    }
}

/// Whether what carries this mark of a pool is for this pool to look after. What carries none, or that of one
/// that is not in the file any more, is for each of them: the domain knows which rows are open.
pub(super) fn is_ours(mark: Option<&str>, pool: &PoolName, pools: &[PoolName]) -> bool {
    match mark {
        Some(tag) if tag == pool.as_str() => true,
        Some(tag) => !pools.is_empty() && !pools.iter().any(|known| known.as_str() == tag),
        None => true,
    }
}

/// An instance as the domain sees it; nothing where it does not tell its launch.
fn machine(instance: &Instance, token_prefix: &str) -> Option<Machine> {
    let of_token = || instance.client_token.strip_prefix(token_prefix);
    let launch = instance.tag(run_instances::TAG_LAUNCH).or_else(of_token)?;
    let state = state_of(instance);
    let is_over =
        matches!(state, MachineState::Ending | MachineState::Stopped | MachineState::Ended);
    Some(Machine {
        cloud_id: CloudId(instance.instance_id.clone()),
        launch: LaunchId::from(launch),
        state,
        started: instance.launch_time.clone(),
        asked_to_end_at: causes::asked_at(instance).filter(|_| is_over),
        reason: causes::told(instance).filter(|_| is_over),
        cause: if is_over { causes::cause_of(instance) } else { Default::default() },
    })
}

/// A state that we do not know is a machine that one pays for.
pub(super) fn state_of(instance: &Instance) -> MachineState {
    match instance.instance_state.name.as_str() {
        "pending" => MachineState::Starting,
        "shutting-down" => MachineState::Ending,
        "stopping" | "stopped" => MachineState::Stopped,
        "terminated" => MachineState::Ended,
        _ => MachineState::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::event::EndCause;
    use crate::master::provisioner::ec2::answers::Items;
    use crate::master::provisioner::ec2::answers::State;
    use crate::master::provisioner::ec2::answers::StateReason;
    use crate::master::provisioner::ec2::answers::Tag;
    use crate::model::time::Timestamp;

    const PREFIX: &str = "busybee-01234567-";

    fn instance(state: &str, reason: Option<&str>) -> Instance {
        let (key, value) = ("busybee:launch".to_owned(), "L1".to_owned());
        Instance {
            instance_id: "i-1".to_owned(),
            launch_time: None,
            reason: String::new(),
            instance_state: State { name: state.to_owned() },
            state_reason: reason.map(|code| StateReason {
                code: code.to_owned(),
                message: format!("{code}: so it is"),
            }),
            client_token: String::new(),
            tag_set: Items { item: vec![Tag { key, value }] },
        }
    }

    #[test]
    fn a_state_that_nobody_has_heard_of_is_one_that_costs_money() {
        assert_eq!(state_of(&instance("hibernating", None)), MachineState::Running);
        assert_eq!(state_of(&instance("terminated", None)), MachineState::Ended);
    }

    #[test]
    fn an_end_is_told_with_ec2s_own_reason_and_its_cause() {
        let ended = |code: &str| {
            let machine = machine(&instance("terminated", Some(code)), PREFIX);
            let machine = machine.expect("it tells its launch");
            (machine.cause, machine.reason)
        };
        let told = "EC2 ended it: Server.SpotInstanceTermination: so it is".to_owned();
        let spot = ended("Server.SpotInstanceTermination");
        assert_eq!(spot, (EndCause::SpotTaken, Some(told)));
        let own = ended("Client.InstanceInitiatedShutdown");
        assert_eq!(own, (EndCause::Itself, Some("the machine shut itself down".to_owned())));
        assert_eq!(ended("Client.UserInitiatedShutdown"), (EndCause::ByHand, None));
        for (code, cause) in [
            ("Server.InsufficientInstanceCapacity", EndCause::NoRoom),
            ("Server.SpotInstanceShutdown", EndCause::SpotTaken),
            ("Server.ScheduledStop", EndCause::Retired),
            ("Server.InternalError", EndCause::CloudFault),
            ("Client.VolumeLimitExceeded", EndCause::Limit),
            ("Client.InvalidSnapshot.NotFound", EndCause::DiedAtOnce),
            ("Client.InternalError", EndCause::DiedAtOnce),
            ("Server.NobodyHasSeenThis", EndCause::Unknown),
        ] {
            assert_eq!(ended(code).0, cause, "{code}");
        }
    }

    #[test]
    fn the_moment_of_an_end_is_the_one_that_ec2_names() {
        let asked_at = |state: &str, words: &str| {
            let ended = Instance { reason: words.to_owned(), ..instance(state, None) };
            machine(&ended, PREFIX).expect("it tells its launch").asked_to_end_at
        };
        let words = "User initiated (2026-01-01 00:00:05 GMT)";
        assert_eq!(asked_at("terminated", words), Some(Timestamp(1_767_225_605_000)));
        assert_eq!(asked_at("stopping", words), Some(Timestamp(1_767_225_605_000)));
        assert_eq!(asked_at("running", words), None, "an earlier stop");
        for none in ["", "Server.SpotInstanceTermination: taken", "User initiated (now GMT)"] {
            assert_eq!(asked_at("terminated", none), None, "{none}");
        }
    }

    #[test]
    fn what_carries_no_launch_is_none_of_ours() {
        let mut foreign = instance("running", None);
        foreign.tag_set.item.clear();
        assert_eq!(machine(&foreign, PREFIX), None);
        foreign.client_token = "somebody-elses".to_owned();
        assert_eq!(machine(&foreign, PREFIX), None);
    }

    #[test]
    fn an_instance_whose_tags_were_taken_off_is_known_by_its_token() {
        let mut bare = instance("running", None);
        bare.tag_set.item.clear();
        bare.client_token = format!("{PREFIX}L7");
        let machine = machine(&bare, PREFIX).expect("it is ours");
        assert_eq!(machine.launch, LaunchId::from("L7"));
        assert!(
            is_ours(bare.tag(run_instances::TAG_POOL), &"linux".into(), &[]),
            "of which pool, the domain knows"
        );
    }

    #[test]
    fn a_pool_looks_after_what_a_pool_has_left_that_is_not_in_the_file_any_more() {
        let file: [PoolName; 2] = ["linux".into(), "arm".into()];
        for (pool, is_looked_after) in [("linux", true), ("arm", false), ("retired", true)] {
            assert_eq!(is_ours(Some(pool), &"linux".into(), &file), is_looked_after, "{pool}");
        }
        assert!(!is_ours(Some("retired"), &"linux".into(), &[]), "nobody knows that it is");
    }
}
