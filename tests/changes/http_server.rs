//! A git server over http, in the two ways there are: `git http-backend`, and plain files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::Response;
use tokio::io::AsyncWriteExt;

/// How a server serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `git http-backend`.
    Smart,
    /// Files, as any web server does.
    Dumb,
    /// Says where the repository is now.
    Elsewhere(SocketAddr),
}

struct Served {
    folder: PathBuf,
    kind: Kind,
    /// The only `Authorization` that is let in.
    authorization: Option<String>,
    seen: Mutex<Vec<Option<String>>>,
}

/// A running server.
pub(crate) struct HttpServer {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
    served: Arc<Served>,
}

impl HttpServer {
    /// Serves the repositories of a folder on a free port.
    pub(crate) async fn start(
        folder: PathBuf,
        kind: Kind,
        authorization: Option<&str>,
    ) -> HttpServer {
        let authorization = authorization.map(str::to_owned);
        let served = Arc::new(Served { folder, kind, authorization, seen: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new().fallback(serve).with_state(Arc::clone(&served));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves until it is dropped");
        });
        HttpServer { address, task, served }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a repository.
    pub(crate) fn url(&self, repository: &str) -> String {
        format!("http://{}/{repository}", self.address)
    }

    /// The `Authorization` of each request so far.
    pub(crate) fn seen(&self) -> Vec<Option<String>> {
        self.served.seen.lock().expect("no test panics here").clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    Response::builder().status(status).body(Body::from(text.to_owned())).expect("it is well-formed")
}

async fn serve(State(served): State<Arc<Served>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let authorization = header("authorization");
    served.seen.lock().expect("no test panics here").push(authorization.clone());
    if let Kind::Elsewhere(address) = served.kind {
        return Response::builder()
            .status(StatusCode::FOUND)
            .header("location", format!("http://localhost:{}{}", address.port(), head.uri))
            .body(Body::empty())
            .expect("it is well-formed");
    }
    if served.authorization.is_some() && authorization != served.authorization {
        return Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header("www-authenticate", "Basic realm=\"git\"")
            .body(Body::empty())
            .expect("it is well-formed");
    }
    let body = axum::body::to_bytes(body, 64 * 1024 * 1024).await.expect("requests are small");
    let path = head.uri.path().to_owned();
    if served.kind == Kind::Dumb {
        return match std::fs::read(served.folder.join(path.trim_start_matches('/'))) {
            Ok(bytes) => Response::new(Body::from(bytes)),
            Err(_) => plain(StatusCode::NOT_FOUND, "not found"),
        };
    }
    let variables = [
        ("GIT_PROJECT_ROOT", served.folder.display().to_string()),
        ("GIT_HTTP_EXPORT_ALL", "1".to_owned()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
        ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
        ("GIT_PROTOCOL", header("git-protocol").unwrap_or_default()),
        ("PATH_INFO", path),
        ("QUERY_STRING", head.uri.query().unwrap_or_default().to_owned()),
        ("REQUEST_METHOD", head.method.to_string()),
        ("CONTENT_TYPE", header("content-type").unwrap_or_default()),
        ("CONTENT_LENGTH", body.len().to_string()),
        ("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default()),
    ];
    backend(variables, body).await
}

/// Runs `git http-backend`, a CGI program, for one request.
async fn backend(variables: [(&str, String); 11], body: Bytes) -> Response {
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("git runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let feed = async move {
        // A backend that has heard enough closes its end.
        let _closed = stdin.write_all(&body).await;
    };
    let (_fed, output) = tokio::join!(feed, child.wait_with_output());
    let output = output.expect("it ends").stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let Some(end) = end else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the backend said nothing");
    };
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        if let Some((name, value)) = line.split_once(": ") {
            response = match name {
                "Status" => response.status(value[..3].parse::<u16>().expect("a status")),
                name => response.header(name, value),
            };
        }
    }
    response.body(Body::from(output[end + 4..].to_vec())).expect("it is well-formed")
}
