use super::*;

fn decode(bytes: &[u8]) -> Result<Decoded, FrameError> {
    FrameDecoder::new(FrameLimits::default()).next(bytes)
}

fn frame(bytes: &[u8]) -> Frame {
    match decode(bytes) {
        Ok(Decoded::Frame { frame, consumed }) if consumed == bytes.len() => frame,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

fn bulk(bytes: &'static [u8]) -> Frame {
    Frame::Bulk(Bytes::from_static(bytes))
}

#[test]
fn every_type_of_both_dialects_is_decoded() {
    let verbatim = Frame::Verbatim { format: "txt".into(), text: Bytes::from_static(b"hi") };
    for (bytes, expected) in [
        (&b"+OK\r\n"[..], Frame::Simple("OK".into())),
        (b"-ERR no\r\n", Frame::Error("ERR no".into())),
        (b"!6\r\nERR\r\nx\r\n", Frame::Error("ERR\r\nx".into())),
        (b":-7\r\n", Frame::Int(-7)),
        (b"$0\r\n\r\n", bulk(b"")),
        (b"$4\r\na\r\nb\r\n", bulk(b"a\r\nb")),
        (b"$-1\r\n", Frame::Null),
        (b"*-1\r\n", Frame::Null),
        (b"_\r\n", Frame::Null),
        (b"#t\r\n", Frame::Bool(true)),
        (b"#f\r\n", Frame::Bool(false)),
        (b",1.5\r\n", Frame::Double(1.5)),
        (b",-inf\r\n", Frame::Double(f64::NEG_INFINITY)),
        (b"(-123456789012345678901\r\n", Frame::Big("-123456789012345678901".into())),
        (b"=6\r\ntxt:hi\r\n", verbatim),
        (b"*0\r\n", Frame::Array(vec![])),
        (b"*2\r\n*1\r\n:1\r\n:2\r\n", Frame::Array(vec![Frame::Array(vec![Frame::Int(1)]), Frame::Int(2)])),
        (
            b"%1\r\n+a\r\n~1\r\n_\r\n",
            Frame::Map(vec![(Frame::Simple("a".into()), Frame::Set(vec![Frame::Null]))]),
        ),
        (b">1\r\n#t\r\n", Frame::Push(vec![Frame::Bool(true)])),
    ] {
        assert_eq!(frame(bytes), expected);
    }
}

#[test]
fn attributes_are_skipped_wherever_they_stand() {
    assert_eq!(frame(b"|1\r\n+ttl\r\n*1\r\n:9\r\n:1\r\n"), Frame::Int(1));
    assert_eq!(frame(b"*1\r\n|0\r\n|1\r\n:1\r\n:2\r\n:3\r\n"), Frame::Array(vec![Frame::Int(3)]));
}

#[test]
fn what_is_no_reply_is_refused() {
    for (bytes, error) in [
        (&b"H"[..], FrameError::UnknownType(b'H')),
        (b"HTTP/1.1 400 Bad Request\r\n", FrameError::Http),
        (b"\x15", FrameError::UnknownType(0x15)),
        (b"$?\r\n", FrameError::Streamed),
        (b"*?\r\n", FrameError::Streamed),
        (b";4\r\n", FrameError::Streamed),
        (b":x\r\n", FrameError::Malformed("integer")),
        (b":1\n", FrameError::Malformed("line end")),
        (b"$-2\r\n", FrameError::Malformed("bulk length")),
        (b"*-2\r\n", FrameError::Malformed("array length")),
        (b"$1\r\nabc", FrameError::Malformed("bulk end")),
        (b"#x\r\n", FrameError::Malformed("boolean")),
        (b"(1x\r\n", FrameError::Malformed("big number")),
        (b"=2\r\nhi\r\n", FrameError::Malformed("verbatim text")),
        (b"*16777217\r\n", FrameError::TooManyElements(1 << 24)),
        (b"%18446744073709551615\r\n", FrameError::TooManyElements(1 << 24)),
        (b"$536870913\r\n", FrameError::TooLarge(512 << 20)),
        (&b"+".repeat(MAX_LINE), FrameError::LineTooLong),
        (&b"*1\r\n".repeat(33), FrameError::TooDeep(32)),
    ] {
        assert_eq!(decode(bytes), Err(error), "{}", bytes[..bytes.len().min(40)].escape_ascii());
    }
}

#[test]
fn a_reply_is_bounded_in_bytes_too() {
    let mut decoder = FrameDecoder::new(FrameLimits { max_bytes: 20, ..FrameLimits::default() });
    assert_eq!(decoder.next(b"*9\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n"), Err(FrameError::TooLarge(20)));
    let mut decoder = FrameDecoder::new(FrameLimits { max_bytes: 20, ..FrameLimits::default() });
    assert_eq!(decoder.next(b"$21\r\n"), Err(FrameError::TooLarge(20)), "before the bytes are waited for");
}

#[test]
fn limits_count_anew_for_each_reply() {
    let mut decoder =
        FrameDecoder::new(FrameLimits { max_bytes: 12, max_elements: 2, ..FrameLimits::default() });
    for _ in 0..10 {
        assert!(matches!(decoder.next(b"*2\r\n:1\r\n:2\r\n"), Ok(Decoded::Frame { consumed: 12, .. })));
    }
}

#[test]
fn elements_are_consumed_as_they_come() {
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    assert_eq!(decoder.next(b"*2\r\n$3\r\nab"), Ok(Decoded::Incomplete { consumed: 4, need: 3 }));
    assert_eq!(decoder.next(b"$3\r\nabc\r\n$"), Ok(Decoded::Incomplete { consumed: 9, need: 1 }));
    assert_eq!(
        decoder.next(b"$-1\r\n:1"),
        Ok(Decoded::Frame { frame: Frame::Array(vec![bulk(b"abc"), Frame::Null]), consumed: 5 })
    );
}

#[test]
fn an_announced_number_of_elements_allocates_little() {
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    assert_eq!(decoder.next(b"*16777216\r\n"), Ok(Decoded::Incomplete { consumed: 11, need: 1 }));
    assert!(decoder.capacity() < 4096);
}

#[test]
fn a_million_keys_in_small_reads_are_decoded_once() {
    const COUNT: usize = 1_000_000;
    let mut bytes = format!("*{COUNT}\r\n").into_bytes();
    bytes.extend(b"$3\r\nkey\r\n".repeat(COUNT));
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    let mut at = 0;
    // Decoding from the start at each of these 9,000 reads would visit 40e9 bytes.
    for end in (0..bytes.len()).step_by(1024) {
        match decoder.next(&bytes[at..end]).unwrap() {
            Decoded::Incomplete { consumed, .. } => at += consumed,
            other => panic!("{other:?}"),
        }
    }
    match decoder.next(&bytes[at..]).unwrap() {
        Decoded::Frame { frame: Frame::Array(keys), .. } => assert_eq!(keys.len(), COUNT),
        other => panic!("{other:?}"),
    }
}
