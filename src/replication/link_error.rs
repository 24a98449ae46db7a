//! Why a link ends.

use std::io;
use std::time::Duration;

use super::cells::CellsError;
use super::codec::{CodecError, FrameError};
use super::hello::Refused;
use super::message::Refusal;
use super::sync::SyncError;
use super::wrong_port::OtherProtocol;
use crate::cluster::PeerState;
use crate::tls::HandshakeError;

/// A peer from which nothing arrived for this long counts as down. TCP alone does not notice a stopped process.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// How long the other side may take for each message of the handshake.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How long a sync may stand still: no message of it is sent or arrives although one side owes the other a
/// message. Above [`ANSWER_WAIT`], and above the time to read the values of one group for a deep sync (a second
/// per few GB).
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(15);

/// Why a link ended. What was merged before stays merged.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("it closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Cells(#[from] CellsError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error("it sent {0} out of turn")]
    OutOfTurn(&'static str),
    #[error("not heard for {}s", SILENCE_LIMIT.as_secs())]
    Silent,
    #[error("connected, but no answer within {}s: is this a Sapwood peer port?", HANDSHAKE_LIMIT.as_secs())]
    NoAnswer,
    #[error("{}", .0.explain_answer())]
    WrongPort(OtherProtocol),
    #[error(transparent)]
    Untrusted(#[from] HandshakeError),
    #[error("a sync stood still for {}s", STALL_LIMIT.as_secs())]
    Stalled,
    #[error("its clock ran {0:.1?} ahead of this one, more than --max-clock-skew allows: set both by NTP")]
    Skewed(Duration),
    #[error("it shut down")]
    Goodbye,
    #[error("{0}")]
    Refused(Refused),
    #[error("another connection took its place")]
    Superseded,
    #[error("this node is stopping")]
    Stopping,
    #[error("its address is no longer dialled")]
    Dropped,
    #[error("cut off by SAPWOOD CUT")]
    Cut,
    #[error("this node goes on as another incarnation")]
    Renewed,
}

impl LinkError {
    /// Whether an operator should look into it: neither of the two nodes ended the link in order.
    pub(super) fn is_loss(&self) -> bool {
        !matches!(self, LinkError::Goodbye | LinkError::Stopping | LinkError::Dropped | LinkError::Renewed)
    }

    /// Returns the error that the other side's refusal of this node's certificate is, instead of one of the connection.
    pub(super) fn resolve_alert(self) -> LinkError {
        let LinkError::Io(error) = &self else { return self };
        let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<HandshakeError>());
        refused.cloned().map_or(self, LinkError::Untrusted)
    }

    /// Returns the state that the peer is in afterwards.
    pub(super) fn state(&self) -> PeerState {
        match self {
            LinkError::Skewed(_) | LinkError::Cells(CellsError::Future(_)) => PeerState::Skewed,
            LinkError::Goodbye => PeerState::Gone,
            LinkError::Refused(refused) if refused.refusal == Refusal::Skewed => PeerState::Skewed,
            LinkError::Cut => PeerState::Cut,
            _ => PeerState::Down,
        }
    }
}
