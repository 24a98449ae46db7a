//! What a daemon counts of its links, and what it knows of others in numbers.

/// What a link carries, told apart by what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficKind {
    /// Writes as they are made, and their acknowledgements.
    Pushes,
    /// Comparisons, and what they bring.
    Rounds,
    /// Signs of life and everything small.
    Beats,
    /// What clients publish, and what people look at.
    Messages,
}

impl TrafficKind {
    /// All of them, in the order of [`Traffic`]'s fields.
    pub const ALL: [TrafficKind; 4] =
        [TrafficKind::Pushes, TrafficKind::Rounds, TrafficKind::Beats, TrafficKind::Messages];

    /// The word used in metrics and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            TrafficKind::Pushes => "pushes",
            TrafficKind::Rounds => "rounds",
            TrafficKind::Beats => "beats",
            TrafficKind::Messages => "messages",
        }
    }
}

/// Bytes that the present link to a peer has carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Received, by [`TrafficKind`].
    pub received: [u64; TrafficKind::ALL.len()],
    /// Sent, by [`TrafficKind`].
    pub sent: [u64; TrafficKind::ALL.len()],
    /// Bytes received in the last second or so.
    pub received_per_second: u64,
    /// Bytes sent in the last second or so.
    pub sent_per_second: u64,
}

/// What replication has done since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Activity {
    /// Links that came about.
    pub links: u64,
    /// Rounds that finished: both sides held the same.
    pub rounds: u64,
    /// Rounds that were given up.
    pub failed_rounds: u64,
    /// How often a daemon was refused or has refused this one, by the state that this shows as.
    pub refusals: Vec<(super::PeerState, u64)>,
}
