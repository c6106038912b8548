//! Serves the house's repositories over HTTP, as plain files and by git's own protocol.

use std::path::Path;

#[expect(dead_code, reason = "the tests of changes use more of it")]
#[path = "../changes/http_server.rs"]
mod http_server;

/// A server in a thread of its own. Ends when dropped.
pub(crate) struct GitServer {
    port: u16,
    _server: http_server::HttpServer,
    _runtime: tokio::runtime::Runtime,
}

impl GitServer {
    pub(crate) fn start(folder: &Path) -> GitServer {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let kind = http_server::Kind::Smart;
        let server =
            runtime.block_on(http_server::HttpServer::start(folder.to_owned(), kind, None));
        GitServer { port: server.address().port(), _server: server, _runtime: runtime }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}
