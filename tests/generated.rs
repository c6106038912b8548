//! `src/wire/generated.rs` is what `proto/agent.proto` says: checked in, so that no build needs a
//! generator. After a change of the contract run `UPDATE=1 cargo test --test generated`.

use std::path::Path;

/// What stands above the generator's output: the house's opening line, and no lints on code that
/// nobody writes.
const HEADER: &str = "\
//! The types of `proto/agent.proto`, written by prost: do not edit. Only `convert` uses them.
//! Made anew by `UPDATE=1 cargo test --test generated`.
#![allow(clippy::all, clippy::pedantic, unreachable_pub, missing_docs, rustdoc::all)]

";

#[test]
fn the_generated_types_are_those_of_the_contract() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contract = protox::compile([root.join("proto/agent.proto")], [root.join("proto")])
        .expect("proto/agent.proto compiles");
    let folder = tempfile::tempdir().unwrap();
    prost_build::Config::new().out_dir(folder.path()).compile_fds(contract).unwrap();
    let output = std::fs::read_to_string(folder.path().join("busybee.v1.rs")).unwrap();
    let wanted = format!("{HEADER}{output}");

    let file = root.join("src/wire/generated.rs");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == wanted,
        "src/wire/generated.rs is not what proto/agent.proto says: run UPDATE=1 cargo test --test generated"
    );
}
