//! Calls EC2: signs, sends, waits and tries again where that is safe, and reads the answer.
//!
//! Every call that is made here is idempotent (descriptions; ends and starts of one instance; launches
//! with their ClientToken), so one whose outcome is unknown is simply made again.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use reqsign_aws_v4::Credential;
use reqsign_core::Signer;
use serde::de::DeserializeOwned;
use tracing::debug;

use crate::master::provisioner::ec2::budget::Budget;
use crate::master::provisioner::ec2::credentials;
use crate::master::provisioner::ec2::credentials::CredentialsFrom;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::query::Query;
use crate::model::backoff::Backoff;
use crate::runtime::clock;
use crate::runtime::digest::sha256_hex;
use crate::runtime::random;
use crate::runtime::tls;

/// One request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Making the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries of one call, while nothing is known of its outcome or we are told to slow down.
const TRIES_MAX: u32 = 5;

/// Between two tries of one call. AWS recommends exponential backoff with jitter.
const RETRY: Backoff = match Backoff::new(Duration::from_secs(1), Duration::from_secs(20)) {
    Some(backoff) => backoff,
    None => unreachable!(),
};

/// Between two tries of a call that was too much: many are told so at the same moment.
const THROTTLED: Backoff = match Backoff::new(Duration::from_secs(1), Duration::from_secs(60)) {
    Some(backoff) => backoff,
    None => unreachable!(),
};

/// How long a call goes on that is always too much. Such refusals cost none of its tries.
const THROTTLED_MAX: Duration = Duration::from_secs(5 * 60);

/// How long a call waits for its answer, and then until it is made again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one answer.
    pub answer: Duration,
    /// Between the first two tries.
    pub first_delay: Duration,
    /// Between any two tries, at most.
    pub last_delay: Duration,
}

/// EC2, as signatures name it.
const SERVICE: &str = "ec2";

/// The head of a request of EC2.
const FORM: [(&str, &str); 1] =
    [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];

/// A region, as one account reaches it. Clones share the limit and the credentials.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    url: reqwest::Url,
    /// Whether that is no address of AWS.
    stands_in: bool,
    service: String,
    region: String,
    credentials: CredentialsFrom,
    signer: Arc<Mutex<Signer<Credential>>>,
    budget: Arc<Budget>,
    answer_within: Duration,
    retry: Backoff,
    throttled: Backoff,
    throttled_for: Duration,
}

impl Client {
    /// Reads no credentials yet: that happens at the first call.
    ///
    /// # Errors
    /// When the endpoint is no address, or the system's certificates cannot be read.
    pub(super) fn new(
        region: &str,
        endpoint: Option<&str>,
        credentials: CredentialsFrom,
    ) -> anyhow::Result<Client> {
        let address = endpoint.map_or_else(|| address_of(region), str::to_owned);
        let url = reqwest::Url::parse(&address).with_context(|| format!("read \"{address}\""))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::http_client_config(None).context("set TLS up for EC2")?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .context("set HTTP up for EC2")?;
        let signer = credentials::signer(&http, SERVICE, region, &credentials);
        Ok(Client {
            http,
            url,
            stands_in: endpoint.is_some(),
            service: SERVICE.to_owned(),
            region: region.to_owned(),
            credentials,
            signer: Arc::new(Mutex::new(signer)),
            budget: Arc::default(),
            answer_within: REQUEST_TIMEOUT,
            retry: RETRY,
            throttled: THROTTLED,
            throttled_for: THROTTLED_MAX,
        })
    }

    /// With another patience than EC2 itself needs, and no budget.
    pub(super) fn with_patience(self, patience: Patience) -> Client {
        let Patience { answer, first_delay, last_delay } = patience;
        let retry = Backoff::new(first_delay, last_delay).unwrap_or(RETRY);
        let budget = Arc::new(Budget::without_limits());
        let (answer_within, throttled, throttled_for) = (answer, retry, answer);
        Client { answer_within, retry, throttled, throttled_for, budget, ..self }
    }

    /// The same, with a budget that it shares with others of its region and account.
    #[must_use]
    pub(super) fn within(self, budget: Arc<Budget>) -> Client {
        Client { budget, ..self }
    }

    /// The same account at another of AWS's services. What stands in for EC2 stands in for that too.
    pub(super) fn at(&self, service: &str, region: &str, address: &str) -> Option<Client> {
        let url = match self.stands_in {
            true => self.url.clone(),
            false => reqwest::Url::parse(address).ok()?,
        };
        let signer = credentials::signer(&self.http, service, region, &self.credentials);
        let (service, region) = (service.to_owned(), region.to_owned());
        let signer = Arc::new(Mutex::new(signer));
        Some(Client { url, service, region, signer, ..self.clone() })
    }

    /// Makes a call of a service that speaks JSON; once. `target` is its version and action.
    pub(super) async fn call_json<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &serde_json::Value,
    ) -> Result<T, CallError> {
        let action = target.rsplit('.').next().unwrap_or(target);
        let head = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let mut request = self.signed(action, &head, &body.to_string()).await?;
        *request.timeout_mut() = Some(self.answer_within);
        let unanswered = |why: reqwest::Error| CallError::no_answer(action, &reason(&why));
        let answer = self.http.execute(request).await.map_err(unanswered)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unanswered)?;
        match status.is_success() {
            true => serde_json::from_str(&text).map_err(|why| CallError::unreadable(action, why)),
            false => Err(CallError::from_json(action, status.as_u16(), &text)),
        }
    }

    /// Makes a call, and again while that is worth it.
    pub(super) async fn call<T: DeserializeOwned>(&self, query: &Query) -> Result<T, CallError> {
        let body = query.encode();
        let action = query.get("Action").unwrap_or_default();
        let mut has_renewed = false;
        let mut tries = 0;
        let (mut n_throttled, began) = (0, clock::monotonic());
        loop {
            let error = match self.call_once(action, &body).await {
                Ok(text) => match read(action, &text) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if error.is_about_keys() && !has_renewed {
                has_renewed = true;
                self.renew_credentials();
                continue;
            }
            match error.class {
                ErrorClass::Throttled
                    if clock::monotonic().saturating_sub(began) < self.throttled_for =>
                {
                    let delay = self.throttled.full_jitter(n_throttled, random::number());
                    n_throttled += 1;
                    debug!(delay_ms = delay.as_millis(), "{error}; slowing down");
                    self.budget.slow_down(action, delay);
                    tokio::time::sleep(delay).await;
                }
                ErrorClass::Transient if tries + 1 < TRIES_MAX => {
                    let delay = self.retry.delay(tries, random::number());
                    tries += 1;
                    debug!(delay_ms = delay.as_millis(), "{error}; trying again");
                    tokio::time::sleep(delay).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn call_once(&self, action: &str, body: &str) -> Result<String, CallError> {
        let _turn = self.budget.turn(action).await;
        let mut request = self.signed(action, &FORM, body).await?;
        *request.timeout_mut() = Some(self.answer_within);
        let unanswered = |why: reqwest::Error| CallError::no_answer(action, &reason(&why));
        let answer = self.http.execute(request).await.map_err(unanswered)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unanswered)?;
        match status.is_success() {
            true => Ok(text),
            false => Err(CallError::from_answer(action, status.as_u16(), &text)),
        }
    }

    /// How far this machine's clock is ahead of the server's; nothing where that does not say.
    pub(super) async fn clock_ahead_secs(&self) -> Result<Option<i64>, CallError> {
        let answer = self.http.get(self.url.clone()).send().await;
        let answer =
            answer.map_err(|why| CallError::no_answer("a first request", &reason(&why)))?;
        let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
        let there = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let there = there.and_then(|there| there.duration_since(std::time::UNIX_EPOCH).ok());
        let here = i64::try_from(clock::now().0 / 1000).unwrap_or(i64::MAX);
        Ok(there.and_then(|there| i64::try_from(there.as_secs()).ok()).map(|there| here - there))
    }

    async fn signed(
        &self,
        action: &str,
        head: &[(&'static str, &str)],
        body: &str,
    ) -> Result<reqwest::Request, CallError> {
        let broken = |why: String| CallError {
            class: ErrorClass::Denied,
            code: String::new(),
            sentence: format!("cannot sign {action} for EC2: {why}"),
        };
        let mut request = http::Request::post(self.url.as_str())
            .header("x-amz-content-sha256", sha256_hex(body.as_bytes()));
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).map_err(|why| broken(why.to_string()))?;
        let (mut head, body) = request.into_parts();
        let signer = self.signer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        signer.sign(&mut head, None).await.map_err(|why| broken(why.to_string()))?;
        let request = http::Request::from_parts(head, body);
        reqwest::Request::try_from(request).map_err(|why| broken(why.to_string()))
    }

    fn renew_credentials(&self) {
        let fresh = credentials::signer(&self.http, &self.service, &self.region, &self.credentials);
        *self.signer.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

/// An answer, by its own name: what a proxy says instead of EC2 has none of what is looked for in it, and
/// would pass for a list of nothing.
fn read<T: DeserializeOwned>(action: &str, text: &str) -> Result<T, CallError> {
    let root = text.find(&format!("<{action}Response"));
    if root.is_none() {
        return Err(CallError::unreadable(action, "it is somebody else's"));
    }
    quick_xml::de::from_str(text).map_err(|why| CallError::unreadable(action, why))
}

/// EC2's own address of a region.
fn address_of(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://ec2.{region}.{domain}/")
}

/// The innermost cause: reqwest's own sentence names the address and little else.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::ec2::answers::InstancesPage;

    #[test]
    fn what_a_proxy_says_is_no_list_of_nothing() {
        let empty = "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
            <reservationSet/></DescribeInstancesResponse>";
        assert!(read::<InstancesPage>("DescribeInstances", empty).is_ok());
        for other in ["<html><body>Please log in.</body></html>", "", "<DescribeImagesResponse/>"] {
            let told = read::<InstancesPage>("DescribeInstances", other).expect_err("it is none");
            assert_eq!(told.class, ErrorClass::Transient, "{told}");
        }
    }
}
