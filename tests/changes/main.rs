//! Changes from real git: over file, http and ssh; pushed in every way that people push.

mod house;
mod http_server;
mod origin;
mod over_http;
mod over_ssh;
mod polling;
mod resolving;
