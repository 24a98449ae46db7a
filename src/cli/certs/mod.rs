//! `sapwood certs`: a certificate authority for a cluster that has none, in a folder of files.

mod authority;
mod files;
mod issued;
mod renew;
mod show;

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;

use sapwood::config::Config;
use sapwood::internal::tls::{Name, Role};

use self::authority::{Authority, CA_DAYS, LEAF_DAYS, Subject};
use self::files::Folder;
use super::{Exit, WrongUsage, output};

/// Make and show the certificates by which nodes of a cluster know each other
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood certs init                          # a CA for cluster sapwood, in ./certs
  sapwood certs node a b c
  sapwood certs node d --host db-2.example    # with a host name too, for clients that check it
  sapwood certs client web
  sapwood certs show                          # names, and how long each is valid
  sapwood certs renew                         # those that expire within 30 days
  (umask 077; sapwood certs secret > secret)  # for --peer-secret-file, instead of certificates

  sapwood serve --name a --peer 10.0.0.1:7172 --join 10.0.0.2:7172 \\
      --peer-tls-cert certs/a.crt --peer-tls-key certs/a.key --peer-tls-ca certs/ca.crt

A CA is valid for 10 years, what it signs for 1 year. A node needs its own .crt and .key, and ca.crt. Keep ca.key away from
the nodes: whoever has it can make nodes.")]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a CA: ca.crt, and ca.key, which only its owner can read
    #[command(after_help = "Example:\n  sapwood certs init --cluster oak --dir oak-certs")]
    Init {
        /// The cluster whose nodes it signs: that of --cluster of `sapwood serve`
        #[arg(long, value_name = "NAME", default_value = "sapwood")]
        cluster: String,
        #[command(flatten)]
        place: Place,
    },
    /// Make certificates for nodes: NAME.crt and NAME.key
    #[command(
        after_help = "Examples:\n  sapwood certs node a b c\n  sapwood certs node db-1 --host db-1.example 10.0.0.1"
    )]
    Node {
        /// The node's --name; a certificate is made for each
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// A host name or IP address of the node, for clients that check it; peers do not. For one name only
        #[arg(long = "host", value_name = "HOST", num_args = 1..)]
        hosts: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Make a certificate for a client, which lets nobody be a node: NAME.crt and NAME.key
    #[command(after_help = "Example:\n  sapwood certs client web")]
    Client {
        /// The client's name
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Show what certificates are for, and how long they are valid
    #[command(after_help = "Examples:\n  sapwood certs show\n  sapwood certs show /etc/sapwood/a.crt")]
    Show {
        /// A file of certificates, or a folder of such files
        #[arg(value_name = "FILE|DIR", default_value = "certs")]
        path: PathBuf,
    },
    /// Make certificates again, with new keys: those that expire within 30 days, or the named ones
    #[command(after_help = "Examples:\n  sapwood certs renew\n  sapwood certs renew a b")]
    Renew {
        /// The certificates to renew, whenever they expire
        names: Vec<String>,
        #[command(flatten)]
        place: RenewPlace,
    },
    /// Print a random secret of 256 bits, for --peer-secret-file
    #[command(after_help = "Example:\n  (umask 077; sapwood certs secret > /etc/sapwood/peer-secret)")]
    Secret,
}

/// Where the files are.
#[derive(Debug, clap::Args)]
struct Place {
    /// The folder of the CA and what it has signed
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
struct RenewPlace {
    /// The folder of the CA and what it has signed
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        Command::Init { cluster, place } => {
            Config { cluster: cluster.clone(), ..Config::default() }.validate()?;
            let folder = Folder::create(&place.dir)?;
            let (authority, certificate) = Authority::new(&cluster)?;
            folder.write("ca", &authority.key_pem(), &certificate, place.force)?;
            output::line(&format!(
                "{} and ca.key: the CA of cluster {cluster}, for {CA_DAYS} days",
                folder.path("ca.crt").display()
            ))?;
        }
        Command::Node { names, hosts, place } => {
            if names.len() > 1 && !hosts.is_empty() {
                return Err(WrongUsage("--host is of one node: make the certificates one by one").into());
            }
            for name in names {
                issue(Role::Node, name, hosts.clone(), &place)?;
            }
        }
        Command::Client { name, place } => issue(Role::Client, name, Vec::new(), &place)?,
        Command::Show { path } => show::run(&path)?,
        Command::Renew { names, place } => renew::run(&names, &Folder::open(&place.dir)?)?,
        Command::Secret => {
            let mut bits = [0; 32];
            OsRng.try_fill_bytes(&mut bits)?;
            output::line(&BASE64_URL_SAFE_NO_PAD.encode(bits))?;
        }
    }
    Ok(Exit::Done)
}

fn issue(role: Role, name: String, hosts: Vec<String>, place: &Place) -> anyhow::Result<()> {
    let folder = Folder::open(&place.dir)?;
    files::check_name(&name)?;
    let authority = Authority::load(&folder)?;
    let name = Name { cluster: authority.cluster().to_owned(), role, name };
    let subject = Subject { name, hosts };
    let (certificate, key) = authority.sign(&subject)?;
    folder.write(&subject.name.name, &key, &certificate, place.force)?;
    let (file, key) = (format!("{}.crt", subject.name.name), format!("{}.key", subject.name.name));
    let path = folder.path(&file);
    output::line(&format!("{} and {key}: {}, for {LEAF_DAYS} days", path.display(), subject.name))?;
    Ok(())
}
