//! The processes this run started: none of them outlives it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::cores;

/// Every child that runs. Whoever holds the lock decides over their life: a signal that arrives while one is being
/// started waits until it is listed here.
static RUNNING: Mutex<Vec<Child>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Child>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One child process, killed when this is dropped. Nothing it holds is wanted afterwards, so it gets no chance to
/// drain.
pub(crate) struct Process {
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.pid
    }

    /// Starts `command` on `cpus`, what it prints going to the file `log`. Without any it may use all.
    pub(crate) fn start(mut command: Command, cpus: &[usize], log: PathBuf) -> Result<Process> {
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let mut running = running();
        let spawned = if cpus.is_empty() { command.spawn() } else { cores::on(cpus, || command.spawn())? };
        let child =
            spawned.with_context(|| format!("could not start {}", command.get_program().display()))?;
        let pid = child.id();
        running.push(child);
        Ok(Process { pid, log })
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        running().iter_mut().find(|child| child.id() == self.pid)?.try_wait().ok()?
    }

    /// What it printed so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of what it printed.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2_000)..]).into_owned()
    }

    /// Stops it where it stands, or lets it go on.
    pub(crate) fn pause(&self, paused: bool) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process id")?;
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(pid, signal)?)
    }

    /// What its threads used so far. Exact while they sleep; up to a scheduler tick behind while they run.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        cpu_of(self.pid)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut running = running();
        if let Some(at) = running.iter().position(|child| child.id() == self.pid) {
            end(&mut running.swap_remove(at));
        }
    }
}

/// What the calling thread used so far. Exact only right after it has yielded.
pub(crate) fn cpu_of_thread() -> Result<Duration> {
    let mut cpu = Cpu::default();
    cpu.add(&fs::read_to_string("/proc/thread-self/schedstat")?).context("unexpected schedstat")?;
    Ok(cpu.used)
}

/// What the threads of a process used so far.
pub(crate) fn cpu_of(pid: u32) -> Result<Cpu> {
    let mut cpu = Cpu::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => cpu.add(&text).context("unexpected schedstat")?,
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(other) => return Err(other).context("no schedstat: is CONFIG_SCHED_INFO on?"),
        }
    }
    Ok(cpu)
}

/// CPU time of a process.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Cpu {
    /// Spent on a core.
    pub(crate) used: Duration,
    /// Ready to run, while others had the core.
    pub(crate) waited: Duration,
}

impl Cpu {
    fn add(&mut self, schedstat: &str) -> Option<()> {
        let mut fields = schedstat.split_ascii_whitespace();
        self.used += Duration::from_nanos(fields.next()?.parse().ok()?);
        self.waited += Duration::from_nanos(fields.next()?.parse().ok()?);
        Some(())
    }

    /// What came on top since `earlier`.
    pub(crate) fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            used: self.used.saturating_sub(earlier.used),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// Ends every child and then this process on Ctrl-C, SIGTERM or a lost terminal.
pub(crate) fn end_children_on_signals() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(guard);
    thread::Builder::new().name("signals".into()).spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                _ = hangup.recv() => 129,
            }
        });
        // Held until the end, so that no further child can start.
        let mut running = running();
        running.iter_mut().for_each(end);
        eprintln!("\ninterrupted: every server started here was ended");
        std::process::exit(code);
    })?;
    Ok(())
}

fn end(child: &mut Child) {
    // An error means that it ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// A command by name or path, if there is such an executable.
pub(crate) fn find(command: &str) -> Option<PathBuf> {
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(command)).find(|path: &PathBuf| Path::is_file(path))
}
