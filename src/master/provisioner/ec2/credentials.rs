//! Where the credentials for AWS come from: the usual chain (environment, profile, web identity,
//! container, instance role), by `reqsign`. Here is only what the chain sees of the world, and that a
//! profile which is named has keys.

use std::path::PathBuf;

use bytes::Bytes;
use reqsign_aws_v4::Credential;
use reqsign_aws_v4::DefaultCredentialProvider;
use reqsign_aws_v4::ProfileCredentialProvider;
use reqsign_aws_v4::RequestSigner;
use reqsign_core::Context;
use reqsign_core::Error;
use reqsign_core::OsEnv;
use reqsign_core::ProvideCredential;
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
    Signer::new(context, Chosen { keys: chosen, from: from.clone() }, request_signer)
}

/// The profile that the master's file names. Of one that leads to credentials instead of holding them,
/// `reqsign` only says that there are none.
#[derive(Debug)]
struct Chosen {
    keys: ProfileCredentialProvider,
    from: CredentialsFrom,
}

impl ProvideCredential for Chosen {
    type Credential = Credential;

    async fn provide_credential(
        &self,
        context: &Context,
    ) -> reqsign_core::Result<Option<Credential>> {
        match self.keys.provide_credential(context).await? {
            Some(keys) => Ok(Some(keys)),
            None => Err(Error::config_invalid(self.from.lacks_keys())),
        }
    }
}

impl CredentialsFrom {
    fn lacks_keys(&self) -> String {
        let profile = match &self.profile {
            Some(profile) => format!("profile \"{profile}\""),
            None => "the default profile".to_owned(),
        };
        let file = match &self.file {
            Some(file) => file.display().to_string(),
            None => "~/.aws/credentials and ~/.aws/config".to_owned(),
        };
        format!(
            "{profile} has no aws_access_key_id and aws_secret_access_key in {file}, and what else a profile \
             can lead to (role_arn, source_profile, sso_…, credential_process) is not followed. Write keys \
             there, or take `profile` and `credentials_file` out of the pool and give the master an instance \
             role, or keys in its environment"
        )
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_profile_that_leads_to_credentials_instead_of_holding_them_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("credentials");
        let text = "[keys]\naws_access_key_id = AKIAANY\naws_secret_access_key = any\n\
                    [role]\nrole_arn = arn:aws:iam::1:role/ci\nsource_profile = keys\n\
                    [sso]\nsso_account_id = 1\nsso_role_name = ci\n\
                    [process]\ncredential_process = /bin/keys\n";
        std::fs::write(&file, text).expect("write it");
        let tls = crate::runtime::tls::http_client_config(None).expect("it has certificates");
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build();
        let http = http.expect("it is set up");
        let sign = async |profile: &str| {
            let from =
                CredentialsFrom { file: Some(file.clone()), profile: Some(profile.to_owned()) };
            let request = http::Request::post("https://ec2.eu-west-1.amazonaws.com/").body(());
            let (mut head, ()) = request.expect("it is one").into_parts();
            signer(&http, "ec2", "eu-west-1", &from).sign(&mut head, None).await
        };
        sign("keys").await.expect("it has keys");
        for profile in ["role", "sso", "process", "unknown"] {
            let told = sign(profile).await.expect_err("it has none").to_string();
            assert!(
                told.starts_with(&format!("profile \"{profile}\" has no aws_access")),
                "{told}"
            );
            assert!(told.contains("instance role"), "{told}");
        }
    }
}
