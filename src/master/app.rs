//! Wiring: every adapter from the settings, the loop around the domain, and an orderly end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::error;
use tracing::info;

use crate::master::agents::Agents;
use crate::master::agents::Wiring;
use crate::master::certificates::Certificates;
use crate::master::certificates::Source;
use crate::master::change_source::ChangeSource;
use crate::master::config::Config;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::event_loop::EventLoop;
use crate::master::home;
use crate::master::http;
use crate::master::http::HttpConfig;
use crate::master::http::PoolView;
use crate::master::http::ProjectView;
use crate::master::http::Web;
use crate::master::inbox::Inbox;
use crate::master::keys::Keys;
use crate::master::launch_facts::LaunchFacts;
use crate::master::left_behind;
use crate::master::listener::Listener;
use crate::master::listener::Served;
use crate::master::logs::LogStore;
use crate::master::mail;
use crate::master::notices::Notices;
use crate::master::perform::Briefing;
use crate::master::perform::Performer;
use crate::master::pipeline_file;
use crate::master::provisioner::Provisioner;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::budget::Budgets;
use crate::master::provisioner::local::LocalProvisioner;
use crate::master::road_files::RoadFiles;
use crate::master::store::Store;
use crate::model::attempt::GitCredential;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::secret::Secret;
use crate::runtime::private_file;
use crate::runtime::random;

/// The owner's socket in `data_dir`.
pub const SOCKET_FILE: &str = "busybee.sock";
/// What was served on the road, by content.
const ROAD_FOLDER: &str = "road";

/// The token's file in `data_dir`, made at the first start.
pub const TOKEN_FILE: &str = "token";

/// The file in `data_dir` with the master's id, where the settings name none.
const ID_FILE: &str = "id";

/// The CA's file in `data_dir`, for clients: `--ca`.
pub const CA_FILE: &str = "ca.pem";

/// A master that runs.
pub struct Running {
    /// Where its port is.
    pub address: SocketAddr,
    /// The way to its domain.
    pub inbox: Inbox,
    /// What it remembers.
    pub store: Store,
    /// What changes.
    pub notices: Notices,
    /// Its repositories.
    pub changes: ChangeSource,
    /// For the pages and the API.
    pub token: Secret<String>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Binds the port, then builds everything and starts it. A port of 0 in `listen` means a free one;
/// then, and where `url` says port 0, instances and people are told the port that was found.
///
/// # Errors
/// When the port is taken, the `data_dir` is another master's or cannot be written, or a file that
/// the settings name cannot be read.
pub async fn start(mut config: Config) -> anyhow::Result<Running> {
    let data_dir = &config.master.data_dir;
    private_file::create_folder(data_dir)
        .context("use data_dir (it must be a directory that the master's user may write to)")?;
    // First of all the store: its lock is what keeps a second master out.
    let store = Store::open(data_dir)?;
    left_behind::check(&store, &config).await?;
    if let Some(sight) = home::look(&config.master.data_dir, &store).await? {
        left_behind::wait_for_word(&store, &config, &sight).await?;
    }
    let socket = data_dir.join(SOCKET_FILE);
    let listener = Listener::bind(config.master.listen, Some(&socket)).await?;
    let address = listener.address();
    config.master.url = config.master.url.replace(":0", &format!(":{}", address.port()));
    let logs = LogStore::open(&config.master.data_dir)?;
    let keys = Keys::load_or_create(&config.master.data_dir)?;
    let certificates = Arc::new(Certificates::open(certificate_source(&config))?);
    if let Some(ca_pem) = &certificates.ca_pem {
        let path = config.master.data_dir.join(CA_FILE);
        // A disk that is full to the last byte must not keep it from starting.
        if private_file::read(&path)?.as_deref() != Some(ca_pem.as_bytes()) {
            private_file::write(&path, ca_pem.as_bytes())?;
        }
    }
    let token = token(&config.master.data_dir)?;
    let program = std::env::current_exe().context("find busybee's own program")?;
    let bootstrap_dir = config.master.bootstrap_dir.clone();
    let road = RoadFiles::load(&program, config.master.agent_dir.as_deref(), bootstrap_dir)?;
    let road = road.with_those_before(config.master.data_dir.join(ROAD_FOLDER));
    let ca_pem = certificates.ca_pem.clone();
    let facts = Arc::new(LaunchFacts::new(&config, keys.clone(), ca_pem, road.clone()));
    facts.check_scripts()?;
    let (inbox, letters) = Inbox::new();
    let notices = Notices::default();
    let (stop, stopping) = watch::channel(false);
    let data_dir = &config.master.data_dir;
    let changes = ChangeSource::new(config.sources(), data_dir, inbox.clone());
    let agents = agents(&inbox, &store, &logs, &keys, &facts, &changes);
    let web = web(&config, &store, &logs, &inbox, &notices, &keys, &token, &facts, &changes, road)?;
    let web = Web { stopping: stopping.clone(), ..web };
    let (mailer, postman) = mail::set_up(config.mail.clone());
    let performer = Performer {
        inbox: inbox.clone(),
        store: store.clone(),
        agents: agents.clone(),
        changes: changes.clone(),
        logs: logs.clone(),
        mailer,
        pools: provisioners(&config, &master_id(&config)?, &program)?,
        briefing: Arc::clone(&facts) as Arc<dyn Briefing>,
        loads: Arc::default(),
    };
    let event_loop = EventLoop::load(config.settings(), performer, notices.clone(), letters)?;
    let served = Served {
        certificate: Arc::clone(&certificates.served),
        router: http::router::router(Arc::new(web)),
        agents,
    };
    let polling = {
        let changes = changes.clone();
        async move { changes.poll().await }
    };
    let looking_after = {
        let (room, store) = (logs.disk_room().clone(), store.clone());
        async move { room.look_after(|| store.release_ballast(), || store.restore_ballast()).await }
    };
    let tasks = vec![
        tokio::spawn(event_loop.run(stopping.clone())),
        tokio::spawn(listener.serve(served, stopping.clone())),
        tokio::spawn(until_stopped(stopping.clone(), polling)),
        tokio::spawn(until_stopped(stopping.clone(), looking_after)),
        tokio::spawn(until_stopped(stopping.clone(), postman.run())),
        tokio::spawn(until_stopped(stopping, async move { certificates.keep_fresh().await })),
    ];
    info!("listening on {address}, for people at {}", config.master.url);
    Ok(Running { address, inbox, store, notices, changes, token, stop, tasks })
}

impl Running {
    /// Takes no more changes of state, commits what was taken, closes connections. What runs on
    /// workers goes on.
    pub async fn stop(self) {
        let _nobody_listens = self.stop.send(true);
        for task in self.tasks {
            if let Err(why) = task.await {
                error!("a part of the master ended badly: {why}");
            }
        }
    }
}

async fn until_stopped(mut stopping: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        () = work => {}
    }
}

fn certificate_source(config: &Config) -> Source {
    match &config.master.certificate {
        Some(files) => Source::Files {
            certificate: files.cert_file.clone(),
            key: files.key_file.clone(),
            ca: files.ca_file.clone(),
        },
        None => Source::PrivateAuthority {
            data_dir: config.master.data_dir.clone(),
            names: vec![host_of(&config.master.url).to_owned()],
        },
    }
}

/// The token of the API, made at the first start.
fn token(data_dir: &Path) -> anyhow::Result<Secret<String>> {
    Ok(Secret::new(made_once(&data_dir.join(TOKEN_FILE), "the token of pages and API", 32)?))
}

/// The name by which this master's instances are known: the file's, or one made at the first start.
///
/// One in the file is better: it survives the loss of `data_dir`, and with it what runs is found again.
fn master_id(config: &Config) -> anyhow::Result<String> {
    match &config.master.id {
        Some(id) => Ok(id.clone()),
        None => made_once(&config.master.data_dir.join(ID_FILE), "this master's id", 6),
    }
}

/// The same for whoever may make nothing: none where the file has none and no master has started yet.
///
/// # Errors
/// When it is there and cannot be read.
pub fn known_master_id(config: &Config) -> anyhow::Result<Option<String>> {
    match &config.master.id {
        Some(id) => Ok(Some(id.clone())),
        None => word_of(&config.master.data_dir.join(ID_FILE), "this master's id"),
    }
}

/// A word in a file, if that is there.
fn word_of(path: &Path, what: &str) -> anyhow::Result<Option<String>> {
    let Some(bytes) = private_file::read(path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).with_context(|| format!("read {what}"))?;
    Ok(Some(text.trim().to_owned()))
}

/// A word in a file; where there is none yet, one of so many random bytes.
fn made_once(path: &Path, what: &str, bytes: usize) -> anyhow::Result<String> {
    if let Some(word) = word_of(path, what)? {
        return Ok(word);
    }
    let random = random::bytes::<32>();
    let word: String = random.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect();
    private_file::write(path, format!("{word}\n").as_bytes())?;
    info!("made {what}: it is in {}", path.display());
    Ok(word)
}

fn agents(
    inbox: &Inbox,
    store: &Store,
    logs: &LogStore,
    keys: &Keys,
    facts: &Arc<LaunchFacts>,
    changes: &ChangeSource,
) -> Agents {
    let (store, facts) = (store.clone(), Arc::clone(facts));
    let (changes, secrets) = (changes.clone(), changes.clone());
    Agents::new(Wiring {
        inbox: inbox.clone(),
        logs: logs.clone(),
        keys: keys.clone(),
        worker: Arc::new(move |name| {
            let store = store.clone();
            Box::pin(async move { store.worker(name).await })
        }),
        bootstrap: Arc::new(move |pool: &PoolName| facts.bootstrap(pool)),
        credential: Arc::new(move |project: &ProjectName| {
            changes.credential(project).unwrap_or_else(|why| {
                // The checkout then fails as one without a credential, and says so.
                error!(project.name = %project, "no credential for {project}: {why}");
                GitCredential::None
            })
        }),
        secret: Arc::new(move |project: &ProjectName, name: &str| {
            // The job then ends with that sentence.
            secrets
                .secret(project, name)
                .inspect_err(|why| error!(project.name = %project, "{why}"))
        }),
    })
}

fn provisioners(
    config: &Config,
    master: &str,
    program: &Path,
) -> anyhow::Result<BTreeMap<PoolName, Arc<dyn Provisioner>>> {
    let mut known: BTreeMap<PoolName, Arc<dyn Provisioner>> = BTreeMap::new();
    let budgets = Budgets::default();
    let pools: Vec<PoolName> = config.pools.iter().map(|pool| pool.settings.name.clone()).collect();
    for pool in &config.pools {
        let name = pool.settings.name.clone();
        let max_lifetime = pool.settings.max_lifetime;
        let provisioner: Arc<dyn Provisioner> = match (&pool.settings.provisioner, &pool.ec2) {
            (ProvisionerKind::Ec2, Some(settings)) => {
                let of_pool =
                    Ec2Provisioner::new(settings.clone(), master.to_owned(), name.clone());
                let of_pool = of_pool.with_context(|| format!("set pool \"{name}\" up"))?;
                Arc::new(of_pool.among(&pools, &budgets))
            }
            (ProvisionerKind::Local, _) => {
                let dir = config.master.data_dir.join("machines").join(name.as_str());
                Arc::new(LocalProvisioner::new(dir, program.to_owned(), max_lifetime))
            }
            // Machines of one's own: nothing is started or ended for them.
            (ProvisionerKind::None | ProvisionerKind::Ec2, _) => continue,
        };
        known.insert(name, provisioner);
    }
    Ok(known)
}

#[expect(clippy::too_many_arguments, reason = "the pages see every part of the house")]
fn web(
    config: &Config,
    store: &Store,
    logs: &LogStore,
    inbox: &Inbox,
    notices: &Notices,
    keys: &Keys,
    token: &Secret<String>,
    facts: &Arc<LaunchFacts>,
    changes: &ChangeSource,
    road: RoadFiles,
) -> anyhow::Result<Web> {
    let digest = |bytes: &[u8]| -> [u8; 32] {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        *digest.as_ref().first_chunk().expect("a SHA-256 has 32 bytes")
    };
    let cookie_key = {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, keys.master.reveal());
        let tag = ring::hmac::sign(&key, b"busybee login cookies");
        *tag.as_ref().first_chunk().expect("an HMAC-SHA256 has 32 bytes")
    };
    let host = host_of(&config.master.url);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let pools = config.pools.iter().map(|pool| PoolView {
        name: pool.settings.name.clone(),
        labels: pool.settings.labels.clone(),
        provisioner: match pool.settings.provisioner {
            ProvisionerKind::Ec2 => "ec2",
            ProvisionerKind::Local => "local",
            ProvisionerKind::None => "none",
        },
        max_instances: pool.settings.max_instances,
        min_idle: pool.settings.min_idle,
        idle_timeout: pool.settings.idle_timeout,
        daily_budget: pool.settings.daily_budget,
        look_ahead: pool.settings.look_ahead,
    });
    let mut projects = Vec::new();
    for project in &config.projects {
        let hook_token = match &project.hook_token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| {
                    format!("read {} of project {}", path.display(), project.source.project)
                })?;
                Some(Secret::new(text.trim().to_owned()))
            }
            None => None,
        };
        let name = project.source.project.clone();
        let repo = project.source.remote.as_str().to_owned();
        projects.push(ProjectView { name, repo, hook_token });
    }
    let (changes, facts) = (changes.clone(), Arc::clone(facts));
    let asked = changes.clone();
    Ok(Web {
        config: HttpConfig {
            url: config.master.url.clone(),
            host_names: vec![host],
            listen_is_loopback: config.master.listen.ip().is_loopback(),
            projects,
            pools: pools.collect(),
            token_hash: digest(token.reveal().as_bytes()),
            cookie_key,
            daily_budget: config.master.daily_budget,
            pipeline_schema: pipeline_file::schema().to_string(),
        },
        store: store.clone(),
        logs: logs.clone(),
        inbox: inbox.clone(),
        notices: notices.clone(),
        road: Arc::new(move |path: &str, sha256: Option<&str>| road.find(path, sha256)),
        poke: Arc::new(move |project: &ProjectName| {
            // Whoever calls is not told which projects there are.
            let _is_known = changes.poke(project);
        }),
        trouble: Arc::new(move |project: &ProjectName| {
            let health = asked.health();
            health.get(project).and_then(|health| Some(health.trouble.clone()?.1))
        }),
        worker_environment: Arc::new(move |worker, launch| facts.own_machine(worker, launch)),
        stopping: watch::channel(false).1,
    })
}

/// The host of an https URL: a name or an address, IPv6 without brackets.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_has_neither_port_nor_brackets() {
        assert_eq!(host_of("https://ci.example.com:8443"), "ci.example.com");
        assert_eq!(host_of("https://[2001:db8::1]:8443"), "2001:db8::1");
        assert_eq!(host_of("https://10.0.0.7"), "10.0.0.7");
    }
}
