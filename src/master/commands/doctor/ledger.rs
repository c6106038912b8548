//! What the ledger of the master has open that its file says nothing of any more.

use std::collections::BTreeMap;

use crate::master::config::Config;
use crate::master::domain::entities::Instance;
use crate::master::provisioner::Finding;
use crate::master::store::Store;

/// Looks at the ledger in data_dir, if there is one. Whether its master runs does not matter.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    match Store::open_rows(&config.master.data_dir) {
        Ok(rows) => about(&rows, config),
        Err(why) => vec![Finding::doubtful(
            format!("the ledger of instances was not looked at: {why:#}"),
            "start the master once with this version, and run the doctor as its user or as root",
        )],
    }
}

fn about(rows: &[Instance], config: &Config) -> Vec<Finding> {
    let mut open: BTreeMap<&str, u32> = BTreeMap::new();
    for row in rows {
        let is_known = config.pools.iter().any(|pool| pool.settings.name == row.pool);
        if !is_known {
            *open.entry(row.pool.as_str()).or_default() += 1;
        }
    }
    let found = open.into_iter().map(|(pool, count)| {
        let (noun, verb) = if count == 1 { ("instance", "is") } else { ("instances", "are") };
        Finding::bad(
            format!(
                "{count} {noun} of pool \"{pool}\" {verb} open in the ledger, and the file has no such pool"
            ),
            "put the pool back until they have ended (max_instances = 1 and busybee pool pause keep it from \
             launching): without it nobody looks after them",
        )
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::Verdict;

    #[test]
    fn a_data_dir_that_is_not_there_has_no_open_rows_and_one_that_is_broken_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let config = |data_dir: &str| {
            let text = format!("[master]\nurl = \"https://ci\"\ndata_dir = \"{data_dir}\"\n");
            Config::parse(&text, "f", dir.path()).unwrap()
        };
        assert_eq!(examine(&config("nowhere")), []);
        std::fs::create_dir(dir.path().join("broken")).unwrap();
        std::fs::write(dir.path().join("broken/busybee.sqlite3"), "no database at all").unwrap();
        let found = examine(&config("broken"));
        assert_eq!(found[0].verdict, Verdict::Doubtful, "{found:?}");
    }
}
