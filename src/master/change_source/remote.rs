//! What a repository has: its refs, and what a name that somebody typed means there.

use std::path::Path;

use crate::master::change_source::git::Git;
use crate::model::ids::Commit;
use crate::model::ids::RefName;

/// The refs of a repository, tags peeled to their commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remote {
    /// Branches and tags, in git's order.
    pub(super) refs: Vec<(RefName, Commit)>,
    /// The branch that HEAD names.
    pub(super) head: Option<RefName>,
}

/// Asks the repository.
///
/// # Errors
/// Why it does not answer, for people.
pub(super) async fn list(git: &Git, dir: &Path, repo: &str) -> Result<Remote, String> {
    let said = git.run(dir, &["ls-remote", "--symref", "--", repo]).await?;
    Ok(read(&String::from_utf8_lossy(&said)))
}

/// Reads `ls-remote --symref`: `ref: refs/heads/main<TAB>HEAD`, then `HASH<TAB>NAME` lines, where
/// `NAME^{}` is what an annotated tag points at.
fn read(said: &str) -> Remote {
    let mut remote = Remote::default();
    for line in said.lines() {
        let Some((value, name)) = line.split_once('\t') else { continue };
        if let Some(target) = value.strip_prefix("ref: ") {
            if name == "HEAD" {
                remote.head = Some(RefName(target.to_owned()));
            }
            continue;
        }
        if !is_commit(value) {
            continue;
        }
        if let Some(tag) = name.strip_suffix("^{}") {
            if let Some(last) = remote.refs.last_mut().filter(|(known, _)| known.as_str() == tag) {
                last.1 = Commit(value.to_owned());
            }
        } else if name.starts_with("refs/heads/") || name.starts_with("refs/tags/") {
            remote.refs.push((RefName(name.to_owned()), Commit(value.to_owned())));
        }
    }
    remote
}

/// Whether this is a full hash (SHA-1 or SHA-256).
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Remote {
    fn find(&self, name: &str) -> Option<(RefName, Commit)> {
        self.refs.iter().find(|(known, _)| known.as_str() == name).cloned()
    }

    /// What a branch, tag, full ref or commit means; nothing typed: HEAD. A branch wins over a tag.
    ///
    /// # Errors
    /// A sentence, when there is no such thing.
    pub(super) fn resolve(&self, wanted: Option<&str>) -> Result<(RefName, Commit), String> {
        let head = self.head.as_ref().and_then(|head| self.find(head.as_str()));
        let Some(wanted) = wanted else {
            return head.ok_or_else(|| {
                "the repository's HEAD names no branch: say which with --ref".to_owned()
            });
        };
        if wanted.starts_with('-') || wanted.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("{wanted:?} is not a branch, tag or commit"));
        }
        let found = self
            .find(&format!("refs/heads/{wanted}"))
            .or_else(|| self.find(&format!("refs/tags/{wanted}")))
            .or_else(|| self.find(wanted));
        if let Some(found) = found {
            return Ok(found);
        }
        if is_commit(wanted) {
            let on_tip = self.refs.iter().find(|(_, commit)| commit.as_str() == wanted).cloned();
            let ref_name = on_tip.or(head).map(|(name, _)| name);
            let ref_name = ref_name.ok_or("the repository has no branch to find a commit on")?;
            return Ok((ref_name, Commit(wanted.to_owned())));
        }
        Err(format!(
            "the repository has no branch or tag \"{wanted}\" (a commit is given by its full hash)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

    fn remote() -> Remote {
        read(&format!(
            "ref: refs/heads/main\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/main\n{B}\trefs/heads/v1\n\
             {B}\trefs/pull/1/head\n{C}\trefs/tags/v1\n{A}\trefs/tags/v1^{{}}\n"
        ))
    }

    fn check(wanted: Option<&str>, name: &str, commit: &str) {
        let found = remote().resolve(wanted);
        assert_eq!(found, Ok((RefName(name.into()), Commit(commit.into()))), "{wanted:?}");
    }

    #[test]
    fn a_name_means_what_people_mean_by_it() {
        check(None, "refs/heads/main", A);
        check(Some("main"), "refs/heads/main", A);
        check(Some("v1"), "refs/heads/v1", B);
        check(Some("refs/tags/v1"), "refs/tags/v1", A);
        check(Some(B), "refs/heads/v1", B);
        check(Some(C), "refs/heads/main", C);
    }

    #[test]
    fn what_is_no_name_is_refused_with_a_sentence() {
        for wanted in ["gone", "--upload-pack=evil", "a b", "refs/pull/1/head", "aaaa"] {
            assert!(remote().resolve(Some(wanted)).is_err(), "{wanted}");
        }
    }
}
