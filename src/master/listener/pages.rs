//! Pages and API on a connection that is open: HTTP/1.1 or HTTP/2, with an end to both.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::master::caller::Peer;
use crate::master::caller::Scheme;

/// Connections of people and scripts, at most: each takes a descriptor and some KiB, and event
/// streams keep theirs for hours. Agents are not counted here.
const CONNECTIONS_MAX: usize = 4096;

/// How long a request's head may take, also the first of a connection and the next of a kept one.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);

/// How often to ask a quiet HTTP/2 peer whether it is there, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_DEADLINE: Duration = Duration::from_secs(20);

/// Requests at once on one HTTP/2 connection, and their headers' size, at most.
const STREAMS_MAX: u32 = 128;
const HEADER_BYTES_MAX: u32 = 32 * 1024;

/// Serves the router on connections.
pub(crate) struct Pages {
    router: Router,
    builder: auto::Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    /// Taken when the master stops: who comes then is turned away.
    graceful: Mutex<Option<GracefulShutdown>>,
}

impl Pages {
    pub(crate) fn new(router: Router) -> Pages {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_DEADLINE)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_BYTES_MAX);
        Pages {
            router,
            builder,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            graceful: Mutex::new(Some(GracefulShutdown::new())),
        }
    }

    /// Answers the requests of a connection until it ends.
    pub(crate) async fn serve<S>(&self, stream: S, h2: bool, peer: Peer, scheme: Scheme)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(_place) = self.places.try_acquire() else {
            tracing::warn!("turned a connection away: {CONNECTIONS_MAX} are open");
            return;
        };
        let watcher = {
            let graceful = self.graceful.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(graceful) = graceful.as_ref() else { return };
            graceful.watcher()
        };
        let router = self.router.clone();
        let service = tower::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(scheme);
            let router = router.clone();
            async move { router.oneshot(request).await as Result<Response, _> }
        });
        let builder = self.builder.clone();
        let builder = if h2 { builder.http2_only() } else { builder.http1_only() };
        let connection =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        if let Err(error) = watcher.watch(connection.into_owned()).await {
            tracing::debug!("a connection for pages ended: {error}");
        }
    }

    /// Takes no further request, and waits until those under way have ended or time is up.
    pub(crate) async fn drain(&self, deadline: Duration) {
        let graceful = self.graceful.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(graceful) = graceful {
            let _time_is_up = tokio::time::timeout(deadline, graceful.shutdown()).await;
        }
    }
}
