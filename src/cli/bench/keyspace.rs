//! Writes all keys before a run, and deletes them after it.

use anyhow::{Context as _, bail};
use sapwood::client::Connection;
use sapwood::client::resp::Frame;

use super::args::Args;
use super::keys::{Holds, write_name};
use super::mix::Kind;
use super::value::Values;
use crate::cli::output::grouped;
use crate::cli::progress::Progress;
use crate::cli::target::explain;

/// Most requests, and most bytes of values, that are sent together: enough to keep a server busy, and little memory.
const BATCH_REQUESTS: u64 = 500;
const BATCH_BYTES: u64 = 1 << 20;
/// Keys for each `DEL`.
const DELETED_TOGETHER: usize = 100;

/// Writes a value to every key.
pub(super) async fn load(
    args: &Args,
    connection: &mut Connection,
    values: &mut Values,
    random: &mut rand::rngs::StdRng,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let batch = (BATCH_BYTES / args.value_size.max.max(1)).clamp(1, BATCH_REQUESTS);
    let mut first = 0;
    while first < args.keys {
        progress.show(&format!("writing keys: {} of {}", grouped(first), grouped(args.keys)))?;
        let last = args.keys.min(first + batch);
        let pairs: Vec<_> = (first..last)
            .map(|key| (name(args, Holds::Value, key), values.make(key, random).to_vec()))
            .collect();
        let calls: Vec<[&[u8]; 3]> = pairs.iter().map(|(name, value)| [b"SET", &name[..], value]).collect();
        for reply in connection.pipeline(calls.iter().map(|call| &call[..])).await {
            match reply.map_err(|error| explain(&error)).context("could not write the keys")? {
                Frame::Simple(_) => {}
                other => bail!("could not write the keys: the reply to SET was {other:?}"),
            }
        }
        first = last;
    }
    Ok(())
}

/// Deletes every key that the run can have written. Those that are absent stay so.
pub(super) async fn delete(
    args: &Args,
    connection: &mut Connection,
    progress: &mut Progress,
) -> anyhow::Result<u64> {
    let mut deleted = 0;
    for holds in [Holds::Value, Holds::Counter] {
        if holds == Holds::Counter && !args.cleanup && !args.mix().contains(Kind::Incr) {
            continue;
        }
        let mut first = 0;
        while first < args.keys {
            progress.show(&format!("deleting keys: {} of {}", grouped(first), grouped(args.keys)))?;
            let last = args.keys.min(first + BATCH_REQUESTS * 10);
            let names: Vec<_> = (first..last).map(|key| name(args, holds, key)).collect();
            let calls: Vec<Vec<&[u8]>> = names
                .chunks(DELETED_TOGETHER)
                .map(|names| std::iter::once(&b"DEL"[..]).chain(names.iter().map(|name| &name[..])).collect())
                .collect();
            for reply in connection.pipeline(calls.iter().map(|call| &call[..])).await {
                match reply.map_err(|error| explain(&error))? {
                    Frame::Int(count) => deleted += u64::try_from(count).unwrap_or(0),
                    other => bail!("the reply to DEL was {other:?}"),
                }
            }
            first = last;
        }
    }
    Ok(deleted)
}

fn name(args: &Args, holds: Holds, key: u64) -> Vec<u8> {
    let mut name = Vec::new();
    write_name(&mut name, &args.prefix, holds, key);
    name
}
