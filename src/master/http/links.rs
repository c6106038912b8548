//! Addresses within the master: every page's path is made here.

use std::fmt::Write;

use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;

/// A project's page.
pub fn project(project: &ProjectName) -> String {
    format!("/projects/{}", encode(project.as_str()))
}

/// A build's page.
pub fn build(project_name: &ProjectName, number: BuildNumber) -> String {
    format!("{}/builds/{number}", project(project_name))
}

/// A build's page, with the log of one step.
pub fn step(project: &ProjectName, number: BuildNumber, job: &str, step: u32) -> String {
    format!("{}?job={}&step={step}", build(project, number), encode(job))
}

/// A worker's page.
pub fn worker(name: &str) -> String {
    format!("/workers/{}", encode(name))
}

/// Percent-encodes all that is not unreserved, so that a name may stand in a path or a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    encoded
}

/// Where a form may send people back to: a path of this master, nothing that a browser could
/// read as another host.
pub fn local_path(path: &str) -> &str {
    let leads_away =
        path.starts_with("//") || path.contains('\\') || path.contains(char::is_control);
    if path.starts_with('/') && !leads_away { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_an_address() {
        let name = ProjectName::from("a/../b?c#d");
        assert_eq!(build(&name, BuildNumber(3)), "/projects/a%2F..%2Fb%3Fc%23d/builds/3");
        assert_eq!(encode("test[x64,sqlite]"), "test%5Bx64%2Csqlite%5D");
    }

    #[test]
    fn nobody_is_sent_to_another_host_after_a_login() {
        for path in
            ["//evil.example.com", "/\\evil.example.com", "https://evil.example.com", "", "/\t/x"]
        {
            assert_eq!(local_path(path), "/", "{path}");
        }
        assert_eq!(local_path("/projects/hello?branch=main"), "/projects/hello?branch=main");
    }
}
