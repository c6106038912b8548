//! The stylesheet, the script and the bee: part of the program, under addresses that name their
//! content, so that browsers keep them for good and never hold an old one.

use axum::extract::Path;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::master::http::error::Problem;

const STYLE: &str = include_str!("static/style.css");
const SCRIPT: &str = include_str!("static/live.js");
const ICON: &str = include_str!("static/bee.svg");

/// What a browser is told of content that cannot change under its address.
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Where each of them lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assets {
    /// The stylesheet.
    pub style: String,
    /// The script.
    pub script: String,
    /// The bee.
    pub icon: String,
}

impl Assets {
    /// Their addresses in this build of the program.
    pub fn addresses() -> Assets {
        Assets {
            style: format!("/static/{}/style.css", short_hash(STYLE)),
            script: format!("/static/{}/live.js", short_hash(SCRIPT)),
            icon: format!("/static/{}/bee.svg", short_hash(ICON)),
        }
    }
}

/// `GET /static/HASH/NAME`
pub async fn serve(Path((hash, name)): Path<(String, String)>) -> Result<Response, Problem> {
    let (content, kind) = match name.as_str() {
        "style.css" => (STYLE, "text/css; charset=utf-8"),
        "live.js" => (SCRIPT, "text/javascript; charset=utf-8"),
        "bee.svg" => (ICON, "image/svg+xml"),
        _ => return Err(Problem::not_found("there is no such file")),
    };
    if hash != short_hash(content) {
        // A page of another build of the program asks; it must not keep what it gets.
        return Err(Problem::not_found(
            "this file belongs to another version: load the page again",
        ));
    }
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, IMMUTABLE)], content)
        .into_response())
}

/// `GET /favicon.ico`: browsers ask for it beside pages too.
pub async fn favicon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=86400")], ICON)
        .into_response()
}

fn short_hash(content: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content.as_bytes());
    digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
