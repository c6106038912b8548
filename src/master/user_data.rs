//! What a new machine is told: fills in the templates of `bootstrap/`.
//!
//! Pure text: the same values give the same bytes, so a launch that is tried again sends the same
//! user-data. The road itself is described in `bootstrap/README.md`.

pub mod parts;

/// The program that fetches, checks and runs; served as `/runurl`.
pub const RUNURL: &str = include_str!("../../bootstrap/runurl");

/// The scripts that come with Busybee, by the name under which a pool's `bootstrap` asks for them.
/// `agent.sh` is not among them: it is served as [`render_agent_sh`] makes it.
pub const BOOTSTRAP_SCRIPTS: &[(&str, &str)] = &[
    ("debian.sh", include_str!("../../bootstrap/debian.sh")),
    ("fedora.sh", include_str!("../../bootstrap/fedora.sh")),
];

/// Aim for the whole user-data. EC2 takes 16 KiB; this leaves room and keeps it readable.
pub const MAX_BYTES: usize = 4096;

const TEMPLATE: &str = include_str!("../../bootstrap/user-data.sh");
const AGENT_SH: &str = include_str!("../../bootstrap/agent.sh");

/// The line of `agent.sh` that the master fills in.
const AGENTS_LINE: &str = "BB_AGENTS=\"\"";
/// Between these two lines of the template stands what touches a whole machine.
const MACHINE_BEGIN: &str = "#@machine begin";
const MACHINE_END: &str = "#@machine end";
/// What people see in place of the password.
const MASKED: &str = "‹secret›";

/// Which machine the user-data is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// An instance that the master starts in a cloud: it is ours, as root.
    Cloud,
    /// A child process of the master, in a scratch directory given by `BB_HOME`.
    Local,
}

/// The values of one launch.
#[derive(Clone, Debug)]
pub struct UserData {
    /// `host:port` of the agent channel.
    pub master: String,
    /// Where the road's own files are served, `https://host:port`, without a slash at the end.
    pub master_url: String,
    /// The worker's name.
    pub name: String,
    /// The certificate to trust for the master; `None`: the system's roots.
    pub ca_pem: Option<String>,
    /// SHA-256 of [`RUNURL`], in lower-case hex.
    pub runurl_sha256: String,
    /// SHA-256 of what [`render_agent_sh`] made for this launch, in lower-case hex.
    pub agent_sh_sha256: String,
    /// Cloud only: seconds after boot at which a machine that nobody keeps alive powers off
    /// (boot time-out and five minutes).
    pub boot_limit_secs: u64,
    /// Cloud only: seconds after boot at which the machine powers off whatever happens.
    pub life_limit_secs: u64,
    /// Whether steps may reach the cloud's metadata service.
    pub step_metadata: bool,
}

/// The whole user-data, with `password` where the password goes.
pub fn render(user_data: &UserData, road: Road, password: &str) -> String {
    fill(user_data, road, password)
}

/// The same for people to read: the password is masked.
pub fn render_masked(user_data: &UserData, road: Road) -> String {
    fill(user_data, road, MASKED)
}

/// `agent.sh` with the agents that the master has, as (architecture, SHA-256 in hex).
///
/// Architectures are named as `uname -m` does: `x86_64`, `aarch64`. An entry that could not be one
/// (a stray file in `agent_dir`) is left out, so that nothing else than names gets into the script.
pub fn render_agent_sh(agents: &[(String, String)]) -> String {
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let pairs: Vec<String> = agents
        .iter()
        .filter(|(arch, sha256)| plain(arch) && plain(sha256))
        .map(|(arch, sha256)| format!("{arch}:{sha256}"))
        .collect();
    AGENT_SH.replacen(AGENTS_LINE, &format!("BB_AGENTS=\"{}\"", pairs.join(" ")), 1)
}

/// Fills the template line by line, so that a value that looks like a placeholder or a comment
/// stays a value.
fn fill(user_data: &UserData, road: Road, password: &str) -> String {
    let mut text = String::new();
    let mut in_machine = false;
    for (index, line) in TEMPLATE.lines().enumerate() {
        let starts = line == MACHINE_BEGIN;
        let ends = line == MACHINE_END;
        in_machine |= starts;
        let of_this_road = road == Road::Cloud || !in_machine;
        let marker = starts || ends;
        in_machine &= !ends;
        let comment = line.trim_start().starts_with('#') && index != 0 && !marker;
        if !of_this_road || comment || line.is_empty() {
            continue;
        }
        match placeholder(line) {
            Some((variable, name)) => {
                let value = value_of(user_data, name, password);
                text.push_str(&format!("{variable}={}\n", quote(&value)));
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// `variable=@NAME@` → (variable, NAME).
fn placeholder(line: &str) -> Option<(&str, &str)> {
    let (variable, value) = line.split_once('=')?;
    let name = value.strip_prefix('@')?.strip_suffix('@')?;
    Some((variable, name))
}

fn value_of(user_data: &UserData, name: &str, password: &str) -> String {
    match name {
        "BB_MASTER" => user_data.master.clone(),
        "BB_MASTER_URL" => user_data.master_url.clone(),
        "BB_NAME" => user_data.name.clone(),
        "BB_PASSWORD" => password.to_owned(),
        "BB_CA_PEM" => user_data.ca_pem.as_deref().unwrap_or_default().trim_end().to_owned(),
        "RUNURL_SHA256" => user_data.runurl_sha256.clone(),
        "AGENT_SH_SHA256" => user_data.agent_sh_sha256.clone(),
        "BB_BOOT_LIMIT" => user_data.boot_limit_secs.to_string(),
        "BB_LIFE_LIMIT" => user_data.life_limit_secs.to_string(),
        "BB_STEP_METADATA" => if user_data.step_metadata { "yes" } else { "" }.to_owned(),
        // The template is part of this program, and a test fills every line of it.
        other => unreachable!("user-data.sh has an unknown placeholder {other}"),
    }
}

/// One word of a POSIX shell, whatever is in it. A NUL cannot be in one and is left out.
fn quote(value: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"_-.:/@%+,".contains(&b);
    if !value.is_empty() && value.bytes().all(safe) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\0', "").replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As large as a private CA with name constraints for a name and two addresses gets.
    fn a_ca() -> String {
        let body = format!("{}\n", "M".repeat(64)).repeat(13);
        format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
    }

    const PASSWORD: &str = "5e5e5e5e5e5e5e5e";

    fn an_example() -> UserData {
        UserData {
            master: "ci.build.internal.example.com:8443".to_owned(),
            master_url: "https://ci.build.internal.example.com:8443".to_owned(),
            name: "linux-large-0123456789abcdef".to_owned(),
            ca_pem: Some(a_ca()),
            runurl_sha256: "a1".repeat(32),
            agent_sh_sha256: "b2".repeat(32),
            boot_limit_secs: 1500,
            life_limit_secs: 86_400,
            step_metadata: false,
        }
    }

    fn lines(text: &str) -> Vec<&str> {
        text.lines().collect()
    }

    #[test]
    fn user_data_stays_under_four_kib_with_a_ca_in_it() {
        for road in [Road::Cloud, Road::Local] {
            let text = render(&an_example(), road, PASSWORD);
            assert!(text.len() < MAX_BYTES, "{road:?}: {} bytes\n{text}", text.len());
        }
    }

    #[test]
    fn local_user_data_is_the_cloud_one_without_its_whole_machine_part() {
        let cloud = render(&an_example(), Road::Cloud, PASSWORD);
        let local = render(&an_example(), Road::Local, PASSWORD);
        let cloud = lines(&cloud);
        let begin = cloud.iter().position(|line| *line == MACHINE_BEGIN).expect("a beginning");
        let end = cloud.iter().position(|line| *line == MACHINE_END).expect("an end");
        let mut rest = cloud.clone();
        let machine: Vec<&str> = rest.drain(begin..=end).collect();
        assert_eq!(rest, lines(&local));
        assert!(machine.len() > 10, "the part is where the machine is touched");
        for word in ["/var/", "/run/", "/dev/console", "poweroff", "/proc/", "BB_ROAD=cloud"] {
            assert!(machine.join("\n").contains(word), "{word} belongs to the machine's part");
            assert!(!local.contains(word), "{word} has no place in\n{local}");
        }
    }

    #[test]
    fn the_dead_man_is_armed_before_anything_can_fail() {
        let text = render(&an_example(), Road::Cloud, PASSWORD);
        let armed = text.find("poweroff").expect("a dead-man");
        for later in ["set -e", "mkdir", "curl", "exec"] {
            assert!(armed < text.find(later).expect(later), "{later} comes first");
        }
    }

    #[test]
    fn only_bb_variables_are_exported_and_nothing_is_traced() {
        for road in [Road::Cloud, Road::Local] {
            let text = render(&an_example(), road, PASSWORD);
            let exported = text.lines().filter_map(|line| line.strip_prefix("export "));
            let names: Vec<&str> = exported.flat_map(str::split_whitespace).collect();
            assert!(names.contains(&"BB_PASSWORD"));
            assert!(names.iter().all(|name| name.starts_with("BB_")), "{names:?}");
            assert!(!text.contains("set -x") && !text.contains("PATH="), "{text}");
        }
    }

    #[test]
    fn every_placeholder_of_the_template_is_filled() {
        let text = render(&an_example(), Road::Cloud, PASSWORD);
        assert!(!text.lines().any(|line| placeholder(line).is_some()), "{text}");
        assert_eq!(TEMPLATE.lines().filter(|line| placeholder(line).is_some()).count(), 10);
    }

    #[test]
    fn nasty_values_stay_one_word_of_the_shell() {
        let cases = [
            ("plain-1.2:8443", "plain-1.2:8443"),
            ("", "''"),
            ("two words", "'two words'"),
            ("$(reboot) `id` $HOME", "'$(reboot) `id` $HOME'"),
            ("it's", r"'it'\''s'"),
            ("'; rm -rf /; '", r"''\''; rm -rf /; '\'''"),
            ("a\nb", "'a\nb'"),
            ("nul\0nul", "'nulnul'"),
            ("~root", "'~root'"),
        ];
        for (value, word) in cases {
            assert_eq!(quote(value), word);
        }
    }

    #[test]
    fn a_value_that_looks_like_the_template_is_left_alone() {
        let mut nasty = an_example();
        nasty.name = "x\n#@machine begin\n# note\nBB_PASSWORD=@BB_PASSWORD@".to_owned();
        let text = render(&nasty, Road::Local, PASSWORD);
        assert!(
            text.contains("'x\n#@machine begin\n# note\nBB_PASSWORD=@BB_PASSWORD@'\n"),
            "{text}"
        );
        assert_eq!(text.matches(PASSWORD).count(), 1);
    }

    #[test]
    fn the_masked_one_differs_in_the_password_alone() {
        for road in [Road::Cloud, Road::Local] {
            let masked = render_masked(&an_example(), road);
            assert!(!masked.contains(PASSWORD));
            let shown = masked.replace("'‹secret›'", PASSWORD);
            assert_eq!(shown, render(&an_example(), road, PASSWORD));
        }
    }

    #[test]
    fn without_a_ca_the_system_s_roots_are_meant() {
        let mut plain = an_example();
        plain.ca_pem = None;
        assert!(render(&plain, Road::Cloud, PASSWORD).contains("\npem=''\n"));
    }

    #[test]
    fn agent_sh_names_the_agents_and_nothing_that_is_not_one() {
        let agents = [
            ("x86_64".to_owned(), "ab".repeat(32)),
            ("aarch64".to_owned(), "cd".repeat(32)),
            ("\"; reboot; \"".to_owned(), "ef".repeat(32)),
        ];
        let text = render_agent_sh(&agents);
        let (x, a) = ("ab".repeat(32), "cd".repeat(32));
        assert!(text.contains(&format!("\nBB_AGENTS=\"x86_64:{x} aarch64:{a}\"\n")), "{text}");
        assert!(!text.contains("reboot;"));
        assert_eq!(AGENT_SH.matches(AGENTS_LINE).count(), 1);
        assert_eq!(text.lines().count(), AGENT_SH.lines().count());
    }
}
