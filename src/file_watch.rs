//! Notices that files which a node has read were replaced.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// What tells a changed file from the one before: inode, length, and when content and metadata were changed.
type Stamp = (u64, u64, Option<SystemTime>, i128);

/// What files are like at one moment. A file that is not there has no stamp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Option<Stamp>>);

impl Stamps {
    /// Looks at files. It blocks as long as the file system does.
    pub(crate) fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        Stamps(paths.into_iter().map(stamp).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let (inode, changed) = {
        use std::os::unix::fs::MetadataExt as _;
        (metadata.ino(), i128::from(metadata.ctime()) << 32 | i128::from(metadata.ctime_nsec()))
    };
    #[cfg(not(unix))]
    let (inode, changed) = (0, 0);
    Some((inode, metadata.len(), metadata.modified().ok(), changed))
}

/// Compares what files are like from look to look.
#[derive(Debug, Default)]
pub(crate) struct FileWatch {
    /// When they were read.
    read: Stamps,
    /// At the last look.
    last: Stamps,
}

impl FileWatch {
    /// Notes what the files were like just before they were read: so a change while they are read is noticed.
    pub(crate) fn note_read(&mut self, before: Stamps) {
        self.read = before;
    }

    /// Whether the files differ from those that were read, and are as at the last look. While they are being written they
    /// are not, and a certificate and its key are two files.
    pub(crate) fn has_changed(&mut self, now: &Stamps) -> bool {
        let is_steady = self.last == *now;
        self.last.clone_from(now);
        is_steady && self.read != *now
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn files_have_changed_once_they_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        let look = || Stamps::of([one.as_path(), &other]);
        fs::write(&one, "1").unwrap();
        let mut watch = FileWatch::default();
        watch.note_read(look());
        assert!(!watch.has_changed(&look()) && !watch.has_changed(&look()), "as they were read");
        fs::write(&one, "12").unwrap();
        assert!(!watch.has_changed(&look()), "may be written yet");
        fs::write(&other, "1").unwrap();
        assert!(!watch.has_changed(&look()), "the other is written");
        assert!(watch.has_changed(&look()));
        watch.note_read(look());
        assert!(!watch.has_changed(&look()));
        fs::remove_file(&other).unwrap();
        assert!(!watch.has_changed(&look()));
        assert!(watch.has_changed(&look()), "it is gone");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_opened_to_others_has_changed_once_it_is_closed_to_them() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        let allow = |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        allow(0o644);
        let look = || Stamps::of([file.path()]);
        let mut watch = FileWatch::default();
        watch.note_read(look());
        let (before, end) = (look(), Instant::now() + Duration::from_secs(30));
        // The times of files have the resolution of the kernel's tick.
        while look() == before && Instant::now() < end {
            allow(0o600);
        }
        assert!(!watch.has_changed(&look()));
        assert!(watch.has_changed(&look()));
    }
}
