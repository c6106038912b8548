//! Which master a command asks: by its address, or on its own machine by its socket.

use std::path::Path;
use std::path::PathBuf;

use crate::client::arguments::target::TargetArguments;
use crate::client::exit::Failure;
use crate::model::secret::Secret;

/// The socket's name in the master's data directory.
pub const SOCKET_NAME: &str = "busybee.sock";

/// Where a master keeps its data if its file does not say.
const DATA_DIR_DEFAULT: &str = "/var/lib/busybee";

/// Where a master is, and what it must be shown.
#[derive(Clone, Debug)]
pub struct Target {
    /// How to get there.
    pub place: Place,
    /// What to show it.
    pub token: Option<Secret<String>>,
    /// The only certificate authority to trust; nothing: those of this machine.
    pub ca: Option<PathBuf>,
}

/// How to get to a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By its address, without a slash at its end.
    Url(String),
    /// By its socket on this machine.
    Socket(PathBuf),
}

impl Target {
    /// What was typed wins over the environment, which `variable` reads. An empty variable
    /// counts as none.
    ///
    /// # Errors
    /// Nothing says which master (wrong usage), or the file that should say it does not.
    pub fn new(
        typed: &TargetArguments,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Target, Failure> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let token = typed.token.clone().or_else(|| variable("BUSYBEE_TOKEN")).map(Secret::new);
        let ca = typed.ca.clone().or_else(|| variable("BUSYBEE_CA").map(PathBuf::from));
        let place = if let Some(config) = &typed.config {
            Place::Socket(data_dir(config)?.join(SOCKET_NAME))
        } else if let Some(url) = typed.url.clone().or_else(|| variable("BUSYBEE_URL")) {
            Place::Url(address(&url)?)
        } else {
            return Err(Failure::usage(
                "cannot tell which master to ask: give --url https://HOST:PORT (or BUSYBEE_URL) \
                 with --token and --ca as needed, or, on the master's own machine, \
                 --config busybee.toml",
            ));
        };
        Ok(Target { place, token, ca })
    }
}

/// Checks an address as far as this can be done without asking it.
fn address(url: &str) -> Result<String, Failure> {
    let wrong = |why: &str| {
        Err(Failure::usage(format!(
            "cannot use the master's address \"{url}\": {why}; it looks like https://HOST:PORT"
        )))
    };
    match reqwest::Url::parse(url) {
        Err(error) => wrong(&error.to_string()),
        Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => {
            wrong("it must begin with https:// or http://")
        }
        Ok(parsed) if parsed.host_str().is_none_or(str::is_empty) => wrong("it names no host"),
        Ok(_) => Ok(url.trim_end_matches('/').to_owned()),
    }
}

/// Reads where a master keeps its data from its file. The rest of the file is the master's own
/// business: a client must be able to ask a master whose file is being edited.
fn data_dir(config: &Path) -> Result<PathBuf, Failure> {
    let shown = config.display();
    let text = std::fs::read_to_string(config).map_err(|error| {
        Failure::wrong(format!(
            "cannot read {shown}: {error}; --config wants the file that the master was started \
             with"
        ))
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Failure::wrong(format!(
            "cannot read {shown}: {}; `busybee check --config {shown}` says more",
            error.message()
        ))
    })?;
    let dir = table.get("master").and_then(|master| master.get("data_dir"));
    let dir = dir.and_then(toml::Value::as_str).unwrap_or(DATA_DIR_DEFAULT);
    // As the master reads it: a relative path counts from where the file stands.
    Ok(config.parent().unwrap_or(Path::new("")).join(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::exit::Exit;

    fn none(_: &str) -> Option<String> {
        None
    }

    fn typed(url: &str) -> TargetArguments {
        TargetArguments { url: Some(url.to_owned()), ..TargetArguments::default() }
    }

    #[test]
    fn what_is_typed_wins_over_the_environment() {
        let variable = |name: &str| Some(format!("http://{}/", name.to_lowercase()));
        let place = |typed: &TargetArguments| Target::new(typed, variable).unwrap().place;
        assert_eq!(place(&typed("https://typed/")), Place::Url("https://typed".into()));
        let silent = TargetArguments::default();
        assert_eq!(place(&silent), Place::Url("http://busybee_url".into()));
        assert_eq!(Target::new(&silent, variable).unwrap().ca, Some("http://busybee_ca/".into()));
    }

    #[test]
    fn without_any_word_of_the_master_the_sentence_names_each_way() {
        let empty = |_: &str| Some(String::new());
        for failure in [
            Target::new(&TargetArguments::default(), none).unwrap_err(),
            Target::new(&TargetArguments::default(), empty).unwrap_err(),
        ] {
            assert_eq!(failure.exit, Exit::Usage);
            for way in ["--url", "BUSYBEE_URL", "--config"] {
                assert!(failure.sentence.contains(way), "{failure}");
            }
        }
    }

    #[test]
    fn an_address_that_cannot_be_one_is_wrong_usage() {
        for url in ["ci.example.com", "ftp://a", "ci.example.com:8443", "http://", ""] {
            let failure = Target::new(&typed(url), none).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{url}");
        }
    }

    #[test]
    fn the_masters_file_leads_to_its_socket_even_while_it_is_being_edited() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("busybee.toml");
        std::fs::write(&file, "[master]\ndata_dir = \"/var/lib/b\"\nnot_a_key = 1\n").unwrap();
        let typed = TargetArguments { config: Some(file.clone()), ..TargetArguments::default() };
        let target = Target::new(&typed, none).unwrap();
        assert_eq!(target.place, Place::Socket("/var/lib/b/busybee.sock".into()));
        std::fs::write(&file, "[master]\ndata_dir = \"data\"\n").unwrap();
        let socket = dir.path().join("data/busybee.sock");
        assert_eq!(Target::new(&typed, none).unwrap().place, Place::Socket(socket));
        std::fs::write(&file, "[master]\n").unwrap();
        let target = Target::new(&typed, none).unwrap();
        assert_eq!(target.place, Place::Socket("/var/lib/busybee/busybee.sock".into()));
        std::fs::write(&file, "[master\n").unwrap();
        assert_eq!(Target::new(&typed, none).unwrap_err().exit, Exit::Wrong);
    }
}
