//! Adapter: machines that are processes of this computer, for laptops, `demo` and end-to-end tests.
//!
//! Each launch has a directory, named by the launch; `local_machine` is what runs in it. The
//! directory goes away with the machine, except for its console log on a failed launch.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde::Serialize;

use crate::master::domain::decision::Urgency;
use crate::master::domain::event::EndCause;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::event::Machine;
use crate::master::domain::event::MachineState;
use crate::master::provisioner::Call;
use crate::master::provisioner::Ending;
use crate::master::provisioner::LaunchError;
use crate::master::provisioner::LaunchOrder;
use crate::master::provisioner::PrepareOrder;
use crate::master::provisioner::Prepared;
use crate::master::provisioner::Provisioner;
use crate::master::provisioner::local_machine;
use crate::master::provisioner::process_tree;
use crate::model::ids::CloudId;
use crate::model::ids::LaunchId;
use crate::runtime::clock;
use crate::runtime::signals::DefaultSignals;

/// A machine that was told to end has this long: its TERM grace and some for a loaded computer.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// How often an ending machine is looked at.
const END_POLL: Duration = Duration::from_millis(20);

/// The directory of a machine that ended by itself is removed after this.
const LEFTOVER_AGE: Duration = Duration::from_secs(10 * 60);

/// A started machine has this long to take its lock.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What is kept of a launch until it has worked.
#[derive(Serialize, Deserialize)]
struct Request {
    /// Without its password.
    user_data: String,
    lifetime_secs: u64,
}

/// Starts machines as processes below one directory.
#[derive(Clone, Debug)]
pub struct LocalProvisioner {
    machines_dir: PathBuf,
    /// This program, which is re-executed as the machine.
    program: PathBuf,
    /// A machine ends itself after this, whatever happens.
    max_lifetime: Duration,
    /// Launches that are being started or ended: one call at a time, or an end that comes while the
    /// start is under way would find nothing, and leave a machine behind.
    under_way: Arc<Mutex<BTreeMap<LaunchId, Arc<Mutex<()>>>>>,
}

impl LocalProvisioner {
    /// `machines_dir` is made when it is first needed; `program` is `busybee` itself.
    pub fn new(
        machines_dir: PathBuf,
        program: PathBuf,
        max_lifetime: Duration,
    ) -> LocalProvisioner {
        LocalProvisioner { machines_dir, program, max_lifetime, under_way: Arc::default() }
    }

    fn dir(&self, launch: &LaunchId) -> PathBuf {
        self.machines_dir.join(launch.as_str())
    }

    /// Does something with a launch while nothing else is done with it.
    fn alone<T>(&self, launch: &LaunchId, work: impl FnOnce() -> T) -> T {
        let all = || self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Arc::clone(all().entry(launch.clone()).or_default());
        let done = {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            work()
        };
        drop(turn);
        let mut all = all();
        if all.get(launch).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            all.remove(launch);
        }
        done
    }

    fn launch_now(&self, order: &LaunchOrder) -> anyhow::Result<CloudId> {
        let request: Request =
            serde_json::from_str(&order.request).context("read the request that was kept")?;
        let dir = self.dir(&order.launch);
        if dir.exists() && local_machine::take_lock(&dir)?.is_none() {
            return Ok(cloud_id(&order.launch));
        }
        make_dir(&dir.join(local_machine::HOME_DIR))?;
        write_private(
            &dir.join(local_machine::USER_DATA_FILE),
            order.fill_in(&request.user_data).as_bytes(),
        )?;
        let child = std::process::Command::new(&self.program)
            .arg("local-machine")
            .arg(&dir)
            .arg(request.lifetime_secs.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("machine.log")).context("create machine.log")?)
            .default_signals()
            .in_own_session()
            .spawn()
            .with_context(|| format!("start {} local-machine", self.program.display()))?;
        wait_for_start(child, &dir)?;
        Ok(cloud_id(&order.launch))
    }

    fn terminate_now(&self, launch: &LaunchId) -> anyhow::Result<()> {
        let dir = self.dir(launch);
        if !dir.exists() {
            return Ok(());
        }
        let started = clock::monotonic();
        let mut told = false;
        loop {
            if let Some(_lock) = local_machine::take_lock(&dir)? {
                return remove(&dir);
            }
            if !told {
                told = tell_to_end(&dir)?;
            }
            anyhow::ensure!(
                clock::monotonic().saturating_sub(started) < END_TIMEOUT,
                "the processes of {} did not end within {} s",
                dir.display(),
                END_TIMEOUT.as_secs()
            );
            process_tree::pause(END_POLL);
        }
    }

    fn list_now(&self) -> anyhow::Result<Vec<Machine>> {
        if !self.machines_dir.exists() {
            return Ok(Vec::new());
        }
        let mut machines = Vec::new();
        let entries = std::fs::read_dir(&self.machines_dir)
            .with_context(|| format!("read {}", self.machines_dir.display()))?;
        for entry in entries {
            let entry = entry.context("read the machines' directory")?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let launch = LaunchId(name);
            let alive = local_machine::take_lock(&entry.path())?.is_none();
            if !alive && clock::is_older_than(&entry.path(), LEFTOVER_AGE) {
                // Its end was reported long ago, or nobody asks for it any more.
                remove(&entry.path())?;
                continue;
            }
            let state = if alive { MachineState::Running } else { MachineState::Ended };
            let (cloud_id, cause) = (cloud_id(&launch), EndCause::Unknown);
            let (started, asked_to_end_at, reason) = (None, None, None);
            machines.push(Machine {
                cloud_id,
                launch,
                state,
                started,
                asked_to_end_at,
                reason,
                cause,
            });
        }
        Ok(machines)
    }
}

impl Provisioner for LocalProvisioner {
    fn prepare(&self, order: PrepareOrder) -> Call<'_, Result<Prepared, LaunchError>> {
        let request =
            Request { user_data: order.user_data, lifetime_secs: self.max_lifetime.as_secs() };
        let request = serde_json::to_string(&request).map_err(|why| LaunchError {
            sentence: format!("cannot write the request down: {why}"),
            failure: LaunchFailure::Other,
        });
        let what = "a process of the master's machine".to_owned();
        Box::pin(async move { Ok(Prepared { request: request?, what, price_per_hour: None }) })
    }

    fn launch(&self, order: LaunchOrder) -> Call<'_, Result<CloudId, LaunchError>> {
        let this = self.clone();
        Box::pin(async move {
            in_background(move || this.alone(&order.launch, || this.launch_now(&order)))
                .await
                .map_err(|sentence| LaunchError { sentence, failure: LaunchFailure::Other })
        })
    }

    fn terminate_by(
        &self,
        launch: LaunchId,
        _cloud_id: Option<CloudId>,
        _urgency: Urgency,
    ) -> Call<'_, Result<Ending, String>> {
        let this = self.clone();
        Box::pin(async move {
            in_background(move || this.alone(&launch, || this.terminate_now(&launch))).await?;
            Ok(Ending::Gone)
        })
    }

    fn list(&self) -> Call<'_, Result<Vec<Machine>, String>> {
        let this = self.clone();
        Box::pin(in_background(move || this.list_now()))
    }

    fn console(&self, launch: LaunchId, _cloud_id: CloudId) -> Call<'_, Result<String, String>> {
        let path = self.dir(&launch).join(local_machine::CONSOLE_FILE);
        Box::pin(in_background(move || {
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }))
    }
}

/// The machine's name for people: the launch, shortened.
fn cloud_id(launch: &LaunchId) -> CloudId {
    CloudId(format!("local-{}", launch.as_str().get(..12).unwrap_or(launch.as_str())))
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|why| format!("{why:#}")),
        Err(why) => Err(format!("the provisioner's thread ended: {why}")),
    }
}

/// Waits until the machine holds its lock, and sees to it that its end is noticed by the kernel.
fn wait_for_start(mut child: std::process::Child, dir: &Path) -> anyhow::Result<()> {
    let started = clock::monotonic();
    let pid_is_written =
        || std::fs::metadata(dir.join(local_machine::LOCK_FILE)).is_ok_and(|file| file.len() > 0);
    while !pid_is_written() {
        if let Some(status) = child.try_wait().context("look at the machine's process")? {
            let said = std::fs::read_to_string(dir.join("machine.log")).unwrap_or_default();
            anyhow::bail!("the machine's process ended at once with {status}: {}", said.trim());
        }
        anyhow::ensure!(
            clock::monotonic().saturating_sub(started) < START_TIMEOUT,
            "the machine's process did not start within {} s",
            START_TIMEOUT.as_secs()
        );
        process_tree::pause(Duration::from_millis(1));
    }
    // Reaped here when it ends, or it would stay a zombie for as long as the master lives.
    std::thread::Builder::new()
        .name("local-machine".into())
        .stack_size(64 * 1024)
        .spawn(move || child.wait())
        .context("start a thread that reaps the machine")?;
    Ok(())
}

/// Sends TERM to the process named in the lock file; false while none stands there yet.
fn tell_to_end(dir: &Path) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(dir.join(local_machine::LOCK_FILE))
        .context("read the machine's lock file")?;
    let Some(pid) = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw) else {
        return Ok(false);
    };
    // Whoever holds the lock wrote its id there, and the caller has just seen the lock held.
    let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    Ok(true)
}

/// Removes a machine's directory. Checkouts may hold directories without write permission.
fn remove(dir: &Path) -> anyhow::Result<()> {
    if std::fs::remove_dir_all(dir).is_ok() {
        return Ok(());
    }
    let _best_effort =
        std::process::Command::new("chmod").arg("-R").arg("u+rwX").arg("--").arg(dir).status();
    match std::fs::remove_dir_all(dir) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            Err(why).with_context(|| format!("remove {}", dir.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("create {}", dir.display()))
}

fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("write {}", path.display()))
}

/// Gives a child a session of its own, so that signals to ours do not reach it.
trait InOwnSession {
    fn in_own_session(&mut self) -> &mut Self;
}

impl InOwnSession for std::process::Command {
    fn in_own_session(&mut self) -> &mut std::process::Command {
        use std::os::unix::process::CommandExt;
        // SAFETY: setsid is async-signal-safe and touches no memory of ours.
        unsafe {
            self.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(())
            })
        }
    }
}
