//! The files of a certificate authority: `ca.crt`, `ca.key`, and a `.crt` and `.key` for each name.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// A folder with a CA and what it has signed.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens a folder, or creates one that only its owner can list.
    pub(super) fn create(dir: &Path) -> anyhow::Result<Folder> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Folder(dir.to_owned()))
    }

    pub(super) fn open(dir: &Path) -> anyhow::Result<Folder> {
        if !dir.join("ca.crt").exists() {
            bail!(
                "there is no CA in {}: make one by `sapwood certs init`, or name its folder by --dir",
                dir.display()
            );
        }
        Ok(Folder(dir.to_owned()))
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Reads the certificate and the key of the CA.
    pub(super) fn read_authority(&self) -> anyhow::Result<(String, String)> {
        let read = |file| {
            let path = self.path(file);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok((read("ca.crt")?, read("ca.key")?))
    }

    /// Writes `NAME.key`, which only its owner can read, and then `NAME.crt`. Files that exist are replaced only with
    /// `force`, each in one step.
    pub(super) fn write(&self, name: &str, key: &str, certificate: &str, force: bool) -> anyhow::Result<()> {
        let (key_path, certificate_path) =
            (self.path(&format!("{name}.key")), self.path(&format!("{name}.crt")));
        if let Some(existing) = [&key_path, &certificate_path].into_iter().find(|path| path.exists())
            && !force
        {
            bail!(
                "{} exists: give --force to replace it, after which the old one is lost",
                existing.display()
            );
        }
        for (path, content, mode) in [(&key_path, key, 0o600), (&certificate_path, certificate, 0o644)] {
            replace(path, content, mode).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Returns the names of the certificates here, except that of the CA, in alphabetical order.
    pub(super) fn names(&self) -> anyhow::Result<Vec<String>> {
        let entries = fs::read_dir(&self.0).with_context(|| format!("cannot list {}", self.0.display()))?;
        let mut names = Vec::new();
        for entry in entries {
            let file = entry?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".crt"));
            names.extend(name.filter(|name| *name != "ca").map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Writes a file under another name first, so that nobody reads half of it.
fn replace(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Checks that a name can be that of a node and of a file.
pub(super) fn check_name(name: &str) -> anyhow::Result<()> {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !",*/\\".contains(c);
    if name.is_empty() || name.len() > 200 || name.starts_with(['.', '-']) || !name.chars().all(is_plain) {
        bail!(
            "{name:?} cannot be the name of a node and of its files: use letters, digits, `-`, `.`, `_` and `:`"
        );
    }
    if name == "ca" {
        bail!("the files of {name:?} would be those of the CA: choose another name");
    }
    Ok(())
}
