//! The messages between nodes. `docs/peer-protocol.md` describes the protocol.

use std::fmt;

use super::codec::Packed;
use crate::cluster::TrafficKind;
use crate::model::Incarnation;
use bincode::{BorrowDecode, Encode};

/// The protocol versions that this build speaks.
pub(super) const VERSIONS: Versions = Versions { oldest: 6, newest: 6 };

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Versions {
    pub(super) oldest: u16,
    pub(super) newest: u16,
}

impl Versions {
    /// Returns the newest version in both ranges.
    pub(super) fn agree(self, other: Versions) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// The first message of both sides. Its layout is the same in every version; a later version puts additions
/// into `extension`, which an older one ignores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Hello<'a> {
    pub(super) magic: [u8; 8],
    pub(super) versions: Versions,
    pub(super) cluster: &'a str,
    pub(super) name: &'a str,
    pub(super) incarnation: u128,
    /// The machine's clock.
    pub(super) wall: u64,
    /// The sender's hybrid clock.
    pub(super) hlc: u64,
    /// The address at which this node can be dialled; `:port` means at the IP address of this connection.
    pub(super) advertise: &'a str,
    /// The largest message that this node accepts, in bytes.
    pub(super) max_frame: u64,
    /// The number of this incarnation among those of its name, as far as the node has received them.
    pub(super) generation: u64,
    pub(super) extension: &'a [u8],
}

/// The first bytes of every connection of a Sapwood peer.
pub(super) const MAGIC: [u8; 8] = *b"sapwood\0";

/// Why a node will not link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum Refusal {
    /// The cluster has another name.
    WrongCluster,
    /// Another live node has this name.
    Duplicate,
    /// The clocks are too far apart.
    Skewed,
    /// No protocol version in common, or a frame limit out of reach.
    Incompatible,
    /// The two nodes are linked already, over another connection.
    Linked,
    /// The node has dialled itself.
    Itself,
    /// It has no room for another peer.
    Crowded,
    /// Its certificate names another node.
    Untrusted,
}

/// Everything after the hellos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum Message<'a> {
    /// The sender accepts the link: the dialler first, then the other side. `wall` is its machine's clock.
    Welcome { wall: u64 },
    /// The sender refuses the link and closes.
    Refuse { refusal: Refusal, text: &'a str },
    /// Sent every second: the sender's view of the cluster, and a sign of life.
    Heartbeat(Heartbeat<'a>),
    /// Cells just written. With the `Put`s before it since the link's start or the last `Gap`, it carries all
    /// changes of the sender's clients since then up to `through` in the sequence of its feed; 0 makes no such
    /// claim.
    Put { through: u64, cells: Cells<'a> },
    /// This many `Put`s since the link's start or the last `Gap` are merged.
    Ack { epoch: u32, puts: u64 },
    /// Pushes were dropped: the receiver should start a sync. Begins the next epoch.
    Gap,
    /// Offers a sync. With `deep` it also compares values; with `probe` it only looks for a difference.
    Start { sync: u32, deep: bool, probe: bool, summary: Summary<'a> },
    /// Accepts the offer. `sums` has the digest of each group of ranges, 8 bytes each.
    Accept { sync: u32, summary: Summary<'a>, sums: &'a [u8] },
    /// The sender's coverage of incarnations that are not members: packs [`WireCoverage`]. Only of the buckets
    /// whose hashes in the two summaries differ.
    Coverage { sync: u32, items: Packed<'a> },
    /// Digests to compare: packs [`Digests`].
    Digests { sync: u32, answer: Answer, items: Packed<'a> },
    /// Answers the digests of the initiator: packs [`Differ`]s.
    Differ { sync: u32, items: Packed<'a> },
    /// What the sender holds of some tree nodes, without values. `origins` packs 16-byte ids, `items` packs
    /// [`List`]s.
    List { sync: u32, origins: &'a [u8], items: Packed<'a> },
    /// The sender's uncovered cells in ranges that differ: packs [`Uncovered`].
    Uncovered { sync: u32, items: Packed<'a> },
    /// Cells that the receiver lacks. `ends` packs the [`End`]s of tree nodes that are complete with this message.
    Cells { sync: u32, cells: Cells<'a>, ends: Packed<'a> },
    /// Retractions of what the receiver has sent and the sender has removed: packs [`WireRetraction`]s, whose
    /// origins are indexes into `origins`, which packs 16-byte ids.
    Retract { sync: u32, origins: &'a [u8], items: Packed<'a> },
    /// The receiver can take this many more bytes of `Cells` and `Retract`.
    Credit { sync: u32, bytes: u64 },
    /// The sender has sent all that it held when the sync began; the second `Done` ends the sync.
    Done { sync: u32 },
    /// The sync has failed, and why.
    Abort { sync: u32, reason: &'a str },
    /// The sender leaves in order, and the stable time does not wait for it.
    Goodbye,
    /// A message that a client of the sender has published. It is neither relayed nor acknowledged.
    Publish { channel: &'a [u8], message: &'a [u8] },
    /// Asks for the receiver's copy of a key.
    KeyQuery { query: u32, key: &'a [u8] },
    /// Answers the `KeyQuery` with this number.
    KeyReply { query: u32, copy: WireCopy<'a> },
}

/// Returns the kind of a message by its first byte, the number of the variant.
pub(super) fn kind(message: &[u8]) -> TrafficKind {
    match message.first() {
        Some(3..=5) => TrafficKind::Pushes,
        Some(6..=17) => TrafficKind::Syncs,
        Some(19..) => TrafficKind::Messages,
        _ => TrafficKind::Heartbeats,
    }
}

/// A node's view of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Heartbeat<'a> {
    pub(super) wall: u64,
    pub(super) hlc: u64,
    /// The sender's summary, without the hashes of coverage.
    pub(super) summary: Summary<'a>,
    /// Cells that hold a value.
    pub(super) keys: u64,
    /// Packs a [`PeerAddress`] for every link of the sender.
    pub(super) peers: Packed<'a>,
    /// Packs [`WireMember`]s.
    pub(super) members: Packed<'a>,
    /// Packs [`WireReport`]s: the newest report of each member.
    pub(super) reports: Packed<'a>,
    /// Packs [`Figure`]s: statistics of the sender, for display.
    pub(super) figures: Packed<'a>,
}

/// A statistic of a node. A receiver skips an id that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Figure {
    pub(super) id: u8,
    pub(super) value: u64,
}

/// The summary of a node's vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Summary<'a> {
    /// Time below which every member holds every write.
    pub(super) stable: u64,
    /// The hash of the members that the sender has.
    pub(super) members: u64,
    /// The summary vector of the members, including the sender's own entry: packs [`WireTime`]s.
    pub(super) vector: Packed<'a>,
    /// Incarnations that are neither members nor closed: packs [`WireAway`]s.
    pub(super) away: Packed<'a>,
    /// The hash of each bucket of the coverage of all others, 8 bytes each.
    pub(super) hashes: &'a [u8],
}

/// An incarnation that is neither a member nor closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireAway {
    pub(super) incarnation: [u8; 16],
    /// When it was declared away: the latest clock of the nodes that did.
    pub(super) since: u64,
    /// Its latest write that the sender has received.
    pub(super) seen: u64,
}

/// Up to when the writes of an incarnation that is not a member are incorporated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCoverage {
    pub(super) incarnation: [u8; 16],
    pub(super) synced: u64,
    pub(super) closed: u64,
}

/// A retraction: removed parts of a key's cell. A receiver that holds exactly these removes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireRetraction<'a> {
    pub(super) key: &'a [u8],
    pub(super) register: Option<WireRemovedRegister>,
    /// The timestamp of the counter's deadline.
    pub(super) expiry: Option<(u64, u32)>,
    /// Packs [`WireRemovedSlot`]s.
    pub(super) slots: Packed<'a>,
}

/// A register that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireRemovedRegister {
    pub(super) timestamp: (u64, u32),
    /// The timestamp of its deadline.
    pub(super) deadline: (u64, u32),
    /// Whether it is possible that no member has received it.
    pub(super) given_up: bool,
}

/// A slot that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireRemovedSlot {
    pub(super) owner: u32,
    pub(super) start: u64,
    /// The time of its last increment.
    pub(super) last: u64,
    /// Whether it is possible that no member has received it.
    pub(super) given_up: bool,
}

/// An entry of a summary vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireTime {
    pub(super) incarnation: [u8; 16],
    pub(super) time: u64,
}

/// An entry of the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireMember<'a> {
    pub(super) name: &'a str,
    pub(super) incarnation: [u8; 16],
    pub(super) generation: u64,
    pub(super) standing: WireStanding,
    pub(super) since: u64,
    pub(super) heard: u64,
}

/// Whether the stable time waits for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum WireStanding {
    Present,
    Lapsed,
    Gone,
}

/// The report of a member about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireReport {
    pub(super) incarnation: [u8; 16],
    /// The hash of the members that it has.
    pub(super) members: u64,
    /// Its hybrid clock when it made the report.
    pub(super) clock: u64,
    /// The time up to which it holds every member's writes.
    pub(super) acknowledged: u64,
}

/// A tree node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireTreeNode {
    pub(super) bits: u8,
    pub(super) path: u64,
}

/// How the responder answers digests, beside saying which differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum Answer {
    /// With nothing more.
    Differ,
    /// With its uncovered cells in the ranges that differ.
    Uncovered,
    /// With what it holds of each child that differs.
    Exact,
}

/// The digests of a tree node's children, 8 bytes each: all of them, or those that are set in `mask`. If there
/// are none, the sender holds nothing of the tree node and asks for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Digests<'a> {
    pub(super) tree_node: WireTreeNode,
    pub(super) mask: &'a [u8],
    pub(super) sums: &'a [u8],
}

/// Which children of a tree node differ: one bit each, lowest first. If their sums were brief, `rest` is the sum of the
/// digests of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Differ<'a> {
    pub(super) tree_node: WireTreeNode,
    pub(super) children: &'a [u8],
    pub(super) rest: Option<u64>,
}

/// What the sender holds of one tree node: packs [`WireEntry`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct List<'a> {
    pub(super) tree_node: WireTreeNode,
    pub(super) entries: Packed<'a>,
}

/// One cell of a list, identified by its timestamp: `origin` is then twice an index into the message's table
/// plus two, and one more for a tombstone. If `origin` is 0, it is identified by the hash of all its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireEntry {
    pub(super) key_hash: [u8; 8],
    pub(super) origin: u32,
    pub(super) time: [u8; 8],
}

/// The sender's uncovered cells in some ranges of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Uncovered<'a> {
    pub(super) group: WireTreeNode,
    /// One bit for each range of the group, lowest first.
    pub(super) ranges: &'a [u8],
    /// Whether more ranges of this group follow.
    pub(super) more: bool,
    /// For each cell 4 bytes of its key's hash and 4 bytes of its content.
    pub(super) cells: &'a [u8],
}

/// A completed tree node: everything that the receiver lacks of it has been sent. The sender asks for the keys
/// with these hashes: 8 bytes each, or 4 in answer to [`Uncovered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct End<'a> {
    pub(super) tree_node: WireTreeNode,
    pub(super) wanted: &'a [u8],
}

/// A node that the sender is linked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct PeerAddress<'a> {
    pub(super) name: &'a str,
    pub(super) incarnation: u128,
    pub(super) advertise: &'a str,
}

/// Cells with the incarnations they refer to: `origins` packs 16-byte ids, `cells` packs [`WireCell`]s.
#[derive(Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Cells<'a> {
    pub(super) origins: &'a [u8],
    pub(super) cells: Packed<'a>,
}

impl fmt::Debug for Cells<'_> {
    /// Omits the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cells({} bytes)", self.cells.0.len())
    }
}

/// The encoding of one cell; origins are indexes into the batch's table.
#[derive(Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCell<'a> {
    pub(super) key: &'a [u8],
    pub(super) time: u64,
    pub(super) origin: u32,
    pub(super) value: Option<&'a [u8]>,
    pub(super) deadline: Option<u64>,
    pub(super) deadline_timestamp: Option<(u64, u32)>,
    pub(super) counter: Option<WireCounter<'a>>,
}

/// The counter of a cell: `slots` packs [`WireSlot`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCounter<'a> {
    pub(super) expiry: Option<WireExpiry>,
    pub(super) slots: Packed<'a>,
}

/// The deadline of a counter; `writer` is an index into the batch's table of origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireExpiry {
    pub(super) writer: u32,
    pub(super) set_at: u64,
    pub(super) deadline: Option<u64>,
}

/// One incarnation's totals; `owner` is an index into the batch's table of origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireSlot {
    pub(super) owner: u32,
    pub(super) start: u64,
    /// From `start` to the latest increment.
    pub(super) span: u64,
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) reset: Option<WireReset>,
}

/// The part of a slot's totals that does not count any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireReset {
    pub(super) mark: u64,
    pub(super) at: u64,
    pub(super) up: u64,
    pub(super) down: u64,
}

/// A node's copy of a queried key; of the value at most the first 1,024 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCopy<'a> {
    pub(super) state: WireCopyState,
    pub(super) value: Option<&'a [u8]>,
    /// The size of the whole value.
    pub(super) value_bytes: u64,
    /// Time and incarnation of the latest write, if there is any.
    pub(super) timestamp: Option<(u64, [u8; 16])>,
    pub(super) deadline: Option<u64>,
    pub(super) counter: Option<WireCount<'a>>,
}

impl fmt::Debug for WireCopy<'_> {
    /// Omits the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireCopy({:?}, {} bytes)", self.state, self.value_bytes)
    }
}

/// Whether a node holds anything of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum WireCopyState {
    Absent,
    Dead,
    Live,
}

/// A counter: `slots` packs [`WireTotals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCount<'a> {
    pub(super) total: i128,
    pub(super) base: Option<i128>,
    pub(super) slots: Packed<'a>,
}

/// The totals of one incarnation since the last reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireTotals {
    pub(super) owner: [u8; 16],
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) active: bool,
}

/// The number of an incarnation, as it is encoded.
pub(super) fn incarnation_number(incarnation: Incarnation) -> u128 {
    u128::from_le_bytes(incarnation.to_le_bytes())
}
