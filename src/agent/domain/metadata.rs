//! How one user is refused the cloud's metadata service: which commands, in which order of preference.
//! Who reaches it there is the instance, with all of the instance's rights.

/// The service's addresses on EC2, each with the family for `ip`.
pub const ADDRESSES: [(&str, &str); 2] = [("-4", "169.254.169.254"), ("-6", "fd00:ec2::254")];

/// Before every rule but the kernel's own: images come with rules that depend on the sender's address
/// (amazon-ec2-net-utils), which a step may choose.
const PREFERENCE: &str = "1";

/// Lists the routing rules.
pub fn ip_list(family: &str) -> Vec<String> {
    words(&["ip", family, "rule", "show"])
}

/// Whether the list of rules already has it.
pub fn ip_has(list: &str, address: &str, uid: u32) -> bool {
    let rule = format!("to {address} uidrange {uid}-{uid} prohibit");
    list.lines().any(|line| line.trim_end().ends_with(&rule))
}

/// Adds the routing rule: no packet filter needed, and it works under whatever firewall.
pub fn ip_add(family: &str, address: &str, uid: u32) -> Vec<String> {
    let range = format!("{uid}-{uid}");
    let mut command = words(&["ip", family, "rule", "add", "pref", PREFERENCE, "uidrange"]);
    command.extend(words(&[&range, "to", address, "prohibit"]));
    command
}

/// Asks for the rule of iptables (`-C`), or inserts it (`-I`).
pub fn iptables(family: &str, action: &str, address: &str, uid: u32) -> Vec<String> {
    let program = if family == "-6" { "ip6tables" } else { "iptables" };
    let mut command = words(&[program, "-w", action, "OUTPUT", "-d", address]);
    command.extend(words(&["-m", "owner", "--uid-owner", &uid.to_string(), "-j", "REJECT"]));
    command
}

/// Sets a table of our own in one transaction, over the one of an earlier start.
pub fn nft(uid: u32) -> Vec<String> {
    let [(_, v4), (_, v6)] = ADDRESSES;
    let ruleset = format!(
        "table inet busybee; delete table inet busybee; table inet busybee {{ chain output {{ \
         type filter hook output priority 0; \
         meta skuid {uid} ip daddr {v4} reject; meta skuid {uid} ip6 daddr {v6} reject; }}; }}"
    );
    words(&["nft", &ruleset])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_is_there_is_recognized_and_a_similar_one_is_not() {
        let list = "0:\tfrom all lookup local\n\
            1:\tfrom all to 169.254.169.254 uidrange 997-997 prohibit \n\
            32766:\tfrom all lookup main\n";
        assert!(ip_has(list, "169.254.169.254", 997));
        assert!(!ip_has(list, "169.254.169.254", 99));
        assert!(!ip_has(list, "fd00:ec2::254", 997));
        assert!(!ip_has("", "169.254.169.254", 997));
    }
}
