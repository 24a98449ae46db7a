use proptest::prelude::*;

use super::*;
use crate::resp::fuzz::{Outcome, cut, drive};

fn small_limits() -> Limits {
    Limits { max_args: 5, max_bulk: 20, max_command: 120 }
}

fn parse(bytes: &[u8]) -> Outcome {
    drive(Limits::default(), true, &[bytes])
}

fn error(bytes: &[u8]) -> Option<ProtocolError> {
    parse(bytes).error
}

fn multibulk(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    sapwood_client::resp::encode_request(&mut out, args);
    out
}

#[test]
fn pipelined_requests_come_out_one_by_one_with_their_lengths() {
    let bytes =
        [multibulk(&[b"SET", b"k", b"a\r\nb"]), multibulk(&[b"GET", b""]), b"PING\r\n".to_vec()].concat();
    let outcome = parse(&bytes);
    assert_eq!(
        outcome.requests,
        [
            Ok(vec![b"SET".to_vec(), b"k".to_vec(), b"a\r\nb".to_vec()]),
            Ok(vec![b"GET".to_vec(), vec![]]),
            Ok(vec![b"PING".to_vec()])
        ]
    );
    assert_eq!((outcome.error, outcome.left), (None, 0));
}

#[test]
fn requests_without_arguments_are_passed_over_in_silence() {
    let outcome = parse(b"\r\n*0\r\n*-1\r\n*-7\r\n  \n\nPING\n*0\r\n");
    assert_eq!(outcome.requests, [Ok(vec![b"PING".to_vec()])]);
    assert_eq!(outcome.left, 0);
}

#[test]
fn malformed_requests_get_the_error_texts_of_redis() {
    for (bytes, text) in [
        (&b"*x\r\n"[..], "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*1\rx", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\nfoo\r\n", "expected '$', got 'f'"),
        (b"*1\r\n$1\r\nabc", "expected CRLF after an argument"),
        (b"set \"a\r\n", "unbalanced quotes in request"),
    ] {
        let error = error(bytes).map(|error| error.to_string());
        assert_eq!(error, Some(format!("Protocol error: {text}")), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_line_without_an_end_is_refused_after_64_kib() {
    for (start, expected) in [
        (&b"PING "[..], ProtocolError::TooBigInline),
        (b"*1", ProtocolError::TooBigMultibulkCount),
        (b"*1\r\n$1", ProtocolError::TooBigBulkCount),
    ] {
        let mut bytes = start.to_vec();
        bytes.resize(MAX_LINE - 1, b'1');
        assert_eq!(error(&bytes), None);
        bytes.resize(start.len() + MAX_LINE, b'1');
        assert_eq!(error(&bytes), Some(expected));
        bytes.extend(b"\r\n");
        assert_eq!(error(&bytes), Some(expected), "also if the end is there already");
    }
}

#[test]
fn http_is_taken_for_cross_protocol_scripting() {
    assert_eq!(error(b"POST / HTTP/1.1\r\n"), Some(ProtocolError::CrossProtocol));
    assert_eq!(error(b"GET / HTTP/1.1\r\nhost: localhost:7171\r\n"), Some(ProtocolError::CrossProtocol));
    assert_eq!(error(b"POSTAL code\r\n"), None);
}

#[test]
fn before_the_password_only_small_requests_are_taken() {
    let strict = |bytes: &[u8]| drive(Limits::default(), false, &[bytes]).error;
    assert_eq!(strict(b"*11\r\n"), Some(ProtocolError::UnauthenticatedMultibulkLength));
    assert_eq!(strict(b"*1\r\n$16385\r\n"), Some(ProtocolError::UnauthenticatedBulkLength));
    assert_eq!(strict(b"*10\r\n$16384\r\n"), None);
    assert_eq!(error(b"*11\r\n$16385\r\n"), None);
}

#[test]
fn a_request_over_a_limit_is_answered_and_the_connection_lives() {
    let long = [b'x'; 21];
    for (request, what) in [
        (multibulk(&[b"SET", &long, b"v"]), TooLarge::Bulk(20)),
        (multibulk(&[b"MGET", b"1", b"2", b"3", b"4", b"5"]), TooLarge::Args(5)),
        (multibulk(&[&long[1..]; 5]), TooLarge::Command(120)),
        (b"a b c d e f\r\n".to_vec(), TooLarge::Args(5)),
        (b"SET k xxxxxxxxxxxxxxxxxxxxx\r\n".to_vec(), TooLarge::Bulk(20)),
        ([&b" ".repeat(120)[..], b"a\r\n"].concat(), TooLarge::Command(120)),
    ] {
        let bytes = [&request[..], b"PING\r\n"].concat();
        for chunk in 1..bytes.len() {
            let chunks: Vec<_> = bytes.chunks(chunk).collect();
            let outcome = drive(small_limits(), true, &chunks);
            assert_eq!(outcome.requests, [Err(what), Ok(vec![b"PING".to_vec()])]);
            assert_eq!((outcome.error, outcome.left), (None, 0));
        }
    }
    assert_eq!(
        TooLarge::Bulk(16_777_216).to_string(),
        "ERR value is larger than 16777216 bytes (--max-value)"
    );
}

#[test]
fn what_is_skipped_is_dropped_as_it_arrives() {
    let mut parser = RequestParser::new(small_limits());
    parser.set_authenticated(true);
    let header = b"*2\r\n$3\r\nSET\r\n$1000000\r\nxx";
    assert!(matches!(
        parser.next(header),
        Ok(Step::Incomplete { consumed, need: 1 }) if consumed == header.len()
    ));
    for _ in 0..999 {
        assert!(matches!(parser.next(&[b'x'; 1000]), Ok(Step::Incomplete { consumed: 1000, need: 1 })));
    }
    assert!(matches!(
        parser.next(&[&[b'x'; 998][..], b"\r\nPING"].concat()),
        Ok(Step::TooLarge { what: TooLarge::Bulk(20), consumed: 1000 })
    ));
}

#[test]
fn a_request_of_a_million_arguments_in_small_reads_is_parsed_once() {
    const COUNT: usize = 1 << 20;
    let mut bytes = format!("*{COUNT}\r\n").into_bytes();
    bytes.extend(b"$1\r\nx\r\n".repeat(COUNT));
    let mut parser = RequestParser::new(Limits::default());
    parser.set_authenticated(true);
    // Parsing from the start at each of these 7,000 reads would visit 25e9 bytes.
    for end in (0..bytes.len()).step_by(1024) {
        assert!(matches!(parser.next(&bytes[..end]), Ok(Step::Incomplete { consumed: 0, .. })));
    }
    let Ok(Step::Request { args, consumed }) = parser.next(&bytes) else { panic!("the request is complete") };
    assert_eq!((args.len(), consumed), (COUNT, bytes.len()));
    assert!(matches!(parser.next(b"*1\r\n"), Ok(Step::Incomplete { .. })));
    assert!(
        parser.spans.capacity() <= KEPT_SPANS,
        "a rare large request does not enlarge the connection for ever"
    );
}

#[test]
fn the_need_of_a_half_arrived_argument_is_exact() {
    let mut parser = RequestParser::new(Limits::default());
    assert!(matches!(parser.next(b"*1\r\n$10\r\nabc"), Ok(Step::Incomplete { consumed: 0, need: 9 })));
}

/// One encoded request, and the expected result.
fn request() -> impl Strategy<Value = (Vec<u8>, Option<Vec<Vec<u8>>>)> {
    let args = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..8);
    let words = prop::collection::vec("[a-z]{1,9}", 1..7);
    prop_oneof![
        6 => args.prop_map(|args| {
            let slices: Vec<_> = args.iter().map(Vec::as_slice).collect();
            (multibulk(&slices), Some(args))
        }),
        2 => words.prop_map(|words| {
            let bytes = format!("{}\r\n", words.join(" ")).into_bytes();
            (bytes, Some(words.into_iter().map(String::into_bytes).collect()))
        }),
        1 => prop::sample::select(vec![&b"\r\n"[..], b"*0\r\n", b"*-1\r\n"]).prop_map(|blank| (blank.to_vec(), None)),
    ]
}

proptest! {
    #[test]
    fn what_was_sent_comes_out_however_the_stream_is_cut(
        sent in prop::collection::vec(request(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes: Vec<u8> = sent.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let expected: Vec<_> = sent.into_iter().filter_map(|(_, args)| args).collect();
        let cuts = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        let outcome = drive(Limits::default(), true, &cut(&bytes, cuts));
        prop_assert_eq!(outcome.error, None);
        prop_assert_eq!(outcome.left, 0);
        prop_assert_eq!(outcome.requests, expected.into_iter().map(Ok).collect::<Vec<_>>());
    }

    #[test]
    fn limits_bite_alike_however_the_stream_is_cut(
        sent in prop::collection::vec(request(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes: Vec<u8> = sent.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let cuts = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        let whole = drive(small_limits(), true, &[&bytes]);
        prop_assert_eq!(whole.requests.len(), sent.iter().filter(|(_, args)| args.is_some()).count());
        prop_assert_eq!(&drive(small_limits(), true, &cut(&bytes, cuts)), &whole);
        prop_assert_eq!(&drive(small_limits(), true, &bytes.chunks(1).collect::<Vec<_>>()), &whole);
    }
}
