//! Memory and processor time of this process, from the operating system.

/// The unit of the times in `/proc/self/stat`: Linux fixes it at 0.01 s for user space.
const TICKS_PER_SECOND: u64 = 100;

/// The resident memory of this process in bytes; `None` if the system does not report it.
pub fn resident_bytes() -> Option<u64> {
    #[cfg(unix)]
    let page_size = rustix::param::page_size() as u64;
    #[cfg(not(unix))]
    let page_size = 0;
    Some(proc_number("/proc/self/statm", 1)? * page_size)
}

/// The processor time that this process has used, in units of 0.01 s.
pub(crate) struct CpuTime {
    pub(crate) user: u64,
    pub(crate) system: u64,
}

/// The processor time of this process so far; `None` if the system does not report it.
pub(crate) fn cpu_time() -> Option<CpuTime> {
    let hundredths = |field| Some(proc_number("/proc/self/stat", field)? * 100 / TICKS_PER_SECOND);
    Some(CpuTime { user: hundredths(13)?, system: hundredths(14)? })
}

/// Reads a numeric field of a Linux process file, counted from 0; `None` on other systems.
///
/// If the file contains the program's name, fields are counted after it, because the name may contain blanks.
fn proc_number(path: &str, field: usize) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    match text.rsplit_once(')') {
        Some((_, rest)) => rest.split_whitespace().nth(field.checked_sub(2)?)?.parse().ok(),
        None => text.split_whitespace().nth(field)?.parse().ok(),
    }
}
