//! Wiring: settings, identity and channel into the loop, and how the agent's process ends.

use anyhow::Context;

use crate::agent::bootstrap;
use crate::agent::channel;
use crate::agent::channel::ChannelConfig;
use crate::agent::config::Config;
use crate::agent::config::Road;
use crate::agent::event_loop::End;
use crate::agent::event_loop::EventLoop;
use crate::agent::files;
use crate::agent::identity::Identity;
use crate::agent::instance_id;
use crate::agent::metadata_guard;
use crate::agent::privileges;

/// Runs the agent until it is to end.
///
/// # Errors
/// When it cannot even begin: its home is not writable, its CA not readable.
pub fn run(config: Config) -> anyhow::Result<End> {
    files::make_private_dir(&config.home)
        .with_context(|| format!("create {}", config.home.display()))?;
    let home = config.home.canonicalize().context("find the agent's home")?;
    let config = Config { home, ..config };
    if config.road == Road::Cloud {
        bootstrap::begin_log(&config.home);
    }
    bootstrap::provide_runurl(&config.runurl)
        .with_context(|| format!("write {}", config.runurl.display()))?;
    let unfit = match &config.user {
        Some(name) => separate(&config, name)?,
        None => None,
    };
    files::make_private_dir(&config.home.join("attempts"))
        .context("create the attempts' folder")?;
    let identity = Identity::load_or_create(&config.home)?;
    let ca_pem = match &config.ca {
        Some(path) => {
            let pem = std::fs::read(path);
            Some(pem.with_context(|| format!("read the master's CA from {}", path.display()))?)
        }
        None => None,
    };
    let channel_config = ChannelConfig {
        master: config.master.clone(),
        ca_pem,
        worker: config.name.clone(),
        password: config.password.clone(),
        instance_claim: instance_claim(&config)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let road = config.road;
    let end = runtime.block_on(async {
        let channel = channel::start(channel_config, identity);
        EventLoop::new(config, channel, unfit).run().await
    })?;
    // A farewell may still be on its way.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    // Refused for good, it is of no more use than one that was told to end.
    if road == Road::Cloud {
        let _the_dead_man_does_it_otherwise = std::process::Command::new("poweroff").status();
    }
    Ok(end)
}

/// Which instance this is; empty where it is none, or where nobody says.
fn instance_claim(config: &Config) -> anyhow::Result<String> {
    if config.road != Road::Cloud {
        return Ok(String::new());
    }
    instance_id::ask().or_else(|why| {
        let sentence = format!("the metadata service does not say which instance this is: {why:#}");
        tracing::warn!("{sentence}");
        bootstrap::say(&config.home, &format!("WARNING: {sentence}"))
            .context("write into the boot log")?;
        Ok(String::new())
    })
}

/// Keeps the steps' user out of what is ours: the agent's home and the cloud's metadata service. Why no
/// job may run here, if that cannot be done.
fn separate(config: &Config, name: &str) -> anyhow::Result<Option<String>> {
    let user = privileges::find(name)?;
    privileges::provide_home(&user)?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&config.home, private).context("close the agent's home to others")?;
    if config.road != Road::Cloud || config.step_metadata {
        return Ok(None);
    }
    let Err(why) = metadata_guard::raise(user.uid) else { return Ok(None) };
    let sentence = format!(
        "steps could reach this instance's metadata service, with the instance's rights: {why}; use an \
         image with ip, iptables or nft, or allow it with step_metadata = true in the pool"
    );
    tracing::warn!("{sentence}");
    bootstrap::say(&config.home, &sentence).context("write into the boot log")?;
    Ok(Some(sentence))
}
