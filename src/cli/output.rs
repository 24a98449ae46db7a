//! Output for people and machines: colours, tables, keys and values.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The destination of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
        }
    }
}

/// Colours, or none if the output is not a terminal. See <https://no-color.org>.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    pub(crate) colours: bool,
}

impl Paint {
    pub(crate) fn on(stream: Stream) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint { colours: stream.is_terminal() && !refused }
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Colours a state of a node or a link: good, in progress, or in need of attention.
    pub(crate) fn state(self, text: &str) -> String {
        match text {
            "linked" | "ready" | "done" => self.wrap("32", text),
            "joining" | "healing" | "draining" | "duplicate" | "gone" | "waiting" | "running" => {
                self.wrap("33", text)
            }
            _ => self.wrap("31", text),
        }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes a line to stdout. Unlike `println!` it reports a closed pipe instead of panicking.
pub(crate) fn line(text: &str) -> io::Result<()> {
    raw(text.as_bytes())?;
    raw(b"\n")
}

/// Writes bytes to stdout as they are.
pub(crate) fn raw(bytes: &[u8]) -> io::Result<()> {
    io::stdout().write_all(bytes)
}

/// Writes a table to stdout: the first row in bold, column `state` in the colours of states.
pub(crate) fn table(table: &Table, paint: Paint, state: Option<usize>) -> io::Result<()> {
    table.painted(paint, state).iter().try_for_each(|row| line(row))
}

/// Writes one JSON value and a newline to stdout.
pub(crate) fn json(value: &serde_json::Value) -> io::Result<()> {
    line(&value.to_string())
}

/// `{name: text}`, or `{name_base64: …}` if the bytes are not UTF-8.
pub(crate) fn json_bytes(name: &str, bytes: &[u8]) -> serde_json::Map<String, serde_json::Value> {
    let (name, value) = match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text.to_owned()),
        Err(_) => (format!("{name}_base64"), BASE64_STANDARD.encode(bytes)),
    };
    std::iter::once((name, value.into())).collect()
}

/// Bytes made safe for a terminal: those that do not print are written `\n` or `\xNN`.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() || is_invisible(c) => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Whether a character is invisible, or reorders its neighbours.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Rows with aligned columns, two spaces apart.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// One line for each row, the first in bold; column `state` holds states.
    pub(crate) fn painted(&self, paint: Paint, state: Option<usize>) -> Vec<String> {
        self.lines(|row, column, cell| match row {
            0 => paint.bold(cell),
            _ if Some(column) == state => paint.state(cell),
            _ => cell.to_owned(),
        })
    }

    /// One line for each row. `paint` colours a padded cell by its row, column and text.
    pub(crate) fn lines(&self, paint: impl Fn(usize, usize, &str) -> String) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let rows = self.rows.iter().enumerate();
        rows.map(|(r, row)| {
            let mut line = String::new();
            // Empty cells at the end are not padded, so that no line ends in spaces.
            let filled = row.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
            for (c, cell) in row.iter().take(filled).enumerate() {
                line.push_str(&paint(r, c, cell));
                if c + 1 < filled {
                    line.extend(std::iter::repeat_n(' ', widths[c] - cell.chars().count() + 2));
                }
            }
            line
        })
        .collect()
    }
}

/// A number with thousands separators: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A rounded number of bytes: `12.1KiB`.
pub(crate) fn rough_size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >= 1 << shift) {
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{}{unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes}B"),
    }
}

/// A rounded time, given in milliseconds: `3m`.
pub(crate) fn rough_time(millis: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    match units.into_iter().find(|(_, length)| millis >= *length) {
        Some((unit, length)) => format!("{}{unit}", millis / length),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_play_with_a_terminal_is_escaped() {
        assert_eq!(printable("plain grün 木".as_bytes()), "plain grün 木");
        assert_eq!(printable(b"a\x1b[2Jb\n\t"), "a\\u{1b}[2Jb\\n\\t");
        assert_eq!(printable(b"\xff\x00\\"), "\\xff\\u{0}\\\\");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }

    #[test]
    fn bytes_that_are_no_text_travel_as_base64() {
        assert_eq!(json_bytes("key", "k\"é".as_bytes())["key"], "k\"é");
        assert_eq!(json_bytes("value", &[0xff, 0xfe])["value_base64"], "//4=");
    }

    #[test]
    fn columns_align_and_lines_do_not_end_in_spaces() {
        let mut table = Table::default();
        table.row(["NAME", "STATE", "REASON"]);
        table.row(["Zürich", "down", ""]);
        table.row(["a", "linked", "-"]);
        let lines = table.lines(|_, _, cell| cell.to_owned());
        assert_eq!(lines, ["NAME    STATE   REASON", "Zürich  down", "a       linked  -"]);
    }

    #[test]
    fn quantities_at_a_glance() {
        let sizes = [(0, "0B"), (1023, "1023B"), (12_400, "12.1KiB"), (64 << 20, "64.0MiB")];
        for (bytes, text) in sizes {
            assert_eq!(rough_size(bytes), text);
        }
        let numbers = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in numbers {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(rough_size(u64::MAX), "16777215.9TiB");
        for (millis, text) in [(0, "0ms"), (1_999, "1s"), (200_000, "3m"), (172_800_000, "2d")] {
            assert_eq!(rough_time(millis), text);
        }
    }
}
