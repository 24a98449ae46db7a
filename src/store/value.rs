//! Values for embedded readers, which outlive the lock they were read under.

use std::fmt;
use std::ops::Deref;
use std::str::Utf8Error;

use super::cell::Cell;
use crate::model::Time;

/// A value as it was when it was read. It is cheap to clone and dereferences to bytes.
///
/// It shares the memory of the cell it was read from, so nothing is copied. That memory, the key included, is freed
/// when the last holder drops it, whatever has happened to the key since. Only a counter's digits are a new
/// allocation.
#[derive(Clone)]
pub struct Value(Cell);

impl Value {
    /// The value of a cell that is live at `now`.
    #[inline]
    pub(super) fn of(cell: &Cell, now: Time) -> Value {
        Value(cell.as_shown(now))
    }

    /// The value as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn as_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self)
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.value().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}
