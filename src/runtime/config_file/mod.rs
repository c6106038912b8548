//! How a file that people write becomes typed values, and what they are told where it does not.
//!
//! A reader (`toml_reader` here, YAML in `master/pipeline_file`) makes a tree of `node`s that
//! know their places; `decode` fills serde types from it and goes on after a mistake, so that
//! several show at once; `problem` prints them. What a key means is the business of who calls.

pub mod decode;
pub mod duration;
pub mod globs;
pub mod node;
pub mod one_or_more;
pub mod placed;
pub mod problem;
pub mod schema;
pub mod suggest;
pub mod toml_reader;
pub mod words;
