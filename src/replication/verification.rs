//! Tracks the deep comparisons that an operator has requested, and their results.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

use super::sync::Progress;
use crate::cluster::{Verification, VerificationState};

/// The comparisons since the last request, by peer.
#[derive(Default)]
pub(super) struct Verifications(Mutex<BTreeMap<String, Row>>);

struct Row {
    began: Instant,
    row: Verification,
}

impl Verifications {
    /// Discards the earlier results and waits for these peers.
    pub(super) fn begin(&self, peers: impl IntoIterator<Item = String>, cells: u64) {
        let waiting = |peer: String| {
            let state = VerificationState::Waiting;
            let took = Duration::ZERO;
            let row =
                Verification { peer: peer.clone(), state, cells, differing_ranges: 0, healed_cells: 0, took };
            (peer, Row { began: Instant::now(), row })
        };
        *self.0.lock() = peers.into_iter().map(waiting).collect();
    }

    pub(super) fn finish(&self, peer: &str, progress: Progress, took: Duration) {
        if let Some(Row { row, .. }) = self.0.lock().get_mut(peer) {
            row.state = VerificationState::Done;
            row.differing_ranges = progress.ranges_found;
            row.healed_cells = progress.cells_in + progress.cells_out;
            row.took = took;
        }
    }

    /// Records that a comparison failed before it finished.
    pub(super) fn fail(&self, peer: &str, why: &str) {
        if let Some(Row { row, began }) = self.0.lock().get_mut(peer)
            && matches!(row.state, VerificationState::Waiting | VerificationState::Running)
        {
            row.state = VerificationState::Failed(why.to_owned());
            row.took = began.elapsed();
        }
    }

    pub(super) fn rows(&self) -> Vec<Verification> {
        let finished = |state: &VerificationState| {
            matches!(state, VerificationState::Done | VerificationState::Failed(_))
        };
        let row = |Row { row, began }: &Row| {
            let took = if finished(&row.state) { row.took } else { began.elapsed() };
            Verification { took, ..row.clone() }
        };
        self.0.lock().values().map(row).collect()
    }
}
