//! Where the credentials for AWS come from: the usual chain (environment, profile, web identity,
//! container, instance role), by `reqsign`. Here is only what the chain sees of the world.

use std::path::PathBuf;

use bytes::Bytes;
use reqsign_aws_v4::Credential;
use reqsign_aws_v4::DefaultCredentialProvider;
use reqsign_aws_v4::ProfileCredentialProvider;
use reqsign_aws_v4::RequestSigner;
use reqsign_core::Context;
use reqsign_core::Error;
use reqsign_core::OsEnv;
use reqsign_core::Signer;

/// Which credentials, where it is not to be the usual chain's.
#[derive(Clone, Debug, Default)]
pub(super) struct CredentialsFrom {
    /// A file of them.
    pub(super) file: Option<PathBuf>,
    /// A profile of that file, or of the usual one.
    pub(super) profile: Option<String>,
}

/// A signer for a service (`ec2`) in a region. What it loads it keeps until that is about to run out; a new one
/// loads anew.
pub(super) fn signer(
    http: &reqwest::Client,
    service: &str,
    region: &str,
    from: &CredentialsFrom,
) -> Signer<Credential> {
    let context =
        Context::new().with_file_read(Files).with_http_send(Web(http.clone())).with_env(OsEnv);
    let request_signer = RequestSigner::new(service, region);
    if from.file.is_none() && from.profile.is_none() {
        return Signer::new(context, DefaultCredentialProvider::new(), request_signer);
    }
    let mut chosen = ProfileCredentialProvider::new();
    if let Some(file) = &from.file {
        chosen = chosen.with_credentials_file(file.display().to_string());
    }
    if let Some(profile) = &from.profile {
        chosen = chosen.with_profile(profile);
    }
    Signer::new(context, chosen, request_signer)
}

/// The shared credentials and configuration files.
#[derive(Debug)]
struct Files;

impl reqsign_core::FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let read = tokio::fs::read(path).await;
        read.map_err(|why| Error::config_invalid(format!("cannot read {path}: {why}")))
    }
}

/// The endpoints that give credentials out: of the instance, of containers, of STS.
#[derive(Debug)]
struct Web(reqwest::Client);

impl reqsign_core::HttpSend for Web {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        // What failed is told without what was sent or came: both may hold credentials.
        let failed = |why: reqwest::Error| {
            let why = why.without_url();
            Error::unexpected(format!("cannot ask for credentials: {why}"))
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let answer = self.0.execute(request).await.map_err(failed)?;
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        *response.body_mut() = answer.bytes().await.map_err(failed)?;
        Ok(response)
    }
}
