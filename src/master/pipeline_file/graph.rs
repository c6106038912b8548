//! The graph of `needs`: every name exists, nothing waits for itself.

use crate::master::pipeline_file::need::Need;
use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::problem::PROBLEMS_MAX;
use crate::runtime::config_file::problem::Problem;
use crate::runtime::config_file::suggest;

/// Reports what is wrong with the graph. `jobs` are the jobs that could be read; `names` all that
/// the file has, so that a job with another mistake is not called unknown as well.
pub(super) fn check(document: &mut Document, jobs: &[(&str, &[At<Need>])], names: &[&str]) {
    for (job, needs) in jobs {
        for (index, need) in needs.iter().enumerate() {
            // Whoever has this many wrong names mends them first; comparing costs time.
            if document.problem_count() > PROBLEMS_MAX {
                return;
            }
            let place = document.place(need.id);
            let name = need.value.0.as_str();
            if !names.contains(&name) {
                let mut problem =
                    Problem::new(place, format!("{job} needs \"{name}\", which is no job"));
                problem.hint = suggest::hint(name, names);
                document.report(problem);
            } else if needs[..index].iter().any(|earlier| earlier.value == need.value) {
                let problem = Problem::new(place, format!("{job} needs \"{name}\" twice"));
                document.report(problem.hint("once is enough"));
            }
        }
    }
    if let Some(cycle) = cycle(jobs) {
        let (job, need) = (cycle[0], cycle[1 % cycle.len()]);
        let needs = jobs.iter().find(|(name, _)| *name == job).map(|(_, needs)| *needs);
        let entry = needs.into_iter().flatten().find(|entry| entry.value.0 == need);
        let place = entry.map(|entry| document.place(entry.id)).unwrap_or_default();
        let path = [cycle.as_slice(), &[job]].concat().join(" → ");
        let problem = Problem::new(place, format!("jobs need each other in a circle: {path}"));
        document.report(problem.hint("take one of these needs out"));
    }
}

/// The names of a circle, in order, if there is one.
fn cycle<'j>(jobs: &[(&'j str, &'j [At<Need>])]) -> Option<Vec<&'j str>> {
    // Jobs without open needs are taken away until none is left; what stays waits for a circle.
    let mut rest: Vec<&(&str, &[At<Need>])> = jobs.iter().collect();
    let needs_one_of = |needs: &[At<Need>], rest: &[&(&str, &[At<Need>])]| {
        needs.iter().any(|need| rest.iter().any(|(name, _)| *name == need.value.0))
    };
    loop {
        let stuck: Vec<_> =
            rest.iter().copied().filter(|(_, needs)| needs_one_of(needs, &rest)).collect();
        if stuck.len() == rest.len() {
            break;
        }
        rest = stuck;
    }
    // From any of them, going on to what it needs comes back sooner or later.
    let mut path: Vec<&'j str> = vec![rest.first()?.0];
    loop {
        let last = path.last()?;
        let (_, needs) = rest.iter().find(|(name, _)| name == last)?;
        let next = needs.iter().find_map(|need| {
            rest.iter().find(|(name, _)| *name == need.value.0).map(|(name, _)| *name)
        })?;
        if let Some(start) = path.iter().position(|name| *name == next) {
            return Some(path.split_off(start));
        }
        path.push(next);
    }
}
