//! What `git ls-remote` prints, and which ref somebody meant. Pure.

use crate::master::change_source::source::Source;
use crate::model::ids::Commit;
use crate::model::ids::RefName;
use crate::runtime::config_file::suggest;

/// Characters of a ref's name; longer ones fit no page, and hardly any file system.
const REF_CHARS_MAX: usize = 250;

/// The refs of a repository, as it listed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RemoteRefs {
    /// Branches and tags, tags where they point to in the end, in the order of the listing.
    pub refs: Vec<(RefName, Commit)>,
    /// The branch that `HEAD` names.
    pub head: Option<RefName>,
}

/// Whether a text is a full commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a name is one that we pass on: no option, no control characters, nothing like `..`.
fn is_ref(name: &str) -> bool {
    let short = name.strip_prefix("refs/heads/").or(name.strip_prefix("refs/tags/"));
    short.is_some_and(|short| !short.is_empty() && !short.starts_with('-'))
        && name.chars().count() <= REF_CHARS_MAX
        && !name.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c))
        && !name.contains("..")
}

impl RemoteRefs {
    /// Reads a listing. Lines that are not understood are left out: servers say all sorts of things.
    pub(super) fn parse(listing: &[u8]) -> RemoteRefs {
        let mut found = RemoteRefs::default();
        for line in String::from_utf8_lossy(listing).lines() {
            let Some((what, name)) = line.split_once('\t') else { continue };
            if let (Some(target), "HEAD") = (what.strip_prefix("ref: "), name) {
                found.head = is_ref(target).then(|| RefName::from(target));
                continue;
            }
            if !is_commit(what) {
                continue;
            }
            // An annotated tag is listed twice: itself, then peeled to what it points to.
            match name.strip_suffix("^{}") {
                Some(tag) => {
                    if let Some((last, commit)) = found.refs.last_mut()
                        && last.as_str() == tag
                    {
                        *commit = Commit::from(what);
                    }
                }
                None if is_ref(name) => found.refs.push((RefName::from(name), Commit::from(what))),
                None => {}
            }
        }
        found
    }

    /// The refs that a source watches.
    pub(super) fn watched(self, source: &Source) -> Vec<(RefName, Commit)> {
        self.refs.into_iter().filter(|(name, _)| source.watches(name)).collect()
    }

    fn find(&self, name: &str) -> Option<(RefName, Commit)> {
        self.refs.iter().find(|(ref_name, _)| ref_name.as_str() == name).cloned()
    }

    /// The ref that somebody meant by a branch, a tag or a full name; nothing: `HEAD`. A branch
    /// wins over a tag of the same name.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(super) fn choose(&self, wanted: Option<&str>) -> Result<(RefName, Commit), String> {
        let Some(wanted) = wanted else {
            let head = self.head.as_ref().and_then(|head| self.find(head.as_str()));
            let nothing = "the repository is empty; push a commit to it first";
            let elsewhere =
                "the repository's HEAD names no branch that exists; say which with --ref";
            let why = if self.refs.is_empty() { nothing } else { elsewhere };
            return head.ok_or_else(|| why.to_owned());
        };
        if wanted.starts_with("refs/") {
            if !is_ref(wanted) {
                return Err(format!(
                    "{wanted} is neither a branch nor a tag; write refs/heads/… or refs/tags/…"
                ));
            }
            return self.find(wanted).ok_or_else(|| self.unknown(wanted));
        }
        let branch = self.find(&format!("refs/heads/{wanted}"));
        let tag = || self.find(&format!("refs/tags/{wanted}"));
        branch.or_else(tag).ok_or_else(|| self.unknown(wanted))
    }

    fn unknown(&self, wanted: &str) -> String {
        let shown: String = wanted.chars().filter(|c| !c.is_control()).take(100).collect();
        let is_short_commit =
            (7..40).contains(&wanted.len()) && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_short_commit {
            return format!(
                "the repository has no branch or tag \"{shown}\"; a commit is given in \
                    full, with 40 digits"
            );
        }
        let short = |name: &'_ RefName| name.branch().or(name.tag()).unwrap_or_default().to_owned();
        let names: Vec<String> = self.refs.iter().take(1000).map(|(name, _)| short(name)).collect();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        match suggest::nearest(wanted, known) {
            Some(near) => {
                format!("the repository has no branch or tag \"{shown}\"; did you mean \"{near}\"?")
            }
            None => format!("the repository has no branch or tag \"{shown}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    fn listing() -> RemoteRefs {
        let [a, b, c, d] = ['a', 'b', 'c', 'd'].map(commit);
        RemoteRefs::parse(
            format!(
                "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/heads/v1\n\
                 {c}\trefs/tags/v1\n{c}\trefs/tags/v2\n{d}\trefs/tags/v2^{{}}\n\
                 {c}\trefs/pull/1/head\n{c}\trefs/heads/--upload-pack=x\nnonsense\nshort\trefs/heads/x\n"
            )
            .as_bytes(),
        )
    }

    #[test]
    fn a_listing_is_branches_and_tags_with_tags_peeled() {
        let refs = listing();
        let names: Vec<&str> = refs.refs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["refs/heads/main", "refs/heads/v1", "refs/tags/v1", "refs/tags/v2"]);
        assert_eq!(refs.refs[3].1, Commit(commit('d')));
        assert_eq!(refs.head, Some("refs/heads/main".into()));
    }

    #[test]
    fn what_somebody_meant_is_found_at_the_remote() {
        let check = |wanted: Option<&str>, expected: &str| {
            let found = listing().choose(wanted).map(|(name, _)| name.0);
            assert_eq!(found.as_deref(), Ok(expected), "{wanted:?}");
        };
        check(None, "refs/heads/main");
        check(Some("main"), "refs/heads/main");
        check(Some("v1"), "refs/heads/v1");
        check(Some("refs/tags/v1"), "refs/tags/v1");
        check(Some("v2"), "refs/tags/v2");
    }

    #[test]
    fn what_is_not_there_is_told_with_what_was_probably_meant() {
        let check = |wanted: &str, expected: &str| {
            let sentence = listing().choose(Some(wanted)).unwrap_err();
            assert!(sentence.contains(expected), "{wanted}: {sentence}");
        };
        check("mian", "did you mean \"main\"?");
        check("refs/heads/next", "no branch or tag");
        check("refs/pull/1/head", "neither a branch nor a tag");
        check("--upload-pack=touch /tmp/x", "no branch or tag");
        check("abcdef1", "in full, with 40 digits");
        assert!(RemoteRefs::default().choose(None).unwrap_err().contains("push a commit"));
        let headless = RemoteRefs { head: None, ..listing() };
        assert!(headless.choose(None).unwrap_err().contains("--ref"));
    }
}
