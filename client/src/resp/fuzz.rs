//! Tests the decoder of replies with random bytes, mutated valid bytes and random cuts.
//!
//! `SAPWOOD_FUZZ_CASES` sets the number of cases (CI: 1,000,000 in release), `SAPWOOD_FUZZ_SEED` the seed of the
//! first. A case that fails prints its seed.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Decoded, Frame, FrameDecoder, FrameError, FrameLimits};

/// Splits `bytes` at `cuts`.
fn cut(bytes: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Feeds `chunks` to a decoder as a connection does. Returns the frames, the error and the number of bytes left.
fn drive(chunks: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>, usize) {
    let limits = FrameLimits { max_depth: 8, ..FrameLimits::default() };
    // Open aggregates reserve capacity before their elements arrive; the depth bounds how much.
    let aside = limits.max_depth * 2048;
    let mut decoder = FrameDecoder::new(limits);
    let mut frames = Vec::new();
    let (mut buf, mut fed) = (Vec::new(), 0);
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        fed += chunk.len();
        let mut at = 0;
        loop {
            match decoder.next(&buf[at..]) {
                Ok(Decoded::Frame { frame, consumed }) => {
                    frames.push(frame);
                    at += consumed;
                }
                Ok(Decoded::Incomplete { consumed, need }) => {
                    assert!(need > 0, "an incomplete reply needs something");
                    at += consumed;
                    break;
                }
                Err(error) => return (frames, Some(error), 0),
            }
        }
        buf.drain(..at);
        let held = decoder.capacity();
        assert!(held <= aside + 256 * fed, "{held} bytes held after {fed} were fed");
    }
    (frames, None, buf.len())
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
        // Compared as text, in which NaN equals itself.
        assert_eq!(format!("{:?}", drive(&chunks)), format!("{:?}", drive(&[&bytes])));
    }
}

/// Valid fragments, noise, and small mutations of both.
fn stream(rng: &mut StdRng) -> Vec<u8> {
    const PIECES: &[&[u8]] = &[
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n",
        b"*14\r\n",
        b"*2147483647\r\n",
        b"$536870912\r\n",
        b"$1\r\na\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"\r\n",
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",1.5e3\r\n",
        b"(123456789012345678901234567890\r\n",
        b"!5\r\nERR x\r\n",
        b"=6\r\ntxt:hi\r\n",
        b"%1\r\n",
        b"~2\r\n",
        b">2\r\n",
        b"|1\r\n",
        b"*1\r\n",
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
