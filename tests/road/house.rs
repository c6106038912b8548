//! A master that serves the whole road, and an agent that does what a plan says.

use crate::machine::Machine;
use crate::machine::Run;
use crate::machine::sha256;
use crate::server::Authority;
use crate::server::Reply;
use crate::server::Server;
use busybee::master::user_data::RUNURL;
use busybee::master::user_data::Road;
use busybee::master::user_data::UserData;
use busybee::master::user_data::render;
use busybee::master::user_data::render_agent_sh;

/// Whoever finds this anywhere but in the settings has found a leak.
pub(crate) const PASSWORD: &str =
    "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2";
/// A name that a careless script would run.
pub(crate) const NAME: &str = "it's $(echo a) `worker`";

/// Notes down how it was started and ends as the plan's next line says.
pub(crate) const AGENT: &str = r#"#!/bin/sh
echo "$*" >>"$BB_HOME/starts"
tr '\0' '\n' </proc/$$/environ >"$BB_HOME/environ"
tr '\0' '\n' </proc/$$/cmdline >"$BB_HOME/cmdline"
umask >"$BB_HOME/umask"
turn=$(wc -l <"$BB_HOME/starts")
end=$(sed -n "$((turn))p" "$PLAN")
case $end in
killed) kill -9 $$ ;;
stay) exec sleep 600 ;;
*) exit "$end" ;;
esac
"#;

/// What this machine is called in `BB_AGENTS`.
pub(crate) fn here() -> String {
    std::env::consts::ARCH.to_owned()
}

/// The master.
pub(crate) struct House {
    pub(crate) authority: Authority,
    pub(crate) server: Server,
}

impl House {
    /// Everything is as it should be.
    pub(crate) fn new() -> House {
        let authority = Authority::new("CA of the master");
        let server = Server::start(&authority);
        let house = House { authority, server };
        house.server.serve("/runurl", Reply::file(RUNURL));
        house.serve_agent_sh(&render_agent_sh(&[(here(), sha256(AGENT.as_bytes()))]));
        house.server.serve(&agent_path(), Reply::file(AGENT));
        house
    }

    /// Serves this text as `agent.sh`; its hash goes into user-data that is made for it.
    pub(crate) fn serve_agent_sh(&self, text: &str) {
        self.server.serve("/bootstrap/agent.sh", Reply::file(text));
    }

    /// What one launch is told.
    pub(crate) fn user_data(&self, agent_sh: &str) -> UserData {
        UserData {
            master: format!("127.0.0.1:{}", self.server.port()),
            master_url: self.server.url(""),
            name: NAME.to_owned(),

            ca_pem: Some(self.authority.pem()),
            runurl_sha256: sha256(RUNURL.as_bytes()),
            agent_sh_sha256: sha256(agent_sh.as_bytes()),
            boot_limit_secs: 4_000_000_000,
            life_limit_secs: 4_000_000_000,
            step_metadata: false,
        }
    }

    /// The `agent.sh` that `new` serves.
    pub(crate) fn agent_sh(&self) -> String {
        render_agent_sh(&[(here(), sha256(AGENT.as_bytes()))])
    }

    /// The local road on a machine, with a plan for its agent.
    pub(crate) fn local(&self, machine: &Machine, plan: &str) -> Run {
        self.local_with(machine, &self.user_data(&self.agent_sh()), plan)
    }

    /// The same with other user-data.
    pub(crate) fn local_with(&self, machine: &Machine, told: &UserData, plan: &str) -> Run {
        let file = machine.write(&machine.path("user-data"), &render(told, Road::Local, PASSWORD));
        let plan = machine.write(&machine.path("plan"), plan);
        // A space in it: scratch directories of people have them.
        let run = machine.sh(&file).env("BB_HOME", machine.path("the worker"));
        run.env("PLAN", plan).env("RUNURL_DEADLINE", "0")
    }
}

/// Where the agent is served.
pub(crate) fn agent_path() -> String {
    format!("/agent/{}", sha256(AGENT.as_bytes()))
}

/// A file of the worker's directory.
pub(crate) fn worker_file(machine: &Machine, name: &str) -> String {
    std::fs::read_to_string(machine.path("the worker").join(name)).unwrap_or_default()
}
