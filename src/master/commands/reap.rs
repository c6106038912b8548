//! `busybee instance reap --expired`: ends what nobody can want any more, by its tags alone.
//!
//! The last of the killers: it ends what has no timer of its own (stopped, or never booted) when no
//! master lives to see it. So it reads no database, asks no master, and may run anywhere. A clock that
//! is wrong does no harm: EC2 refuses requests that are signed with one.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::client::moment;
use crate::master::app;
use crate::master::commands::serve;
use crate::master::commands::trial;
use crate::master::config::Config;
use crate::master::provisioner::ec2::marked::Marked;
use crate::master::provisioner::ec2::marked::MarkedKind;
use crate::master::provisioner::ec2::marked::Region;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::model::time::Timestamp;
use crate::runtime::clock;

/// What to reap.
#[derive(Clone, Debug)]
pub struct ReapOptions {
    /// Of which master; nothing: of the one in the file.
    pub master: Option<String>,
    /// Only say what would be ended.
    pub dry_run: bool,
}

/// What was found, and what became of it.
#[derive(Debug)]
pub struct Reaped {
    master: String,
    dry_run: bool,
    now: Timestamp,
    found: Vec<Found>,
    /// Where not even a list could be had, and why.
    unseen: Vec<(String, String)>,
}

#[derive(Debug)]
struct Found {
    region: String,
    marked: Marked,
    fate: Fate,
}

/// What becomes of something that carries a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It is past its expiry, and ours.
    Ended,
    /// It should have been ended, and EC2 refused.
    Refused(String),
    /// It belongs to another master.
    Foreign,
    /// It may still be wanted.
    Young,
    /// Nothing says until when it may be wanted.
    Undated,
}

/// Looks at every region of the file's pools, and ends what is past its expiry.
///
/// # Errors
/// When it cannot even begin; for people. What went wrong later is in the answer.
pub fn reap(file: &Path, options: ReapOptions) -> Result<Reaped, String> {
    let config = Config::load(file).map_err(|why| format!("the master's file is wrong:\n{why}"))?;
    let master = match options.master {
        Some(id) => id,
        None => file_s_master(&config)?,
    };
    let places = places(&config);
    if places.is_empty() {
        return Err(format!("{} has no pool with provisioner = \"ec2\"", file.display()));
    }
    let now = clock::now();
    let mut reaped =
        Reaped { master, dry_run: options.dry_run, now, found: Vec::new(), unseen: Vec::new() };
    serve::runtime()?.block_on(async {
        for settings in places {
            reaped.look_at(&settings).await;
        }
    });
    Ok(reaped)
}

fn file_s_master(config: &Config) -> Result<String, String> {
    let known = app::known_master_id(config).map_err(|why| format!("failed to {why:#}"))?;
    known.ok_or_else(|| {
        "cannot tell whose instances to end: [master] of the file has no id, and its data_dir is not \
         here; say --master ID, as the tag busybee:master of the instances has it"
            .to_owned()
    })
}

/// Each region once, as each credentials reach it.
fn places(config: &Config) -> Vec<Ec2Settings> {
    let mut seen = BTreeSet::new();
    let of_pools = config.pools.iter().filter_map(|pool| pool.ec2.clone());
    let key = |one: &Ec2Settings| {
        let Ec2Settings { region, endpoint, credentials_file, profile, .. } = one.clone();
        (region, endpoint, credentials_file, profile)
    };
    of_pools.filter(|one| seen.insert(key(one))).collect()
}

/// What is to become of something, by its tags.
fn fate(marked: &Marked, master: &str, now: Timestamp) -> Fate {
    let is_ours = marked.master == master || trial::is_mark_of(&marked.master, master);
    match marked.expires_at {
        _ if !is_ours => Fate::Foreign,
        None => Fate::Undated,
        Some(at) if at > now => Fate::Young,
        Some(_) => Fate::Ended,
    }
}

impl Reaped {
    /// Whether everything could be looked at, and all that is past its expiry be ended.
    pub fn is_well(&self) -> bool {
        let is_refused = |found: &Found| matches!(found.fate, Fate::Refused(_));
        self.unseen.is_empty() && !self.found.iter().any(is_refused)
    }

    async fn look_at(&mut self, settings: &Ec2Settings) {
        let name = &settings.region;
        let region = match Region::new(settings) {
            Ok(region) => region,
            Err(why) => return self.unseen.push((name.clone(), format!("failed to {why:#}"))),
        };
        // Instances first: a list that may not be had must not keep the other from being worked off.
        for list in [MarkedKind::Instance, MarkedKind::SpotRequest] {
            let listed = match list {
                MarkedKind::Instance => region.instances().await,
                MarkedKind::SpotRequest => region.open_spot_requests().await,
            };
            match listed {
                Ok(listed) => self.end_expired(name, &region, listed).await,
                Err(why) => self.unseen.push((name.clone(), why)),
            }
        }
    }

    async fn end_expired(&mut self, name: &str, region: &Region, listed: Vec<Marked>) {
        for marked in listed {
            // Two sets of credentials may lead to one account.
            if self.found.iter().any(|found| found.marked.id == marked.id) {
                continue;
            }
            let mut fate = fate(&marked, &self.master, self.now);
            if fate == Fate::Ended
                && !self.dry_run
                && let Err(why) = region.end(&marked).await
            {
                fate = Fate::Refused(why);
            }
            self.found.push(Found { region: name.to_owned(), marked, fate });
        }
    }

    /// For people: a line for each, and how many.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for found in &self.found {
            text.push_str(&self.line(found));
        }
        for (region, why) in &self.unseen {
            text.push_str(&format!("{region}: cannot see what is there: {why}\n"));
        }
        let ended = self.found.iter().filter(|found| found.fate == Fate::Ended).count();
        let refused = self.found.iter().filter(|found| matches!(found.fate, Fate::Refused(_)));
        let refused = refused.count();
        let left = self.found.len() - ended - refused;
        let would = if self.dry_run { "would be ended" } else { "ended" };
        text.push_str(&format!("master \"{}\": {ended} {would}, {left} left alone", self.master));
        if refused > 0 {
            text.push_str(&format!(", {refused} could not be ended"));
        }
        text
    }

    fn line(&self, Found { region, marked, fate }: &Found) -> String {
        let Marked { kind, id, state, pool, worker, .. } = marked;
        let kind = match kind {
            MarkedKind::Instance => "",
            MarkedKind::SpotRequest => "spot request ",
        };
        let verb = match fate {
            Fate::Ended if self.dry_run => "would end",
            Fate::Ended => "ended",
            Fate::Refused(_) => "could not end",
            Fate::Foreign | Fate::Young | Fate::Undated => "left",
        };
        let why = self.why(marked, fate);
        let mut what = state.clone();
        for (name, value) in [("pool", pool), ("worker", worker)] {
            if !value.is_empty() {
                what.push_str(&format!(", {name} {value}"));
            }
        }
        format!("{region}: {verb} {kind}{id} ({what}): {why}\n")
    }

    fn why(&self, marked: &Marked, fate: &Fate) -> String {
        match (fate, marked.expires_at) {
            (Fate::Refused(why), _) => why.clone(),
            (Fate::Foreign, _) => format!("it belongs to the master \"{}\"", marked.master),
            (Fate::Ended, Some(at)) => format!("expired {}", moment::ago(self.now, at)),
            (_, Some(at)) => format!("expires in {}", moment::duration(at.since(self.now))),
            (_, None) => {
                "its tag busybee:expires is missing or no moment: see to it by hand".into()
            }
        }
    }

    /// The same as one JSON document.
    pub fn json(&self) -> String {
        let of = |wanted: fn(&Fate) -> bool| -> Vec<Value> {
            let found = self.found.iter().filter(|found| wanted(&found.fate));
            found.map(|found| self.one(found)).collect()
        };
        let unseen = self.unseen.iter();
        let unseen = unseen.map(|(region, why)| json!({ "region": region, "reason": why }));
        json!({
            "master": self.master,
            "dry_run": self.dry_run,
            "ok": self.is_well(),
            "ended": of(|fate| matches!(fate, Fate::Ended)),
            "left": of(|fate| matches!(fate, Fate::Foreign | Fate::Young | Fate::Undated)),
            "refused": of(|fate| matches!(fate, Fate::Refused(_))),
            "unseen": unseen.collect::<Vec<_>>(),
        })
        .to_string()
    }

    fn one(&self, Found { region, marked, fate }: &Found) -> Value {
        json!({
            "kind": match marked.kind {
                MarkedKind::Instance => "instance",
                MarkedKind::SpotRequest => "spot_request",
            },
            "id": marked.id,
            "region": region,
            "state": marked.state,
            "master": marked.master,
            "pool": marked.pool,
            "worker": marked.worker,
            "expires_at": marked.expires_at.map(|at| at.to_string()),
            "reason": self.why(marked, fate),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn marked(master: &str, expires_at: Option<u64>) -> Marked {
        Marked {
            kind: MarkedKind::Instance,
            id: "i-1".to_owned(),
            state: "running".to_owned(),
            master: master.to_owned(),
            pool: "linux".to_owned(),
            worker: "linux-1".to_owned(),
            expires_at: expires_at.map(Timestamp),
        }
    }

    #[test]
    fn only_what_is_ours_and_past_its_expiry_is_ended() {
        for (master, expires_at, expected) in [
            ("ci", Some(999_999), Fate::Ended),
            ("ci", Some(1_000_000), Fate::Ended),
            ("ci", Some(1_000_001), Fate::Young),
            ("ci", None, Fate::Undated),
            ("ci-doctor-0123abcd", Some(1), Fate::Ended),
            ("ci-doctor-0123abcd", Some(1_000_001), Fate::Young),
            ("ci-doctor-", Some(1), Fate::Foreign),
            ("ci2", Some(1), Fate::Foreign),
            ("c", Some(1), Fate::Foreign),
            ("", Some(1), Fate::Foreign),
            ("other", None, Fate::Foreign),
        ] {
            let marked = marked(master, expires_at);
            assert_eq!(fate(&marked, "ci", NOW), expected, "{master} {expires_at:?}");
        }
    }

    #[test]
    fn what_was_done_and_what_was_not_is_told_in_words() {
        let found = |marked, fate| Found { region: "eu-west-1".to_owned(), marked, fate };
        let mut spot = marked("ci", Some(400_000));
        spot.kind = MarkedKind::SpotRequest;
        let reaped = Reaped {
            master: "ci".to_owned(),
            dry_run: false,
            now: NOW,
            found: vec![
                found(marked("ci", Some(400_000)), Fate::Ended),
                found(spot, Fate::Ended),
                found(marked("ci", Some(1_090_000)), Fate::Young),
                found(marked("other", Some(1)), Fate::Foreign),
                found(marked("ci", None), Fate::Undated),
                found(marked("ci", Some(1)), Fate::Refused("EC2 refused it".to_owned())),
            ],
            unseen: vec![("eu-west-2".to_owned(), "EC2 did not answer".to_owned())],
        };
        insta::assert_snapshot!(reaped.text(), @r#"
        eu-west-1: ended i-1 (running, pool linux, worker linux-1): expired 10 min ago
        eu-west-1: ended spot request i-1 (running, pool linux, worker linux-1): expired 10 min ago
        eu-west-1: left i-1 (running, pool linux, worker linux-1): expires in 1m 30s
        eu-west-1: left i-1 (running, pool linux, worker linux-1): it belongs to the master "other"
        eu-west-1: left i-1 (running, pool linux, worker linux-1): its tag busybee:expires is missing or no moment: see to it by hand
        eu-west-1: could not end i-1 (running, pool linux, worker linux-1): EC2 refused it
        eu-west-2: cannot see what is there: EC2 did not answer
        master "ci": 2 ended, 3 left alone, 1 could not be ended
        "#);
        assert!(!reaped.is_well());
        let json: Value = serde_json::from_str(&reaped.json()).expect("it is JSON");
        let lengths =
            ["ended", "left", "refused", "unseen"].map(|key| json[key].as_array().map(Vec::len));
        assert_eq!(lengths, [Some(2), Some(3), Some(1), Some(1)]);
    }
}
