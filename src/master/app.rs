//! Wiring: every adapter from the settings, the loop around the domain, and an orderly end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::info;

use crate::master::agents::Agents;
use crate::master::agents::Wiring;
use crate::master::certificates::Certificates;
use crate::master::certificates::Source;
use crate::master::change_source::ChangeSource;
use crate::master::change_source::Watched;
use crate::master::config::Config;
use crate::master::config::ProjectConfig;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::event_loop::EventLoop;
use crate::master::http;
use crate::master::http::HttpConfig;
use crate::master::http::PoolView;
use crate::master::http::ProjectView;
use crate::master::http::Web;
use crate::master::inbox::Inbox;
use crate::master::keys::Keys;
use crate::master::launch_facts::LaunchFacts;
use crate::master::listener::Listener;
use crate::master::listener::Served;
use crate::master::logs::LogStore;
use crate::master::notices::Notices;
use crate::master::perform::Performer;
use crate::master::perform::PoolProvisioner;
use crate::master::pipeline_file;
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

/// The token's file in `data_dir`, made at the first start.
pub const TOKEN_FILE: &str = "token";

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
    private_file::create_folder(&config.data_dir)?;
    // First of all the store: its lock is what keeps a second master out.
    let store = Store::open(&config.data_dir)?;
    let socket = config.data_dir.join(SOCKET_FILE);
    let listener = Listener::bind(config.listen, Some(&socket)).await?;
    let address = listener.address();
    config.url = config.url.replace(":0", &format!(":{}", address.port()));
    let logs = LogStore::open(&config.data_dir)?;
    let keys = Keys::load_or_create(&config.data_dir)?;
    let certificates = Arc::new(Certificates::open(certificate_source(&config))?);
    if let Some(ca_pem) = &certificates.ca_pem {
        private_file::write(&config.data_dir.join(CA_FILE), ca_pem.as_bytes())?;
    }
    let token = token(&config.data_dir)?;
    let program = std::env::current_exe().context("find busybee's own program")?;
    let bootstrap_dir = config.bootstrap_dir.clone();
    let road = RoadFiles::load(&program, config.agent_dir.as_deref(), bootstrap_dir)?;
    let ca_pem = certificates.ca_pem.clone();
    let facts = Arc::new(LaunchFacts::new(&config, keys.clone(), ca_pem, road.clone()));
    facts.check_scripts()?;
    let (inbox, letters) = Inbox::new();
    let notices = Notices::default();
    let (stop, stopping) = watch::channel(false);
    let credentials = credentials(&config.projects)?;
    let agents = agents(&inbox, &store, &logs, &keys, &facts, credentials.clone());
    let changes = changes(&config, &inbox, credentials)?;
    let web = web(&config, &store, &logs, &inbox, &notices, &keys, &token, &facts, &changes, road)?;
    let web = Web { stopping: stopping.clone(), ..web };
    let performer = Performer {
        inbox: inbox.clone(),
        store: store.clone(),
        agents: agents.clone(),
        changes: changes.clone(),
        pools: provisioners(&config, &program),
        user_data: {
            let facts = Arc::clone(&facts);
            Arc::new(move |pool, worker, launch| facts.user_data(pool, worker, launch))
        },
    };
    let event_loop = EventLoop::load(config.settings(), performer, notices.clone(), letters)?;
    let served = Served {
        certificate: Arc::clone(&certificates.served),
        router: http::router::router(Arc::new(web)),
        agents,
    };
    let tasks = vec![
        tokio::spawn(event_loop.run(stopping.clone())),
        tokio::spawn(listener.serve(served, stopping.clone())),
        tokio::spawn(until_stopped(stopping, async move { certificates.keep_fresh().await })),
    ];
    changes.start();
    info!("listening on {address}, for people at {}", config.url);
    Ok(Running { address, inbox, store, notices, changes, token, stop, tasks })
}

impl Running {
    /// Takes no more changes of state, commits what was taken, closes connections. What runs on
    /// workers goes on.
    pub async fn stop(self) {
        let _nobody_listens = self.stop.send(true);
        for task in self.tasks {
            if let Err(why) = task.await {
                tracing::error!("a part of the master ended badly: {why}");
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
    match &config.certificate {
        Some(files) => Source::Files {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            ca: files.ca.clone(),
        },
        None => Source::PrivateAuthority {
            data_dir: config.data_dir.clone(),
            names: vec![config.host().to_owned()],
        },
    }
}

/// The token of the API, made at the first start.
fn token(data_dir: &Path) -> anyhow::Result<Secret<String>> {
    let path = data_dir.join(TOKEN_FILE);
    if let Some(bytes) = private_file::read(&path)? {
        let text = String::from_utf8(bytes).context("read the token")?;
        return Ok(Secret::new(text.trim().to_owned()));
    }
    let token: String = random::bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
    private_file::write(&path, format!("{token}\n").as_bytes())?;
    info!("made the token of pages and API: it is in {}", path.display());
    Ok(Secret::new(token))
}

type Credentials = Arc<BTreeMap<ProjectName, GitCredential>>;

fn credentials(projects: &[ProjectConfig]) -> anyhow::Result<Credentials> {
    let mut known = BTreeMap::new();
    for project in projects {
        known.insert(project.name.clone(), credential(project)?);
    }
    Ok(Arc::new(known))
}

fn credential(project: &ProjectConfig) -> anyhow::Result<GitCredential> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .with_context(|| format!("read {} of project {}", path.display(), project.name))
    };
    if let Some(path) = &project.token_file {
        return Ok(GitCredential::Token(Secret::new(read(path)?.trim().to_owned())));
    }
    let Some(path) = &project.ssh_key_file else {
        return Ok(GitCredential::None);
    };
    let known_hosts = match &project.known_hosts_file {
        Some(path) => read(path)?,
        None => String::new(),
    };
    Ok(GitCredential::SshKey { key: Secret::new(read(path)?), known_hosts })
}

fn agents(
    inbox: &Inbox,
    store: &Store,
    logs: &LogStore,
    keys: &Keys,
    facts: &Arc<LaunchFacts>,
    credentials: Credentials,
) -> Agents {
    let (store, facts) = (store.clone(), Arc::clone(facts));
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
            credentials.get(project).cloned().unwrap_or_default()
        }),
    })
}

fn changes(
    config: &Config,
    inbox: &Inbox,
    credentials: Credentials,
) -> anyhow::Result<ChangeSource> {
    let watched = config.projects.iter().map(|project| Watched {
        name: project.name.clone(),
        repo: project.repo.clone(),
        branches: project.branches.clone(),
        tags: project.tags.clone(),
        poll: project.poll,
        credential: credentials.get(&project.name).cloned().unwrap_or_default(),
    });
    ChangeSource::new(inbox.clone(), watched.collect(), config.data_dir.join("git"))
}

fn provisioners(config: &Config, program: &Path) -> BTreeMap<PoolName, PoolProvisioner> {
    let mut known = BTreeMap::new();
    for pool in &config.pools {
        match pool.settings.provisioner {
            ProvisionerKind::Local => {
                let name = pool.settings.name.clone();
                let dir = config.data_dir.join("machines").join(name.as_str());
                let provisioner = Arc::new(LocalProvisioner::new(dir, program.to_owned()));
                let max_lifetime = pool.settings.max_lifetime;
                known.insert(name, PoolProvisioner { provisioner, max_lifetime });
            }
            // Machines of one's own: nothing is started or ended for them.
            ProvisionerKind::None => {}
        }
    }
    known
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
    let host = config.host();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let pools = config.pools.iter().map(|pool| PoolView {
        name: pool.settings.name.clone(),
        labels: pool.settings.labels.clone(),
        provisioner: match pool.settings.provisioner {
            ProvisionerKind::Local => "local",
            ProvisionerKind::None => "none",
        },
        max_instances: pool.settings.max_instances,
        min_idle: pool.settings.min_idle,
        idle_timeout: pool.settings.idle_timeout,
    });
    let mut projects = Vec::new();
    for project in &config.projects {
        let hook_token = match &project.hook_token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| {
                    format!("read {} of project {}", path.display(), project.name)
                })?;
                Some(Secret::new(text.trim().to_owned()))
            }
            None => None,
        };
        let (name, repo) = (project.name.clone(), project.repo.clone());
        projects.push(ProjectView { name, repo, hook_token });
    }
    let (changes, facts) = (changes.clone(), Arc::clone(facts));
    Ok(Web {
        config: HttpConfig {
            url: config.url.clone(),
            host_names: vec![host],
            listen_is_loopback: config.listen.ip().is_loopback(),
            projects,
            pools: pools.collect(),
            token_hash: digest(token.reveal().as_bytes()),
            cookie_key,
            pipeline_schema: pipeline_file::schema().to_string(),
        },
        store: store.clone(),
        logs: logs.clone(),
        inbox: inbox.clone(),
        notices: notices.clone(),
        road: Arc::new(move |path: &str| road.find(path)),
        poke: Arc::new(move |project: &ProjectName| changes.poke(project)),
        worker_environment: Arc::new(move |worker, launch| facts.own_machine(worker, launch)),
        stopping: watch::channel(false).1,
    })
}
