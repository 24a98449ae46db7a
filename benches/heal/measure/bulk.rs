//! A fresh node takes everything.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{Bench, bytes_of_cell, check};
use crate::cluster::Cluster;
use crate::options::Measure;
use crate::report::Asked;
use crate::tally::pair;

/// What is fast enough whatever the machine, in cells a second.
const FAST: f64 = 2e6;
/// What is fast enough on a slow machine: times what copying the same bytes over loopback takes.
const TIMES_RAW: f64 = 20.0;

impl Bench<'_> {
    /// Bytes are counted in runs through the proxies, times are taken in runs without them.
    pub(super) fn join(&mut self) -> Result<()> {
        let keys = f64::from(self.options.keys());
        let cell = self.join_bytes()?;
        let mut cluster = self.three_with_all(false)?;
        for run in 0..self.options.repeat() {
            eprintln!("    timed join {}", run + 1);
            let raw = raw_copy(cell * keys)?.as_secs_f64();
            let (linked, whole) = self.join_once(&mut cluster)?;
            let (linked, whole) = (linked.as_secs_f64(), whole.as_secs_f64());
            let measure = Measure::Join;
            self.add(measure, "link until equal", "s", Asked::Nothing, linked);
            self.add(measure, "process start until equal", "s", Asked::Nothing, whole);
            self.add(measure, "raw loopback copy of the payload", "s", Asked::Nothing, raw);
            self.add(measure, "link until equal", "cells/s", Asked::Nothing, keys / linked);
            self.add(measure, "link until equal", "x raw copy", Asked::Nothing, linked / raw);
            let allowed = (keys / FAST).max(TIMES_RAW * raw);
            self.add(measure, "link until equal", "of what is allowed", Asked::Time(1.0), linked / allowed);
            let fresh = cluster.nodes[2].process()?.cpu()?.used.as_secs_f64();
            self.add(measure, "CPU of the fresh node", "s", Asked::Nothing, fresh);
        }
        Ok(())
    }

    /// Measures bytes; returns those of one cell.
    fn join_bytes(&mut self) -> Result<f64> {
        let mut cluster = self.three_with_all(true)?;
        let cell = bytes_of_cell(&mut cluster, 10_000)?;
        let payload = cell * f64::from(self.options.keys());
        for run in 0..self.options.repeat() {
            eprintln!("    counted join {}", run + 1);
            let (linked, _) = self.join_once(&mut cluster)?;
            let counts = cluster.tally.read();
            check(&counts)?;
            eprintln!("      {}", counts.by_kind());
            let to_c = [pair("a", "c"), pair("b", "c")].map(|pair| counts.healing(Some(&pair)));
            let bytes = (to_c[0] + to_c[1]) as f64;
            let measure = Measure::Join;
            self.add(measure, "syncs of the fresh one with both", "MB", Asked::Nothing, bytes / 1e6);
            self.add(
                measure,
                "syncs of the fresh one with both",
                "x payload",
                Asked::Count(1.05),
                bytes / payload,
            );
            let linked = linked.as_secs_f64();
            self.add(measure, "link until equal, through the proxies", "s", Asked::Nothing, linked);
        }
        Ok(cell)
    }

    /// Restarts c empty; returns the time from its first link and that from its start until it holds everything.
    fn join_once(&self, cluster: &mut Cluster) -> Result<(Duration, Duration)> {
        cluster.nodes[2].kill();
        for node in &mut cluster.nodes[..2] {
            node.until("the loss is noticed", |node| {
                Ok(!node.peers()?.iter().any(|peer| peer.name == "c" && peer.is_linked()))
            })?;
        }
        cluster.tally.reset();
        let expected = cluster.nodes[0].digest()?;
        let fresh = &mut cluster.nodes[2];
        let started = Instant::now();
        fresh.spawn()?;
        let linked = fresh.until_link_logged()?;
        fresh
            .until("it holds everything", |node| Ok(node.digest().is_ok_and(|digest| digest == expected)))?;
        let equal = Instant::now();
        cluster.until_linked()?;
        cluster.until_quiet()?;
        Ok((equal - linked, equal - started))
    }
}

/// Sends so many bytes over loopback to a thread that only reads them.
fn raw_copy(bytes: f64) -> Result<Duration> {
    const PIECE: usize = 256 << 10;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut to = TcpStream::connect(listener.local_addr()?)?;
    let (mut from, _) = listener.accept()?;
    let started = Instant::now();
    let reader = thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        while from.read(&mut piece)? > 0 {}
        Ok::<_, std::io::Error>(())
    });
    let (piece, mut sent) = (vec![1; PIECE], 0.0);
    while sent < bytes {
        to.write_all(&piece)?;
        sent += PIECE as f64;
    }
    drop(to);
    reader.join().ok().context("the reader of the raw copy failed")??;
    Ok(started.elapsed())
}
