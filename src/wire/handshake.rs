//! Who is who: the proofs of a greeting and of its answer. Pure: keys and bytes in, proofs out.
//!
//! Both ends build the same [`Transcript`]. It holds the TLS exporter of this very connection, so
//! a proof is worth nothing on another one and no challenge is needed. At first contact both sides
//! prove that they hold the launch's password, which never crosses the wire; later the agent signs
//! with its key and the master with the one that the agent pinned at first contact.
//!
//! The launch is not in the transcript: the agent is not told it. It is in the password, which is
//! derived from it, and what a key is bound to is one worker of one launch.

use ring::hkdf;
use ring::hmac;
use ring::signature;
use ring::signature::Ed25519KeyPair;
use ring::signature::KeyPair;
use ring::signature::UnparsedPublicKey;

use crate::model::ids::LaunchId;
use crate::model::secret::Secret;
use crate::wire::message::Hello;
use crate::wire::message::HelloProof;

/// An Ed25519 public key, in bytes.
pub const PUBLIC_KEY_BYTES: usize = 32;

/// What both ends know of a connection and of a greeting: what proofs are made over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The greeting's parts, each behind its length, so that no byte can move between two of them.
    bytes: Vec<u8>,
}

impl Transcript {
    /// The transcript of a greeting (its proof is not part of it) on the connection with this
    /// exporter.
    pub fn new(hello: &Hello, exporter: &[u8; 32]) -> Transcript {
        let mut bytes = Vec::with_capacity(256);
        push(&mut bytes, &hello.proto_min.to_be_bytes());
        push(&mut bytes, &hello.proto_max.to_be_bytes());
        push(&mut bytes, hello.worker.as_bytes());
        push(&mut bytes, hello.instance_claim.as_bytes());
        push(&mut bytes, hello.boot_id.as_bytes());
        push(&mut bytes, &hello.epoch.to_be_bytes());
        push(&mut bytes, &hello.public_key);
        push(&mut bytes, hello.version.as_bytes());
        push(&mut bytes, exporter);
        Transcript { bytes }
    }

    /// What an agent proves.
    fn of_agent(&self, label: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 32);
        push(&mut bytes, b"agent");
        push(&mut bytes, label.as_bytes());
        push(&mut bytes, &self.bytes);
        bytes
    }

    /// What a master proves: also the version it chose and the key that is to be pinned.
    fn of_master(&self, proto: u32, master_key: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 96);
        push(&mut bytes, b"master");
        push(&mut bytes, &proto.to_be_bytes());
        push(&mut bytes, master_key);
        push(&mut bytes, &self.bytes);
        bytes
    }
}

fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("a greeting is at most 4 KiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(part);
}

/// An Ed25519 key of one's own.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key that grows from 32 random bytes, which is also how it is kept on disk.
    pub fn from_seed(seed: &Secret<[u8; 32]>) -> SigningKey {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.reveal())
            .expect("every seed of 32 bytes makes a key");
        SigningKey(pair)
    }

    /// Its public half.
    pub fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.sign(bytes).as_ref().to_vec()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(‹secret›)")
    }
}

/// `BB_PASSWORD` of a launch: 64 hex digits, derived and never stored.
///
/// `candidate` counts the tries of one launch with other settings, from 0: each has its own, and
/// the same try repeated has the same, so that its user-data is equal byte for byte.
pub fn bootstrap_password(
    master_key: &[u8; 32],
    launch: &LaunchId,
    candidate: u32,
) -> Secret<String> {
    let mut about = Vec::new();
    push(&mut about, b"bootstrap password");
    push(&mut about, launch.as_str().as_bytes());
    push(&mut about, &candidate.to_be_bytes());
    let mut password = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"busybee")
        .extract(master_key)
        .expand(&[&about], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut password))
        .expect("32 bytes are one block of SHA-256");
    Secret::new(password.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// An agent's proof at first contact.
pub fn prove_password(password: &Secret<String>, transcript: &Transcript) -> HelloProof {
    HelloProof::Bind(mac(password, &transcript.of_agent("bind")))
}

/// An agent's proof at every later contact.
pub fn prove_key(key: &SigningKey, transcript: &Transcript) -> HelloProof {
    HelloProof::Resume(key.sign(&transcript.of_agent("resume")))
}

/// What the master knows of a worker, to check a greeting with.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The password of its launch.
    pub password: Secret<String>,
    /// The key that is bound to it, if one is.
    pub public_key: Option<Vec<u8>>,
}

/// Whether a greeting's proof holds. Comparing takes the same time wherever it fails.
pub fn proof_holds(hello: &Hello, transcript: &Transcript, expected: &Expected) -> bool {
    if hello.public_key.len() != PUBLIC_KEY_BYTES {
        return false;
    }
    match &hello.proof {
        HelloProof::Bind(proof) => {
            mac_holds(&expected.password, &transcript.of_agent("bind"), proof)
        }
        // Any other key signs for nobody, however well it signs.
        HelloProof::Resume(proof) => {
            expected.public_key.as_ref() == Some(&hello.public_key)
                && signed(&hello.public_key, &transcript.of_agent("resume"), proof)
        }
    }
}

/// The master's proof, in the way in which the agent proved itself.
pub fn prove_master(
    hello: &Hello,
    transcript: &Transcript,
    password: &Secret<String>,
    key: &SigningKey,
    proto: u32,
) -> Vec<u8> {
    let bytes = transcript.of_master(proto, &key.public());
    match hello.proof {
        HelloProof::Bind(_) => mac(password, &bytes),
        HelloProof::Resume(_) => key.sign(&bytes),
    }
}

/// What an agent knows of its master, to check a Welcome with.
#[derive(Clone, Debug)]
pub enum KnownMaster {
    /// Nothing but the password that both hold.
    Password(Secret<String>),
    /// The key it pinned at first contact.
    Pinned(Vec<u8>),
}

/// Whether a Welcome comes from the master it should come from.
pub fn master_proof_holds(
    known: &KnownMaster,
    transcript: &Transcript,
    proto: u32,
    master_key: &[u8],
    proof: &[u8],
) -> bool {
    let bytes = transcript.of_master(proto, master_key);
    match known {
        KnownMaster::Password(password) => {
            master_key.len() == PUBLIC_KEY_BYTES && mac_holds(password, &bytes, proof)
        }
        KnownMaster::Pinned(pinned) => pinned == master_key && signed(pinned, &bytes, proof),
    }
}

fn mac(password: &Secret<String>, bytes: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, password.reveal().as_bytes());
    hmac::sign(&key, bytes).as_ref().to_vec()
}

fn mac_holds(password: &Secret<String>, bytes: &[u8], proof: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, password.reveal().as_bytes());
    hmac::verify(&key, bytes, proof).is_ok()
}

fn signed(public_key: &[u8], bytes: &[u8], proof: &[u8]) -> bool {
    UnparsedPublicKey::new(&signature::ED25519, public_key).verify(bytes, proof).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(key: &SigningKey) -> Hello {
        Hello {
            proto_min: 1,
            proto_max: 1,
            worker: "w-1".into(),
            instance_claim: "i-1".into(),
            boot_id: "boot".into(),
            epoch: 3,
            public_key: key.public(),
            proof: HelloProof::Bind(Vec::new()),
            version: "0.1.0".into(),
        }
    }

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new([byte; 32]))
    }

    fn password() -> Secret<String> {
        bootstrap_password(&[1; 32], &LaunchId::from("launch-1"), 0)
    }

    #[test]
    fn a_password_is_64_hex_digits_of_its_launch_and_try_alone() {
        // Fixed bytes: another derivation would lock out every machine that is starting.
        assert_eq!(
            password().reveal(),
            "4deeee85bdee3c132f6cff0498554b8820ffdb9d2a0f26b0bb3aa75302f7f541"
        );
        let launch = LaunchId::from("launch-1");
        assert_ne!(password(), bootstrap_password(&[1; 32], &launch, 1));
        assert_ne!(password(), bootstrap_password(&[2; 32], &launch, 0));
        assert_ne!(password(), bootstrap_password(&[1; 32], &LaunchId::from("launch-2"), 0));
    }

    #[test]
    fn a_password_proof_holds_for_its_greeting_on_its_connection_only() {
        let agent = key(2);
        let mut hello = hello(&agent);
        let transcript = Transcript::new(&hello, &[9; 32]);
        hello.proof = prove_password(&password(), &transcript);
        let expected = Expected { password: password(), public_key: None };
        assert!(proof_holds(&hello, &transcript, &expected));

        let relayed = Transcript::new(&hello, &[8; 32]);
        assert!(!proof_holds(&hello, &relayed, &expected), "another TLS session");
        let others: [fn(&mut Hello); 8] = [
            |hello| hello.proto_min = 0,
            |hello| hello.proto_max = 2,
            |hello| hello.worker = "w-2".into(),
            |hello| hello.instance_claim = "i-2".into(),
            |hello| hello.boot_id = "other".into(),
            |hello| hello.epoch = 4,
            |hello| hello.public_key = key(3).public(),
            |hello| hello.version = "0.2.0".into(),
        ];
        for change in others {
            let mut other = hello.clone();
            change(&mut other);
            let transcript = Transcript::new(&other, &[9; 32]);
            assert!(!proof_holds(&other, &transcript, &expected), "{other:?}");
        }
        let wrong = Expected { password: Secret::new("0".repeat(64)), public_key: None };
        assert!(!proof_holds(&hello, &transcript, &wrong));
    }

    #[test]
    fn bytes_cannot_move_between_the_parts_of_a_transcript() {
        let agent = key(2);
        let mut one = hello(&agent);
        one.worker = "ab".into();
        one.instance_claim = "c".into();
        let mut other = one.clone();
        other.worker = "a".into();
        other.instance_claim = "bc".into();
        assert_ne!(Transcript::new(&one, &[0; 32]), Transcript::new(&other, &[0; 32]));
    }

    #[test]
    fn only_the_bound_key_resumes() {
        let agent = key(2);
        let mut hello = hello(&agent);
        let transcript = Transcript::new(&hello, &[9; 32]);
        hello.proof = prove_key(&agent, &transcript);
        let expected = |key: Option<Vec<u8>>| Expected { password: password(), public_key: key };
        assert!(proof_holds(&hello, &transcript, &expected(Some(agent.public()))));
        assert!(!proof_holds(&hello, &transcript, &expected(Some(key(3).public()))));
        assert!(!proof_holds(&hello, &transcript, &expected(None)));
        assert!(!proof_holds(
            &hello,
            &Transcript::new(&hello, &[8; 32]),
            &expected(Some(agent.public()))
        ));
    }

    #[test]
    fn an_agent_believes_only_the_master_it_should() {
        let (agent, master) = (key(2), key(5));
        let mut hello = hello(&agent);
        let transcript = Transcript::new(&hello, &[9; 32]);
        let check = |known: &KnownMaster, key: &SigningKey, proof: &[u8]| {
            master_proof_holds(known, &transcript, 1, &key.public(), proof)
        };
        let bound = prove_master(&hello, &transcript, &password(), &master, 1);
        let known = KnownMaster::Password(password());
        assert!(check(&known, &master, &bound));
        assert!(!check(&known, &key(6), &bound), "the key to pin is part of the proof");
        assert!(!master_proof_holds(&known, &transcript, 2, &master.public(), &bound));
        let HelloProof::Bind(own) = prove_password(&password(), &transcript) else {
            unreachable!()
        };
        assert!(!check(&known, &master, &own), "the agent's own proof sent back");

        hello.proof = HelloProof::Resume(Vec::new());
        let resumed = prove_master(&hello, &transcript, &password(), &master, 1);
        let known = KnownMaster::Pinned(master.public());
        assert!(check(&known, &master, &resumed));
        let other = prove_master(&hello, &transcript, &password(), &key(6), 1);
        assert!(!check(&known, &key(6), &other), "another master, however well it signs");
        assert!(!check(&known, &master, &other));
    }
}
