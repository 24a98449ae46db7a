//! How much of a connection's buffers is kept between requests.
//!
//! To free a large buffer and to allocate it again costs more than the request that needs it: the system maps and clears its
//! pages each time. So a connection keeps its buffers while requests come, and frees them once its client is idle.

use std::time::Duration;

/// A buffer with more capacity than this, in bytes, is freed once the client is idle.
pub(super) const IDLE_KEPT: usize = 64 << 10;

/// A buffer with more capacity than this, in bytes, is freed after each request.
const BUSY_KEPT: usize = 4 << 20;

/// A client is idle if it has sent nothing for so long. What connections keep in vain is bounded by what the network
/// carries in this time.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// Frees what a buffer has beyond its content and what is kept while requests come.
pub(super) fn trim(buffer: &mut Vec<u8>) {
    buffer.shrink_to(BUSY_KEPT);
}

/// Frees what a buffer has beyond its content and what is kept of an idle client.
pub(super) fn trim_idle(buffer: &mut Vec<u8>) {
    if is_large(buffer.capacity()) {
        buffer.shrink_to(IDLE_KEPT);
    }
}

/// Whether a buffer of so many bytes is freed once the client is idle.
#[inline]
pub(super) fn is_large(capacity: usize) -> bool {
    capacity > IDLE_KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_kept_while_requests_come_and_freed_after_them() {
        let mut buffer = Vec::with_capacity(1 << 20);
        trim(&mut buffer);
        assert!(is_large(buffer.capacity()));
        trim_idle(&mut buffer);
        assert!(!is_large(buffer.capacity()));
    }

    #[test]
    fn a_huge_buffer_is_freed_at_once_and_no_content_ever() {
        let mut buffer = Vec::with_capacity(64 << 20);
        trim(&mut buffer);
        assert!(buffer.capacity() < 8 << 20);
        buffer.resize(5 << 20, 7);
        trim(&mut buffer);
        trim_idle(&mut buffer);
        assert_eq!(buffer.len(), 5 << 20);
    }
}
