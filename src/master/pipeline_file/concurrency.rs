//! `concurrency:` of a pipeline or a job: checked, and named for one change.

use crate::master::domain::pipeline::Concurrency;
use crate::master::domain::pipeline::OnNew;
use crate::master::pipeline_file::expression::Facts;
use crate::master::pipeline_file::expression::Scope;
use crate::master::pipeline_file::template::Budget;
use crate::master::pipeline_file::template::Template;
use crate::master::pipeline_file::typed::ConcurrencyFile;
use crate::master::pipeline_file::typed::OnNewWord;
use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::problem::Problem;

/// Bytes of a group's name: enough for a pipeline, a branch and some words.
const NAME_BYTES_MAX: usize = 512;

/// A group whose name may depend on the change.
#[derive(Debug)]
pub(super) struct CheckedConcurrency {
    group: Template,
    limit: u32,
    on_new: OnNew,
}

/// Says what is meant by what was typed; what is wrong is reported to the document.
pub(super) fn of(
    document: &mut Document,
    scope: &Scope,
    typed: ConcurrencyFile,
) -> Option<CheckedConcurrency> {
    let ConcurrencyFile { group, limit, on_new } = typed;
    if let Some(limit) = &limit
        && !(1..=Concurrency::LIMIT_MAX).contains(&limit.value)
    {
        let most = Concurrency::LIMIT_MAX;
        let what = format!("a limit of {} is not one of 1 to {most}", limit.value);
        let hint = "for no limit, take concurrency out";
        document.report(Problem::new(document.place(limit.id), what).hint(hint));
    }
    let parsed = Template::parse(&group.value.0, scope).and_then(|template| {
        let checked = template.literal().map_or(Ok(()), check_name);
        checked.map(|()| template).map_err(|what| (what, None))
    });
    match parsed {
        Ok(group) => Some(CheckedConcurrency {
            group,
            limit: limit.map_or(1, |limit| limit.value),
            on_new: match on_new {
                None | Some(OnNewWord::Queue) => OnNew::Queue,
                Some(OnNewWord::Cancel) => OnNew::Cancel,
                Some(OnNewWord::Skip) => OnNew::Skip,
            },
        }),
        Err((what, hint)) => {
            document.report(Problem { place: document.place(group.id), what, hint });
            None
        }
    }
}

impl CheckedConcurrency {
    /// The group for one change.
    ///
    /// # Errors
    /// Why it has no name.
    pub(super) fn for_change(
        &self,
        facts: Facts<'_>,
        budget: &mut Budget,
    ) -> Result<Concurrency, String> {
        let group = self.group.text(facts, budget);
        let group = group.and_then(|group| check_name(&group).map(|()| group));
        let group = group.map_err(|why| format!("concurrency.group: {why}"))?;
        Ok(Concurrency { group, limit: self.limit, on_new: self.on_new })
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        Err("a group has a name, and this is empty (as event.branch is for a tag)".to_owned())
    } else if name.len() > NAME_BYTES_MAX {
        Err(format!("a group's name has {NAME_BYTES_MAX} bytes at most"))
    } else if name.contains(char::is_control) {
        Err("a group's name is one line, without control characters".to_owned())
    } else {
        Ok(())
    }
}
