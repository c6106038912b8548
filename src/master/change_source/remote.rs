//! A repository's address as git may be given it: nothing that git would take for an option or
//! for a program to run.

/// Characters of an address.
const REMOTE_CHARS_MAX: usize = 2000;

/// A repository's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    address: String,
    transport: Transport,
}

/// How git reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A directory of this machine.
    File,
    /// `https://` or `http://`.
    Http,
    /// `ssh://` or `user@host:path`.
    Ssh,
}

impl Remote {
    /// Reads an address.
    ///
    /// # Errors
    /// Why git is not given it, as `what\nhint`.
    pub fn parse(text: &str) -> Result<Remote, String> {
        let made = |transport| Ok(Remote { address: text.to_owned(), transport });
        if text.is_empty() || text.chars().count() > REMOTE_CHARS_MAX {
            return Err(format!(
                "a repository's address has 1 to {REMOTE_CHARS_MAX} characters\n{KINDS}"
            ));
        }
        if text.starts_with('-') || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("\"{text}\" is not the address of a repository\n{KINDS}"));
        }
        // `ext::sh -c …` and its like make git run a program.
        if text.contains("::") && !text.contains("://") {
            return Err(format!("git's remote helpers (`name::address`) are not allowed\n{KINDS}"));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let transport = match scheme {
                "https" | "http" => Transport::Http,
                "ssh" => Transport::Ssh,
                "file" => Transport::File,
                _ => return Err(format!("git is not allowed to use {scheme}://\n{KINDS}")),
            };
            return check_url(transport, rest).and_then(|()| made(transport));
        }
        if text.starts_with('/') {
            return made(Transport::File);
        }
        match text.split_once(':') {
            // A colon after a slash belongs to a path.
            Some((host, path)) if !host.contains('/') && !path.is_empty() => {
                check_host(host.rsplit('@').next().unwrap_or_default())?;
                let user = host.rsplit_once('@').map_or("", |(user, _)| user);
                check_user(user)?;
                made(Transport::Ssh)
            }
            _ => Err(format!("\"{text}\" is not the address of a repository\n{KINDS}")),
        }
    }

    /// As git takes it.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// How git reaches it.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether what is sent there can be read on the way.
    pub fn is_unprotected(&self) -> bool {
        let rest = self.address.strip_prefix("http://");
        let is_here = |rest: &str| {
            let host = rest.split('/').next().unwrap_or_default();
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
            matches!(host, "localhost" | "127.0.0.1" | "[::1]")
        };
        rest.is_some_and(|rest| !is_here(rest))
    }
}

const KINDS: &str =
    "write https://host/path, ssh://user@host/path, user@host:path, or an absolute path";

fn check_url(transport: Transport, rest: &str) -> Result<(), String> {
    if transport == Transport::File {
        return match rest.starts_with('/') {
            true => Ok(()),
            false => Err(format!("a file:// address has no host and an absolute path\n{KINDS}")),
        };
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if transport == Transport::Http && !user.is_empty() {
        let hint = "put the token into a file and name it with token_file";
        return Err(format!("an address with a password ends up in logs\n{hint}"));
    }
    check_user(user)?;
    check_host(host.rsplit_once(':').map_or(host, |(host, _port)| host))
}

/// `ssh` would take a user or host that begins with `-` for an option.
fn check_user(user: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if user.starts_with('-') || !user.chars().all(fits) {
        return Err(format!("\"{user}\" is not a user's name\n{KINDS}"));
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
    if host.is_empty() || host.starts_with('-') || !host.chars().all(fits) {
        return Err(format!("\"{host}\" is not a host\n{KINDS}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_git_knows_are_taken() {
        let check = |text: &str, transport: Transport| {
            assert_eq!(
                Remote::parse(text).map(|remote| remote.transport()),
                Ok(transport),
                "{text}"
            );
        };
        check("https://git.example.com/hello.git", Transport::Http);
        check("http://127.0.0.1:3000/a/b", Transport::Http);
        check("http://[::1]:3000/a", Transport::Http);
        check("ssh://git@example.com:2222/a.git", Transport::Ssh);
        check("git@example.com:team/a.git", Transport::Ssh);
        check("example.com:a", Transport::Ssh);
        check("file:///srv/git/a.git", Transport::File);
        check("/srv/git/a.git", Transport::File);
    }

    #[test]
    fn options_and_programs_are_refused() {
        for text in [
            "",
            "--upload-pack=touch /tmp/x",
            "-oProxyCommand=x",
            "ext::sh -c id",
            "ext::id",
            "fd::17",
            "git://example.com/a",
            "ftp://example.com/a",
            "ssh://-oProxyCommand=x/a",
            "-x@host:a",
            "-host:a",
            "git@-oProxyCommand=x:a",
            "https://user:secret@example.com/a",
            "file://host/a",
            "relative/path",
            "../a",
            "a\nb:c",
            "https:///a",
        ] {
            assert!(Remote::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn plain_http_to_another_machine_is_unprotected() {
        let check = |text: &str, expected: bool| {
            assert_eq!(Remote::parse(text).unwrap().is_unprotected(), expected, "{text}");
        };
        check("http://git.example.com/a", true);
        check("http://127.0.0.1:80/a", false);
        check("https://git.example.com/a", false);
    }
}
