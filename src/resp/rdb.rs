//! Redis's serialized form of a string, as in the replies of `DUMP`. Pure.
//!
//! ```text
//!   0 (a string) │ length and bytes, or an integer, or packed by LZF │ RDB version │ CRC-64 of all before
//!   1 byte       │                                                   │ 2 bytes     │ 8 bytes
//! ```
//!
//! The formats are those of Redis's `rdb.c` and of `lzf_d.c`. What is written is never packed, which Redis accepts.

/// The RDB version that is written: the first in which `DUMP` existed, so that every Redis accepts it. Strings are the
/// same in all later ones.
const VERSION: u16 = 6;
/// The version and the checksum.
const TRAILER: usize = 10;
const STRING: u8 = 0;

/// A payload that cannot be read, in Redis's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("ERR DUMP payload version or checksum are wrong")]
    Checksum,
    #[error("ERR Bad data format")]
    Format,
    /// A list, a hash, …
    #[error("UNSUPPORTED RESTORE: the value is not a string. Values are plain strings here")]
    NotAString,
}

/// Redis's checksum, by tables for 16 bytes at a time.
static REDIS: crc::Crc<u64, crc::Table<16>> = crc::Crc::<u64, crc::Table<16>>::new(&crc::CRC_64_REDIS);

/// The checksum of bytes that come in parts.
#[derive(Clone)]
pub(super) struct Crc(crc::Digest<'static, u64, crc::Table<16>>);

impl Default for Crc {
    fn default() -> Self {
        Crc(REDIS.digest())
    }
}

impl Crc {
    /// Adds the next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far, as it stands in a payload.
    fn to_bytes(&self) -> [u8; 8] {
        self.0.clone().finalize().to_le_bytes()
    }
}

/// The payload of a value without its checksum: see [`seal`].
pub(super) fn body(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 32);
    out.push(STRING);
    match integer(value) {
        Some(number) => put_integer(&mut out, number),
        None => {
            put_length(&mut out, value.len());
            out.extend_from_slice(value);
        }
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    out
}

/// Ends a payload with the checksum of its body.
pub(super) fn seal(body: &mut Vec<u8>, crc: &Crc) {
    body.extend_from_slice(&crc.to_bytes());
}

/// The integer whose digits `value` is, if it has 32 bits.
fn integer(value: &[u8]) -> Option<i32> {
    crate::model::counter::strict_number(value).and_then(|number| i32::try_from(number).ok())
}

fn put_integer(out: &mut Vec<u8>, number: i32) {
    if let Ok(number) = i8::try_from(number) {
        out.push(0xC0);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xC1);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        out.push(0xC2);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each is checked to fit")]
fn put_length(out: &mut Vec<u8>, length: usize) {
    match length {
        0..0x40 => out.push(length as u8),
        0x40..0x4000 => out.extend_from_slice(&(0x4000 | length as u16).to_be_bytes()),
        _ => match u32::try_from(length) {
            Ok(length) => {
                out.push(0x80);
                out.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                out.push(0x81);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        },
    }
}

/// The part of a payload that the checksum covers.
pub(super) fn covered(payload: &[u8]) -> Result<&[u8], PayloadError> {
    match payload.len().checked_sub(TRAILER) {
        Some(_) => Ok(&payload[..payload.len() - 8]),
        None => Err(PayloadError::Checksum),
    }
}

/// The value in a payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored<'a> {
    Plain(&'a [u8]),
    Number(i32),
    /// Packed by LZF: the bytes, and the length of the value.
    Packed(&'a [u8], usize),
}

/// Reads a payload whose [`covered`] part has this CRC.
pub(super) fn parse<'a>(payload: &'a [u8], crc: &Crc) -> Result<Stored<'a>, PayloadError> {
    let body = covered(payload)?;
    if payload[body.len()..] != crc.to_bytes() {
        return Err(PayloadError::Checksum);
    }
    let mut input = Input(&body[..body.len() - 2]);
    match input.byte()? {
        STRING => {}
        1..=64 => return Err(PayloadError::NotAString),
        _ => return Err(PayloadError::Format),
    }
    let stored = match input.length()? {
        Length::Plain(length) => Stored::Plain(input.take(length)?),
        Length::Encoded(0) => Stored::Number(i8::from_le_bytes(input.array()?).into()),
        Length::Encoded(1) => Stored::Number(i16::from_le_bytes(input.array()?).into()),
        Length::Encoded(2) => Stored::Number(i32::from_le_bytes(input.array()?)),
        Length::Encoded(3) => match (input.length()?, input.length()?) {
            (Length::Plain(packed), Length::Plain(length)) => Stored::Packed(input.take(packed)?, length),
            _ => return Err(PayloadError::Format),
        },
        Length::Encoded(_) => return Err(PayloadError::Format),
    };
    if input.0.is_empty() { Ok(stored) } else { Err(PayloadError::Format) }
}

struct Input<'a>(&'a [u8]);

enum Length {
    Plain(usize),
    /// Not a length, but the number of an encoding.
    Encoded(u8),
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], PayloadError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(PayloadError::Format)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PayloadError> {
        self.take(N)?.try_into().map_err(|_| PayloadError::Format)
    }

    fn byte(&mut self) -> Result<u8, PayloadError> {
        Ok(self.array::<1>()?[0])
    }

    fn length(&mut self) -> Result<Length, PayloadError> {
        let first = self.byte()?;
        let low = usize::from(first & 0x3F);
        let length = match (first >> 6, first) {
            (0, _) => low,
            (1, _) => low << 8 | usize::from(self.byte()?),
            (2, 0x80) => u32::from_be_bytes(self.array()?) as usize,
            (2, 0x81) => {
                usize::try_from(u64::from_be_bytes(self.array()?)).map_err(|_| PayloadError::Format)?
            }
            (3, _) => return Ok(Length::Encoded(first & 0x3F)),
            _ => return Err(PayloadError::Format),
        };
        Ok(Length::Plain(length))
    }
}

/// Unpacks LZF (Lehmann's LibLZF) in parts.
#[derive(Debug, Default)]
pub(super) struct Unpacking {
    at: usize,
    value: Vec<u8>,
}

impl Unpacking {
    /// Unpacks until all of `packed` is done or `most` more bytes are; returns the value of this `length` once it is
    /// complete.
    pub(super) fn step(
        &mut self,
        packed: &[u8],
        length: usize,
        most: usize,
    ) -> Result<Option<Vec<u8>>, PayloadError> {
        let end = self.value.len() + most;
        while self.at < packed.len() {
            if self.value.len() >= end {
                return Ok(None);
            }
            let mut input = Input(&packed[self.at..]);
            let control = usize::from(input.byte()?);
            if control < 32 {
                let literal = input.take(control + 1)?;
                self.value.extend_from_slice(literal);
            } else {
                let mut run = control >> 5;
                if run == 7 {
                    run += usize::from(input.byte()?);
                }
                let back = ((control & 0x1F) << 8 | usize::from(input.byte()?)) + 1;
                let from = self.value.len().checked_sub(back).ok_or(PayloadError::Format)?;
                // The copy may reach into what it writes.
                for at in from..from + run + 2 {
                    self.value.push(self.value[at]);
                }
            }
            if self.value.len() > length {
                return Err(PayloadError::Format);
            }
            self.at = packed.len() - input.0.len();
        }
        if self.value.len() == length {
            Ok(Some(std::mem::take(&mut self.value)))
        } else {
            Err(PayloadError::Format)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn crc(bytes: &[u8]) -> Crc {
        let mut crc = Crc::default();
        crc.add(bytes);
        crc
    }

    fn dump(value: &[u8]) -> Vec<u8> {
        let mut payload = body(value);
        let crc = crc(&payload);
        seal(&mut payload, &crc);
        payload
    }

    fn read(payload: &[u8]) -> Result<Stored<'_>, PayloadError> {
        parse(payload, &crc(covered(payload)?))
    }

    #[test]
    fn the_checksum_is_that_of_redis() {
        assert_eq!(crc(b"123456789").to_bytes(), 0xe9c6_d914_c4b8_d9ca_u64.to_le_bytes());
        let mut parts = Crc::default();
        [&b"1"[..], b"23456789a", b"bcdefghijklmnopq", b""].into_iter().for_each(|part| parts.add(part));
        assert_eq!(parts.to_bytes(), crc(b"123456789abcdefghijklmnopq").to_bytes());
    }

    #[test]
    fn what_redis_7_0_15_dumps_is_read() {
        let packed = b"\0\xc3\x09\x40\x40\x01aa\xe0\x33\x00\x01aa\x0a\0";
        let mut unpacking = Unpacking::default();
        let mut payload = packed.to_vec();
        seal(&mut payload, &crc(packed));
        let Ok(Stored::Packed(bytes, 64)) = read(&payload) else { panic!("{:?}", read(&payload)) };
        assert_eq!(unpacking.step(bytes, 64, 10), Ok(None));
        assert_eq!(unpacking.step(bytes, 64, 100), Ok(Some(vec![b'a'; 64])));
        assert_eq!(Unpacking::default().step(bytes, 63, 100), Err(PayloadError::Format));
        assert_eq!(Unpacking::default().step(bytes, 65, 100), Err(PayloadError::Format));
        assert_eq!(
            Unpacking::default().step(b"\x20\x05", 3, 100),
            Err(PayloadError::Format),
            "before the start"
        );
    }

    #[test]
    fn damage_is_found() {
        let good = dump(b"a value");
        assert_eq!(read(&good), Ok(Stored::Plain(b"a value")));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(read(&bad), Err(PayloadError::Checksum), "at {at}");
            assert!(read(&good[..at]).is_err());
        }
        let sealed = |body: &[u8]| {
            let mut payload = body.to_vec();
            seal(&mut payload, &crc(body));
            payload
        };
        assert_eq!(read(&sealed(b"\x04\x01a\x06\0")), Err(PayloadError::NotAString), "a hash");
        for body in [&b"\0\x05abc\x06\0"[..], b"\0\x01ab\x06\0", b"\0\xc4\x06\0", b"\0\x82\x06\0", b"\x06\0"]
        {
            assert_eq!(read(&sealed(body)), Err(PayloadError::Format), "{body:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_value_is_read_as_it_was_written(
            value in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..20_000),
                any::<i64>().prop_map(|number| number.to_string().into_bytes()),
                any::<i16>().prop_map(|number| number.to_string().into_bytes()),
            ]
        ) {
            let payload = dump(&value);
            match read(&payload) {
                Ok(Stored::Plain(bytes)) => prop_assert_eq!(bytes, &value[..]),
                Ok(Stored::Number(number)) => prop_assert_eq!(number.to_string().into_bytes(), value),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0usize..5_000) {
            let _ = read(&bytes);
            let _ = Unpacking::default().step(&bytes, length, 1_000_000);
        }
    }
}
