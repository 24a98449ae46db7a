//! The node that a client subcommand talks to.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use sapwood::client::resp::{Frame, FrameError};
use sapwood::client::{Client, ClientError, ClientOptions, Connection, Options};
use sapwood::config::{DEFAULT_CLIENT_PORT, Secret, Span};

use super::Exit;
use super::output::{self, Stream};

const NODE: &str = "Node";

/// Flags that all client subcommands share.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Client address of the node to talk to
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7171", env = "SAPWOOD_NODE")]
    #[arg(value_parser = node_address, help_heading = NODE, hide_env_values = true)]
    pub(crate) node: String,

    /// User to log in as, with the password of --password-file; default if not given
    #[arg(long, value_name = "NAME", env = "SAPWOOD_USER", help_heading = NODE, hide_env_values = true)]
    user: Option<String>,

    /// File with the user's password, closed to other users
    #[arg(long, value_name = "FILE", env = "SAPWOOD_PASSWORD_FILE", help_heading = NODE, hide_env_values = true)]
    password_file: Option<PathBuf>,

    /// How long to wait for the node
    #[arg(long, value_name = "TIME", default_value = "5s", help_heading = NODE)]
    #[arg(allow_hyphen_values = true)]
    timeout: Span,

    /// Write JSON, for machines
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// The password file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--password-file {}", path.display())]
pub(crate) struct BadPassword {
    path: PathBuf,
    source: anyhow::Error,
}

impl Target {
    pub(crate) async fn connect(&self) -> anyhow::Result<Session> {
        // RESP3 distinguishes maps from lists and booleans from numbers.
        Ok(Session { connection: self.connection(true).await? })
    }

    /// A plain connection. Any server has RESP2.
    pub(crate) async fn connection(&self, resp3: bool) -> anyhow::Result<Connection> {
        let options =
            Options { user: self.user.clone(), password: self.password()?, timeout: self.timeout.0, resp3 };
        Connection::connect(&self.node, options).await.map_err(|error| explain(&error))
    }

    /// A client that reconnects automatically, for long-running subcommands.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let options = self.client_options()?;
        Client::connect_with([&self.node], options).await.map_err(|error| explain(&error))
    }

    /// The options of such a client.
    pub(crate) fn client_options(&self) -> Result<ClientOptions, BadPassword> {
        let (password, timeout) = (self.password()?, self.timeout.0);
        Ok(ClientOptions {
            user: self.user.clone(),
            password,
            connect_timeout: timeout,
            request_timeout: timeout,
            ..ClientOptions::default()
        })
    }

    /// Reports success: `outcome` with `--json`, else a word on a terminal.
    pub(crate) fn done(&self, outcome: &serde_json::Value) -> anyhow::Result<Exit> {
        if self.json {
            output::json(outcome)?;
        } else if Stream::Stdout.is_terminal() {
            output::line("OK")?;
        }
        Ok(Exit::Done)
    }

    fn password(&self) -> Result<Option<String>, BadPassword> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let bad = |source| BadPassword { path: path.clone(), source };
        let secret = Secret::read(path).map_err(|error| bad(error.into()))?;
        let password =
            String::from_utf8(secret.expose().to_vec()).map_err(|_| bad(anyhow!("it is no UTF-8 text")))?;
        Ok(Some(password))
    }
}

/// An authenticated connection.
pub(crate) struct Session {
    connection: Connection,
}

impl Session {
    /// Sends one command and waits for its reply; an error reply is an error.
    pub(crate) async fn call(&mut self, command: &[&[u8]]) -> anyhow::Result<Frame> {
        self.connection.call(command).await.map_err(|error| explain(&error))
    }

    /// Sends one command whose only reply is `OK`.
    pub(crate) async fn expect_ok(&mut self, command: &[&[u8]]) -> anyhow::Result<()> {
        match self.call(command).await? {
            Frame::Simple(_) => Ok(()),
            other => unexpected("OK", &other),
        }
    }
}

fn node_address(text: &str) -> Result<String, &'static str> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("write HOST:PORT, such as 127.0.0.1:7171 or db-1:7171"),
    }
}

/// Converts a client's error, and adds the flag that may help. The error already names its causes.
pub(crate) fn explain(error: &ClientError) -> anyhow::Error {
    match error {
        ClientError::Unreachable { source, .. } if is_http(source) => {
            anyhow!("{error} (--node names a client port, {DEFAULT_CLIENT_PORT} by default)")
        }
        ClientError::Unreachable { .. } | ClientError::ConnectTimeout { .. } => {
            anyhow!("{error} (--node names another)")
        }
        ClientError::Refused { code, .. } | ClientError::Server { code, .. }
            if code == "NOAUTH" || code == "WRONGPASS" =>
        {
            anyhow!("{error} (--password-file names the file with the password, --user the user)")
        }
        ClientError::Refused { code, .. } | ClientError::Server { code, .. } if code == "NOPERM" => {
            anyhow!("{error} (--user names another user)")
        }
        error => anyhow!("{error}"),
    }
}

/// Whether the other side has answered in HTTP.
fn is_http(error: &std::io::Error) -> bool {
    let frame = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(frame, Some(FrameError::Http))
}

/// The bytes of a text reply, whichever of RESP's text types it has.
pub(crate) fn bytes(frame: &Frame) -> anyhow::Result<&[u8]> {
    match frame {
        Frame::Bulk(bytes) => Ok(bytes),
        Frame::Simple(text) => Ok(text.as_bytes()),
        Frame::Verbatim { text, .. } => Ok(text),
        other => unexpected("a text", other),
    }
}

/// The error for a reply that is of none of the command's types.
pub(crate) fn unexpected<T>(expected: &str, reply: &Frame) -> anyhow::Result<T> {
    bail!("expected {expected}, but the node replied {reply:?}: is it Sapwood?")
}
