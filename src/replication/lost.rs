//! The file that keeps what had to be given up: one JSON object a line.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;

use crate::cluster::LostCell;
use crate::model::stamp;

/// Where lost cells are written to, if anywhere.
pub(super) struct LostFile(Option<Mutex<File>>);

impl LostFile {
    /// Opens the file to append to.
    ///
    /// # Errors
    /// As the system reports them.
    pub(super) fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        Ok(LostFile(path.map(open).transpose()?.map(Mutex::new)))
    }

    /// Appends a cell. A file that cannot be written to is logged, and holds up nothing.
    pub(super) fn write(&self, lost: &LostCell) {
        let Some(file) = &self.0 else { return };
        let line = serde_json::json!({
            "key": STANDARD.encode(&lost.key),
            "value": lost.value.as_ref().map(|value| STANDARD.encode(value)),
            "value_bytes": lost.value_bytes,
            "version_ms": stamp::unix_millis(*lost.version.get_time()),
            "origin": lost.version.get_id().to_string(),
            "deadline_ms": lost.deadline.map(stamp::unix_millis),
            "peer": lost.peer,
        });
        if let Err(error) = file.lock().write_all(format!("{line}\n").as_bytes()) {
            tracing::error!(%error, "cannot write to --lost-file");
        }
    }
}
