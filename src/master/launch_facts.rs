//! What a launch is told: its user-data, its password, its pool's bootstrap script.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::master::agents::BootstrapOrder;
use crate::master::config::Config;
use crate::master::config::PoolConfig;
use crate::master::config::bootstrap::Bootstrap;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::keys::Keys;
use crate::master::perform::Briefing;
use crate::master::provisioner::PASSWORD_PLACE;
use crate::master::road_files::RoadFiles;
use crate::master::user_data;
use crate::master::user_data::Road;
use crate::master::user_data::UserData;
use crate::master::user_data::parts;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::secret::Secret;
use crate::wire::handshake;

/// The dead-man's margin behind the boot timeout.
const BOOT_MARGIN: Duration = Duration::from_secs(5 * 60);

/// Each try of a launch is a launch of its own, so its candidates need no passwords of their own.
const ONLY_CANDIDATE: u32 = 0;

/// The port where `url` names none.
const HTTPS_PORT: u16 = 443;

/// All that a launch's facts are made of.
pub struct LaunchFacts {
    pools: BTreeMap<PoolName, PoolConfig>,
    url: String,
    keys: Keys,
    ca_pem: Option<String>,
    road: RoadFiles,
}

impl LaunchFacts {
    /// From the settings, the keys, the CA, and what the road serves.
    pub fn new(
        config: &Config,
        keys: Keys,
        ca_pem: Option<String>,
        road: RoadFiles,
    ) -> LaunchFacts {
        let pools = config.pools.iter();
        let pools = pools.map(|pool| (pool.settings.name.clone(), pool.clone())).collect();
        LaunchFacts { pools, url: config.master.url.clone(), keys, ca_pem, road }
    }

    /// Whether every pool's bootstrap script is there.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn check_scripts(&self) -> anyhow::Result<()> {
        for (pool, config) in &self.pools {
            let Some(Bootstrap::File(script)) = &config.bootstrap else { continue };
            anyhow::ensure!(
                self.road.script_sha256(script).is_some(),
                "find the bootstrap script \"{script}\" of pool \"{pool}\": put it into \
                 bootstrap_dir, or use debian.sh, which comes with busybee (without a bootstrap_dir)"
            );
        }
        Ok(())
    }

    /// For which machines there are agents, as `uname -m` calls them.
    pub fn architectures(&self) -> &[String] {
        self.road.architectures()
    }

    /// `host:port` of the channel.
    pub fn master(&self) -> String {
        let authority = self.url.strip_prefix("https://").unwrap_or(&self.url);
        let has_port = authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        if has_port { authority.to_owned() } else { format!("{authority}:{HTTPS_PORT}") }
    }

    fn facts(&self, pool: &PoolName, worker: &WorkerName) -> UserData {
        let pool = self.pools.get(pool);
        let settings = pool.map(|pool| &pool.settings);
        let boot = settings.map_or(Duration::ZERO, |settings| settings.boot_timeout);
        let life = settings.map_or(Duration::ZERO, |settings| settings.max_lifetime);
        UserData {
            master: self.master(),
            master_url: self.url.clone(),
            name: worker.to_string(),
            ca_pem: self.ca_pem.clone(),
            runurl_sha256: self.road.runurl_sha256().to_owned(),
            agent_sh_sha256: self.road.agent_sh_sha256().to_owned(),
            boot_limit_secs: (boot + BOOT_MARGIN).as_secs(),
            life_limit_secs: life.as_secs(),
            step_metadata: pool.is_some_and(|pool| pool.step_metadata),
        }
    }

    /// User-data for people to read, for a worker that does not exist; nothing: no such pool.
    pub fn user_data_to_read(&self, pool: &PoolName) -> Option<String> {
        self.pools.get(pool)?;
        let worker = WorkerName(format!("{pool}-example"));
        let facts = self.facts(pool, &worker);
        Some(self.with_parts(pool, &user_data::render_masked(&facts, self.road_of(pool))))
    }

    /// Ours, and what the pool's admin has added.
    fn with_parts(&self, pool: &PoolName, ours: &str) -> String {
        let parts = self.pools.get(pool).map(|pool| pool.user_data.as_slice());
        parts::join(ours, parts.unwrap_or_default())
    }

    fn road_of(&self, pool: &PoolName) -> Road {
        match self.pools.get(pool).map(|pool| pool.settings.provisioner) {
            Some(ProvisionerKind::Ec2) => Road::Cloud,
            Some(ProvisionerKind::Local | ProvisionerKind::None) | None => Road::Local,
        }
    }

    /// What the agent of a machine of one's own needs in its environment.
    pub fn own_machine(&self, worker: &WorkerName, launch: &LaunchId) -> Vec<String> {
        let mut lines = vec![
            format!("BB_MASTER={}", self.master()),
            format!("BB_MASTER_URL={}", self.url),
            format!("BB_NAME={worker}"),
            format!("BB_PASSWORD={}", self.password(launch).reveal()),
            "BB_ROAD=own".to_owned(),
            "BB_HOME=/var/lib/busybee-agent".to_owned(),
        ];
        if self.ca_pem.is_some() {
            // Its contents are no secret: `ca.pem` in data_dir, to be copied there.
            lines.push("BB_CA=/etc/busybee/ca.pem".to_owned());
        }
        lines
    }

    /// The order to run a pool's script, with its hash as it is now.
    pub fn bootstrap(&self, pool: &PoolName) -> Option<BootstrapOrder> {
        let config = self.pools.get(pool)?;
        let (url, sha256) = match config.bootstrap.as_ref()? {
            Bootstrap::File(script) => {
                (format!("{}/bootstrap/{script}", self.url), self.road.script_sha256(script)?)
            }
            Bootstrap::Url { url, sha256 } => (url.clone(), sha256.clone()),
        };
        Some(BootstrapOrder {
            url,
            sha256,
            args: Vec::new(),
            env: config.settings.env.clone(),
            timeout: config.settings.boot_timeout,
        })
    }
}

impl Briefing for LaunchFacts {
    fn user_data(&self, pool: &PoolName, worker: &WorkerName) -> String {
        let facts = self.facts(pool, worker);
        self.with_parts(pool, &user_data::render(&facts, self.road_of(pool), PASSWORD_PLACE))
    }

    fn password(&self, launch: &LaunchId) -> Secret<String> {
        handshake::bootstrap_password(self.keys.master.reveal(), launch, ONLY_CANDIDATE)
    }
}
