//! Encodes local changes and published messages once, and queues them to every link.

use std::sync::Arc;

use tokio::time::sleep;

use super::Shared;
use super::cells::{Carrier, CellsEncoder};
use super::peers::Link;
use crate::store::{Cell, GATHER, Store};

/// What a push needs besides the links; kept for the next one.
#[derive(Default)]
pub(super) struct PushBuffers {
    pub(super) encoder: CellsEncoder,
    pub(super) cells: Vec<Cell>,
}

/// Takes changes from the store's feed and queues them to all links, for as long as the node runs.
pub(super) async fn run(shared: Arc<Shared>) {
    let store = &shared.replica.local.store;
    let mut gathers = false;
    loop {
        // Cancel-safe: no branch takes anything.
        tokio::select! {
            () = store.feed().ready() => {}
            () = shared.messages.ready() => {}
            () = sleep(GATHER), if gathers => {}
        }
        // Every connection that is ready to run writes first: their changes then share one frame, and the tasks
        // of the links are woken once.
        tokio::task::yield_now().await;
        gathers = store.feed().pace(store.now(shared.env.wall_clock()));
        // Taken before the cells and sent after them: no message overtakes an earlier write of its client.
        let messages = shared.messages.take();
        shared.replica.push(|links| shared.messages.spread(messages, links));
    }
}

/// Encodes cells and queues the same bytes to all of `links`. `through` is the feed sequence up to which all
/// local changes are then queued; 0 if the cells are not local changes.
pub(super) fn spread(
    store: &Store,
    encoder: &mut CellsEncoder,
    cells: impl IntoIterator<Item = Cell>,
    through: u64,
    links: &[Arc<Link>],
) {
    encode(store, encoder, cells, through, |frame, through| {
        links.iter().for_each(|link| link.queue.put(frame.clone(), through));
    });
}

/// Encodes cells into frames of pushes. Only the last one carries `through`.
pub(super) fn encode(
    store: &Store,
    encoder: &mut CellsEncoder,
    cells: impl IntoIterator<Item = Cell>,
    through: u64,
    mut put: impl FnMut(bytes::Bytes, u64),
) {
    let mut cells = cells.into_iter().peekable();
    while let Some(cell) = cells.next() {
        encoder.add(&cell);
        let reach = if cells.peek().is_none() { through } else { 0 };
        if encoder.is_full() || cells.peek().is_none_or(|next| encoder.overflows_with(next)) {
            put(encoder.finish(store, Carrier::Put { through: reach }), reach);
        }
    }
}
