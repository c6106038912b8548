//! The master's file as it is typed. `deploy/busybee.example.toml` explains each key; a test wants
//! every one of them there.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::master::config::ami::Ami;
use crate::master::config::bootstrap::Bootstrap;
use crate::runtime::config_file::decode::Later;
use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::globs::Pattern;
use crate::runtime::config_file::one_or_more::OneOrMore;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::Entries;
use crate::runtime::config_file::placed::ScalarText;
use crate::runtime::config_file::words::Label;

/// The whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    /// The master itself.
    pub master: At<MasterFile>,
    /// How people are told of what no page shows them in time.
    pub mail: Option<At<MailFile>>,
    /// From what workers are made.
    pub pool: Option<Vec<At<PoolFile>>>,
    /// What instance types cost, by region: dollars for an hour on demand, before the list that comes with us.
    pub prices: Option<Entries<Entries<At<String>>>>,
    /// Whose changes are built.
    pub project: Option<Vec<At<ProjectFile>>>,
}

/// `[master]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MasterFile {
    /// What instances and people use.
    pub url: Option<At<String>>,
    /// Where the one port is.
    pub listen: Option<At<String>>,
    /// Everything that the master keeps.
    pub data_dir: Option<At<String>>,
    /// Bootstrap scripts; default: the ones that come with it.
    pub bootstrap_dir: Option<At<String>>,
    /// Agents for other machines; default: those beside the master's executable.
    pub agent_dir: Option<At<String>>,
    /// The name by which this master's instances are known.
    pub id: Option<At<String>>,
    /// A certificate and its chain, PEM; default: one of the master's own CA.
    pub cert_file: Option<At<String>>,
    /// Its private key, PEM.
    pub key_file: Option<At<String>>,
    /// The CA that instances should trust, PEM; default: what their system trusts.
    pub ca_file: Option<At<String>>,
    /// What all pools may spend in a day, in dollars; default: no limit.
    pub daily_budget: Option<At<String>>,
    /// Whether pools with the local provisioner are allowed to run builds as the master's user.
    pub unsafe_local: Option<bool>,
}

/// `[mail]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MailFile {
    /// Host and port.
    pub server: At<String>,
    /// How the connection is encrypted; default: STARTTLS, or from the first byte on port 465.
    pub tls: Option<At<MailTlsWord>>,
    /// The authorities that the server's certificate may come from, PEM; default: the system's.
    pub ca_file: Option<At<String>>,
    /// As whom the master logs in; default: it does not.
    pub user: Option<At<String>>,
    /// A file with the password.
    pub password_file: Option<At<String>>,
    /// Who mails come from.
    pub from: At<String>,
    /// The admins.
    pub to: At<Vec<At<String>>>,
}

/// How the connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum MailTlsWord {
    /// By a command.
    Starttls,
    /// From the first byte.
    Implicit,
    /// Not at all.
    None,
}

/// `[[pool]]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolFile {
    /// Its name.
    pub name: At<String>,
    /// What its workers offer.
    pub labels: Option<Vec<Label>>,
    /// How its machines come to be.
    pub provisioner: At<ProvisionerWord>,
    /// What makes a worker of a bare machine; default: nothing, it is one as it is.
    pub bootstrap: Option<At<Bootstrap>>,
    /// Never more machines than this.
    pub max_instances: Option<At<u32>>,
    /// Warm workers kept ready.
    pub min_idle: Option<At<u32>>,
    /// A worker ends after this many jobs; 0: no limit.
    pub jobs_per_instance: Option<u32>,
    /// Whether one worker may serve several projects.
    pub shared: Option<bool>,
    /// A lost agent's instance is ended after this.
    pub reconnect_grace: Option<At<Span>>,
    /// A running step outlives its master for this long.
    pub lease: Option<At<Span>>,
    /// No machine lives longer than this.
    pub max_lifetime: Option<At<Span>>,
    /// Whether steps may reach the cloud's metadata service, and so have the rights of the instance.
    pub step_metadata: Option<At<bool>>,
    /// A worker without a job ends after this at the latest; of several, most end sooner.
    pub idle_timeout: Option<At<Span>>,
    /// Whether machines are started for jobs that will wait; default: in pools of ec2.
    pub look_ahead: Option<At<bool>>,
    /// An agent that is not ready by then never will be.
    pub boot_timeout: Option<At<Span>>,
    /// What becomes of a machine without a job.
    pub when_idle: Option<At<WhenIdle>>,
    /// What it may spend in a day, in dollars; default: no limit.
    pub daily_budget: Option<At<String>>,
    /// With `stop`: never more stopped machines than this; default: as many as `max_instances`.
    pub max_stopped: Option<At<u32>>,
    /// With `stop`: none is kept that was launched longer ago.
    pub stopped_max_age: Option<At<Span>>,
    /// Variables for every step on its workers.
    pub env: Option<Entries<ScalarText>>,
    /// Who is told by mail of a machine that never became a worker.
    pub notify_on_missing: Option<At<Vec<At<String>>>>,
    /// As in `[master]`, for this pool alone.
    pub unsafe_local: Option<bool>,
    /// How instances are asked for.
    pub ec2: Option<At<Ec2File>>,
}

/// `[pool.ec2]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ec2File {
    /// Where.
    pub region: At<String>,
    /// Only for stand-ins of EC2.
    pub endpoint: Option<At<String>>,
    /// The shared credentials file; default: where every AWS program looks.
    pub credentials_file: Option<At<String>>,
    /// A profile of that file; default: the usual chain.
    pub profile: Option<String>,
    /// What the root disk is made of.
    pub ami: Ami,
    /// In order of preference.
    pub instance_types: At<Vec<String>>,
    /// Tried in turn; default: the default subnet.
    pub subnets: Option<Vec<At<String>>>,
    /// How they are paid for.
    pub market: Option<At<MarketWord>>,
    /// For spot: dollars per hour at most.
    pub max_price: Option<At<String>>,
    /// Ids or names; default: the VPC's default group.
    pub security_groups: Option<Vec<At<String>>>,
    /// A key pair, for admins.
    pub key_name: Option<String>,
    /// The name of an instance profile.
    pub instance_profile: Option<String>,
    /// Whether they get a public address; default: what the subnet says.
    pub public_ip: Option<At<bool>>,
    /// Whether they get an IPv6 address too.
    pub ipv6: Option<At<bool>>,
    /// What becomes of a T type that wants more than its share of a processor.
    pub cpu_credits: Option<At<CpuCreditsWord>>,
    /// An elastic IP that is there already, or one for each instance.
    pub elastic_ip: Option<At<OneOrMore<String>>>,
    /// The root disk, where it is to differ from the image's, and disks beside it.
    pub volumes: Option<Vec<At<VolumeFile>>>,
    /// Volumes that are there already.
    pub attach_volumes: Option<Vec<At<AttachFile>>>,
    /// On which of Amazon's machines.
    pub placement: Option<At<PlacementFile>>,
    /// Files that go into the user-data behind Busybee's own.
    pub user_data: Option<At<OneOrMore<UserDataFile>>>,
    /// Beside ours, on everything that a launch makes.
    pub tags: Option<Entries<String>>,
}

/// How instances are paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MarketWord {
    /// At the list price.
    OnDemand,
    /// At the price of the moment.
    Spot,
    /// Spot while there is any.
    SpotThenOnDemand,
}

/// What becomes of a T type that wants more than its share of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum CpuCreditsWord {
    /// It is slowed down.
    Standard,
    /// It gets more, and one pays for it.
    Unlimited,
}

/// An entry of `volumes`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VolumeFile {
    /// `root`, or a device.
    pub device: At<String>,
    /// GiB.
    pub size_gb: Option<u32>,
    /// As in `gp3`.
    #[serde(rename = "type")]
    pub volume_type: Option<At<String>>,
    /// Operations per second.
    pub iops: Option<At<u32>>,
    /// MiB per second.
    pub throughput: Option<At<u32>>,
    /// Whether what is on it is encrypted.
    pub encrypted: Option<bool>,
    /// With which key of KMS.
    pub kms_key: Option<At<String>>,
    /// What is on it at first.
    pub snapshot: Option<At<String>>,
}

/// An entry of `attach_volumes`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AttachFile {
    /// The volume, or one for each instance.
    pub id: At<OneOrMore<String>>,
    /// Where an instance finds it.
    pub device: At<String>,
}

/// `placement`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlacementFile {
    /// As in `eu-west-1a`.
    pub zone: Option<At<String>>,
    /// With whom a machine is shared.
    pub tenancy: Option<At<TenancyWord>>,
    /// A placement group.
    pub group: Option<String>,
    /// Which part of a partition group.
    pub partition: Option<At<u32>>,
    /// A dedicated host.
    pub host: Option<At<String>>,
}

/// With whom one of Amazon's machines is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum TenancyWord {
    /// With anybody.
    Default,
    /// With nobody.
    Dedicated,
    /// It is one of our own.
    Host,
}

/// An entry of `user_data`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserDataFile {
    /// A file; its first line says what it is.
    pub file: Option<String>,
    /// The same, written out.
    pub text: Option<String>,
}

/// How a pool's machines come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProvisionerWord {
    /// Child processes of the master.
    Local,
    /// Machines of one's own.
    None,
    /// Instances of Amazon's EC2.
    Ec2,
}

/// What becomes of a machine without a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum WhenIdle {
    /// It ends.
    Terminate,
    /// It is stopped: its disk is kept, and it is started again for the next job.
    Stop,
}

/// `[[project]]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectFile {
    /// Its name.
    pub name: At<String>,
    /// Its repository.
    pub repo: At<String>,
    /// Branches that are watched; default: all.
    pub branches: Option<Vec<Pattern>>,
    /// Tags that are watched; default: none.
    pub tags: Option<Vec<Pattern>>,
    /// How often the repository is asked.
    pub poll: Option<At<Span>>,
    /// An OpenSSH private key.
    pub ssh_key_file: Option<At<String>>,
    /// The hosts that ssh trusts.
    pub known_hosts_file: Option<At<String>>,
    /// A file with a token, for http(s).
    pub token_file: Option<At<String>>,
    /// A file with the token that `POST /hooks/git/PROJECT` must bring when it is not from here.
    pub hook_token_file: Option<At<String>>,
    /// Files with secrets, by the variables that jobs get them in: a job lists those it wants under
    /// `secrets`, and what its steps print of them is hidden.
    pub secret_files: Option<Entries<At<String>>>,
}

/// What is specified, but not built yet.
pub(super) const LATER: Later = &[
    ("ConfigFile", &["forge", "github", "gitlab", "reporter", "oidc"]),
    ("MasterFile", &["agent_listen"]),
    ("PoolFile", &["user"]),
    ("ProjectFile", &["forge"]),
];
