//! Tests the parser of requests with random bytes, mutated valid bytes and random cuts.
//!
//! `SAPWOOD_FUZZ_CASES` sets the number of cases (CI: 1,000,000 in release), `SAPWOOD_FUZZ_SEED` the seed of the
//! first. A case that fails prints its seed.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Limits, ProtocolError, RequestParser, Step, TooLarge};

/// Everything that a server decodes from a stream of requests.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) requests: Vec<Result<Vec<Vec<u8>>, TooLarge>>,
    pub(super) error: Option<ProtocolError>,
    /// Bytes still in the buffer at the end.
    pub(super) left: usize,
}

/// Splits `bytes` at `cuts`.
pub(super) fn cut(bytes: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Feeds `chunks` to a parser as a connection does.
pub(super) fn drive(limits: Limits, authenticated: bool, chunks: &[&[u8]]) -> Outcome {
    let mut parser = RequestParser::new(limits);
    parser.set_authenticated(authenticated);
    let mut outcome = Outcome::default();
    let (mut buf, mut fed) = (Vec::new(), 0);
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        fed += chunk.len();
        let mut at = 0;
        loop {
            match parser.next(&buf[at..]) {
                Ok(Step::Request { args, consumed }) => {
                    outcome.requests.push(Ok(args.iter().map(<[u8]>::to_vec).collect()));
                    at += consumed;
                }
                Ok(Step::TooLarge { what, consumed }) => {
                    outcome.requests.push(Err(what));
                    at += consumed;
                }
                Ok(Step::Incomplete { consumed, need }) => {
                    assert!(need > 0, "an incomplete request needs something");
                    at += consumed;
                    break;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
        buf.drain(..at);
        let held = parser.capacity();
        assert!(held <= 256 + 8 * fed, "{held} bytes held after {fed} were fed");
    }
    outcome.left = buf.len();
    outcome
}

/// Prints the seed of the case if it panics.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing case: SAPWOOD_FUZZ_SEED={} SAPWOOD_FUZZ_CASES=1", self.0);
        }
    }
}

#[test]
fn random_and_mutated_bytes_never_panic_nor_over_allocate() {
    let from_env = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let cases = from_env("SAPWOOD_FUZZ_CASES").unwrap_or(20_000);
    let first =
        from_env("SAPWOOD_FUZZ_SEED").unwrap_or_else(|| u64::from(StdRng::from_os_rng().random::<u32>()));
    for seed in first..first + cases {
        let _case = Case(seed);
        let rng = &mut StdRng::seed_from_u64(seed);
        let bytes = stream(rng);
        let cuts = (0..rng.random_range(0..6)).map(|_| rng.random_range(0..=bytes.len())).collect();
        let chunks = cut(&bytes, cuts);
        let narrow = Limits { max_args: 12, max_bulk: 24, max_command: 200 };
        let limits = if rng.random() { narrow } else { Limits::default() };
        let authenticated = rng.random();
        assert_eq!(drive(limits, authenticated, &chunks), drive(limits, authenticated, &[&bytes]));
    }
}

/// Valid fragments, noise, and small mutations of both.
fn stream(rng: &mut StdRng) -> Vec<u8> {
    const PIECES: &[&[u8]] = &[
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n",
        b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
        b"*1\r\n$30\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
        b"*14\r\n",
        b"*2147483647\r\n",
        b"$536870912\r\n",
        b"$1\r\na\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"\r\n",
        b"SET \"a\\x41\\n\" 'b\\'c'\r\n",
        b"*1\r\n",
        b"+OK\r\n",
        b"-ERR no\r\n",
        b"*1000000\r\n",
    ];
    let mut bytes = Vec::new();
    for _ in 0..rng.random_range(0..10) {
        match rng.random_range(0..10) {
            0 => bytes.extend((0..rng.random_range(0..20)).map(|_| rng.random::<u8>())),
            _ => bytes.extend_from_slice(PIECES[rng.random_range(0..PIECES.len())]),
        }
    }
    let damages = if rng.random() { 0 } else { rng.random_range(0..4) };
    for _ in 0..damages {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..3) {
            0 => bytes.insert(at, rng.random()),
            1 if at < bytes.len() => bytes[at] = *b"\r\n0$*-9%\"".get(rng.random_range(0..16)).unwrap_or(&0),
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}
