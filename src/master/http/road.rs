//! The road's own URLs: what an instance fetches before it has an agent. No token, so no secret
//! lies there; who needs certainty has the content's SHA-256.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::master::http::Web;
use crate::master::http::assets::IMMUTABLE;
use crate::master::http::error::Problem;

/// `GET /runurl`, `/bootstrap/NAME`, `/agent/HASH`; the first two also with `?sha256=HASH`
pub async fn file(State(web): State<Arc<Web>>, uri: Uri) -> Result<Response, Problem> {
    let path = uri.path();
    let sha256 = uri.query().and_then(|query| query.strip_prefix("sha256="));
    let Some(file) = (web.road)(path, sha256) else {
        return Err(Problem::not_found(format!("nothing lies at {path}")));
    };
    let cache = if file.immutable { IMMUTABLE } else { "no-cache" };
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, cache)];
    Ok((headers, file.content).into_response())
}

/// `GET /schema/pipeline.v1.json`
pub async fn pipeline_schema(State(web): State<Arc<Web>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/schema+json")];
    (headers, web.config.pipeline_schema.clone()).into_response()
}

/// `GET /healthz`
pub async fn healthz() -> &'static str {
    "ok\n"
}
