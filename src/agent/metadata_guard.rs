//! Refuses the steps' user the cloud's metadata service, at each start of the agent: a reboot forgets.

use std::process::Command;
use std::process::Stdio;

use crate::agent::domain::metadata;
use crate::agent::domain::metadata::ADDRESSES;

/// Does it by the first way that this machine knows.
///
/// # Errors
/// A sentence with what each way said, if none works.
pub(crate) fn raise(uid: u32) -> Result<(), String> {
    let ways: [fn(u32) -> Result<(), String>; 3] = [by_rule, by_iptables, by_nft];
    let mut whys = Vec::new();
    for way in ways {
        match way(uid) {
            Ok(()) => return Ok(()),
            Err(why) => whys.push(why),
        }
    }
    Err(whys.join("; "))
}

fn by_rule(uid: u32) -> Result<(), String> {
    for (family, address) in reachable() {
        let list = run(&metadata::ip_list(family))?;
        if !metadata::ip_has(&list, address, uid) {
            run(&metadata::ip_add(family, address, uid))?;
            // A kernel without ranges of users, or an `ip` without them, may drop that half silently.
            let list = run(&metadata::ip_list(family))?;
            if !metadata::ip_has(&list, address, uid) {
                return Err("ip: the rule was taken and is not there".to_owned());
            }
        }
    }
    Ok(())
}

fn by_iptables(uid: u32) -> Result<(), String> {
    for (family, address) in reachable() {
        if run(&metadata::iptables(family, "-C", address, uid)).is_err() {
            run(&metadata::iptables(family, "-I", address, uid))?;
        }
    }
    Ok(())
}

fn by_nft(uid: u32) -> Result<(), String> {
    run(&metadata::nft(uid)).map(|_| ())
}

/// The addresses of the families that this kernel speaks.
fn reachable() -> impl Iterator<Item = (&'static str, &'static str)> {
    let speaks_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    ADDRESSES.into_iter().filter(move |(family, _)| *family == "-4" || speaks_v6)
}

/// Runs a command; what it printed.
fn run(words: &[String]) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("nothing to run".into());
    };
    let mut command = Command::new(program);
    // An agent that was not started by systemd may lack the places where these programs are.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin")).args(arguments);
    let output =
        command.stdin(Stdio::null()).output().map_err(|why| format!("{program}: {why}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.lines().next().unwrap_or("it failed and does not say why")))
}
