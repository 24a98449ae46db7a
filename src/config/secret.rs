//! A password in memory.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

/// The longest secret in bytes. A file beyond it is not a password file: a wrong path, or a device without end.
const MAX_SECRET: usize = 64 << 10;

/// A password that is never shown: its `Debug` hides it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

/// Why no secret could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// An empty password would let everyone in.
    #[error("it is empty: write the password into it")]
    Empty,
    /// More than any password.
    #[error("it is longer than {MAX_SECRET} bytes: is this the right file?")]
    TooLong,
}

impl Secret {
    /// A secret of these bytes.
    ///
    /// # Errors
    /// [`SecretError::Empty`], [`SecretError::TooLong`].
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, SecretError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(SecretError::Empty),
            1..=MAX_SECRET => Ok(Secret(bytes)),
            _ => Err(SecretError::TooLong),
        }
    }

    /// The content of a file, without the one newline that editors and `echo` put at its end.
    ///
    /// # Errors
    /// [`SecretError`]: unreadable, empty, too long.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_SECRET as u64 + 3).read_to_end(&mut bytes)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Secret::new(bytes)
    }

    /// The secret itself, for a handshake.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `candidate` is this secret, in time that depends on the candidate's length alone.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let mut difference = u8::from(self.0.len() != candidate.len());
        for (given, own) in candidate.iter().zip(self.0.iter().cycle()) {
            difference |= std::hint::black_box(given ^ own);
        }
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Secret, SecretError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        Secret::read(file.path())
    }

    #[test]
    fn one_trailing_newline_is_not_part_of_the_secret() {
        assert_eq!(read(b"pass\n").unwrap().expose(), b"pass");
        assert_eq!(read(b"pass\r\n").unwrap().expose(), b"pass");
        assert_eq!(read(b"pass\n\n").unwrap().expose(), b"pass\n");
        assert_eq!(read(b" pass ").unwrap().expose(), b" pass ");
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert!(matches!(read(b""), Err(SecretError::Empty)));
        assert!(matches!(read(b"\n"), Err(SecretError::Empty)));
    }

    #[test]
    fn a_file_that_is_no_password_is_refused() {
        assert!(read(&vec![b'x'; MAX_SECRET]).is_ok());
        assert!(matches!(read(&vec![b'x'; MAX_SECRET + 1]), Err(SecretError::TooLong)));
        assert!(matches!(Secret::read(Path::new("/dev/zero")), Err(SecretError::TooLong)));
    }

    #[test]
    fn debug_never_shows_it() {
        assert_eq!(format!("{:?}", Secret::new(*b"pass").unwrap()), "Secret(hidden)");
    }

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new(*b"pass").unwrap();
        assert!(secret.matches(b"pass"));
        for wrong in [&b""[..], b"pas", b"pasS", b"passpass", b"pass\0"] {
            assert!(!secret.matches(wrong), "{wrong:?}");
        }
    }
}
