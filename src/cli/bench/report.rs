//! The result of a run, for people and for machines.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::args::Args;
use super::cpu::CpuTime;
use super::mix::Kind;
use super::tally::{Durations, Tally};
use super::value::Wrong;
use crate::cli::output::{Table, grouped, json_bytes, printable};

/// A thread that is busier than this may have limited the throughput, or delayed replies.
const SATURATED_PERCENT: f64 = 80.0;
/// The open loop kept its rate if at most this fraction of the requests was not sent.
const MAX_UNSENT: f64 = 0.01;

/// Everything that a run has found out.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) tally: Tally,
    /// From the first measured request to the last reply.
    pub(super) elapsed: Duration,
    pub(super) interrupted: bool,
    /// The processor time of each thread and the time that passed, where the system reports it.
    pub(super) cpu: Vec<(CpuTime, Duration)>,
    /// Requests of the open loop that were due and have not been sent.
    pub(super) unsent: u64,
    /// Requests without a reply when the run was interrupted.
    pub(super) unanswered: u64,
}

/// How busy the threads were, in percent of the time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Busy {
    /// On a core, on average over the threads.
    cpu: f64,
    /// Ready to run without a core, likewise.
    waiting: f64,
    /// Both, of the busiest thread.
    most: f64,
}

impl Report {
    /// Whether no request failed and no value was wrong.
    pub(super) fn is_good(&self) -> bool {
        self.tally.failed() == 0 && self.tally.all_wrong() == 0
    }

    /// The report for people, without what [`Report::notes`] has.
    pub(super) fn lines(&self, args: &Args) -> Vec<String> {
        let mut lines = vec![args.describe(), String::new()];
        let mut table = Table::default();
        table.row(["COMMAND", "REQUESTS", "PER SECOND", "MEAN ms", "P50", "P90", "P99", "P99.9", "MAX"]);
        let used: Vec<_> = Kind::ALL.into_iter().filter(|kind| args.mix().contains(*kind)).collect();
        for &kind in &used {
            table.row(self.row(kind.name(), &self.tally.of(kind).latency));
        }
        if used.len() > 1 {
            table.row(self.row("all", &self.tally.all_latencies()));
        }
        lines.extend(table.lines(|_, _, cell| cell.to_owned()));
        lines.push(String::new());
        for (kind, word) in [(Kind::Get, "found"), (Kind::Del, "deleted")] {
            let tally = self.tally.of(kind);
            let all = tally.latency.len();
            if tally.found < all {
                lines.push(format!("{}: {word} {} of {}", kind.name(), grouped(tally.found), grouped(all)));
            }
        }
        if args.verify {
            let (verified, wrong) = (grouped(self.tally.verified), grouped(self.tally.all_wrong()));
            lines.push(format!("verified: {verified} reads, {wrong} wrong"));
        }
        if args.rate.is_some() {
            let delay = &self.tally.sending.delay;
            lines.push(format!(
                "sent after the due time: P50 {} ms, P99 {} ms, MAX {} ms; {} were due while all pipelines were full",
                millis(delay.quantile(0.5)),
                millis(delay.quantile(0.99)),
                millis(delay.max()),
                grouped(self.tally.sending.while_full),
            ));
        }
        if let Some(busy) = self.busy() {
            let threads = self.cpu.len();
            let each = if threads == 1 { "1 thread" } else { &format!("{threads} threads, each") };
            lines.push(format!(
                "generator: {each} {:.0}% on a core, {:.0}% waiting for one",
                busy.cpu, busy.waiting
            ));
        }
        lines
    }

    /// What qualifies the figures, and what went wrong, for stderr.
    pub(super) fn notes(&self, args: &Args) -> Vec<String> {
        let mut notes = Vec::new();
        if self.interrupted {
            let seconds = self.elapsed.as_secs_f64();
            let rest = match self.unanswered {
                0 => String::new(),
                some => format!("; {} requests had no reply yet", grouped(some)),
            };
            notes.push(format!("interrupted after {seconds:.1}s of measuring{rest}"));
        }
        if self.tally.succeeded() + self.tally.failed() == 0 {
            notes.push(
                "nothing was measured: no request was both sent and answered after the warm-up (raise --duration, or \
                 lower --connections, --pipeline or --rate)"
                    .to_owned(),
            );
        }
        for (name, error) in &self.tally.errors {
            notes.push(format!(
                "failed: {} × {}: {}",
                grouped(error.count),
                printable(name.as_bytes()),
                printable(error.first.as_bytes())
            ));
        }
        for wrong in Wrong::ALL {
            let count = self.tally.wrong(wrong);
            if count > 0 {
                notes.push(format!("wrong: {} × the value {}", grouped(count), wrong.text()));
            }
        }
        for example in &self.tally.examples {
            let (key, value) = (printable(&example.key), printable(&example.value));
            notes.push(format!("  {key} = {value}"));
        }
        if let (Some(rate), true) = (args.rate, self.is_behind()) {
            notes.push(format!(
                "{} requests were due and never sent: {} per second were too many, and the latencies are those of the \
                 requests that were sent (lower --rate, or raise --connections or --pipeline)",
                grouped(self.unsent),
                grouped(rate)
            ));
        }
        if self.is_saturated() {
            notes.push(
                "the generator was busy nearly all the time: the server may be faster than this (--threads takes more \
                 cores; another machine does not share them with the server)"
                    .to_owned(),
            );
        }
        notes
    }

    /// The report for machines.
    pub(super) fn json(&self, args: &Args) -> Value {
        let tally = &self.tally;
        let commands: Map<_, _> = Kind::ALL
            .into_iter()
            .filter(|kind| args.mix().contains(*kind))
            .map(|kind| (kind.name().to_owned(), self.command(Some(kind), &tally.of(kind).latency)))
            .collect();
        let errors: BTreeMap<_, _> = tally
            .errors
            .iter()
            .map(|(name, error)| (name, json!({ "count": error.count, "first": error.first })))
            .collect();
        let mut report = json!({
            "settings": args.json(),
            "interrupted": self.interrupted,
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "all": self.command(None, &tally.all_latencies()),
            "commands": commands,
            "requests_failed": tally.failed(),
            "requests_unanswered": self.unanswered,
            "errors": errors,
            "generator": self.generator(args),
        });
        if args.rate.is_some() {
            report["open_loop"] = json!({
                "send_delay_us": latencies(&tally.sending.delay),
                "requests_due_while_full": tally.sending.while_full,
                "requests_unsent": self.unsent,
                "rate_kept": !self.is_behind(),
            });
        }
        if args.verify {
            let wrong: Map<_, _> = Wrong::ALL
                .into_iter()
                .map(|wrong| (wrong.name().to_owned(), tally.wrong(wrong).into()))
                .collect();
            let example = |example: &super::tally::WrongValue| {
                let mut object = json_bytes("key", &example.key);
                object.extend(json_bytes("value", &example.value));
                object.insert("reason".into(), example.wrong.name().into());
                object
            };
            report["verified"] = json!({
                "reads": tally.verified,
                "reads_wrong": tally.all_wrong(),
                "wrong": wrong,
                "examples": tally.examples.iter().map(example).collect::<Vec<_>>(),
            });
        }
        report
    }

    fn row(&self, name: &str, latency: &Durations) -> Vec<String> {
        if latency.len() == 0 {
            return vec![name.to_owned(), "0".to_owned()];
        }
        let quantile = |quantile| millis(latency.quantile(quantile));
        vec![
            name.to_owned(),
            grouped(latency.len()),
            grouped(whole(self.per_second(latency.len()))),
            millis(latency.mean()),
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            quantile(0.999),
            millis(latency.max()),
        ]
    }

    fn command(&self, kind: Option<Kind>, latency: &Durations) -> Value {
        let mut command = json!({
            "requests": latency.len(),
            "requests_per_second": self.per_second(latency.len()),
            "latency_us": latencies(latency),
        });
        if let Some(kind @ (Kind::Get | Kind::Del)) = kind {
            command["keys_found"] = self.tally.of(kind).found.into();
        }
        command
    }

    fn generator(&self, args: &Args) -> Value {
        let busy = self.busy();
        json!({
            "threads": args.threads(),
            "cpu_percent": busy.map(|busy| busy.cpu),
            "waiting_percent": busy.map(|busy| busy.waiting),
            "busiest_thread_percent": busy.map(|busy| busy.most),
            "saturated": self.is_saturated(),
        })
    }

    fn per_second(&self, requests: u64) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { requests as f64 / self.elapsed.as_secs_f64() }
    }

    /// Whether too few of the requests that were due have been sent.
    fn is_behind(&self) -> bool {
        let sent = self.tally.sending.delay.len() as f64;
        self.unsent as f64 > (sent + self.unsent as f64) * MAX_UNSENT
    }

    fn is_saturated(&self) -> bool {
        self.busy().is_some_and(|busy| busy.most >= SATURATED_PERCENT)
    }

    fn busy(&self) -> Option<Busy> {
        let threads = self.cpu.iter().filter(|(_, elapsed)| !elapsed.is_zero());
        let percent = |time: Duration, elapsed: Duration| 100.0 * time.as_secs_f64() / elapsed.as_secs_f64();
        let shares: Vec<(f64, f64)> = threads
            .map(|(cpu, elapsed)| (percent(cpu.used, *elapsed), percent(cpu.waited, *elapsed)))
            .collect();
        let count = shares.len() as f64;
        let most = shares.iter().map(|(used, waited)| used + waited).max_by(f64::total_cmp)?;
        Some(Busy {
            cpu: shares.iter().map(|share| share.0).sum::<f64>() / count,
            waiting: shares.iter().map(|share| share.1).sum::<f64>() / count,
            most,
        })
    }
}

/// Latencies in microseconds.
fn latencies(durations: &Durations) -> Value {
    let micros = |duration: Duration| duration.as_nanos() as f64 / 1e3;
    json!({
        "mean": micros(durations.mean()),
        "p50": micros(durations.quantile(0.5)),
        "p90": micros(durations.quantile(0.9)),
        "p99": micros(durations.quantile(0.99)),
        "p99_9": micros(durations.quantile(0.999)),
        "max": micros(durations.max()),
    })
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64() * 1e3)
}

#[expect(clippy::cast_possible_truncation, reason = "a rate is far below 2^64")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::args::tests::parse;
    use super::super::tally::{Failure, WrongValue};
    use super::*;

    /// 1,000 `get` of 1 to 1,000 µs, and 10 `set`, within half a second. Every tenth `get` found nothing.
    fn report() -> Report {
        let now = Instant::now();
        let mut tally = Tally::default();
        for us in 1..=1_000 {
            tally.reply(Kind::Get, us % 10 > 0, Duration::from_micros(us), now);
            tally.sent(Duration::from_micros(us / 100), us > 20);
        }
        (0..10).for_each(|_| tally.reply(Kind::Set, true, Duration::from_millis(2), now));
        let cpu = |used, waited| {
            let cpu = CpuTime { used: Duration::from_millis(used), waited: Duration::from_millis(waited) };
            (cpu, Duration::from_millis(1_000))
        };
        Report {
            tally,
            elapsed: Duration::from_millis(500),
            interrupted: false,
            cpu: vec![cpu(300, 100), cpu(500, 200)],
            unsent: 0,
            unanswered: 0,
        }
    }

    #[test]
    fn people_get_a_row_for_each_command_and_one_for_all() {
        let report = report();
        let lines = report.lines(&parse("--reads 90"));
        assert_eq!(
            lines[2..],
            [
                "COMMAND  REQUESTS  PER SECOND  MEAN ms  P50    P90    P99    P99.9  MAX",
                "set      10        20          2.000    2.001  2.001  2.001  2.001  2.001",
                "get      1,000     2,000       0.501    0.500  0.900  0.990  0.999  1.000",
                "all      1,010     2,020       0.515    0.505  0.909  1.000  2.001  2.001",
                "",
                "get: found 900 of 1,000",
                "generator: 2 threads, each 40% on a core, 15% waiting for one",
            ]
        );
        assert!(report.is_good() && report.notes(&parse("")).is_empty());
        let lines = report.lines(&parse("--reads 90 --rate 2000"));
        assert_eq!(
            lines[8],
            "sent after the due time: P50 0.005 ms, P99 0.009 ms, MAX 0.010 ms; 20 were due while all \
             pipelines were full"
        );
    }

    #[test]
    fn a_command_without_requests_has_no_latency() {
        let lines = report().lines(&parse("--mix get=1,incr=1"));
        assert_eq!(lines[4], "incr     0");
    }

    #[test]
    fn machines_get_stable_names_with_units() {
        let json = report().json(&parse("--reads 90 --rate 2000 --verify"));
        assert_eq!(
            (&json["commands"]["get"]["requests"], &json["commands"]["get"]["keys_found"]),
            (&json!(1_000), &json!(900))
        );
        assert_eq!(json["commands"]["set"]["latency_us"]["p50"], json!(2_000.895));
        assert_eq!(
            (&json["all"]["requests_per_second"], &json["elapsed_seconds"]),
            (&json!(2_020.0), &json!(0.5))
        );
        assert_eq!(json["generator"]["busiest_thread_percent"], json!(70.0));
        assert_eq!(json["open_loop"]["requests_due_while_full"], json!(20));
        assert_eq!(
            (&json["open_loop"]["rate_kept"], &json["verified"]["reads_wrong"]),
            (&json!(true), &json!(0))
        );
        let json = report().json(&parse(""));
        assert!(json.get("open_loop").is_none() && json.get("verified").is_none());
    }

    #[test]
    fn what_qualifies_the_figures_is_said() {
        let mut report = report();
        report.cpu[1].0.used = Duration::from_millis(700);
        report.unsent = 500;
        report.interrupted = true;
        report.unanswered = 3;
        let notes = report.notes(&parse("--rate 2000")).join("\n");
        for part in [
            "interrupted after 0.5s",
            "3 requests had no reply",
            "500 requests were due",
            "the generator was busy",
        ] {
            assert!(notes.contains(part), "no {part} in {notes}");
        }
        assert!(report.is_good(), "none of this is a failure of the server");
        assert_eq!(report.json(&parse("--rate 2000"))["open_loop"]["rate_kept"], json!(false));
    }

    #[test]
    fn errors_and_wrong_values_are_failures() {
        let mut failed = report();
        let failure = Failure { name: "OOM".into(), message: "OOM no\x1broom".into() };
        failed.tally.failure(&failure, Instant::now());
        assert!(!failed.is_good());
        assert_eq!(failed.notes(&parse("")), ["failed: 1 × OOM: OOM no\\u{1b}room"]);
        assert_eq!(
            failed.json(&parse(""))["errors"]["OOM"],
            json!({ "count": 1, "first": "OOM no\x1broom" })
        );

        let mut wrong = report();
        let value = WrongValue { wrong: Wrong::Damaged, key: b"k".to_vec(), value: b"\xff".to_vec() };
        wrong.tally.wrong_value(value);
        assert!(!wrong.is_good());
        assert_eq!(
            wrong.notes(&parse("--verify")),
            ["wrong: 1 × the value is not as any run wrote it: its checksum does not fit", "  k = \\xff"]
        );
        let json = wrong.json(&parse("--verify"));
        assert_eq!(json["verified"]["wrong"]["damaged"], json!(1));
        assert_eq!(
            json["verified"]["examples"],
            json!([{ "key": "k", "value_base64": "/w==", "reason": "damaged" }])
        );
    }
}
