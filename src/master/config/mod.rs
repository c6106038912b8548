//! The master's file, `busybee.toml`: read whole, with every mistake at its place, before anything
//! is bound or made.

mod meaning;
mod typed;

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProjectSettings;
use crate::master::domain::settings::Settings;
use crate::model::ids::ProjectName;
use crate::runtime::config_file::decode;
use crate::runtime::config_file::globs::Pattern;
use crate::runtime::config_file::problem::Problems;
use crate::runtime::config_file::toml_reader;

/// The master's settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What instances and people use, without a slash at its end.
    pub url: String,
    /// Where the one port is.
    pub listen: SocketAddr,
    /// Everything the master keeps.
    pub data_dir: PathBuf,
    /// Where bootstrap scripts lie; nothing: the ones that come with busybee.
    pub bootstrap_dir: Option<PathBuf>,
    /// Where agents lie, besides the folder of busybee itself.
    pub agent_dir: Option<PathBuf>,
    /// What this master is called in the tags of instances; nothing: made at first start.
    pub id: Option<String>,
    /// Certificate files of one's own; nothing: a private CA.
    pub certificate: Option<CertificateFiles>,
    /// In the order of the file.
    pub pools: Vec<PoolConfig>,
    /// In the order of the file.
    pub projects: Vec<ProjectConfig>,
}

/// A certificate of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority that instances are to trust; nothing: their system's.
    pub ca: Option<PathBuf>,
}

/// A pool, with what only adapters need.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// What the domain knows of it.
    pub settings: PoolSettings,
    /// Its bootstrap script's name in `bootstrap_dir`.
    pub bootstrap: Option<String>,
}

/// A project, with what only adapters need.
#[derive(Clone, Debug)]
pub struct ProjectConfig {
    /// Its name.
    pub name: ProjectName,
    /// Its repository, as git takes it.
    pub repo: String,
    /// Which branches polling watches.
    pub branches: Vec<Pattern>,
    /// Which tags polling watches.
    pub tags: Vec<Pattern>,
    /// How often the repository is asked.
    pub poll: Duration,
    /// An OpenSSH private key.
    pub ssh_key_file: Option<PathBuf>,
    /// The host keys to trust with it.
    pub known_hosts_file: Option<PathBuf>,
    /// An HTTPS token.
    pub token_file: Option<PathBuf>,
    /// What `POST /hooks/git/PROJECT` must bring from elsewhere.
    pub hook_token_file: Option<PathBuf>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, for people.
    pub fn load(path: &Path) -> Result<Config, Problems> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|why| {
            let hint = "write one with `busybee init`, or name another with --config FILE";
            Problems::whole_file(&name, format!("cannot read it: {why}"), hint)
        })?;
        let mut config = Config::parse(&text, &name)?;
        // Clients find the socket by the same file from wherever they are run.
        let folder = path.parent().unwrap_or(Path::new(""));
        config.data_dir = folder.join(&config.data_dir);
        Ok(config)
    }

    /// Checks a text; `name` is what the problems call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, for people.
    pub fn parse(text: &str, name: &str) -> Result<Config, Problems> {
        let mut document =
            toml_reader::read(text).map_err(|problems| Problems::new(name, text, problems))?;
        let file = decode::decode::<typed::ConfigFile>(&mut document, typed::LATER);
        let config = file.and_then(|file| meaning::of(&mut document, file));
        let problems = document.into_problems();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(Problems::new(name, text, problems)),
        }
    }

    /// What the domain must know.
    pub fn settings(&self) -> Settings {
        let project = |project: &ProjectConfig| ProjectSettings {
            name: project.name.clone(),
            repo: project.repo.clone(),
        };
        Settings {
            pools: self.pools.iter().map(|pool| pool.settings.clone()).collect(),
            projects: self.projects.iter().map(project).collect(),
            url: self.url.clone(),
        }
    }

    /// The host of `url`: a name or an address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        host_of(&self.url)
    }
}

/// The host of an https URL.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// A commented file to begin with.
pub fn example() -> &'static str {
    include_str!("../../../deploy/busybee.example.toml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::settings::ProvisionerKind;

    const SMALL: &str = r#"[master]
url = "https://ci.example.com:8443"
listen = "0.0.0.0:8443"
data_dir = "/var/lib/busybee"

[[pool]]
name = "own"
provisioner = "none"

[[project]]
name = "hello"
repo = "https://git.example.com/hello.git"
"#;

    fn wrong(text: &str) -> String {
        Config::parse(text, "busybee.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_small_file_has_the_documented_defaults() {
        let config = Config::parse(SMALL, "busybee.toml").unwrap();
        let pool = &config.pools[0].settings;
        assert_eq!(pool.provisioner, ProvisionerKind::None);
        assert_eq!(pool.idle_timeout, Duration::from_secs(600));
        assert_eq!(pool.boot_timeout, Duration::from_secs(1200));
        assert_eq!(pool.lease, Duration::from_secs(1800));
        assert_eq!(config.projects[0].poll, Duration::from_secs(60));
        assert_eq!(config.host(), "ci.example.com");
        assert_eq!(host_of("https://[2001:db8::1]:8443"), "2001:db8::1");
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_place_and_what_was_meant() {
        let text = SMALL
            .replace("provisioner = \"none\"", "provisioner = \"none\"\nidel_timeout = \"5m\"");
        let said = wrong(&text);
        assert!(said.contains("busybee.toml:9:1"), "{said}");
        assert!(said.contains("idle_timeout"), "{said}");
    }

    #[test]
    fn several_mistakes_show_at_once() {
        let text = SMALL
            .replace("https://ci", "http://ci")
            .replace("0.0.0.0:8443", "everywhere")
            .replace("\"none\"", "\"nowhere\"");
        let said = wrong(&text);
        for place in ["busybee.toml:2:7", "busybee.toml:3:10", "busybee.toml:8:15"] {
            assert!(said.contains(place), "{place} in {said}");
        }
    }

    #[test]
    fn what_is_not_built_yet_is_refused_and_says_so() {
        let said = wrong(&format!("{SMALL}\n[mail]\nfrom = \"x\"\n"));
        assert!(said.contains("not yet"), "{said}");
        let said = wrong(&SMALL.replace("\"none\"", "\"ec2\""));
        assert!(said.contains("not yet"), "{said}");
    }

    #[test]
    fn two_pools_or_projects_of_one_name_are_refused() {
        let twice = format!("{SMALL}\n[[project]]\nname = \"hello\"\nrepo = \"x\"\n");
        assert!(wrong(&twice).contains("hello"), "{}", wrong(&twice));
    }

    #[test]
    fn the_example_file_is_right_and_has_every_key() {
        Config::parse(example(), "busybee.example.toml").unwrap();
        let typed = include_str!("typed.rs");
        let keys = typed.lines().filter_map(|line| {
            let field = line.trim().strip_prefix("pub(super) ")?;
            let (name, _) = field.split_once(':')?;
            name.chars().all(|c| c.is_ascii_lowercase() || c == '_').then_some(name)
        });
        let mut n_keys = 0;
        for key in keys.filter(|key| !["master", "pool", "project"].contains(key)) {
            n_keys += 1;
            let shown = example()
                .lines()
                .any(|line| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} =")));
            assert!(shown, "deploy/busybee.example.toml does not show {key}");
        }
        assert!(n_keys > 25, "the list of keys was found: {n_keys}");
    }

    #[test]
    fn the_example_file_with_every_comment_taken_off_is_right_too() {
        let uncommented: String = example()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => rest,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        Config::parse(&uncommented, "busybee.example.toml").unwrap();
    }

    fn is_key(word: &str) -> bool {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    }
}
