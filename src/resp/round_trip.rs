//! Tests that the client decodes what a node encodes.

use proptest::prelude::*;
use sapwood_client::resp::{Decoded, Frame, FrameDecoder, FrameLimits};

use super::{Proto, Reply};

/// Encodes `frame` as a node would.
fn encode(reply: &mut Reply<'_>, frame: &Frame) {
    let all = |reply: &mut Reply<'_>, items: &[Frame]| items.iter().for_each(|item| encode(reply, item));
    match frame {
        Frame::Simple(text) => reply.simple(text),
        Frame::Error(text) => reply.error(text),
        Frame::Int(value) => reply.int(*value),
        Frame::Bulk(bytes) => reply.bulk(bytes),
        Frame::Null => reply.null(),
        Frame::Bool(value) => reply.bool(*value),
        Frame::Double(value) => reply.double(*value),
        Frame::Big(digits) => reply.raw(format!("({digits}\r\n").as_bytes()),
        Frame::Verbatim { format, text } => reply.verbatim(format, str::from_utf8(text).unwrap()),
        Frame::Array(items) => {
            reply.array(items.len());
            all(reply, items);
        }
        Frame::Set(items) => {
            reply.set(items.len());
            all(reply, items);
        }
        Frame::Push(items) => {
            reply.push(items.len());
            all(reply, items);
        }
        Frame::Map(pairs) => {
            reply.map(pairs.len());
            for (key, value) in pairs {
                encode(reply, key);
                encode(reply, value);
            }
        }
    }
}

/// The RESP2 form of a RESP3 frame.
fn flattened(frame: Frame) -> Frame {
    let all = |items: Vec<Frame>| Frame::Array(items.into_iter().map(flattened).collect());
    match frame {
        Frame::Array(items) | Frame::Set(items) | Frame::Push(items) => all(items),
        Frame::Map(pairs) => all(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        Frame::Bool(value) => Frame::Int(i64::from(value)),
        Frame::Verbatim { text, .. } => Frame::Bulk(text),
        other => other,
    }
}

fn any_frame(with_doubles: bool) -> impl Strategy<Value = Frame> {
    let text = "[ -~]{0,12}";
    let leaf = prop_oneof![
        text.prop_map(Frame::Simple),
        text.prop_map(Frame::Error),
        any::<i64>().prop_map(Frame::Int),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Frame::Bulk(bytes.into())),
        Just(Frame::Null),
        any::<bool>().prop_map(Frame::Bool),
        any::<f64>().prop_map(move |value| if with_doubles { Frame::Double(value) } else { Frame::Null }),
        "-?[0-9]{1,30}".prop_map(Frame::Big),
        (text, "[a-z]{3}").prop_map(|(text, format)| Frame::Verbatim { format, text: text.into() }),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let items = prop::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            items.clone().prop_map(Frame::Array),
            items.clone().prop_map(Frame::Set),
            items.prop_map(Frame::Push),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Frame::Map),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded_however_the_stream_is_cut(
        frames in prop::collection::vec(any_frame(true), 1..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        for frame in &frames {
            encode(&mut Reply::new(&mut bytes, Proto::Resp3), frame);
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let mut decoder = FrameDecoder::new(FrameLimits::default());
        let (mut at, mut decoded) = (0, Vec::new());
        for end in cuts {
            loop {
                match decoder.next(&bytes[at..end]).unwrap() {
                    Decoded::Frame { frame, consumed } => {
                        decoded.push(frame);
                        at += consumed;
                    }
                    Decoded::Incomplete { consumed, .. } => {
                        at += consumed;
                        break;
                    }
                }
            }
        }
        prop_assert_eq!(at, bytes.len());
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn resp2_carries_the_same_in_fewer_types(sent in any_frame(false)) {
        let mut bytes = Vec::new();
        encode(&mut Reply::new(&mut bytes, Proto::Resp2), &sent);
        let decoded = FrameDecoder::new(FrameLimits::default()).next(&bytes);
        prop_assert_eq!(decoded, Ok(Decoded::Frame { frame: flattened(sent), consumed: bytes.len() }));
    }
}
