//! Handles lists of what the peer holds of a tree node.

use std::collections::BTreeMap;

use super::{Role, Sync, SyncError};
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, TreeNode};
use crate::replication::codec::Packed;
use crate::replication::message::{List, WireEntry};
use crate::store::{Cell, Entry, Origin, Store};

impl Sync {
    /// Handles the list of what the peer holds of some tree nodes, and sends what it lacks.
    pub(in crate::replication) fn on_list(
        &mut self,
        origins: &[u8],
        items: Packed<'_>,
        store: &Store,
    ) -> Result<(), SyncError> {
        self.check_turn()?;
        let (ids, rest) = origins.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(SyncError::Malformed("origins"));
        }
        let origins = ids.iter().map(|id| {
            let id = Incarnation::try_from(id).map_err(|_| SyncError::Malformed("origins"))?;
            store.intern(id).map_err(|error| SyncError::Cells(error.into()))
        });
        let origins = origins.collect::<Result<Vec<Origin>, SyncError>>()?;
        for item in items.items::<List<'_>>() {
            let List { tree_node, entries } = item?;
            let tree_node = self.tree_node(store, tree_node)?;
            let mut theirs = BTreeMap::new();
            for entry in entries.items::<WireEntry>() {
                let entry = entry?;
                theirs.insert(u64::from_le_bytes(entry.key_hash), Theirs::read(entry, &origins)?);
            }
            let (send, want) = self.difference(tree_node, theirs, store);
            if ablated(Ablation::ExchangeInFull) && self.role == Role::Initiator {
                self.close(store, tree_node);
            }
            self.out.cells(tree_node, send, want.into_iter().flat_map(u64::to_le_bytes).collect());
        }
        Ok(())
    }

    /// Returns the cells that a peer with this list lacks or has older, and the hashes of the keys that it has
    /// newer.
    fn difference(
        &self,
        tree_node: TreeNode,
        mut theirs: BTreeMap<u64, Theirs>,
        store: &Store,
    ) -> (Vec<Cell>, Vec<u64>) {
        let (mut send, mut want) = (Vec::new(), Vec::new());
        for (own, cell) in store.entries(tree_node, self.cutoff, self.terms.deep) {
            let (newer, older) = match theirs.remove(&own.key_hash) {
                None => (true, false),
                Some(theirs) => theirs.compare(&own, store),
            };
            if older {
                want.push(own.key_hash);
            }
            if newer {
                send.push(cell);
            }
        }
        want.extend(theirs.into_keys());
        (send, want)
    }
}

/// An entry of a received list.
enum Theirs {
    /// A register with time and origin, and whether it is a tombstone.
    Timestamp(Time, Origin, bool),
    Digest(u64),
}

impl Theirs {
    fn read(entry: WireEntry, origins: &[Origin]) -> Result<Theirs, SyncError> {
        let word = u64::from_le_bytes(entry.time);
        let Some(index) = entry.origin.checked_sub(2) else { return Ok(Theirs::Digest(word)) };
        let origin = origins.get(index as usize / 2).ok_or(SyncError::Malformed("an entry's origin"))?;
        Ok(Theirs::Timestamp(Time(word), *origin, index % 2 == 1))
    }

    /// Returns whether this side's cell is newer, and whether the peer's is; both, if only a merge can decide.
    fn compare(&self, own: &Entry, store: &Store) -> (bool, bool) {
        match *self {
            Theirs::Timestamp(time, origin, is_tombstone) if own.plain => {
                let own = (own.time, store.incarnation(own.origin), own.is_tombstone);
                let theirs = (time, store.incarnation(origin), is_tombstone);
                (own > theirs, own < theirs)
            }
            Theirs::Digest(digest) if digest == own.digest => (false, false),
            Theirs::Timestamp(..) | Theirs::Digest(_) => (true, true),
        }
    }
}
