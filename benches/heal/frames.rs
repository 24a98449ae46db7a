//! Peer frames as they pass by: their kinds and sizes, and no more of what they say than the counting needs.

/// Bytes of the header before every message: its big-endian length, and two checksums that this bench has no need of.
const HEADER: usize = 12;
/// Bytes of the length.
const LENGTH: usize = 4;
/// How much of a message is kept until it is counted: the whole of a hello, the head of any other.
const HEAD: usize = 4 << 10;

/// What a message is, by the first byte after the hellos.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Hello,
    Welcome,
    Refuse,
    Heartbeat,
    Put,
    Ack,
    Gap,
    Start,
    Accept,
    Coverage,
    Digests,
    Differ,
    List,
    Uncovered,
    Cells,
    Retract,
    Credit,
    Done,
    Abort,
    Goodbye,
    /// None that this bench knows: it has fallen behind the protocol.
    Unknown,
}

/// The kinds by their number on the wire.
const NUMBERED: [Kind; 19] = [
    Kind::Welcome,
    Kind::Refuse,
    Kind::Heartbeat,
    Kind::Put,
    Kind::Ack,
    Kind::Gap,
    Kind::Start,
    Kind::Accept,
    Kind::Coverage,
    Kind::Digests,
    Kind::Differ,
    Kind::List,
    Kind::Uncovered,
    Kind::Cells,
    Kind::Retract,
    Kind::Credit,
    Kind::Done,
    Kind::Abort,
    Kind::Goodbye,
];

impl Kind {
    /// Whether the message carries the number of a sync.
    pub(crate) fn is_of_sync(self) -> bool {
        (Kind::Start..=Kind::Abort).contains(&self)
    }

    /// Whether it is part of how a connection becomes a link, or does not.
    pub(crate) fn is_handshake(self) -> bool {
        matches!(self, Kind::Hello | Kind::Welcome | Kind::Refuse)
    }
}

/// One frame that has passed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Its bytes on the wire, the header included.
    pub(crate) bytes: u64,
    /// The number of its sync, where it has one.
    pub(crate) sync: Option<u64>,
    /// The bytes that the cells in it take.
    pub(crate) cells: u64,
    /// Who says hello in it.
    pub(crate) name: Option<String>,
}

/// Finds the frames in one direction of a connection, whatever pieces it arrives in.
#[derive(Default)]
pub(crate) struct Frames {
    /// The header and what is kept of the message.
    head: Vec<u8>,
    /// The bytes of the frame that have passed.
    passed: usize,
    greeted: bool,
}

impl Frames {
    /// Takes what arrived next and shows every frame that it completes to `count`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut count: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let size = self.size().unwrap_or(HEADER);
            let step = bytes.len().min(size - self.passed);
            let kept = step.min((HEADER + HEAD).saturating_sub(self.head.len()));
            self.head.extend_from_slice(&bytes[..kept]);
            self.passed += step;
            bytes = &bytes[step..];
            if self.size().is_some_and(|size| size == self.passed) {
                count(read(&self.head[HEADER..], self.passed as u64, self.greeted));
                self.greeted = true;
                self.passed = 0;
                self.head.clear();
            }
        }
    }

    /// The size of the frame under way, once its header has passed.
    fn size(&self) -> Option<usize> {
        let header = self.head.first_chunk::<HEADER>()?;
        let length = header.first_chunk::<LENGTH>()?;
        Some(HEADER + u32::from_be_bytes(*length) as usize)
    }
}

fn read(head: &[u8], bytes: u64, greeted: bool) -> Frame {
    let mut frame = Frame { kind: Kind::Hello, bytes, sync: None, cells: 0, name: None };
    if !greeted {
        frame.name = name_in_hello(head);
        return frame;
    }
    let mut rest = head;
    let number = varint(&mut rest).and_then(|number| usize::try_from(number).ok());
    frame.kind = number.and_then(|number| NUMBERED.get(number).copied()).unwrap_or(Kind::Unknown);
    if frame.kind.is_of_sync() {
        frame.sync = varint(&mut rest);
    }
    if frame.kind == Kind::Put {
        // Up to which change of the sender's clients it reaches.
        varint(&mut rest);
    }
    if matches!(frame.kind, Kind::Put | Kind::Cells) {
        // The table of origins, then the cells.
        frame.cells = slice(&mut rest).and_then(|_| varint(&mut rest)).unwrap_or(0);
    }
    frame
}

/// A hello has 8 fixed bytes, the oldest and the newest version, the cluster and the name.
fn name_in_hello(head: &[u8]) -> Option<String> {
    let mut rest = head.get(8..)?;
    varint(&mut rest)?;
    varint(&mut rest)?;
    slice(&mut rest)?;
    Some(String::from_utf8_lossy(slice(&mut rest)?).into_owned())
}

/// An integer in as few bytes as it needs: itself up to 250, else a mark and 2, 4 or 8 bytes.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (&first, tail) = rest.split_first()?;
    let width = match first {
        251 => 2,
        252 => 4,
        253 => 8,
        small => {
            *rest = tail;
            return Some(u64::from(small));
        }
    };
    let (bytes, tail) = tail.split_at_checked(width)?;
    *rest = tail;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// A byte string: its length, and itself.
fn slice<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}
