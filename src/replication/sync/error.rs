//! Why a sync fails, or ends its link.

use super::{MAX_JOBS, RETRACTION_LIMIT};
use crate::replication::cells::CellsError;
use crate::replication::codec::CodecError;

/// Why a sync failed. What was merged stays merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::replication) enum SyncFailed {
    /// A cell was refused for want of memory.
    #[error("out of memory")]
    Full,
    /// The retraction limit was exceeded.
    #[error(
        "refusing to delete more than {RETRACTION_LIMIT} keys of a peer that has incorporated every delete: one of the \
         two nodes has lost data that it claims to hold"
    )]
    RetractionLimit,
    /// The other side aborted the sync.
    #[error("the peer gave up: {0}")]
    Aborted(String),
}

/// A violation of the protocol of a sync by the peer.
#[derive(Debug, thiserror::Error)]
pub(in crate::replication) enum SyncError {
    #[error("a message of a sync that does not fit its state: {0}")]
    OutOfTurn(&'static str),
    #[error("malformed message of a sync: {0}")]
    Malformed(&'static str),
    #[error("it opened more than {MAX_JOBS} exchanges at one time")]
    Crowded,
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Cells(#[from] CellsError),
}
