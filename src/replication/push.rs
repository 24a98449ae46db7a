//! The push: what was just written here, encoded once, queued to every link.

use std::sync::Arc;

use super::Shared;
use super::message::{Carrier, CellsEncoder};
use crate::store::Taken;

/// Takes changes from the store's feed and queues them to all links, for as long as the daemon runs.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut cells = Vec::new();
    let mut encoder = CellsEncoder::default();
    loop {
        shared.store.feed().ready().await;
        // Let every connection that is ready to run write first: their changes then share one frame, and the
        // links' tasks are woken once.
        tokio::task::yield_now().await;
        let taken = shared.store.feed().take(&mut cells);
        let links = shared.peers.links();
        if links.is_empty() {
            cells.clear();
            shared.store.feed().handed_on();
            continue;
        }
        if taken == Taken::Overflowed {
            links.iter().for_each(|link| link.queue.lose_pushes());
        }
        let mut cells = cells.drain(..).peekable();
        while let Some(cell) = cells.next() {
            encoder.add(&cell);
            if encoder.is_full() || cells.peek().is_none_or(|next| encoder.overflows_with(next)) {
                let frame = encoder.finish(&shared.store, Carrier::Put);
                links.iter().for_each(|link| link.queue.put(frame.clone()));
            }
        }
        shared.store.feed().handed_on();
    }
}
