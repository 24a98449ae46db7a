//! `LCS`: the longest common subsequence of two values, by the table of lengths of all pairs of prefixes (Wagner and
//! Fischer, 1974).

use super::context::{Context, Long, Outcome, Progress, begin, integer, is};
use super::error::CommandError;
use crate::resp::Args;
use crate::store::Live;
use crate::time_slice::TimeSlice;

/// Most entries of the table: 64 MiB.
const MAX_ENTRIES: usize = 16 << 20;

/// What to reply.
#[derive(Clone, Copy, Default)]
struct Options {
    length_only: bool,
    matches: bool,
    least_match: usize,
    match_lengths: bool,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut at = 0;
        while let Some(word) = args.get(at) {
            match args.get(at + 1) {
                _ if is(word, "len") => options.length_only = true,
                _ if is(word, "idx") => options.matches = true,
                _ if is(word, "withmatchlen") => options.match_lengths = true,
                Some(least) if is(word, "minmatchlen") => {
                    options.least_match = usize::try_from(integer(least)?).unwrap_or(0);
                    at += 1;
                }
                _ => return Err(CommandError::Syntax),
            }
            at += 1;
        }
        if options.length_only && options.matches {
            return Err(CommandError::said(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

pub(super) fn lcs(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(args.tail(3))?;
    let value = |cx: &Context<'_>, at: usize| {
        cx.keyspace.read(&args[at], cx.now(), |live| live.map(Live::value).unwrap_or_default().to_vec())
    };
    let [a, b] = cx.together([&args[1], &args[2]].into_iter(), |cx| [value(cx, 1), value(cx, 2)]);
    let entries = (a.len() + 1).saturating_mul(b.len() + 1);
    if entries > MAX_ENTRIES {
        return Err(CommandError::said(format!(
            "ERR the lengths of the two values, multiplied, are more than {MAX_ENTRIES}: there is no memory for that"
        )));
    }
    begin(cx, Lcs { a, b, options, lengths: vec![0; entries], row: 1 })
}

struct Lcs {
    a: Vec<u8>,
    b: Vec<u8>,
    options: Options,
    /// That of the first i bytes of `a` and the first j of `b` at i times the width of a row, plus j.
    lengths: Vec<u32>,
    /// The next row to fill.
    row: usize,
}

/// A run of bytes that both values have.
struct Match {
    /// The index behind its last byte in the first value.
    a: usize,
    /// The index behind its last byte in the second value.
    b: usize,
    length: usize,
}

impl Lcs {
    fn width(&self) -> usize {
        self.b.len() + 1
    }

    fn length(&self, i: usize, j: usize) -> u32 {
        self.lengths[i * self.width() + j]
    }

    fn fill_row(&mut self) {
        let i = self.row;
        for j in 1..self.width() {
            let length = if self.a[i - 1] == self.b[j - 1] {
                self.length(i - 1, j - 1) + 1
            } else {
                self.length(i - 1, j).max(self.length(i, j - 1))
            };
            let place = i * self.width() + j;
            self.lengths[place] = length;
        }
        self.row += 1;
    }

    /// The subsequence, and its runs from the last to the first.
    fn trace(&self) -> (Vec<u8>, Vec<Match>) {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let (mut bytes, mut matches) = (Vec::new(), Vec::<Match>::new());
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                bytes.push(self.a[i - 1]);
                match matches.last_mut() {
                    Some(last) if last.a - last.length == i && last.b - last.length == j => last.length += 1,
                    _ => matches.push(Match { a: i, b: j, length: 1 }),
                }
                (i, j) = (i - 1, j - 1);
            } else if self.length(i - 1, j) > self.length(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        bytes.reverse();
        (bytes, matches)
    }

    fn reply(&self, cx: &mut Context<'_>) {
        let total = i64::from(self.length(self.a.len(), self.b.len()));
        let mut reply = cx.reply();
        if self.options.length_only {
            return reply.int(total);
        }
        let (bytes, mut matches) = self.trace();
        if !self.options.matches {
            return reply.bulk(&bytes);
        }
        matches.retain(|found| found.length >= self.options.least_match);
        let int = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        reply.map(2);
        reply.bulk(b"matches");
        reply.array(matches.len());
        for Match { a, b, length } in matches {
            reply.array(if self.options.match_lengths { 3 } else { 2 });
            for end in [a, b] {
                reply.array(2);
                reply.int(int(end - length));
                reply.int(int(end - 1));
            }
            if self.options.match_lengths {
                reply.int(int(length));
            }
        }
        reply.bulk(b"len");
        reply.int(total);
    }
}

impl Long for Lcs {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let time = TimeSlice::begin();
        while self.row <= self.a.len() {
            if time.is_over() {
                return Ok(Progress::More);
            }
            self.fill_row();
        }
        self.reply(cx);
        Ok(Progress::Done)
    }
}
