//! Asks a repository once, and says what the master would see there.

use std::path::Path;

use crate::master::change_source::repository::Repository;
use crate::master::change_source::source::Source;

/// What a repository has, and what of it is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Branches and tags.
    pub refs: usize,
    /// Those that start builds when they move.
    pub watched: usize,
    /// The branch that `HEAD` names: what `build start` builds.
    pub head: Option<String>,
}

/// Lists a repository's refs as polling does. `folder` is for what git has to write meanwhile.
///
/// # Errors
/// Why it does not answer, for people.
pub async fn examine(source: &Source, folder: &Path) -> Result<Sight, String> {
    let listed = Repository::new(source.clone(), folder).list().await?;
    let (refs, head) = (listed.refs.len(), listed.head.clone());
    Ok(Sight {
        refs,
        watched: listed.watched(source).len(),
        head: head.and_then(|head| head.branch().map(str::to_owned)),
    })
}
