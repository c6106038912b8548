//! The road from a bare machine to a running agent: `bootstrap/`'s scripts under every shell and
//! with every tool that an image may have, against a TLS server of the test's own. Loopback only.
#![cfg(feature = "master")]

mod authority;
mod cloud;
mod debian_sh;
mod house;
mod lint;
mod machine;
mod runurl;
mod runurl_signals;
mod server;
mod user_data;
