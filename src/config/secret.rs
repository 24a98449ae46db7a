//! A password in memory.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The longest secret in bytes. A longer file is not a password file: the path is wrong, or it is an endless device.
pub(crate) const MAX_SECRET: usize = 64 << 10;

/// Folders where container runtimes and systemd keep the secrets of one container or service. The mode is no evidence
/// there: Docker creates files with mode 0444 owned by root, and a systemd access list shows as permission bits of the
/// group.
#[cfg(unix)]
const SECRET_FOLDERS: [&str; 3] = ["/run/secrets", "/var/run/secrets", "/run/credentials"];

/// What other users must not be able to do with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(unix), expect(dead_code, reason = "files have no mode"))]
pub(crate) enum Access {
    /// It holds a password.
    ReadOrChange,
    /// It holds hashes of passwords, and says who may do what.
    Change,
}

impl Access {
    /// The permission bits that give it to others than the owner.
    #[cfg(unix)]
    fn bits(self) -> u32 {
        match self {
            Access::ReadOrChange => 0o066,
            Access::Change => 0o022,
        }
    }
}

/// A password that is never shown: its `Debug` hides it, and it has no `Display`.
///
/// The memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Box<[u8]>>);

/// Why no secret could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The password is empty, which would let everyone in.
    #[error("it is empty: write the password into it")]
    Empty,
    /// The file is longer than any password.
    #[error("it is longer than {MAX_SECRET} bytes: is this the right file?")]
    TooLong,
    /// The file has a second line, which may or may not belong to the password.
    #[error("it has more than one line: write the password alone, with at most one line end after it")]
    ManyLines,
    /// Blanks surround the password; most often they are accidental and invisible.
    #[error("the password has blanks before or after it: remove them, or choose one without")]
    Blanks,
    /// Other users can read or write the file.
    #[error(
        "other users can read or write it (its mode is {mode:04o}): run `chmod 600 {}`, as the owner or root; files \
         under /run/secrets and /run/credentials are exempt", path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Secret {
    /// Creates a secret of these bytes.
    ///
    /// # Errors
    /// [`SecretError::Empty`], [`SecretError::TooLong`].
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes.into());
        match bytes.len() {
            0 => Err(SecretError::Empty),
            1..=MAX_SECRET => Ok(Secret(bytes)),
            _ => Err(SecretError::TooLong),
        }
    }

    /// Reads the password from a file: one line, without its end (LF or CRLF).
    ///
    /// On Unix the group and others must be able neither to read nor to write the file, unless it lies under
    /// `/run/secrets`, `/var/run/secrets` or `/run/credentials`, or is no regular file.
    ///
    /// # Errors
    /// [`SecretError`] if the file is unreadable, exposed to others, empty, too long, of several lines, or has blanks
    /// around the password.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let mut bytes = read_private(path)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        let secret = Secret::new(bytes.as_slice())?;
        if secret.0.iter().any(|byte| b"\r\n".contains(byte)) {
            return Err(SecretError::ManyLines);
        }
        if secret.0.trim_ascii().len() != secret.0.len() {
            return Err(SecretError::Blanks);
        }
        Ok(secret)
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

/// Reads a file that other users must be able neither to read nor to write, as [`Secret::read`] describes. Returns at most
/// [`MAX_SECRET`] + 3 bytes of it.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path)?;
    check_access(path, &file, Access::ReadOrChange)?;
    file.take(MAX_SECRET as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks that other users do not have this access to a file.
///
/// # Errors
/// [`SecretError::Exposed`], or [`SecretError::Read`] if the mode cannot be read.
#[cfg(unix)]
pub(crate) fn check_access(path: &Path, file: &std::fs::File, access: Access) -> Result<(), SecretError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o7777;
    // A pipe or a device, such as `<(pass show sapwood)` in a shell, stores nothing.
    if mode & access.bits() == 0 || !metadata.is_file() || is_in_secret_folder(&path.canonicalize()?) {
        return Ok(());
    }
    Err(SecretError::Exposed { path: path.to_owned(), mode })
}

#[cfg(not(unix))]
pub(crate) fn check_access(_path: &Path, _file: &std::fs::File, _access: Access) -> Result<(), SecretError> {
    Ok(())
}

/// Whether a path without symbolic links is under one of [`SECRET_FOLDERS`].
#[cfg(unix)]
fn is_in_secret_folder(path: &Path) -> bool {
    SECRET_FOLDERS.iter().any(|folder| path.starts_with(folder))
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
        assert_eq!(read(b"pass word").unwrap().expose(), b"pass word");
    }

    #[test]
    fn a_file_of_more_than_one_line_is_refused() {
        for lines in [&b"pass\n\n"[..], b"pass\nword", b"pass\nword\n", b"pass\r\nword", b"\npass", b"pass\r"]
        {
            assert!(matches!(read(lines), Err(SecretError::ManyLines)), "{}", lines.escape_ascii());
        }
    }

    #[test]
    fn blanks_around_the_password_are_refused() {
        for blanks in [&b" pass"[..], b"pass ", b"pass \n", b"\tpass\r\n", b" "] {
            assert!(matches!(read(blanks), Err(SecretError::Blanks)), "{}", blanks.escape_ascii());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_or_write_is_refused_with_what_to_run() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "pass").unwrap();
        let with = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            Secret::read(file.path()).map_err(|error| error.to_string())
        };
        for closed in [0o600, 0o400, 0o700] {
            assert!(with(closed).is_ok(), "{closed:o}");
        }
        for open in [0o644, 0o640, 0o604, 0o620, 0o444] {
            let refusal = with(open).unwrap_err();
            assert!(refusal.contains(&format!("its mode is {open:04o}")), "{refusal}");
            assert!(refusal.contains(&format!("chmod 600 {}", file.path().display())), "{refusal}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_a_container_runtime_or_systemd_keeps_may_have_any_mode() {
        for kept in
            ["/run/secrets/password", "/var/run/secrets/a/b", "/run/credentials/sapwood.service/password"]
        {
            assert!(is_in_secret_folder(Path::new(kept)), "{kept}");
        }
        for other in ["/run/password", "/run/secrets-of-others/password", "/etc/run/secrets/password"] {
            assert!(!is_in_secret_folder(Path::new(other)), "{other}");
        }
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
