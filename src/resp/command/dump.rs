//! `DUMP` and `RESTORE`: values in Redis's serialized form.
//!
//! A value leaves without the timestamps by which nodes merge it, and is a new write where it is restored. Checksums and
//! packed values take a while for large values, so both commands run in steps.

use super::context::{Context, DONE, Long, Outcome, Progress, begin, integer, is};
use super::error::CommandError;
use super::options::Moment;
use crate::model::Deadline;
use crate::resp::Args;
use crate::resp::args::OwnedArgs;
use crate::resp::rdb::{self, Crc, PayloadError, Stored, Unpacking};
use crate::store::{Live, Write};
use crate::time_slice::TimeSlice;

/// Bytes between two looks at the clock: some tens of microseconds.
const PART: usize = 64 << 10;

impl From<PayloadError> for CommandError {
    fn from(error: PayloadError) -> Self {
        CommandError::said(error.to_string())
    }
}

/// Computes the checksum of bytes, in steps.
#[derive(Default)]
struct Checking {
    crc: Crc,
    at: usize,
}

impl Checking {
    /// Continues until the end of `bytes` or of the time; returns whether it is at the end.
    fn step(&mut self, bytes: &[u8], time: &TimeSlice) -> bool {
        while self.at < bytes.len() {
            let end = bytes.len().min(self.at + PART);
            self.crc.add(&bytes[self.at..end]);
            self.at = end;
            if time.is_over() {
                break;
            }
        }
        self.at == bytes.len()
    }
}

/// `DUMP`.
struct Dump {
    payload: Vec<u8>,
    checking: Checking,
}

pub(super) fn dump(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let body = cx.keyspace.read(&args[1], cx.now(), |live| live.map(|live| rdb::body(live.value())));
    cx.session.counts.lookup(body.is_some());
    let Some(payload) = body else {
        cx.reply().null();
        return DONE;
    };
    begin(cx, Dump { payload, checking: Checking::default() })
}

impl Long for Dump {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        if !self.checking.step(&self.payload, &TimeSlice::begin()) {
            return Ok(Progress::More);
        }
        rdb::seal(&mut self.payload, &self.checking.crc);
        cx.reply().bulk(&self.payload);
        Ok(Progress::Done)
    }
}

/// `RESTORE`.
struct Restore {
    args: OwnedArgs,
    replaces: bool,
    deadline: Option<Deadline>,
    checking: Checking,
    unpacking: Unpacking,
}

pub(super) fn restore(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (mut replaces, mut is_absolute) = (false, false);
    let mut at = 4;
    while let Some(word) = args.get(at) {
        match args.get(at + 1) {
            _ if is(word, "replace") => replaces = true,
            _ if is(word, "absttl") => is_absolute = true,
            Some(seconds) if is(word, "idletime") => {
                if integer(seconds)? < 0 {
                    return Err(CommandError::said("ERR Invalid IDLETIME value, must be >= 0"));
                }
                at += 1;
            }
            Some(frequency) if is(word, "freq") => {
                if !(0..=255).contains(&integer(frequency)?) {
                    return Err(CommandError::said("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                }
                at += 1;
            }
            _ => return Err(CommandError::Syntax),
        }
        at += 1;
    }
    if !replaces && !cx.is_absent(&args[1]) {
        return Err(busy());
    }
    let deadline = match integer(&args[2])? {
        0 => None,
        ..0 => return Err(CommandError::said("ERR Invalid TTL value, must be >= 0")),
        _ => {
            let moment = Moment { amount: &args[2], in_seconds: false, from_now: !is_absolute };
            Some(moment.deadline(cx.now(), "restore")?)
        }
    };
    let (checking, unpacking) = (Checking::default(), Unpacking::default());
    begin(cx, Restore { args: args.to_owned(), replaces, deadline, checking, unpacking })
}

fn busy() -> CommandError {
    CommandError::said("BUSYKEY Target key name already exists.")
}

impl Long for Restore {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let Restore { args, replaces, deadline, checking, unpacking } = self;
        let (args, time) = (args.as_args(), TimeSlice::begin());
        let (key, payload) = (&args[1], &args[3]);
        if !checking.step(rdb::covered(payload)?, &time) {
            return Ok(Progress::More);
        }
        let owned;
        let value = match rdb::parse(payload, &checking.crc)? {
            Stored::Plain(value) => value,
            Stored::Number(number) => {
                owned = number.to_string().into_bytes();
                &owned
            }
            Stored::Packed(packed, length) => {
                // A few bytes can be packed from very many.
                cx.shared.store.check_length(key, length)?;
                owned = loop {
                    if let Some(value) = unpacking.step(packed, length, PART)? {
                        break value;
                    }
                    if time.is_over() {
                        return Ok(Progress::More);
                    }
                };
                &owned
            }
        };
        let (replaces, deadline) = (*replaces, *deadline);
        cx.shared.store.check_lengths(key, value)?;
        let is_done = cx.keyspace.write(cx.batch, key, |live: Option<Live<'_>>| {
            let may_write = replaces || live.is_none();
            (if may_write { Write::Set { value, deadline } } else { Write::Keep }, may_write)
        })?;
        if !is_done {
            return Err(busy());
        }
        cx.reply().ok();
        Ok(Progress::Done)
    }
}
