//! Which core does what.

use std::io;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// The cores of this machine that this process may use, by their use.
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    all: Vec<usize>,
}

impl Cores {
    /// The cores this process may use now.
    pub(crate) fn detect() -> io::Result<Cores> {
        let set = sched_getaffinity(None)?;
        Ok(Cores { all: (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect() })
    }

    /// Whether server and load can have a core each.
    pub(crate) fn can_separate(&self) -> bool {
        self.all.len() > 1
    }

    pub(crate) fn all(&self) -> &[usize] {
        &self.all
    }

    /// The measured server's own.
    pub(crate) fn server(&self) -> &[usize] {
        &self.all[..1]
    }

    /// The load generator's.
    pub(crate) fn load(&self) -> &[usize] {
        if self.can_separate() { &self.all[1..2] } else { &self.all }
    }

    /// The peers': those left over, else the load's.
    pub(crate) fn peers(&self) -> &[usize] {
        if self.all.len() > 2 { &self.all[2..] } else { self.load() }
    }
}

/// Moves all threads of a running process to `cpus`.
pub(crate) fn move_to(cpus: &[usize], process: u32) -> io::Result<()> {
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let id = thread?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        sched_setaffinity(id, &set_of(cpus))?;
    }
    Ok(())
}

fn set_of(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    set
}

/// Runs `work` with this thread on `cpus`. Threads and processes it starts meanwhile stay there.
pub(crate) fn on<T>(cpus: &[usize], work: impl FnOnce() -> T) -> io::Result<T> {
    let before = sched_getaffinity(None)?;
    sched_setaffinity(None, &set_of(cpus))?;
    let result = work();
    sched_setaffinity(None, &before)?;
    Ok(result)
}
