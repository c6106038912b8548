//! A gate before the API: calls pass through it, and at a chosen one it can stop, before the call or
//! before its answer, so that the master can be killed just there.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::Response;

/// Where the gate stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The call has come, and is not passed on.
    Before(&'static str),
    /// The call was carried out, and its answer is not passed on.
    After(&'static str),
}

#[derive(Default)]
struct Shared {
    cut: Mutex<(Option<Cut>, bool)>,
    reached: Condvar,
}

/// A gate that is open until it is told otherwise.
pub(crate) struct Gate {
    address: String,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

struct Passing {
    shared: Arc<Shared>,
    endpoint: String,
    http: reqwest::Client,
}

impl Gate {
    pub(crate) fn before(endpoint: &str) -> Gate {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(Shared::default());
        let _already = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).build().expect("a client");
        let endpoint = endpoint.to_owned();
        let passing = Arc::new(Passing { shared: Arc::clone(&shared), endpoint, http });
        let address = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("it is bound");
            let router = Router::new().fallback(pass).with_state(passing);
            tokio::spawn(async move { axum::serve(listener, router).await });
            format!("http://{address}")
        });
        Gate { address, shared, _runtime: runtime }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Stops at the next such call. What is stopped gets no answer.
    pub(crate) fn stop_at(&self, cut: Cut) {
        *self.shared.cut.lock().expect("nobody panicked") = (Some(cut), false);
    }

    /// Waits until a call was stopped, and lets all later ones pass.
    pub(crate) fn wait_for_it(&self) {
        let held = self.shared.cut.lock().expect("nobody panicked");
        let patience = std::time::Duration::from_secs(60);
        let (mut cut, late) = self
            .shared
            .reached
            .wait_timeout_while(held, patience, |(_, reached)| !*reached)
            .expect("nobody panicked");
        assert!(!late.timed_out(), "{:?} was not reached", cut.0);
        *cut = (None, false);
    }
}

impl Shared {
    fn stops(&self, here: Cut) -> bool {
        let mut cut = self.cut.lock().expect("nobody panicked");
        if cut.0 != Some(here) {
            return false;
        }
        cut.1 = true;
        self.reached.notify_all();
        true
    }
}

async fn pass(State(passing): State<Arc<Passing>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = String::from_utf8_lossy(&body);
    let action = text.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default();
    let action = match action {
        "DescribeImages" => "DescribeImages",
        "RunInstances" => "RunInstances",
        "TerminateInstances" => "TerminateInstances",
        "StopInstances" => "StopInstances",
        "StartInstances" => "StartInstances",
        _ => "",
    };
    if passing.shared.stops(Cut::Before(action)) {
        return std::future::pending().await;
    }
    let mut request = passing.http.post(&passing.endpoint).body(body.clone());
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        request = request.header(name, value);
    }
    let answer = request.send().await;
    if passing.shared.stops(Cut::After(action)) {
        return std::future::pending().await;
    }
    match answer {
        Ok(answer) => {
            let (status, bytes) = (answer.status(), answer.bytes().await.unwrap_or_default());
            Response::builder().status(status).body(Body::from(bytes)).expect("a response")
        }
        Err(why) => Response::builder()
            .status(StatusCode::BAD_GATEWAY)
            .body(Body::from(why.to_string()))
            .expect("a response"),
    }
}
