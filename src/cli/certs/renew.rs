//! `sapwood certs renew`

use anyhow::{Context as _, bail};

use super::authority::{Authority, LEAF_DAYS, Subject};
use super::files::{Folder, check_name};
use super::issued::Issued;
use crate::cli::output;

/// Certificates that end within as many days are renewed: those that nodes warn of.
const NEAR_DAYS: i64 = 30;

pub(super) fn run(names: &[String], folder: &Folder) -> anyhow::Result<()> {
    let authority = Authority::load(folder)?;
    let present = folder.names()?;
    if let Some(missing) = names.iter().find(|name| !present.contains(name)) {
        bail!(
            "there is no {}: `sapwood certs show` lists what there is",
            folder.path(&format!("{missing}.crt")).display()
        );
    }
    let mut renewed = 0;
    for file in present {
        let path = folder.path(&format!("{file}.crt"));
        let pem = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let issued = Issued::read(&pem).into_iter().next();
        let named = names.contains(&file);
        let Some(Issued { name: Some(name), hosts, .. }) = &issued else {
            if named {
                bail!("{} is not the certificate of a node or client", path.display());
            }
            continue;
        };
        let is_near = issued.as_ref().is_some_and(|issued| issued.days_left() < NEAR_DAYS);
        let is_chosen = named || (names.is_empty() && is_near);
        if !is_chosen {
            continue;
        }
        check_name(&file)?;
        if name.cluster != authority.cluster() {
            bail!(
                "{} is of cluster {:?}, and the CA signs for {:?}",
                path.display(),
                name.cluster,
                authority.cluster()
            );
        }
        let subject = Subject { name: name.clone(), hosts: hosts.clone() };
        let (certificate, key) = authority.sign(&subject)?;
        folder.write(&file, &key, &certificate, true)?;
        output::line(&format!("{}: {}, for {LEAF_DAYS} days from now", path.display(), subject.name))?;
        renewed += 1;
    }
    if renewed == 0 {
        output::line(&format!("nothing expires within {NEAR_DAYS} days"))?;
    } else {
        output::line(
            "copy the .crt and .key to their nodes: a node that runs puts them to use within seconds",
        )?;
    }
    Ok(())
}
