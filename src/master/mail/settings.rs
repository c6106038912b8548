//! `[mail]` as it is meant. `config/mail.rs` makes it of the file.

use std::path::PathBuf;

use crate::master::mail::address::Address;

/// How mail is sent, and to whom where nobody else is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSettings {
    /// The mail server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: MailTls,
    /// The authorities that the server's certificate may come from, PEM; nothing: the system's.
    pub ca_file: Option<PathBuf>,
    /// How the master logs in; nothing: the server takes mail from it as it is.
    pub login: Option<Login>,
    /// Who mails come from.
    pub from: Address,
    /// The admins.
    pub to: Vec<Address>,
}

/// How the connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// By the command `STARTTLS`; a server without it gets no mail.
    StartTls,
    /// From its first byte.
    Implicit,
    /// Not at all.
    None,
}

/// How the master logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// As whom.
    pub user: String,
    /// A file with the password, read anew for each mail.
    pub password_file: PathBuf,
}
