//! What an agent is told at its start: the `BB_` lines, from a file or from the environment.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use crate::agent::supervisor::StepsRunAs;
use crate::model::secret::Secret;

/// Where the machine comes from, and so what the agent may do to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// A process of the master's own computer.
    Local,
    /// A cloud instance that is ours as a whole.
    Cloud,
    /// A machine of one's own.
    Own,
}

/// An agent's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// `BB_MASTER`: host and port of the channel.
    pub master: String,
    /// `BB_MASTER_URL`: what scripts fetch from.
    pub master_url: String,
    /// `BB_NAME`: the worker's name.
    pub name: String,
    /// `BB_PASSWORD`; absent once it was used.
    pub password: Option<Secret<String>>,
    /// `BB_CA`: the file with the master's CA; absent: the system's roots.
    pub ca: Option<PathBuf>,
    /// `BB_ROAD`.
    pub road: Road,
    /// `BB_USER`: whom checkouts and steps run as; absent: as the agent itself.
    pub user: Option<String>,
    /// `BB_DEADMAN`: the file that the machine's own timer reads; absent: it has none.
    pub deadman: Option<PathBuf>,
    /// `BB_LIFE_LIMIT`: how many seconds this machine may run in all; absent: nobody has limited it.
    pub life_limit: Option<Duration>,
    /// `BB_LIVED`: the file in which its timer counts them over all boots.
    pub lived: Option<PathBuf>,
    /// `BB_STEP_METADATA`: whether steps may reach the cloud's metadata service.
    pub step_metadata: bool,
    /// `BB_RUNURL`: where `runurl` lies.
    pub runurl: PathBuf,
    /// `BB_HOME`: where everything of the agent lies.
    pub home: PathBuf,
    /// The file that these come from; absent: the environment.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads the file's `BB_NAME=value` lines; `BB_HOME` may also come from the environment.
    ///
    /// # Errors
    /// When the file cannot be read, or lacks something; the message names it.
    pub fn from_file(path: &Path) -> anyhow::Result<Config> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the agent's settings from {}", path.display()))?;
        let mut values: BTreeMap<String, String> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.trim().to_owned(), value.to_owned()))
            .collect();
        if let Ok(home) = std::env::var("BB_HOME") {
            values.entry("BB_HOME".into()).or_insert(home);
        }
        if let Ok(deadman) = std::env::var("BB_DEADMAN") {
            values.entry("BB_DEADMAN".into()).or_insert(deadman);
        }
        let folder = path.parent().map(|folder| folder.display().to_string());
        if let Some(folder) = folder {
            values.entry("BB_HOME".into()).or_insert(folder);
        }
        Config::from_values(&values, Some(path.to_owned()))
            .with_context(|| format!("read the agent's settings from {}", path.display()))
    }

    /// Reads the environment.
    ///
    /// # Errors
    /// When something is missing; the message names it.
    pub fn from_environment() -> anyhow::Result<Config> {
        // What else stands in an environment need not even be text.
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let ours = texts.filter(|(name, _)| name.starts_with("BB_")).collect();
        Config::from_values(&ours, None).context("read the agent's settings from its environment")
    }

    fn from_values(
        values: &BTreeMap<String, String>,
        file: Option<PathBuf>,
    ) -> anyhow::Result<Config> {
        let optional = |name: &str| values.get(name).filter(|value| !value.is_empty()).cloned();
        let wanted = |name: &str| {
            optional(name).with_context(|| {
                format!(
                    "{name} is not set: take it from the lines that `busybee worker add` prints"
                )
            })
        };
        let road = match optional("BB_ROAD").as_deref() {
            Some("local") => Road::Local,
            Some("cloud") => Road::Cloud,
            Some("own") | None => Road::Own,
            Some(other) => anyhow::bail!("BB_ROAD is \"{other}\"; it is local, cloud or own"),
        };
        let home = PathBuf::from(wanted("BB_HOME")?);
        let runurl = optional("BB_RUNURL").map_or_else(|| home.join("runurl"), PathBuf::from);
        Ok(Config {
            master: wanted("BB_MASTER")?,
            master_url: wanted("BB_MASTER_URL")?,
            name: wanted("BB_NAME")?,
            password: optional("BB_PASSWORD").map(Secret::new),
            ca: optional("BB_CA").map(PathBuf::from),
            road,
            user: optional("BB_USER"),
            deadman: optional("BB_DEADMAN").map(PathBuf::from),
            step_metadata: optional("BB_STEP_METADATA").is_some_and(|word| word == "yes"),
            life_limit: optional("BB_LIFE_LIMIT").map(|text| seconds(&text)).transpose()?,
            lived: optional("BB_LIVED").map(PathBuf::from),
            runurl,
            home,
            file,
        })
    }

    /// Whose rights checkouts and steps have.
    pub(crate) fn steps_run_as(&self) -> StepsRunAs {
        match &self.user {
            None => StepsRunAs::Agent,
            Some(name) => {
                // On a machine of one's own the user may be somebody with a life besides builds.
                let is_swept = self.road == Road::Cloud;
                StepsRunAs::User { name: name.clone(), is_swept }
            }
        }
    }

    /// Takes the password out of the file: it was used, and is worth nothing now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget_password(&self) -> anyhow::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let text = std::fs::read_to_string(path).context("read the agent's settings")?;
        if !text.contains("BB_PASSWORD=") {
            return Ok(());
        }
        let kept: String = text
            .lines()
            .filter(|line| !line.starts_with("BB_PASSWORD="))
            .map(|line| format!("{line}\n"))
            .collect();
        crate::agent::files::write_whole(path, kept.as_bytes())
            .context("take the used password out of the agent's settings")
    }
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.with_context(|| format!("BB_LIFE_LIMIT is \"{text}\"; it is a number of seconds"))
}
