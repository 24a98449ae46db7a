//! What sends the requests of the throughput measure.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::support::load::{Done, Load, VALUE};
use crate::support::process;

/// What sends the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Generator {
    /// This program: it sends to all connections and then awaits all replies, so servers receive many requests at once
    Own,
    /// redis-benchmark, as a user runs it: the connections are independent, and at pipeline 1 requests come one by one
    RedisBenchmark,
}

impl Generator {
    /// Sends random requests for about `duration`, then awaits every reply. `earlier` says how fast an earlier run was.
    pub(crate) fn run(
        self,
        load: Load,
        server: SocketAddr,
        duration: Duration,
        seed: u64,
        earlier: Option<Done>,
    ) -> Result<Done> {
        match self {
            Generator::Own => load.run(server, duration, seed),
            Generator::RedisBenchmark => {
                // It ends by a number of requests.
                let a_guess = Done { requests: 20_000, elapsed: Duration::from_secs(1) };
                let Done { requests, elapsed } = earlier.unwrap_or(a_guess);
                let requests = u128::from(requests) * duration.as_nanos() / elapsed.as_nanos().max(1);
                let least = u64::from(load.pipeline * load.connections);
                redis_benchmark(load, server, u64::try_from(requests).unwrap_or(u64::MAX).max(least))
            }
        }
    }

    /// Fails if it needs a program that is missing.
    pub(crate) fn check(self) -> Result<()> {
        if self == Generator::RedisBenchmark { program().map(|_| ()) } else { Ok(()) }
    }
}

fn program() -> Result<PathBuf> {
    process::find("redis-benchmark")
        .context("there is no redis-benchmark on the PATH: install it (on Debian: apt install redis-tools)")
}

fn redis_benchmark(load: Load, server: SocketAddr, requests: u64) -> Result<Done> {
    let mut command = Command::new(program()?);
    command.args(["-h", &server.ip().to_string(), "-p", &server.port().to_string()]);
    command.args(["-t", &format!("{:?}", load.command).to_lowercase(), "-q"]);
    let numbers = [
        ("-n", requests),
        ("-c", load.connections.into()),
        ("-P", load.pipeline.into()),
        ("-r", load.keys.into()),
        ("-d", VALUE as u64),
    ];
    for (flag, number) in numbers {
        command.args([flag, &number.to_string()]);
    }
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "redis-benchmark: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Done { requests, elapsed: started.elapsed() })
}
