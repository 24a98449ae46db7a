//! Converts replies to the results of methods.

use bytes::Bytes;

use crate::ClientError;
use crate::resp::Frame;

/// Most bytes of a reply that an error shows.
const SHOWN: usize = 100;

/// A reply of a type that the request cannot have.
#[derive(Debug)]
pub(crate) struct Unfit(pub(crate) Frame);

impl Unfit {
    /// Converts it to an error that names the command `request`.
    pub(crate) fn of(self, request: &str) -> ClientError {
        let mut reply = format!("{:?}", self.0);
        let end = (0..=SHOWN.min(reply.len())).rev().find(|&at| reply.is_char_boundary(at));
        reply.truncate(end.unwrap_or(0));
        ClientError::Unexpected { request: request.to_owned(), reply }
    }
}

pub(crate) fn ok(frame: Frame) -> Result<(), Unfit> {
    match frame {
        Frame::Simple(text) if text == "OK" => Ok(()),
        other => Err(Unfit(other)),
    }
}

/// `true` for `OK`, `false` for a null.
pub(crate) fn done(frame: Frame) -> Result<bool, Unfit> {
    match frame {
        Frame::Null => Ok(false),
        other => ok(other).map(|()| true),
    }
}

pub(crate) fn value(frame: Frame) -> Result<Option<Bytes>, Unfit> {
    match frame {
        Frame::Bulk(bytes) => Ok(Some(bytes)),
        Frame::Null => Ok(None),
        other => Err(Unfit(other)),
    }
}

pub(crate) fn bytes(frame: Frame) -> Result<Bytes, Unfit> {
    match frame {
        Frame::Bulk(bytes) => Ok(bytes),
        other => Err(Unfit(other)),
    }
}

pub(crate) fn text(frame: Frame) -> Result<String, Unfit> {
    match frame {
        Frame::Bulk(bytes) => match str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Unfit(Frame::Bulk(bytes))),
        },
        Frame::Simple(text) => Ok(text),
        other => Err(Unfit(other)),
    }
}

pub(crate) fn int(frame: Frame) -> Result<i64, Unfit> {
    match frame {
        Frame::Int(number) => Ok(number),
        other => Err(Unfit(other)),
    }
}

pub(crate) fn count(frame: Frame) -> Result<u64, Unfit> {
    let number = int(frame)?;
    u64::try_from(number).map_err(|_| Unfit(Frame::Int(number)))
}

/// A boolean, which RESP2 sends as 1 or 0.
pub(crate) fn truth(frame: Frame) -> Result<bool, Unfit> {
    match frame {
        Frame::Bool(truth) => Ok(truth),
        Frame::Int(number @ (0 | 1)) => Ok(number == 1),
        other => Err(Unfit(other)),
    }
}

/// A `u64` that is sent as text, because it may exceed the protocol's integers.
pub(crate) fn digits(frame: Frame) -> Result<u64, Unfit> {
    let text = text(frame)?;
    text.parse().map_err(|_| Unfit(Frame::Simple(text)))
}

pub(crate) fn list(frame: Frame) -> Result<Vec<Frame>, Unfit> {
    match frame {
        Frame::Array(items) | Frame::Push(items) | Frame::Set(items) => Ok(items),
        other => Err(Unfit(other)),
    }
}

/// The fields of a map, in RESP2 or RESP3.
pub(crate) struct Fields(Vec<(Frame, Frame)>);

impl Fields {
    pub(crate) fn read(frame: Frame) -> Result<Self, Unfit> {
        match frame {
            Frame::Map(pairs) => Ok(Self(pairs)),
            Frame::Array(items) if items.len().is_multiple_of(2) => {
                let mut items = items.into_iter();
                let pairs = std::iter::from_fn(|| Some((items.next()?, items.next()?)));
                Ok(Self(pairs.collect()))
            }
            other => Err(Unfit(other)),
        }
    }

    pub(crate) fn take(&mut self, name: &str) -> Result<Frame, Unfit> {
        let is = |(key, _): &(Frame, Frame)| matches!(key, Frame::Bulk(key) if key == name.as_bytes());
        let at = self.0.iter().position(is).ok_or_else(|| Unfit(Frame::Map(self.0.clone())))?;
        Ok(self.0.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_in_both_dialects() {
        let key = || Frame::Bulk(Bytes::from_static(b"a"));
        for frame in [Frame::Array(vec![key(), Frame::Int(1)]), Frame::Map(vec![(key(), Frame::Int(1))])] {
            let mut fields = Fields::read(frame).unwrap();
            assert_eq!(fields.take("a").unwrap(), Frame::Int(1));
            assert!(fields.take("a").is_err());
        }
        assert!(Fields::read(Frame::Array(vec![key()])).is_err());
    }

    #[test]
    fn an_unexpected_reply_is_shown_in_part() {
        let error = Unfit(Frame::Simple("é".repeat(500))).of("GET").to_string();
        assert!(error.starts_with("unexpected reply to GET: Simple(") && error.len() < 150, "{error}");
    }
}
