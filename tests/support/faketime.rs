//! A machine's clock that a test sets: the node under libfaketime, which reads the offset from a file. The clock
//! that timers use is not touched.

use std::path::PathBuf;

use super::node_process::Surroundings;

/// The clock of one node.
pub struct Clock {
    dir: tempfile::TempDir,
    library: PathBuf,
}

impl Clock {
    /// A clock so many seconds ahead of the machine's.
    ///
    /// # Panics
    /// If libfaketime is missing.
    pub fn ahead(seconds: f64) -> Clock {
        let library = library().expect("libfaketime is missing: install Debian's faketime");
        let clock = Clock { dir: tempfile::tempdir().unwrap(), library };
        clock.set(seconds);
        clock
    }

    /// Sets it to so many seconds ahead of the machine's; behind, if negative.
    pub fn set(&self, seconds: f64) {
        // Renamed, so that the node never reads half of it.
        let written = self.dir.path().join("next");
        std::fs::write(&written, format!("{seconds:+.3}\n")).unwrap();
        std::fs::rename(written, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    pub fn surroundings(&self) -> Surroundings {
        let env = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        Surroundings { command: Vec::new(), env: env.into() }
    }
}

/// The library, in whichever directory this architecture has it.
fn library() -> Option<PathBuf> {
    let directories = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}
