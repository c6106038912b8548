//! What the `ec2` provisioner makes of what EC2 answers, where moto never answers so.

use busybee::master::domain::decision::Urgency;
use busybee::master::domain::event::EndCause;
use busybee::master::domain::event::LaunchFailure;
use busybee::master::domain::event::MachineState;
use busybee::master::provisioner::Ending;
use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::ec2::settings::Image;
use busybee::model::ids::CloudId;
use busybee::model::ids::LaunchId;
use busybee::model::time::Timestamp;

use crate::contract;
use crate::dictated::Script;
use crate::dictated::instance;
use crate::dictated::launched;
use crate::dictated::order;
use crate::dictated::page;
use crate::dictated::refusal;
use crate::dictated::tags;

fn newest() -> Image {
    Image::Newest { owners: vec!["self".into()], name: "debian-*".into() }
}

#[tokio::test]
async fn each_refusal_of_a_launch_has_its_own_consequence() {
    for (code, failure) in [
        ("InsufficientInstanceCapacity", LaunchFailure::Capacity),
        ("InsufficientFreeAddressesInSubnet", LaunchFailure::PlaceFull),
        ("Unsupported", LaunchFailure::Unsupported),
        ("InvalidSubnetID.NotFound", LaunchFailure::NoSuchPlace),
        ("MaxSpotInstanceCountExceeded", LaunchFailure::SpotQuota),
        ("VcpuLimitExceeded", LaunchFailure::Quota),
        ("VolumeLimitExceeded", LaunchFailure::Limit),
        ("PendingVerification", LaunchFailure::Limit),
        ("UnauthorizedOperation", LaunchFailure::Denied),
        ("InvalidParameterValue", LaunchFailure::Invalid),
        ("IdempotentInstanceTerminated", LaunchFailure::Other),
    ] {
        let script = Script::new();
        script.answers("RunInstances", [refusal(code)]);
        let refused = script.simple().launch(order()).await.expect_err("it is refused");
        assert_eq!(refused.failure, failure, "{code}");
        assert!(refused.sentence.contains(code), "{refused}");
        assert_eq!(script.asked("RunInstances").len(), 1, "{code} is not tried again");
    }
}

#[tokio::test]
async fn an_image_of_a_name_that_is_gone_is_looked_up_again_and_one_by_id_is_a_mistake() {
    let script = Script::new();
    let gone = refusal("InvalidAMIID.NotFound");
    script.answers("RunInstances", [gone.clone(), gone]);
    let by_name = script.provisioner(newest()).launch(order()).await.expect_err("it is gone");
    assert_eq!(by_name.failure, LaunchFailure::ImageGone);
    let by_id = script.simple().launch(order()).await.expect_err("it is gone");
    assert_eq!(by_id.failure, LaunchFailure::Invalid);
}

#[tokio::test]
async fn to_be_told_to_slow_down_costs_no_try_and_changes_no_byte() {
    let script = Script::new();
    let answers = std::iter::repeat_n(refusal("RequestLimitExceeded"), 3);
    script.answers("RunInstances", answers.chain([launched(&instance("i-1", "pending", ""))]));
    let id = script.simple().launch(order()).await.expect("in the end it is launched");
    assert_eq!(id, CloudId::from("i-1"));
    let asked = script.asked("RunInstances");
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|query| *query == asked[0]));
}

#[tokio::test]
async fn credentials_that_ran_out_are_loaded_again_once_for_the_same_request() {
    let script = Script::new();
    let expired = refusal("ExpiredToken");
    script.answers("RunInstances", [expired.clone(), launched(&instance("i-1", "pending", ""))]);
    script.simple().launch(order()).await.expect("with fresh ones it works");
    let asked = script.asked("RunInstances");
    assert!(asked.len() == 2 && asked[0] == asked[1], "{asked:?}");
    script.answers("RunInstances", [expired.clone(), expired]);
    let refused = script.simple().launch(order()).await.expect_err("they are no better");
    assert_eq!(refused.failure, LaunchFailure::Denied);
}

#[tokio::test]
async fn a_token_that_was_used_for_another_request_is_settled_by_what_it_has_started() {
    let mismatch = refusal("IdempotentParameterMismatch");
    let script = Script::new();
    script.answers("RunInstances", [mismatch.clone(), mismatch.clone(), mismatch]);
    let found = |state: &str| page(&instance("i-7", state, ""), None);
    script.answers("DescribeInstances", [found("running"), found("terminated"), page("", None)]);
    let provisioner = script.simple();
    let adopted = provisioner.launch(order()).await.expect("what runs is adopted");
    assert_eq!(adopted, CloudId::from("i-7"));
    let gone = provisioner.launch(order()).await.expect_err("what has ended is over");
    assert_eq!(gone.failure, LaunchFailure::Other, "{gone}");
    let unknown = provisioner.launch(order()).await.expect_err("nothing is to be seen yet");
    assert_eq!(unknown.failure, LaunchFailure::Unsettled, "{unknown}");
    let looked = &script.asked("DescribeInstances")[0];
    assert_eq!(looked["Filter.1.Name"], "client-token");
    assert_eq!(looked["Filter.1.Value.1"], "busybee-9f86d081-a1");
}

#[tokio::test]
async fn an_instance_that_ends_in_the_answer_itself_says_why() {
    for (code, failure) in [
        ("Server.InsufficientInstanceCapacity", LaunchFailure::Capacity),
        ("Client.VolumeLimitExceeded", LaunchFailure::Limit),
        ("Client.InternalError", LaunchFailure::DiedAtOnce),
        ("Server.InternalError", LaunchFailure::Other),
    ] {
        let script = Script::new();
        let reason =
            format!("<stateReason><code>{code}</code><message>{code}</message></stateReason>");
        script.answers("RunInstances", [launched(&instance("i-1", "terminated", &reason))]);
        let refused = script.simple().launch(order()).await.expect_err("it has ended");
        assert_eq!(refused.failure, failure, "{code}");
        assert!(refused.sentence.contains(code), "{refused}");
    }
}

#[tokio::test]
async fn an_end_that_is_refused_is_told_and_one_too_young_to_be_known_proves_nothing() {
    let script = Script::new();
    let (protected, young) =
        (refusal("OperationNotPermitted"), refusal("InvalidInstanceID.NotFound"));
    script.answers("TerminateInstances", [protected, young]);
    let provisioner = script.simple();
    let end = |urgency| {
        provisioner.terminate_by(LaunchId::from("a1"), Some(CloudId::from("i-1")), urgency)
    };
    let refused = end(Urgency::Orderly).await.expect("it is answered");
    assert!(matches!(&refused, Ending::Refused(why) if why.contains("OperationNotPermitted")));
    assert_eq!(end(Urgency::AtOnce).await, Ok(Ending::NotSeen));
    assert_eq!(end(Urgency::Forced).await, Ok(Ending::UnderWay));
    let asked = script.asked("TerminateInstances");
    let given = |index: usize, name: &str| asked[index].get(name).cloned();
    for query in &asked {
        assert_eq!(query.get("InstanceId.1").map(String::as_str), Some("i-1"));
        assert!(!query.contains_key("InstanceId.2"), "one id in each call");
    }
    assert_eq!(given(0, "SkipOsShutdown"), None);
    assert_eq!(given(1, "SkipOsShutdown").as_deref(), Some("true"));
    assert_eq!((given(1, "Force"), given(2, "Force").as_deref()), (None, Some("true")));
}

#[tokio::test]
async fn an_instance_whose_tags_were_taken_off_is_listed_by_its_token() {
    let script = Script::new();
    let tagged = tags(&[("busybee:launch", "a1"), ("busybee:pool", "cloud")]);
    let bare = "<clientToken>busybee-9f86d081-a2</clientToken>";
    let others = tags(&[("busybee:launch", "a3"), ("busybee:pool", "another")]);
    let by_tag =
        [instance("i-1", "running", &tagged), instance("i-3", "running", &others)].concat();
    let by_token = [instance("i-1", "running", &tagged), instance("i-2", "running", bare)].concat();
    script.answers("DescribeInstances", [page(&by_tag, None), page(&by_token, None)]);
    let listed = script.simple().list().await.expect("it is answered");
    let launches: Vec<&str> = listed.iter().map(|machine| machine.launch.as_str()).collect();
    assert_eq!(launches, ["a1", "a2"], "each once, and none of another pool");
    let asked = script.asked("DescribeInstances");
    assert_eq!(asked[1]["Filter.1.Value.1"], "busybee-9f86d081-*");
}

#[tokio::test]
async fn a_probe_asks_dry_and_tells_a_permission_from_a_refusal() {
    let script = Script::new();
    let image = "<DescribeImagesResponse><imagesSet><item><imageId>ami-1</imageId></item>\
                 </imagesSet></DescribeImagesResponse>";
    script.answers("DescribeImages", std::iter::repeat_n((200, image.to_owned()), 2));
    script.answers("RunInstances", [refusal("UnauthorizedOperation"), refusal("DryRunOperation")]);
    let provisioner = script.simple();
    let probe = || {
        provisioner.probe(PrepareOrder {
            seat: None,
            launch: LaunchId::from("a1"),
            worker: "cloud-1".into(),
            candidate: 0,
            user_data: contract::with_password_place("true"),
            expires_at: Timestamp(4_000_000_000_000),
        })
    };
    let refused = probe().await.expect_err("not yet");
    assert_eq!(refused.failure, LaunchFailure::Denied);
    probe().await.expect("now it may");
    assert!(script.asked("RunInstances").iter().all(|query| query["DryRun"] == "true"));
}

/// buildomat stopped altogether when a listing had a second page.
#[tokio::test]
async fn buildomat_a_second_page_of_the_listing_stops_nothing() {
    let script = Script::new();
    let one = |number: u32, state: &str| {
        let launch = format!("a{number}");
        let tags = tags(&[("busybee:launch", &launch), ("busybee:pool", "cloud")]);
        instance(&format!("i-{number}"), state, &tags)
    };
    let pages = [
        page(&one(1, "running"), Some("two")),
        page(&one(2, "pending"), Some("three")),
        page(&one(3, "terminated"), None),
    ];
    script.answers("DescribeInstances", pages);
    let listed = script.simple().list().await.expect("it goes on");
    let states: Vec<MachineState> = listed.iter().map(|machine| machine.state).collect();
    assert_eq!(states, [MachineState::Running, MachineState::Starting, MachineState::Ended]);
    assert_eq!(listed[0].cause, EndCause::Unknown);
    let tokens: Vec<Option<String>> =
        script.asked("DescribeInstances").iter().map(|q| q.get("NextToken").cloned()).collect();
    assert_eq!(tokens[..3], [None, Some("two".to_owned()), Some("three".to_owned())]);
}

/// A page that cannot be had makes the whole listing void: what it would have shown is not missing.
#[tokio::test]
async fn a_listing_whose_second_page_is_refused_is_no_listing() {
    let script = Script::new();
    script.answers("DescribeInstances", [page("", Some("two")), refusal("InvalidParameterValue")]);
    assert!(script.simple().list().await.is_err());
}

#[tokio::test]
async fn a_stop_that_is_refused_for_the_moment_is_worth_another_try() {
    for (code, is_final) in [
        ("IncorrectInstanceState", false),
        ("ExpiredToken", false),
        ("InvalidInstanceID.NotFound", false),
        ("UnauthorizedOperation", true),
        ("UnsupportedOperation", true),
    ] {
        let script = Script::new();
        script.answers("StopInstances", [refusal(code), refusal(code)]);
        let refused = script.simple().stop(CloudId("i-1".to_owned())).await;
        assert_eq!(refused.expect_err("it is refused").is_final, is_final, "{code}");
    }
}

#[tokio::test]
async fn an_instance_that_an_open_request_had_brought_before_it_was_cancelled_is_the_launchs() {
    let script = Script::new();
    script.answers("RunInstances", [refusal("SpotMaxPriceTooLow")]);
    script.answers("DescribeInstances", [page(&instance("i-7", "pending", ""), None)]);
    let launched = script.simple().launch(order()).await;
    assert_eq!(launched, Ok(CloudId("i-7".to_owned())));
}
