//! What instances fetch on their road: `runurl`, bootstrap scripts, `agent.sh`, agents by hash.
//!
//! Anybody who can reach the port can fetch these: no secret belongs here. Files are read when asked
//! for, so that a script can be mended without a restart; their hashes are taken from the same bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use tracing::warn;

use crate::master::http::RoadFile;
use crate::master::served_before::ServedBefore;
use crate::master::user_data;
use crate::runtime::digest::sha256_hex;

/// The agent beside busybee itself, and what agents are called in `agent_dir`: this, or this with
/// `-ARCHITECTURE` behind it.
const AGENT_NAME: &str = "busybee-agent";

/// The architectures that the road knows, as `uname -m` calls them.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// All of them. Cheap to clone.
#[derive(Clone)]
pub struct RoadFiles {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    bootstrap_dir: Option<PathBuf>,
    /// Where there is a master that serves them.
    before: Option<ServedBefore>,
    /// By SHA-256.
    agents: BTreeMap<String, Bytes>,
    /// Of those agents.
    architectures: Vec<String>,
    agent_sh: Bytes,
    agent_sh_sha256: String,
    runurl: Bytes,
    runurl_sha256: String,
}

impl RoadFiles {
    /// Reads the agents there are: beside `program`, and in `agent_dir`.
    ///
    /// # Errors
    /// When an agent is there and cannot be read.
    pub fn load(
        program: &Path,
        agent_dir: Option<&Path>,
        bootstrap_dir: Option<PathBuf>,
    ) -> anyhow::Result<RoadFiles> {
        let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
        let beside = program.parent().unwrap_or(Path::new("."));
        for dir in [Some(beside), agent_dir].into_iter().flatten() {
            for architecture in ARCHITECTURES {
                let named = dir.join(format!("{AGENT_NAME}-{architecture}"));
                let own = dir.join(AGENT_NAME);
                if named.is_file() {
                    found.insert(architecture.to_owned(), named);
                } else if architecture == std::env::consts::ARCH && own.is_file() {
                    found.insert(architecture.to_owned(), own);
                }
            }
        }
        let (mut agents, mut pairs) = (BTreeMap::new(), Vec::new());
        for (architecture, path) in found {
            let bytes = std::fs::read(&path)
                .with_context(|| format!("read the agent {}", path.display()))?;
            let sha256 = sha256_hex(&bytes);
            pairs.push((architecture, sha256.clone()));
            agents.insert(sha256, Bytes::from(bytes));
        }
        if agents.is_empty() {
            warn!(
                "there is no {AGENT_NAME} beside {} nor in agent_dir: no machine can become a \
                 worker (build it with `cargo build --release`)",
                program.display()
            );
        }
        let architectures = pairs.iter().map(|(architecture, _)| architecture.clone()).collect();
        let agent_sh = Bytes::from(user_data::render_agent_sh(&pairs));
        let runurl = Bytes::from_static(user_data::RUNURL.as_bytes());
        let inner = Inner {
            bootstrap_dir,
            before: None,
            agents,
            architectures,
            agent_sh_sha256: sha256_hex(&agent_sh),
            agent_sh,
            runurl_sha256: sha256_hex(&runurl),
            runurl,
        };
        Ok(RoadFiles { inner: Arc::new(inner) })
    }

    /// The same, which serve what earlier masters of this folder have announced as well. Where these cannot be
    /// kept for later ones, as on a full disk, the log says so.
    pub fn with_those_before(self, folder: PathBuf) -> RoadFiles {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.before = ServedBefore::open(folder)
            .inspect_err(|why| {
                warn!("no machine will find what an earlier master has announced: {why:#}")
            })
            .ok();
        let agents = inner.agents.iter().map(|(sha256, agent)| (sha256.as_str(), agent));
        let scripts = [
            (inner.runurl_sha256.as_str(), &inner.runurl),
            (inner.agent_sh_sha256.as_str(), &inner.agent_sh),
        ];
        if let Some(Err(why)) =
            inner.before.as_ref().map(|before| before.keep(agents.chain(scripts)))
        {
            warn!(
                "machines that boot during the next upgrade may not find what they were told of: {why:#}"
            );
        }
        RoadFiles { inner: Arc::new(inner) }
    }

    /// What lies at a path of the road; of `runurl` and `agent.sh` what has this hash, as whoever asks was told
    /// of it, if any master had it lately.
    pub fn find(&self, path: &str, sha256: Option<&str>) -> Option<RoadFile> {
        let inner = &self.inner;
        let file = |content: Bytes| Some(RoadFile { content, immutable: false });
        let before = |sha256: &str| inner.before.as_ref()?.find(sha256);
        let announced = |now: &Bytes, its: &str| {
            let earlier = sha256.filter(|sha256| *sha256 != its).and_then(before);
            file(earlier.unwrap_or_else(|| now.clone()))
        };
        if path == "/runurl" {
            return announced(&inner.runurl, &inner.runurl_sha256);
        }
        if let Some(sha256) = path.strip_prefix("/agent/") {
            let content = inner.agents.get(sha256).cloned().or_else(|| before(sha256))?;
            return Some(RoadFile { content, immutable: true });
        }
        match path.strip_prefix("/bootstrap/")? {
            "agent.sh" => announced(&inner.agent_sh, &inner.agent_sh_sha256),
            name => file(self.script(name)?),
        }
    }

    /// A bootstrap script by its name: the admin's, where there is a `bootstrap_dir`, else ours.
    fn script(&self, name: &str) -> Option<Bytes> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return None;
        }
        if let Some(dir) = &self.inner.bootstrap_dir {
            return std::fs::read(dir.join(name)).ok().map(Bytes::from);
        }
        let mut ours = user_data::BOOTSTRAP_SCRIPTS.iter();
        ours.find(|(known, _)| *known == name).map(|(_, text)| Bytes::from_static(text.as_bytes()))
    }

    /// The hash of a bootstrap script as it is now; nothing: there is none of this name.
    pub fn script_sha256(&self, name: &str) -> Option<String> {
        self.script(name).map(|script| sha256_hex(&script))
    }

    /// For which machines there are agents, as `uname -m` calls them.
    pub fn architectures(&self) -> &[String] {
        &self.inner.architectures
    }

    /// The hash that user-data carries for `agent.sh`.
    pub fn agent_sh_sha256(&self) -> &str {
        &self.inner.agent_sh_sha256
    }

    /// The hash that user-data carries for `runurl`.
    pub fn runurl_sha256(&self) -> &str {
        &self.inner.runurl_sha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_the_road_is_found_on_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("busybee-agent"), "an agent").unwrap();
        std::fs::write(dir.path().join("secret"), "no").unwrap();
        let files = RoadFiles::load(&dir.path().join("busybee"), None, None).unwrap();
        let agent = format!("/agent/{}", sha256_hex(b"an agent"));
        let find = |path: &str| files.find(path, None);
        assert_eq!(find(&agent).unwrap().content, "an agent");
        assert!(find("/runurl").is_some() && find("/bootstrap/debian.sh").is_some());
        let script = find("/bootstrap/agent.sh").unwrap().content;
        assert_eq!(sha256_hex(&script), files.agent_sh_sha256());
        for path in ["/bootstrap/../secret", "/bootstrap/", "/agent/", "/bootstrap/.x", "/secret"] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_master_with_another_agent_still_serves_what_the_one_before_has_announced() {
        let dir = tempfile::tempdir().unwrap();
        let load = |agent: &str| {
            std::fs::write(dir.path().join("busybee-agent"), agent).unwrap();
            let files = RoadFiles::load(&dir.path().join("busybee"), None, None).unwrap();
            files.with_those_before(dir.path().join("data").join("road"))
        };
        let (old, new) = (load("old agent"), load("new agent"));
        let announced = old.agent_sh_sha256();
        assert_ne!(announced, new.agent_sh_sha256());
        let script = |sha256| new.find("/bootstrap/agent.sh", sha256).unwrap().content;
        assert_eq!(sha256_hex(&script(Some(announced))), announced);
        assert_eq!(sha256_hex(&script(None)), new.agent_sh_sha256());
        assert_eq!(sha256_hex(&script(Some("unheard of"))), new.agent_sh_sha256());
        let agent = format!("/agent/{}", sha256_hex(b"old agent"));
        assert_eq!(new.find(&agent, None).unwrap().content, "old agent");
    }

    #[test]
    fn a_bootstrap_dir_takes_the_place_of_what_comes_with_busybee() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ours.sh"), "true").unwrap();
        let scripts = Some(dir.path().to_owned());
        let files = RoadFiles::load(&dir.path().join("busybee"), None, scripts).unwrap();
        assert_eq!(files.script_sha256("ours.sh"), Some(sha256_hex(b"true")));
        assert_eq!(files.script_sha256("debian.sh"), None);
    }
}
