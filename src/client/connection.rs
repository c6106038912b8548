//! One master, asked over HTTP: by its address, or through its socket. The same API either way.
//!
//! Each question is asked once; what must survive a master's restart (`watch`, `log_stream`)
//! asks again by itself.

use std::time::Duration;

use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::Url;
use serde::Serialize;

use crate::api;
use crate::client::build_name::BuildName;
use crate::client::document::Document;
use crate::client::exit::Failure;
use crate::client::target::Place;
use crate::client::target::Target;
use crate::client::trouble;
use crate::model::secret::Secret;

/// How long a connection may take to come about: a lost packet or two, not more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take. Starting a build asks the project's remote first, which may be
/// slow, and the master gives up on it sooner than this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// A connection that is silent for this long is asked whether it still is one, every
/// [`KEEPALIVE_INTERVAL`], [`KEEPALIVE_RETRIES`] times: a stream's silence alone proves nothing.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);

/// See [`KEEPALIVE_AFTER`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// See [`KEEPALIVE_AFTER`].
const KEEPALIVE_RETRIES: u32 = 3;

/// A master, and how to ask it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret<String>>,
    /// The master as people named it, for sentences.
    shown: String,
}

impl Connection {
    /// Makes ready to ask; nothing is sent yet.
    ///
    /// # Errors
    /// The certificate authority cannot be read, or is none.
    pub fn new(target: &Target) -> Result<Connection, Failure> {
        // Fails only if one is installed already, and then there is one.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("busybee/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE_AFTER)
            .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
            .tcp_keepalive_retries(KEEPALIVE_RETRIES);
        let (builder, url, shown) = match &target.place {
            Place::Socket(path) => (
                builder.unix_socket(path.as_path()).tls_certs_only([]),
                "http://localhost".to_owned(),
                format!("the socket {}", path.display()),
            ),
            Place::Url(url) => (with_trust(builder, url, target)?, url.clone(), url.clone()),
        };
        let base = Url::parse(&url).map_err(|error| {
            Failure::usage(format!("cannot use the master's address \"{url}\": {error}"))
        })?;
        let http = builder.build().map_err(|error| {
            Failure::wrong(format!(
                "cannot prepare TLS: {}; --ca FILE names the authority to trust",
                trouble::deepest_cause(&error)
            ))
        })?;
        Ok(Connection { http, base, token: target.token.clone(), shown })
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// The master cannot be reached, or refuses.
    pub async fn get<Q: Serialize>(&self, path: &[&str], query: &Q) -> Result<Document, Failure> {
        let request = self.request(Method::GET, path, query).timeout(ANSWER_TIMEOUT);
        self.document(request, false).await
    }

    /// Asks for a build as it stands.
    ///
    /// # Errors
    /// As [`Connection::get`].
    pub async fn build(&self, name: &BuildName) -> Result<Document, Failure> {
        let number = name.number.to_string();
        self.get(&["projects", name.project.as_str(), "builds", &number], &()).await
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// As [`Connection::get`]; a broken connection leaves open whether it was done.
    pub async fn post<B: Serialize>(&self, path: &[&str], body: &B) -> Result<Document, Failure> {
        let request = self.request(Method::POST, path, &()).json(body).timeout(ANSWER_TIMEOUT);
        self.document(request, true).await
    }

    /// Asks for bytes that come bit by bit, for as long as it takes.
    ///
    /// # Errors
    /// As [`Connection::get`].
    pub async fn stream<Q: Serialize>(
        &self,
        path: &[&str],
        query: &Q,
    ) -> Result<Response, Failure> {
        let request = self.request(Method::GET, path, query);
        // The answer's head must come in time; its body may take hours.
        match tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await {
            Ok(Ok(response)) => trouble::accept(&self.shown, response).await,
            Ok(Err(error)) => Err(trouble::unanswered(&self.shown, &error, false)),
            Err(_) => Err(trouble::silent(&self.shown, ANSWER_TIMEOUT)),
        }
    }

    /// The sentence for a connection that broke in the middle of a stream.
    pub fn broken(&self, error: &reqwest::Error) -> Failure {
        trouble::unanswered(&self.shown, error, false)
    }

    async fn document(&self, request: RequestBuilder, acts: bool) -> Result<Document, Failure> {
        let unanswered = |error: reqwest::Error| trouble::unanswered(&self.shown, &error, acts);
        let response = request.send().await.map_err(unanswered)?;
        let response = trouble::accept(&self.shown, response).await?;
        let text = response.text().await.map_err(unanswered)?;
        Document::parse(&text).ok_or_else(|| trouble::not_a_master(&self.shown, "not in JSON"))
    }

    fn request<Q: Serialize>(&self, method: Method, path: &[&str], query: &Q) -> RequestBuilder {
        let mut url = self.base.clone();
        // A base that cannot have segments (`data:…`) is refused when the address is read.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments.extend(api::PREFIX.split('/').filter(|part| !part.is_empty()));
            segments.extend(path);
        }
        for (key, value) in pairs(query) {
            url.query_pairs_mut().append_pair(&key, &value);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }
}

/// Whom to trust: the given authority alone, or whom this machine trusts. Over plain HTTP there
/// is nobody to trust, and a machine without any authority must do.
fn with_trust(
    builder: reqwest::ClientBuilder,
    url: &str,
    target: &Target,
) -> Result<reqwest::ClientBuilder, Failure> {
    if let Some(file) = &target.ca {
        let shown = file.display();
        let pem = std::fs::read(file).map_err(|error| {
            Failure::wrong(format!("cannot read the certificate authority {shown}: {error}"))
        })?;
        return match reqwest::Certificate::from_pem_bundle(&pem) {
            Ok(authorities) if !authorities.is_empty() => Ok(builder.tls_certs_only(authorities)),
            Ok(_) => Err(Failure::wrong(format!(
                "{shown} holds no certificate; it should be a PEM file (BEGIN CERTIFICATE)"
            ))),
            Err(error) => Err(Failure::wrong(format!(
                "cannot read the certificate authority {shown}: {}",
                trouble::deepest_cause(&error)
            ))),
        };
    }
    Ok(if url.starts_with("http://") { builder.tls_certs_only([]) } else { builder })
}

/// The fields of a query as pairs. Only flat structs of texts, numbers and yes-or-no are queries.
fn pairs<Q: Serialize>(query: &Q) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) else {
        return Vec::new();
    };
    let text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    fields.into_iter().map(|(key, value)| (key, text(value))).collect()
}
