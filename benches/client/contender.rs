//! The clients compared, each used as its documentation shows.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use fred::prelude::{Builder, ClientLike as _, Config, KeysInterface as _};

use crate::support::load::VALUE;

/// One connection to share: a clone for each task.
#[derive(Clone)]
pub(crate) enum Connection {
    Sapwood(sapwood::client::Client),
    Redis(redis::aio::MultiplexedConnection),
    Fred(fred::clients::Client),
}

/// Which client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contender {
    Sapwood,
    Redis,
    Fred,
}

impl Contender {
    pub(crate) const ALL: [Contender; 3] = [Contender::Redis, Contender::Fred, Contender::Sapwood];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Contender::Sapwood => "sapwood",
            Contender::Redis => "redis",
            Contender::Fred => "fred",
        }
    }

    pub(crate) async fn connect(self, server: SocketAddr) -> Result<Connection> {
        Ok(match self {
            Contender::Sapwood => {
                Connection::Sapwood(sapwood::client::Client::connect([server.to_string()]).await?)
            }
            Contender::Redis => {
                let client = redis::Client::open(format!("redis://{server}"))?;
                Connection::Redis(client.get_multiplexed_async_connection().await?)
            }
            Contender::Fred => {
                let client = Builder::from_config(Config::from_url(&format!("redis://{server}"))?).build()?;
                client.init().await?;
                Connection::Fred(client)
            }
        })
    }
}

impl Connection {
    pub(crate) async fn get(&mut self, key: &[u8]) -> Result<()> {
        let len = match self {
            Connection::Sapwood(client) => client.get(key).await?.map(|value| value.len()),
            Connection::Redis(connection) => {
                let value: Option<Vec<u8>> = redis::cmd("GET").arg(key).query_async(connection).await?;
                value.map(|value| value.len())
            }
            Connection::Fred(client) => {
                let value: Option<bytes::Bytes> = client.get(key).await?;
                value.map(|value| value.len())
            }
        };
        ensure!(len.context("a key is missing")? == VALUE, "a value of {len:?} bytes");
        Ok(())
    }

    pub(crate) async fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Connection::Sapwood(client) => client.set(key, value).await?,
            Connection::Redis(connection) => {
                redis::cmd("SET").arg(key).arg(value).query_async::<()>(connection).await?;
            }
            Connection::Fred(client) => client.set::<(), _, _>(key, value, None, None, false).await?,
        }
        Ok(())
    }

    pub(crate) async fn close(self) {
        if let Connection::Fred(client) = self {
            let _ = client.quit().await;
        }
    }
}
