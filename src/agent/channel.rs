//! Placeholder for the channel engineer's file.

use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::agent::identity::Identity;
use crate::model::attempt::LogChunk;
use crate::model::secret::Secret;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;
use crate::wire::message::Welcome;

pub struct ChannelConfig { pub master: String, pub ca_pem: Option<Vec<u8>>, pub worker: String, pub password: Option<Secret<String>>, pub instance_claim: String, pub version: String }
pub enum ChannelEvent { Up { welcome: Welcome, outgoing: Outgoing }, Message(FromMaster), Down { sentence: String }, Refused { sentence: String } }
#[derive(Clone)] pub struct Outgoing { pub control: mpsc::Sender<FromAgent>, pub logs: mpsc::Sender<LogChunk> }
pub struct Channel { pub events: mpsc::Receiver<ChannelEvent>, pub busy: watch::Sender<bool> }
pub fn start(_config: ChannelConfig, _identity: Identity) -> Channel { unreachable!() }
