//! What the operating system says of this process, and memory given back to it.

/// The unit of the times in `/proc/self/stat`: fixed at a hundredth of a second for programs.
const TICKS_PER_SECOND: u64 = 100;

/// The memory of this process that is in RAM, in bytes; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    #[cfg(unix)]
    let page_size = rustix::param::page_size() as u64;
    #[cfg(not(unix))]
    let page_size = 0;
    Some(proc_number("/proc/self/statm", 1)? * page_size)
}

/// The processor time that this process has used, in hundredths of a second.
pub(crate) struct CpuTime {
    pub(crate) user: u64,
    pub(crate) system: u64,
}

/// The processor time of this process so far; `None` where the system does not say.
pub(crate) fn cpu_time() -> Option<CpuTime> {
    let hundredths = |field| Some(proc_number("/proc/self/stat", field)? * 100 / TICKS_PER_SECOND);
    Some(CpuTime { user: hundredths(13)?, system: hundredths(14)? })
}

/// A field of one of Linux's process files, counted from 0; `None` elsewhere. Fields are counted after the program's
/// name where the file has one, as that may contain blanks.
fn proc_number(path: &str, field: usize) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    match text.rsplit_once(')') {
        Some((_, rest)) => rest.split_whitespace().nth(field.checked_sub(2)?)?.parse().ok(),
        None => text.split_whitespace().nth(field)?.parse().ok(),
    }
}

/// Returns the allocator's free pages to the system, and whether it could. Threads that allocate may wait meanwhile:
/// about 0.1 s for each GiB of small values of which most were freed at random.
pub fn release_free_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the function has no precondition; it locks what it changes.
    #[expect(unsafe_code, reason = "the C library's function has no safe wrapper")]
    unsafe {
        libc::malloc_trim(0) == 1
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}
