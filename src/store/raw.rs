//! All `unsafe` code of the store: table iteration and prefetching, which have no safe interface.

use hashbrown::raw::RawTable;

/// Every entry of a table.
pub(super) fn entries<T>(table: &RawTable<T>) -> impl Iterator<Item = &T> {
    // SAFETY: the iterator borrows the table for as long as it or an entry lives, so the table can neither
    // change nor move nor be dropped meanwhile; every bucket it yields is full.
    #[expect(unsafe_code, reason = "the raw table has no safe iterator")]
    unsafe {
        table.iter().map(|bucket| bucket.as_ref())
    }
}

/// Every entry of a table, beginning at any slot.
pub(super) fn entries_from<T>(table: &RawTable<T>, slot: usize) -> impl Iterator<Item = &T> {
    let slots = table.buckets();
    let slots = (0..slots).map(move |n| slot.wrapping_add(n) & (slots - 1));
    // SAFETY: the number of slots is a power of two, so each index is below it, and only full ones are read. The iterator
    // borrows the table, as above. An empty table has one slot, which is not full.
    #[expect(unsafe_code, reason = "the raw table has no safe access to a slot")]
    slots.filter_map(|slot| unsafe { table.is_bucket_full(slot).then(|| table.bucket(slot).as_ref()) })
}

/// Whether [`prefetch`] does anything on this processor.
pub(super) const CAN_PREFETCH: bool = cfg!(target_arch = "x86_64");

/// Prefetches the cache line at `address`, without waiting for it. Any address is allowed.
pub(super) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint. It reads nothing the program could see and does not fault.
    #[expect(unsafe_code, reason = "the processor's hint is an intrinsic")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Prefetches the first lines of a lookup of `hash`: control bytes, and the entries that they describe.
pub(super) fn prefetch_slot<T>(table: &RawTable<T>, hash: u64) {
    #[expect(clippy::cast_possible_truncation, reason = "the table itself takes the low bits")]
    let slot = (hash as usize) & (table.buckets() - 1);
    // Control bytes follow the entries' end; entries lie before it, last first.
    let end: *const T = table.data_end().as_ptr();
    prefetch(end.cast::<u8>().wrapping_add(slot));
    prefetch(end.wrapping_sub(slot + 1));
    prefetch(end.wrapping_sub(slot + 8));
}
