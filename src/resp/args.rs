//! The arguments of one request, borrowed from the buffer that they were read into.

use std::{fmt, iter::FusedIterator, ops::Index};

use crate::model::Database;
use crate::model::counter::strict_number;

/// The position of one argument. Eight bytes, because a request of a million small arguments keeps a million of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The range lies within one request, and the parser keeps a request within `u32::MAX` bytes.
    #[expect(clippy::cast_possible_truncation, reason = "a request never exceeds u32::MAX bytes")]
    pub(super) fn new(start: usize, len: usize) -> Self {
        debug_assert!(u32::try_from(start + len).is_ok(), "a request stays within u32::MAX bytes");
        Self { start: start as u32, len: len as u32 }
    }

    /// The argument, whose request begins at the first of `bytes`.
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        &bytes[start..start + self.len as usize]
    }
}

/// The arguments of one request, the command's name first. Copying it copies no argument.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    pub(super) fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    /// The number of arguments, the command's name included. A request has at least one.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no argument (possible after [`Args::tail`]).
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The bytes that the arguments take in the request.
    pub(super) fn bytes(&self) -> usize {
        let (first, last) = (self.spans.first(), self.spans.last());
        first
            .zip(last)
            .map_or(0, |(first, last)| (last.start + last.len).saturating_sub(first.start) as usize)
    }

    /// Argument `i`. Unlike `args[i]`, it lives as long as the buffer.
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        Some(self.spans.get(i)?.of(self.bytes))
    }

    /// The arguments from index `from` on; empty if there are fewer.
    #[must_use]
    pub fn tail(&self, from: usize) -> Self {
        Self { bytes: self.bytes, spans: self.spans.get(from..).unwrap_or_default() }
    }

    /// The first `len` arguments, or as many as there are.
    #[must_use]
    pub(super) fn head(&self, len: usize) -> Self {
        Self { bytes: self.bytes, spans: self.spans.get(..len).unwrap_or(self.spans) }
    }

    /// A copy that does not borrow.
    pub(super) fn to_owned(self) -> OwnedArgs {
        let end = self.spans.iter().map(|span| span.start as usize + span.len as usize).max().unwrap_or(0);
        OwnedArgs { bytes: self.bytes[..end].into(), spans: self.spans.into() }
    }

    /// All arguments in order.
    pub fn iter(&self) -> ArgsIter<'a> {
        ArgsIter { bytes: self.bytes, spans: self.spans.iter() }
    }
}

/// Which arguments are keys: from `first` to `last` (-1: to the end), every `step`th; none if `first` is 0. If
/// `counted_at` is not 0, that argument says how many keys follow it, every `step`th argument.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) first: i8,
    pub(super) last: i8,
    pub(super) step: i8,
    pub(super) counted_at: i8,
}

impl Keys {
    /// Whether a request can have keys.
    pub(super) fn may_be(self) -> bool {
        self.first > 0 || self.counted_at > 0
    }

    /// The indexes of the keys in a request; none if it counts more than it has.
    pub(super) fn places(self, args: Args<'_>) -> impl ExactSizeIterator<Item = usize> + use<> {
        let place = |place: i8| usize::try_from(place).ok();
        let step = place(self.step).filter(|step| *step > 0).unwrap_or(1);
        let (first, end) = match place(self.counted_at).filter(|at| *at > 0) {
            Some(at) => {
                let count =
                    args.get(at).and_then(strict_number).and_then(|count| usize::try_from(count).ok());
                let end = count.and_then(|count| count.checked_mul(step)?.checked_add(at + 1));
                (Some(at + 1), end.filter(|end| *end <= args.len()).unwrap_or(0))
            }
            None => {
                let first = place(self.first).filter(|first| *first > 0);
                let end = place(self.last).map_or(args.len(), |last| last + 1);
                (first, end)
            }
        };
        (first.unwrap_or(end)..end).step_by(step)
    }

    /// The keys among `args` with their databases: all in the `selected` one, and the last in the `other` one too.
    pub(super) fn reached(
        self,
        args: Args<'_>,
        selected: Database,
        other: Option<Database>,
    ) -> impl Iterator<Item = (Database, &[u8])> {
        let keys = move || self.places(args).filter_map(move |place| args.get(place));
        let last = other.and_then(|other| Some((other, keys().last()?)));
        keys().map(move |key| (selected, key)).chain(last)
    }
}

/// Owned arguments, for a command that continues after the buffer is reused.
pub(super) struct OwnedArgs {
    bytes: Box<[u8]>,
    spans: Box<[Span]>,
}

impl OwnedArgs {
    pub(super) fn as_args(&self) -> Args<'_> {
        Args { bytes: &self.bytes, spans: &self.spans }
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    /// # Panics
    /// If there is no argument `i`.
    fn index(&self, i: usize) -> &[u8] {
        self.spans[i].of(self.bytes)
    }
}

impl<'a> IntoIterator for Args<'a> {
    type Item = &'a [u8];
    type IntoIter = ArgsIter<'a>;

    fn into_iter(self) -> ArgsIter<'a> {
        self.iter()
    }
}

/// Shows only sizes: values may be secrets, and debug output ends up in logs.
impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(<[u8]>::len)).finish()
    }
}

/// Iterates over [`Args`].
#[derive(Clone)]
pub struct ArgsIter<'a> {
    bytes: &'a [u8],
    spans: std::slice::Iter<'a, Span>,
}

impl<'a> Iterator for ArgsIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        Some(self.spans.next()?.of(self.bytes))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl DoubleEndedIterator for ArgsIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        Some(self.spans.next_back()?.of(self.bytes))
    }
}

impl ExactSizeIterator for ArgsIter<'_> {}
impl FusedIterator for ArgsIter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found_by_number_by_index_and_in_order() {
        let spans = [Span::new(0, 3), Span::new(4, 0), Span::new(4, 1)];
        let args = Args::new(b"SET k", &spans);
        assert_eq!((args.len(), args.is_empty()), (3, false));
        assert_eq!((args.get(0), args.get(1), args.get(3)), (Some(&b"SET"[..]), Some(&b""[..]), None));
        assert_eq!(&args[2], b"k");
        assert_eq!(args.iter().rev().collect::<Vec<_>>(), [&b"k"[..], b"", b"SET"]);
        assert_eq!(args.tail(2).into_iter().collect::<Vec<_>>(), [b"k"]);
        assert!(args.tail(4).is_empty());
        assert_eq!(format!("{args:?}"), "[3, 0, 1]");
    }
}
