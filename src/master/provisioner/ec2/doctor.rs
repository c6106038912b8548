//! Asks EC2 whether a pool's settings would work, before anything is paid for.
//!
//! A dry run of the real request proves permission, and that the request is well formed; it proves
//! neither capacity nor quota. What it does not tell is joined by hand: `doctor/choices.rs` (image, types,
//! zones, quotas), `doctor/network.rs` (the way to the master and to the world), `doctor/account.rs`
//! (defaults, keys, roles, leftovers). Nothing is started or changed.

mod account;
mod answers;
mod belongings;
mod choices;
mod network;

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::master::provisioner::Finding;
use crate::master::provisioner::PrepareOrder;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::answers::FoundImage;
use crate::master::provisioner::ec2::answers::InstancesPage;
use crate::master::provisioner::ec2::disks;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;
use crate::model::time::Timestamp;
use crate::runtime::together;

/// What EC2 answers a dry run that would have worked.
pub(super) const WOULD_WORK: &str = "DryRunOperation";

/// AWS refuses requests whose time is further off than this (IAM user guide, "Signature Version 4").
const CLOCK_MAX_SECS: i64 = 5 * 60;

/// Part of that after which one should look.
const CLOCK_WARN_SECS: i64 = 30;

/// Ways to launch that are tried dry, at most: each is a request, and EC2 counts them.
const DRY_RUNS_MAX: usize = 12;

/// For one question, with all its tries: somebody waits before a screen.
const DEADLINE: Duration = Duration::from_secs(20);

/// The policy that comes with Busybee.
const POLICY: &str = "give the master's role or user what deploy/iam-policy.json says, with this pool's types, \
                      subnets, groups and key";

/// What a doctor must know of the master around a pool.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// The port that agents dial.
    pub master_port: u16,
    /// For which machines the master has agents, as `uname -m` calls them.
    pub architectures: Vec<String>,
    /// How many instances the pool may have at one time.
    pub max_instances: u32,
    /// Whether the pool stops idle instances, and starts them again.
    pub stops_idle: bool,
    /// By the master's clock.
    pub now: Timestamp,
}

impl Ec2Provisioner {
    /// Looks at everything that a launch needs. `order` is what would be launched.
    pub async fn examine(&self, order: PrepareOrder, around: &Circumstances) -> Vec<Finding> {
        let mut found = vec![self.clock().await];
        let image = match in_time("DescribeImages", self.image()).await {
            Ok(image) => {
                found.push(about_image(&image));
                image
            }
            Err(error) => {
                found.push(Finding::bad(error.sentence, image_fix(error.class)));
                return found;
            }
        };
        if let Some(what) = disks::root_twice(&self.settings, &image) {
            // Every launch would say the same again.
            found.push(Finding::bad(what, "leave one of the two in `volumes`"));
            return found;
        }
        let (places, port) = (self.subnet_choice(&mut found).await, around.master_port);
        let (listing, choices, ways_out, groups, belongings, dry_runs, endings, account) = tokio::join!(
            self.listing(),
            self.choices(&image, &places, around),
            self.ways_out(&places, port),
            self.groups(&places, port),
            self.belongings_found(),
            self.dry_runs(order),
            self.endings(around.stops_idle),
            self.account(around),
        );
        found.push(listing);
        for part in [choices, ways_out, groups, belongings, account, dry_runs, endings] {
            found.extend(part);
        }
        found
    }

    /// Asks once, and not for long.
    async fn ask<T: DeserializeOwned>(&self, query: &Query) -> Result<T, CallError> {
        let action = query.get("Action").unwrap_or_default();
        in_time(action, self.client.call(query)).await
    }

    async fn ask_iam<T: DeserializeOwned>(&self, query: &Query) -> Result<T, CallError> {
        let action = query.get("Action").unwrap_or_default();
        // IAM is in one place for a whole partition of AWS.
        let (region, address) = match self.settings.region.as_str() {
            region if region.starts_with("cn-") => {
                ("cn-north-1", "https://iam.cn-north-1.amazonaws.com.cn/")
            }
            region if region.starts_with("us-gov-") => {
                ("us-gov-west-1", "https://iam.us-gov.amazonaws.com/")
            }
            _ => ("us-east-1", "https://iam.amazonaws.com/"),
        };
        let Some(client) = self.client.at("iam", region, address) else {
            return Err(CallError::no_answer(action, "its address is wrong"));
        };
        in_time(action, client.call(query)).await
    }

    async fn ask_service_quotas<T: DeserializeOwned>(
        &self,
        action: &str,
        body: &serde_json::Value,
    ) -> Result<T, CallError> {
        let region = &self.settings.region;
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let address = format!("https://servicequotas.{region}.{domain}/");
        let Some(client) = self.client.at("servicequotas", region, &address) else {
            return Err(CallError::no_answer(action, "its address is wrong"));
        };
        let target = format!("ServiceQuotasV20190624.{action}");
        in_time(action, client.call_json(&target, body)).await
    }

    async fn clock(&self) -> Finding {
        match in_time("a first request", self.client.clock_ahead_secs()).await {
            Err(error) => Finding::bad(
                error.sentence,
                "see whether this machine reaches EC2: a route, DNS, outbound 443",
            ),
            Ok(None) => Finding::good("EC2 answers".to_owned()),
            Ok(Some(ahead)) if ahead.abs() > CLOCK_MAX_SECS => Finding::bad(
                format!("this machine's clock is {ahead} s ahead of EC2's, which refuses that"),
                "set the clock, and keep it right with NTP",
            ),
            Ok(Some(ahead)) if ahead.abs() > CLOCK_WARN_SECS => Finding::doubtful(
                format!("this machine's clock is {ahead} s ahead of EC2's"),
                "keep it right with NTP: beyond 5 minutes EC2 refuses every request",
            ),
            Ok(Some(ahead)) => {
                Finding::good(format!("EC2 answers, and the clocks agree within {} s", ahead.abs()))
            }
        }
    }

    async fn listing(&self) -> Finding {
        let query = Query::new("DescribeInstances")
            .with_filter(1, &format!("tag:{}", run_instances::TAG_MASTER), &[&self.master])
            .with("MaxResults", "5");
        match self.ask::<InstancesPage>(&query).await {
            Ok(_) => Finding::good("the master may list instances".to_owned()),
            Err(error) => Finding::bad(error.sentence, POLICY),
        }
    }

    async fn account(&self, around: &Circumstances) -> Vec<Finding> {
        let (metadata, encryption, key_pair, spot_role, leftovers) = tokio::join!(
            self.metadata_defaults(),
            self.encryption(),
            self.key_pair(),
            self.spot_role(),
            self.leftovers(around),
        );
        let found = [metadata, encryption, key_pair, spot_role].into_iter().flatten();
        found.chain(leftovers).collect()
    }

    /// The real requests, with `DryRun`: each way to launch is one.
    async fn dry_runs(&self, order: PrepareOrder) -> Vec<Finding> {
        let tried = (0u32..).zip(self.candidates.iter().take(DRY_RUNS_MAX));
        let tried = tried.map(|(number, candidate)| {
            let order = PrepareOrder { candidate: number, ..order.clone() };
            let name = candidate.to_string();
            async move { (name, self.dry_run(order).await) }
        });
        let mut found = told_together(together::all(tried).await);
        let left_out = self.candidates.len().saturating_sub(DRY_RUNS_MAX);
        if left_out > 0 {
            found.push(Finding::good(format!("{left_out} more ways to launch were not tried")));
        }
        found
    }

    /// # Errors
    /// Why it would not work.
    async fn dry_run(&self, order: PrepareOrder) -> Result<(), Finding> {
        let prepared = tokio::time::timeout(DEADLINE, self.prepare_now(order)).await;
        let launch = match prepared {
            Ok(Ok(prepared)) => serde_json::from_str::<Query>(&prepared.request),
            Ok(Err(error)) => return Err(Finding::bad(error.sentence, POLICY)),
            Err(_) => return Err(Finding::bad("no answer in time".to_owned(), "ask again")),
        };
        let launch = launch.map_err(|why| why.to_string());
        match launch.and_then(|query| run_instances::ready(query, str::to_owned)) {
            Err(why) => Err(Finding::bad(why, "shorten what the pool adds to the user-data")),
            Ok(query) => would_work(self.ask(&query.with("DryRun", "true")).await),
        }
    }

    /// Whether instances may be ended, and their consoles read; where the pool wants that, also whether they may
    /// be stopped and started: tags allow it, so only an instance that carries them can tell.
    async fn endings(&self, stops_idle: bool) -> Vec<Finding> {
        let query = Query::new("DescribeInstances")
            .with_filter(1, "tag-key", &[run_instances::TAG_MASTER])
            .with_filter(2, "instance-state-name", &["pending", "running", "stopping", "stopped"])
            .with("MaxResults", "5");
        let page = match self.ask::<InstancesPage>(&query).await {
            Ok(page) => page,
            // The listing of our own was told already.
            Err(_) => return Vec::new(),
        };
        let mut instances =
            page.reservation_set.item.into_iter().flat_map(|r| r.instances_set.item);
        let Some(instance) = instances.next() else {
            let what = "whether the master may end instances shows only on one that is there";
            return vec![Finding::good(format!("{what}: --launch tries it"))];
        };
        let mut calls = vec![
            ("TerminateInstances", "end instances", "InstanceId.1"),
            ("GetConsoleOutput", "read their consoles", "InstanceId"),
        ];
        if stops_idle {
            calls.push(("StopInstances", "stop instances", "InstanceId.1"));
            calls.push(("StartInstances", "start stopped instances", "InstanceId.1"));
        }
        let calls = calls.into_iter().map(|(action, what, id)| {
            let query = Query::new(action).with(id, &instance.instance_id).with("DryRun", "true");
            async move {
                match would_work(self.ask(&query).await) {
                    Ok(()) => Finding::good(format!("the master may {what} (dry run)")),
                    Err(why) => Finding { what: format!("cannot {what}: {}", why.what), ..why },
                }
            }
        });
        together::all(calls).await
    }
}

/// What comes of a call, or that it took too long.
async fn in_time<T>(
    action: &str,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::time::timeout(DEADLINE, call).await.unwrap_or_else(|_| {
        Err(CallError::no_answer(action, &format!("not within {} s", DEADLINE.as_secs())))
    })
}

fn about_image(image: &FoundImage) -> Finding {
    let FoundImage { image_id, name, architecture, image_state, .. } = image;
    if image_state != "available" && !image_state.is_empty() {
        let what = format!("image {image_id} is {image_state}");
        return Finding::bad(what, "take one that is available");
    }
    Finding::good(format!("image {image_id} ({name}) is there, for {architecture}"))
}

fn image_fix(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Denied | ErrorClass::Expired => {
            "give the master credentials: an instance role is best; see docs/ec2.md"
        }
        _ => "name an image of this region; see `ami` in docs/ec2.md",
    }
}

/// What became of each way to launch. Those that are refused for the same reason are one finding.
fn told_together(tried: Vec<(String, Result<(), Finding>)>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut refused: Vec<(Finding, Vec<String>)> = Vec::new();
    for (name, outcome) in tried {
        match outcome {
            Ok(()) => {
                found.push(Finding::good(format!("the master may launch {name} (dry run)")));
            }
            Err(why) => match refused.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(name),
                None => refused.push((why, vec![name])),
            },
        }
    }
    found.extend(refused.into_iter().map(|(why, names)| {
        let what = format!("cannot launch {}: {}", names.join(", nor "), why.what);
        Finding { what, ..why }
    }));
    found
}

/// What a dry run came to.
///
/// # Errors
/// Why it would not work.
fn would_work(answer: Result<serde::de::IgnoredAny, CallError>) -> Result<(), Finding> {
    let error = match answer {
        Err(error) if error.code != WOULD_WORK => error,
        Ok(_) | Err(_) => return Ok(()),
    };
    let (what, fix) = (error.sentence.clone(), dry_run_fix(&error));
    Err(match error.class {
        // Another way to launch may do.
        ErrorClass::Capacity | ErrorClass::Unsupported => Finding::doubtful(what, fix),
        _ => Finding::bad(what, fix),
    })
}

/// What to do about a refusal of the real request.
fn dry_run_fix(error: &CallError) -> &'static str {
    let says = |words: &str| error.sentence.contains(words);
    match error.class {
        _ if says("ServiceLinkedRoleCreationNotPermitted") => {
            "make the role for spot once: aws iam create-service-linked-role --aws-service-name \
             spot.amazonaws.com"
        }
        _ if says("iam:PassRole") => {
            "let the master give instances the role of instance_profile: allow iam:PassRole for exactly \
             that role, as docs/ec2.md shows"
        }
        _ if error.code == "TagPolicyViolation" || says("explicit deny") => {
            "a policy of the organisation forbids it as it is; it may want tags on all that is launched: \
             write them under `tags`"
        }
        _ if says("Encoded authorization failure message") => {
            "see what is lacking: aws sts decode-authorization-message --encoded-message …; \
             deploy/iam-policy.json has what a launch needs"
        }
        _ if error.code == "PendingVerification" => {
            "AWS looks at new accounts before their first launch: wait for its mail, some hours at most"
        }
        _ if says("nstance profile") || says("nstance Profile") => {
            "name an instance profile of this account in instance_profile, or take it out"
        }
        ErrorClass::Quota => "ask for more under Service Quotas, or end what else runs",
        ErrorClass::Denied => POLICY,
        ErrorClass::Capacity | ErrorClass::Unsupported => {
            "this way to launch is skipped; name other types or subnets if all of them are"
        }
        _ => "this is the request that a launch would send; see the pool's settings",
    }
}
