//! The control interface of the rig's fault layer: what goes wrong, and what is really there whatever
//! lists say.

use serde_json::Value;
use serde_json::json;

use crate::ec2::Api;

/// The control of one API.
pub(crate) struct Control {
    at: String,
    http: reqwest::Client,
}

/// An instance as it really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RealInstance {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) lifecycle: String,
    pub(crate) reason: String,
    /// The tags that tell whose it is: launch and worker.
    pub(crate) launch: String,
    pub(crate) worker: String,
}

impl RealInstance {
    /// Whether somebody pays for it, or soon will again.
    pub(crate) fn is_alive(&self) -> bool {
        self.state != "terminated"
    }
}

/// All that is there.
#[derive(Debug)]
pub(crate) struct Really {
    pub(crate) instances: Vec<RealInstance>,
    pub(crate) open_spot_requests: usize,
}

impl Control {
    pub(crate) fn of(api: &Api) -> Control {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).build().expect("a client");
        Control { at: api.fact("control").to_owned(), http }
    }

    async fn ask(&self, method: reqwest::Method, path: &str, said: Option<&Value>) -> Value {
        let mut request = self.http.request(method, format!("{}/{path}", self.at));
        if let Some(said) = said {
            request = request.json(said);
        }
        let answer = request.send().await.expect("the rig answers");
        let status = answer.status();
        let told: Value = answer.json().await.expect("it answers with JSON");
        assert!(status.is_success(), "{path}: {told}");
        told
    }

    /// From now on these rules, and only these.
    pub(crate) async fn set(&self, rules: &Value) {
        let said = json!({ "rules": rules });
        self.ask(reqwest::Method::PUT, "faults", Some(&said)).await;
    }

    /// Nothing goes wrong any more.
    pub(crate) async fn clear(&self) {
        self.ask(reqwest::Method::DELETE, "faults", None).await;
    }

    /// As if nothing had ever been launched.
    pub(crate) async fn forget_everything(&self) {
        self.clear().await;
        self.ask(reqwest::Method::DELETE, "instances", None).await;
    }

    /// How often each rule has acted.
    pub(crate) async fn acted(&self) -> u64 {
        let told = self.ask(reqwest::Method::GET, "faults", None).await;
        let rules = told["rules"].as_array().expect("a list").iter();
        rules.map(|rule| rule["acted"].as_u64().unwrap_or(0)).sum()
    }

    /// Every call so far, for people.
    pub(crate) async fn calls(&self) -> String {
        let told = self.ask(reqwest::Method::GET, "calls", None).await;
        let calls = told["calls"].as_array().expect("a list").iter();
        calls.map(|call| format!("{call}\n")).collect()
    }

    /// Something happens to an instance.
    pub(crate) async fn happens_to(&self, id: &str, what: &Value) {
        self.ask(reqwest::Method::POST, &format!("instances/{id}"), Some(what)).await;
    }

    pub(crate) async fn really(&self) -> Really {
        let told = self.ask(reqwest::Method::GET, "instances", None).await;
        let instances = told["instances"].as_array().expect("a list").iter();
        let requests = told["spot_requests"].as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Really {
            instances: instances
                .map(|one| RealInstance {
                    id: text(&one["id"]),
                    state: text(&one["state"]),
                    lifecycle: text(&one["lifecycle"]),
                    reason: text(&one["reason"]),
                    launch: text(&one["tags"]["busybee:launch"]),
                    worker: text(&one["tags"]["Name"]),
                })
                .collect(),
            open_spot_requests: requests.filter(|one| one["state"] == "open").count(),
        }
    }
}
