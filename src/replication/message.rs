//! What nodes say to each other. `docs/peer-protocol.md` describes the conversation.

use std::fmt;

use super::codec::Packed;
use crate::cluster::TrafficKind;
use crate::model::Incarnation;
use bincode::{BorrowDecode, Encode};

/// The protocol versions that this build speaks.
pub(super) const VERSIONS: Versions = Versions { oldest: 4, newest: 4 };

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Versions {
    pub(super) oldest: u16,
    pub(super) newest: u16,
}

impl Versions {
    /// The newest version in both ranges.
    pub(super) fn agree(self, other: Versions) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// The first message of both sides. Its layout is the same in every version; what a later one adds goes into
/// `extension`, which an older one ignores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Hello<'a> {
    pub(super) magic: [u8; 8],
    pub(super) versions: Versions,
    pub(super) cluster: &'a str,
    pub(super) name: &'a str,
    pub(super) incarnation: u128,
    /// The machine's clock.
    pub(super) wall: u64,
    /// The hybrid clock.
    pub(super) hlc: u64,
    /// Where this node can be dialled; `:port` means at the address this connection comes from.
    pub(super) advertise: &'a str,
    /// The largest message this node takes, in bytes.
    pub(super) max_frame: u64,
    /// Which incarnation of its name this is, as far as it knows.
    pub(super) generation: u64,
    pub(super) extension: &'a [u8],
}

/// What makes the first bytes of a connection a Sapwood peer's.
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
    /// The two are linked already, over another connection.
    Linked,
    /// It dialled itself.
    Itself,
    /// It has no room for another peer.
    Crowded,
}

/// Everything after the hellos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum Message<'a> {
    /// The sender takes the link: the dialler first, then the one who was dialled. `wall` is its machine's clock.
    Welcome { wall: u64 },
    /// The sender will not link and closes.
    Refuse { refusal: Refusal, text: &'a str },
    /// Every second: alive, and what the sender knows of the cluster.
    Heartbeat(Heartbeat<'a>),
    /// Cells just written. With them, and the `Put`s before since the link's start or the last `Gap`, come all changes
    /// since then that the sender's clients made, up to `through` in the sequence of its feed; 0 says nothing.
    Put { through: u64, cells: Cells<'a> },
    /// This many `Put`s since the link's start or the last `Gap` are merged.
    Ack { epoch: u32, puts: u64 },
    /// Pushes were dropped: the receiver should start a sync. Begins the next epoch.
    Gap,
    /// Offers a sync; with `deep` one that compares values too, with `probe` one that is only to see whether
    /// anything differs.
    Start { sync: u32, deep: bool, probe: bool, summary: Summary<'a> },
    /// Takes the offer. `sums` has the digest of each group of ranges, 8 bytes each.
    Accept { sync: u32, summary: Summary<'a>, sums: &'a [u8] },
    /// What the sender has incorporated of incarnations that are not members: packs [`WireCoverage`]. Only of the buckets
    /// whose hashes in the two summaries differ.
    Coverage { sync: u32, items: Packed<'a> },
    /// Digests to compare: packs [`Digests`]. With `compare_only` the receiver only says which differ.
    Digests { sync: u32, compare_only: bool, items: Packed<'a> },
    /// Answers the digests of the one who offered the sync: packs [`Differ`]s.
    Differ { sync: u32, items: Packed<'a> },
    /// What is held of some tree nodes, without values. `origins` packs 16-byte ids, `items` packs [`List`]s.
    List { sync: u32, origins: &'a [u8], items: Packed<'a> },
    /// Cells that the receiver lacks. `ends` packs the [`End`]s of tree nodes that are complete with this message.
    Cells { sync: u32, cells: Cells<'a>, ends: Packed<'a> },
    /// What the receiver has sent and the sender has removed: packs [`WireRetraction`]s, whose origins are indexes into
    /// `origins`, which packs 16-byte ids.
    Retract { sync: u32, origins: &'a [u8], items: Packed<'a> },
    /// The receiver can take this many more bytes of `Cells` and `Retract`.
    Credit { sync: u32, bytes: u64 },
    /// All that the sender held when the sync began has been sent; the second one ends it.
    Done { sync: u32 },
    /// The sync ends without a result, and why.
    Abort { sync: u32, reason: &'a str },
    /// The sender leaves and is not to be waited for.
    Goodbye,
    /// A client of the sender has published this. It goes no further, and nobody acknowledges it.
    Publish { channel: &'a [u8], message: &'a [u8] },
    /// Someone wants to see what the receiver holds of a key.
    KeyQuery { query: u32, key: &'a [u8] },
    /// Answers a `KeyQuery` by its number.
    KeyReply { query: u32, copy: WireCopy<'a> },
}

/// What a message is for, told by its first byte: the number of the variant.
pub(super) fn kind(message: &[u8]) -> TrafficKind {
    match message.first() {
        Some(3..=5) => TrafficKind::Pushes,
        Some(6..=16) => TrafficKind::Syncs,
        Some(18..) => TrafficKind::Messages,
        _ => TrafficKind::Heartbeats,
    }
}

/// A node's view of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Heartbeat<'a> {
    pub(super) wall: u64,
    pub(super) hlc: u64,
    /// What the sender would say at the start of a sync, without the hashes of coverage.
    pub(super) summary: Summary<'a>,
    /// Cells that hold a value.
    pub(super) keys: u64,
    /// Packs a [`PeerAddress`] for every link of the sender.
    pub(super) peers: Packed<'a>,
    /// Packs [`WireMember`]s.
    pub(super) members: Packed<'a>,
    /// Packs [`WireReport`]s: the newest known of each member.
    pub(super) reports: Packed<'a>,
    /// Packs [`Figure`]s: what the sender says of itself, for people to see.
    pub(super) figures: Packed<'a>,
}

/// A number that a node says of itself. An id that the receiver does not know is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Figure {
    pub(super) id: u8,
    pub(super) value: u64,
}

/// How far a node has incorporated the writes of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Summary<'a> {
    /// Time below which every member holds every write.
    pub(super) stable: u64,
    /// The hash of the members that the sender counts with.
    pub(super) members: u64,
    /// The summary vector of the members, the sender's own entry included: packs [`WireTime`]s.
    pub(super) vector: Packed<'a>,
    /// Incarnations that are not members and not closed yet: packs [`WireAway`]s.
    pub(super) away: Packed<'a>,
    /// The hash of each bucket of the coverage of all others, 8 bytes each.
    pub(super) hashes: &'a [u8],
}

/// An incarnation that is not a member and not closed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireAway {
    pub(super) incarnation: [u8; 16],
    /// When it was declared away, by the latest clock of those that did.
    pub(super) since: u64,
    /// Its latest write that the sender has received.
    pub(super) seen: u64,
}

/// How far the writes of an incarnation that is not a member are incorporated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCoverage {
    pub(super) incarnation: [u8; 16],
    pub(super) synced: u64,
    pub(super) closed: u64,
}

/// Parts of a key's cell that were removed: whoever holds exactly these drops them.
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
    pub(super) version: (u64, u32),
    /// The timestamp of its deadline.
    pub(super) deadline: (u64, u32),
    /// No member may have seen it.
    pub(super) given_up: bool,
}

/// A slot that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireRemovedSlot {
    pub(super) owner: u32,
    pub(super) start: u64,
    /// The time of its last increment.
    pub(super) last: u64,
    /// No member may have seen it.
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

/// Whether a member is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum WireStanding {
    Present,
    Lapsed,
    Gone,
}

/// What a member said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireReport {
    pub(super) incarnation: [u8; 16],
    /// The hash of the members that it counts with.
    pub(super) members: u64,
    /// Its hybrid clock when it said so.
    pub(super) clock: u64,
    /// The time up to which it holds every member's writes.
    pub(super) low: u64,
}

/// A place in the digest tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireTreeNode {
    pub(super) bits: u8,
    pub(super) path: u64,
}

/// The digests of a tree node's children, 8 bytes each: all of them, or those that are set in `mask`. Without any,
/// the sender holds nothing of the tree node and asks for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Digests<'a> {
    pub(super) tree_node: WireTreeNode,
    pub(super) mask: &'a [u8],
    pub(super) sums: &'a [u8],
}

/// Which children of a tree node differ: one bit each, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Differ<'a> {
    pub(super) tree_node: WireTreeNode,
    pub(super) children: &'a [u8],
}

/// What is held of one tree node: packs [`WireEntry`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct List<'a> {
    pub(super) tree_node: WireTreeNode,
    pub(super) entries: Packed<'a>,
}

/// One cell of a list: by its timestamp, of which `origin` is twice an index into the message's table plus
/// two, and one more for a tombstone; or, where `origin` is 0, by the hash of all that identifies its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireEntry {
    pub(super) key_hash: [u8; 8],
    pub(super) origin: u32,
    pub(super) time: [u8; 8],
}

/// A tree node of which everything the receiver lacks has been sent; the sender asks for the keys with these
/// hashes, 8 bytes each.
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
    /// Never shows a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cells({} bytes)", self.cells.0.len())
    }
}

/// One cell on the wire; origins are indexes into the batch's table.
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

/// What a cell counts: `slots` packs [`WireSlot`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCounter<'a> {
    pub(super) expiry: Option<WireExpiry>,
    pub(super) slots: Packed<'a>,
}

/// The deadline of what is counted; `writer` is an index into the batch's table of origins.
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

/// How much of a slot does not count any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireReset {
    pub(super) mark: u64,
    pub(super) at: u64,
    pub(super) up: u64,
    pub(super) down: u64,
}

/// What a node holds of a key that someone asks for; of the value at most the first 1,024 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCopy<'a> {
    pub(super) state: WireCopyState,
    pub(super) value: Option<&'a [u8]>,
    /// Of the whole value.
    pub(super) value_bytes: u64,
    /// Time and incarnation of the latest write, if there is any.
    pub(super) version: Option<(u64, [u8; 16])>,
    pub(super) deadline: Option<u64>,
    pub(super) counter: Option<WireCount<'a>>,
}

impl fmt::Debug for WireCopy<'_> {
    /// Never shows a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireCopy({:?}, {} bytes)", self.state, self.value_bytes)
    }
}

/// Whether there is anything of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum WireCopyState {
    Absent,
    Dead,
    Live,
}

/// What a counter counts: `slots` packs [`WireTotals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCount<'a> {
    pub(super) total: i128,
    pub(super) base: Option<i128>,
    pub(super) slots: Packed<'a>,
}

/// What one incarnation has counted since the last reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireTotals {
    pub(super) owner: [u8; 16],
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) active: bool,
}

/// The number of an incarnation, as it travels.
pub(super) fn incarnation_number(incarnation: Incarnation) -> u128 {
    u128::from_le_bytes(incarnation.to_le_bytes())
}
