//! The certificate of the one port: a private authority's of our own, or files of the admin's.
//!
//! The authority lives in `data_dir/ca` and goes into user-data. It may sign for this master's
//! names and addresses and nothing else, so that a machine that trusts it trusts no forged
//! certificate for another site. Leaves live in memory: each start makes a new one.

use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CidrSubnet;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::GeneralSubtree;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::NameConstraints;
use rcgen::SanType;

use crate::model::time::Timestamp;
use crate::runtime::clock;
use crate::runtime::private_file;
use crate::runtime::tls::ServedCertificate;

/// How long an authority is good for; exchanging it means ending every worker.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * DAY_S);
/// How long a leaf is good for.
const LEAF_LIFE: Duration = Duration::from_secs(90 * DAY_S);
/// How long before its end a leaf is replaced.
const LEAF_RENEWAL: Duration = Duration::from_secs(30 * DAY_S);
/// Certificates begin this much earlier, for machines whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(DAY_S);
const DAY_S: u64 = 24 * 60 * 60;
/// How often to look whether files have changed or a leaf nears its end.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Names under which every master can be reached from its own machine.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Our own authority, for these names and addresses (`localhost` is always among them).
    PrivateAuthority {
        /// Where it is kept, below `ca`.
        data_dir: PathBuf,
        /// Host names and IP addresses under which instances and people call.
        names: Vec<String>,
    },
    /// The admin's files.
    Files {
        /// The chain in PEM, the leaf first.
        certificate: PathBuf,
        /// The leaf's private key in PEM.
        key: PathBuf,
        /// The authority to put into user-data, where the system's roots do not do.
        ca: Option<PathBuf>,
    },
}

/// The certificate in use, kept fresh.
#[derive(Debug)]
pub struct Certificates {
    source: Source,
    /// What the listener shows.
    pub served: Arc<ServedCertificate>,
    /// What user-data carries; nothing: the system's roots.
    pub ca_pem: Option<String>,
    shown: Mutex<Shown>,
}

/// The certificate that is shown now.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    chain_pem: Vec<u8>,
    key_pem: Vec<u8>,
    /// When to make a new one; nothing: when the files change.
    renew_at: Option<Timestamp>,
}

impl Certificates {
    /// Reads or makes everything that is needed to serve.
    ///
    /// # Errors
    /// When a file cannot be read, written or used.
    pub fn open(source: Source) -> anyhow::Result<Certificates> {
        let (shown, ca_pem) = make(&source, clock::now())?;
        let served = Arc::new(ServedCertificate::new(&shown.chain_pem, &shown.key_pem)?);
        Ok(Certificates { source, served, ca_pem, shown: Mutex::new(shown) })
    }

    /// Shows a new leaf if the present one nears its end, or the admin's files if they changed.
    ///
    /// # Errors
    /// When that fails; the present certificate stays.
    pub fn refresh(&self, now: Timestamp) -> anyhow::Result<()> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.renew_at.is_some_and(|renew_at| now < renew_at) {
            return Ok(());
        }
        let (fresh, _ca) = make(&self.source, now)?;
        if fresh != *shown {
            self.served.exchange(&fresh.chain_pem, &fresh.key_pem)?;
            *shown = fresh;
            tracing::info!("serving a new certificate");
        }
        Ok(())
    }

    /// Refreshes for as long as it is polled.
    pub async fn keep_fresh(&self) {
        let mut ticks = tokio::time::interval(REFRESH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.refresh(clock::now()) {
                tracing::error!("failed to renew the certificate: {error:#}");
            }
        }
    }
}

fn make(source: &Source, now: Timestamp) -> anyhow::Result<(Shown, Option<String>)> {
    match source {
        Source::PrivateAuthority { data_dir, names } => {
            let authority = Authority::load_or_create(&data_dir.join("ca"), names, now)?;
            let (chain_pem, key_pem) = authority.leaf(names, now)?;
            let renew_at = Some(now + (LEAF_LIFE - LEAF_RENEWAL));
            Ok((Shown { chain_pem, key_pem, renew_at }, Some(authority.certificate_pem)))
        }
        Source::Files { certificate, key, ca } => {
            let must = |path: &Path| {
                std::fs::read(path).with_context(|| format!("read {}", path.display()))
            };
            let ca_pem = match ca {
                Some(path) => Some(String::from_utf8(must(path)?).context("read ca_file as PEM")?),
                None => None,
            };
            let shown =
                Shown { chain_pem: must(certificate)?, key_pem: must(key)?, renew_at: None };
            Ok((shown, ca_pem))
        }
    }
}

/// The private authority.
struct Authority {
    certificate_pem: String,
    key: KeyPair,
}

impl Authority {
    /// Reads it, or makes it where there is none. One that may not sign for all of `names` is put
    /// aside: what trusts it could not reach the master by the new name anyway.
    fn load_or_create(
        folder: &Path,
        names: &[String],
        now: Timestamp,
    ) -> anyhow::Result<Authority> {
        private_file::create_folder(folder)?;
        let (cert, key, list) =
            (folder.join("ca.pem"), folder.join("ca.key"), folder.join("names"));
        let read = |path: &Path| -> anyhow::Result<Option<String>> {
            let bytes = private_file::read(path)?;
            bytes
                .map(String::from_utf8)
                .transpose()
                .with_context(|| format!("read {} as text", path.display()))
        };
        // The certificate is written last, so what is whole has all three.
        if let (Some(certificate_pem), Some(key_pem), Some(covered)) =
            (read(&cert)?, read(&key)?, read(&list)?)
        {
            if names.iter().all(|name| covered.lines().any(|line| line == name)) {
                let key = KeyPair::from_pem(&key_pem)
                    .with_context(|| format!("use the key in {}", key.display()))?;
                return Ok(Authority { certificate_pem, key });
            }
            tracing::warn!(
                "the master is called {} now, for which its authority may not sign: making a new \
                 one; workers that were started with the old one cannot call any more",
                names.join(", ")
            );
            for path in [&cert, &key, &list] {
                let mut old = path.clone().into_os_string();
                old.push(".old");
                std::fs::rename(path, &old)
                    .with_context(|| format!("put {} aside", path.display()))?;
            }
        }
        let authority = Authority::create(names, now)?;
        private_file::write(&list, all_names(names).join("\n").as_bytes())?;
        private_file::write(&key, authority.key.serialize_pem().as_bytes())?;
        private_file::write(&cert, authority.certificate_pem.as_bytes())?;
        Ok(authority)
    }

    fn create(names: &[String], now: Timestamp) -> anyhow::Result<Authority> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("make a key")?;
        let mut params = Authority::params(&key);
        set_life(&mut params, now - BACKDATED, now + AUTHORITY_LIFE);
        params.use_authority_key_identifier_extension = true;
        let permitted_subtrees = all_names(names).iter().map(|name| subtree(name)).collect();
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        let certificate = params.self_signed(&key).context("sign the authority")?;
        Ok(Authority { certificate_pem: certificate.pem(), key })
    }

    /// What its certificate and its signatures have in common. Its name comes from its key: two
    /// authorities never share one, and an authority never has that of its leaf.
    fn params(key: &KeyPair) -> CertificateParams {
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key_raw());
        let mark: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("Busybee authority {mark}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// A new leaf for `names`: its chain and its key, in PEM.
    fn leaf(&self, names: &[String], now: Timestamp) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("make a key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Busybee master");
        set_life(&mut params, now - BACKDATED, now + LEAF_LIFE);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        for name in all_names(names) {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.as_str().try_into().with_context(|| format!("certify \"{name}\""))?,
                ),
            });
        }
        let issuer = Issuer::new(Authority::params(&self.key), &self.key);
        let leaf = params.signed_by(&key, &issuer).context("sign the certificate")?;
        let chain = format!("{}{}", leaf.pem(), self.certificate_pem);
        Ok((chain.into_bytes(), key.serialize_pem().into_bytes()))
    }
}

/// The names with the own machine's, each once.
fn all_names(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = names.to_vec();
    all.extend(OWN_NAMES.map(str::to_owned));
    all.sort();
    all.dedup();
    all
}

fn subtree(name: &str) -> GeneralSubtree {
    match name.parse::<IpAddr>() {
        Ok(address @ IpAddr::V4(_)) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 32))
        }
        Ok(address @ IpAddr::V6(_)) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 128))
        }
        Err(_) => GeneralSubtree::DnsName(name.to_owned()),
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_life(params: &mut CertificateParams, begin: Timestamp, end: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(begin.0 / 1000);
    params.not_after = epoch + Duration::from_secs(end.0 / 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(data_dir: &Path, names: &[&str]) -> Certificates {
        Certificates::open(Source::PrivateAuthority {
            data_dir: data_dir.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        })
        .unwrap()
    }

    #[test]
    fn the_authority_stays_and_each_start_has_a_leaf_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), &["ci.example.com", "10.0.0.7"]);
        let again = open(folder.path(), &["10.0.0.7", "ci.example.com"]);
        assert_eq!(first.ca_pem, again.ca_pem);
        assert_ne!(*first.shown.lock().unwrap(), *again.shown.lock().unwrap());
        let renamed = open(folder.path(), &["other.example.com"]);
        assert_ne!(first.ca_pem, renamed.ca_pem, "the old one may not sign for this name");
        assert!(folder.path().join("ca/ca.key.old").exists());
    }

    #[test]
    fn a_leaf_is_replaced_a_month_before_its_end_and_not_sooner() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = open(folder.path(), &["ci.example.com"]);
        let shown = || certificates.shown.lock().unwrap().chain_pem.clone();
        let first = shown();
        certificates.refresh(clock::now() + Duration::from_secs(59 * DAY_S)).unwrap();
        assert!(shown() == first);
        certificates.refresh(clock::now() + Duration::from_secs(61 * DAY_S)).unwrap();
        assert!(shown() != first);
    }

    #[test]
    fn the_admins_files_are_read_again_when_they_change_and_a_broken_one_is_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["ci.example.com".to_owned()];
        let authority = Authority::create(&names, clock::now()).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let write_leaf = || {
            let (chain_pem, key_pem) = authority.leaf(&names, clock::now()).unwrap();
            std::fs::write(&cert, &chain_pem).unwrap();
            std::fs::write(&key, &key_pem).unwrap();
            chain_pem
        };
        write_leaf();
        let source = Source::Files { certificate: cert.clone(), key: key.clone(), ca: None };
        let certificates = Certificates::open(source).unwrap();
        assert_eq!(certificates.ca_pem, None);
        let second = write_leaf();
        certificates.refresh(clock::now()).unwrap();
        assert_eq!(certificates.shown.lock().unwrap().chain_pem, second);
        std::fs::write(&cert, "nothing").unwrap();
        assert!(certificates.refresh(clock::now()).is_err());
        assert_eq!(certificates.shown.lock().unwrap().chain_pem, second);
    }
}
