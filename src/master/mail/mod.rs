//! Adapter: mail. An outbox that never blocks whoever has something to say, and a postman who tries
//! until the mail server has it, or until it is too late to matter.
//!
//! Mail is a courtesy: it is kept in memory alone, and a master that ends forgets it. What it says
//! stands on the pages too.

pub mod address;
mod message;
pub mod settings;
mod smtp;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tracing::debug;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::master::domain::mail::Recipients;
use crate::master::mail::address::Address;
use crate::master::mail::settings::Login;
use crate::master::mail::settings::MailSettings;
use crate::master::mail::settings::MailTls;
use crate::master::mail::smtp::Conversation;
use crate::master::mail::smtp::Failure;
use crate::master::mail::smtp::Way;
use crate::model::backoff::Backoff;
use crate::model::secret::Secret;
use crate::runtime::clock;
use crate::runtime::random;
use crate::runtime::tls;

/// Mails that wait to be looked at, at most, and as many again that wait for another try. More news
/// than that in one night is one piece of news.
const OUTBOX_MAILS_MAX: usize = 100;

/// One try of one mail.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3 * 60);

/// Between two tries of one mail.
const RETRY: Backoff = match Backoff::new(Duration::from_secs(1), Duration::from_secs(15 * 60)) {
    Some(backoff) => backoff,
    None => unreachable!(),
};

/// Tries of one mail: about five hours of them, as long as a mail server is away for maintenance.
const TRIES_MAX: u32 = 35;

/// A password, at most: a slip such as naming a log is told.
const PASSWORD_BYTES_MAX: usize = 4096;

/// What takes mails. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mailer {
    outbox: Option<mpsc::Sender<Mail>>,
}

/// Something to tell.
#[derive(Debug)]
struct Mail {
    to: Recipients,
    subject: String,
    text: String,
}

/// A mail on its way.
#[derive(Debug)]
struct Waiting {
    to: Vec<Address>,
    subject: String,
    /// The whole of it, as it is sent.
    composed: String,
    tries: u32,
    /// When it is tried next, on the clock that never steps.
    due: Duration,
}

/// What delivers them.
pub struct Postman {
    settings: Option<MailSettings>,
    mails: mpsc::Receiver<Mail>,
    waiting: Vec<Waiting>,
}

/// An outbox, and who empties it. Without settings nobody is told anything.
pub fn set_up(settings: Option<MailSettings>) -> (Mailer, Postman) {
    let (sender, mails) = mpsc::channel(OUTBOX_MAILS_MAX);
    let outbox = settings.is_some().then_some(sender);
    (Mailer { outbox }, Postman { settings, mails, waiting: Vec::new() })
}

impl Mailer {
    /// Takes a mail; when there is no room for it, it is dropped with a line in the log.
    pub fn send(&self, to: Recipients, subject: String, text: String) {
        let Some(outbox) = &self.outbox else {
            return info!("nobody is told, as there is no [mail]: {subject}");
        };
        if let Err(refused) = outbox.try_send(Mail { to, subject, text }) {
            let Mail { subject, .. } = refused.into_inner();
            error!("the outbox is full: nobody is told of \"{subject}\"");
        }
    }
}

impl Postman {
    /// Delivers, until nobody can have anything to say any more.
    pub async fn run(mut self) {
        let Some(settings) = self.settings.take() else { return };
        loop {
            let due = self.waiting.iter().map(|waiting| waiting.due).min();
            let has_room = self.waiting.len() < OUTBOX_MAILS_MAX;
            tokio::select! {
                biased;
                taken = self.mails.recv(), if has_room => match taken {
                    None => return,
                    Some(mail) => self.waiting.extend(composed(&settings, mail)),
                },
                () = until(due) => self.deliver_due(&settings).await,
            }
        }
    }

    async fn deliver_due(&mut self, settings: &MailSettings) {
        let now = clock::monotonic();
        let Some(index) = self.waiting.iter().position(|waiting| waiting.due <= now) else {
            return;
        };
        let mut mail = self.waiting.remove(index);
        let delivery = tokio::time::timeout(DELIVERY_TIMEOUT, deliver(settings, &mail));
        let left = match delivery.await {
            Ok(left) => left,
            Err(_) => {
                let sentence = "the mail server took too long".to_owned();
                everybody(&mail, &Failure { is_final: false, sentence })
            }
        };
        mail.tries += 1;
        if left.is_empty() {
            return info!("mailed \"{}\"", mail.subject);
        }
        let is_over = mail.tries >= TRIES_MAX;
        mail.to.clear();
        for (address, Failure { is_final, sentence }) in left {
            if is_final || is_over {
                error!("cannot mail \"{}\" to {address}: {sentence}", mail.subject);
            } else if mail.tries == 1 {
                warn!("cannot mail \"{}\" to {address} yet: {sentence}", mail.subject);
                mail.to.push(address);
            } else {
                debug!("cannot mail \"{}\" to {address} yet: {sentence}", mail.subject);
                mail.to.push(address);
            }
        }
        if !mail.to.is_empty() {
            mail.due = clock::monotonic() + RETRY.delay(mail.tries - 1, random::number());
            self.waiting.push(mail);
        }
    }
}

/// A mail as it will be sent, now and at each other try; nothing where it is for nobody.
fn composed(settings: &MailSettings, mail: Mail) -> Option<Waiting> {
    let to = match mail.to {
        Recipients::Admins => settings.to.clone(),
        Recipients::These(addresses) => {
            // The file was checked; what cannot stand in a header never gets there all the same.
            addresses.iter().filter_map(|address| Address::parse(address).ok()).collect()
        }
    };
    if to.is_empty() {
        warn!("nobody is told, as there is nobody to tell: {}", mail.subject);
        return None;
    }
    let composed = message::compose(&message::Facts {
        from: &settings.from,
        to: &to,
        subject: &mail.subject,
        text: &mail.text,
        at: clock::now(),
        id: &format!("{:016x}{:016x}", random::number(), random::number()),
    });
    Some(Waiting { to, subject: mail.subject, composed, tries: 0, due: Duration::ZERO })
}

/// One try; gives who has not got it.
async fn deliver(settings: &MailSettings, mail: &Waiting) -> Vec<(Address, Failure)> {
    let delivering = async {
        let mut conversation = begin(settings).await?;
        let left = conversation.deliver(&settings.from, &mail.to, &mail.composed).await;
        conversation.end().await;
        left
    };
    match delivering.await {
        Ok(left) => left,
        Err(why) => everybody(mail, &why),
    }
}

fn everybody(mail: &Waiting, why: &Failure) -> Vec<(Address, Failure)> {
    mail.to.iter().map(|address| (address.clone(), why.clone())).collect()
}

async fn begin(settings: &MailSettings) -> Result<Conversation, Failure> {
    // A file that cannot be read is mended by a person, and then the same mail goes through.
    let here = |why: anyhow::Error| Failure { is_final: false, sentence: format!("{why:#}") };
    let login = settings.login.as_ref();
    let login = login.map(|login| Ok((login.user.as_str(), password(login)?)));
    let login = login.transpose().map_err(here)?;
    let tls = match settings.tls {
        MailTls::None => None,
        MailTls::StartTls | MailTls::Implicit => Some(trust(settings).map_err(here)?),
    };
    Conversation::begin(Way {
        host: &settings.host,
        port: settings.port,
        tls,
        is_implicit: settings.tls == MailTls::Implicit,
        login,
    })
    .await
}

fn trust(settings: &MailSettings) -> anyhow::Result<Arc<ClientConfig>> {
    let pem = settings
        .ca_file
        .as_deref()
        .map(|file| std::fs::read(file).with_context(|| format!("cannot read {}", file.display())));
    Ok(Arc::new(tls::http_client_config(pem.transpose()?.as_deref())?))
}

fn password(login: &Login) -> anyhow::Result<Secret<String>> {
    let file = login.password_file.display();
    let text = std::fs::read_to_string(&login.password_file);
    let text = text.with_context(|| format!("cannot read the password in {file}"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!text.is_empty() && !text.contains('\0'), "there is no password in {file}");
    anyhow::ensure!(text.len() <= PASSWORD_BYTES_MAX, "{file} is too long for a password");
    Ok(Secret::new(text.to_owned()))
}

/// Asks the mail server whether it would take mail from this master. Sends none.
///
/// # Errors
/// Why not, for people.
pub async fn examine(settings: &MailSettings) -> Result<String, String> {
    let asking = tokio::time::timeout(DELIVERY_TIMEOUT, begin(settings)).await;
    let conversation = asking.map_err(|_| "the mail server took too long".to_owned())?;
    conversation.map_err(|why| why.sentence)?.end().await;
    let MailSettings { host, port, .. } = settings;
    let encrypted = match settings.tls {
        MailTls::None => "in plain text",
        MailTls::StartTls => "by STARTTLS",
        MailTls::Implicit => "by TLS",
    };
    let login = settings.login.as_ref();
    let login = login.map(|login| format!(", and lets {} log in", login.user));
    Ok(format!("the mail server {host}:{port} answers {encrypted}{}", login.unwrap_or_default()))
}

/// Ends when the clock that never steps says `due`; never, without one.
async fn until(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due.saturating_sub(clock::monotonic())).await,
        None => std::future::pending().await,
    }
}
