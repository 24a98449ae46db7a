//! The client for programs without a runtime.
//!
//! Has the same methods as [`crate::Client`]; each refers to that one for details. The client brings its own runtime,
//! which runs on the calling thread: between calls nothing runs.
//!
//! **Not inside an asynchronous task**: its methods panic there, because they would block the runtime. Use the
//! asynchronous client.
//!
//! ```no_run
//! use sapwood_client::blocking::Client;
//!
//! let client = Client::connect(["127.0.0.1:7171", "127.0.0.1:7271"])?;
//! client.set("greeting", "hello")?;
//! for key in client.scan("greet*") {
//!     println!("{}", key?.escape_ascii());
//! }
//! # Ok::<(), sapwood_client::ClientError>(())
//! ```

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use tokio::runtime::{Builder, Runtime};

use crate::resp::Frame;
use crate::{ClientError, ClientOptions, Meta, Scan, SetOptions, Subscription, Ttl, Watch};

/// [`crate::Client`] for threads. Clones share the connection; a thread's call waits for its own reply only.
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    // Declared after the client, so that the connection is dropped first.
    runtime: Arc<Own>,
}

/// A runtime that may be dropped anywhere.
#[derive(Debug)]
struct Own(Option<Runtime>);

impl Own {
    fn run<F: Future>(&self, work: F) -> F::Output {
        self.0.as_ref().expect("the runtime is taken by drop alone").block_on(work)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which is forbidden in an asynchronous task.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Defines methods that wait for those of the asynchronous client.
macro_rules! waiting {
    ($($name:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {
        $(
            #[doc = concat!("Waits for [`Client::", stringify!($name), "`](crate::Client::", stringify!($name), ").")]
            ///
            /// # Errors
            /// Each [`ClientError`] says what became of the request.
            pub fn $name(&self, $($arg: $type),*) -> Result<$output, ClientError> {
                self.runtime.run(self.client.$name($($arg),*))
            }
        )*
    };
}

impl Client {
    /// Connects as [`Client::connect`](crate::Client::connect) does.
    ///
    /// # Errors
    /// If no node can be reached: the error of the last one tried.
    pub fn connect<A: AsRef<str>>(addrs: impl IntoIterator<Item = A>) -> Result<Client, ClientError> {
        Self::connect_with(addrs, ClientOptions::default())
    }

    /// Connects as [`Client::connect_with`](crate::Client::connect_with) does.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_with<A: AsRef<str>>(
        addrs: impl IntoIterator<Item = A>,
        options: ClientOptions,
    ) -> Result<Client, ClientError> {
        let runtime = Own(Some(Builder::new_current_thread().enable_all().build()?));
        let client = runtime.run(crate::Client::connect_with(addrs, options))?;
        Ok(Client { client, runtime: Arc::new(runtime) })
    }

    waiting! {
        call(args: &[&[u8]]) -> Frame;
        call_repeatable(args: &[&[u8]]) -> Frame;
        get(key: impl AsRef<[u8]>) -> Option<Bytes>;
        get_string(key: impl AsRef<[u8]>) -> Option<String>;
        set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> ();
        set_with(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, options: SetOptions) -> bool;
        delete(key: impl AsRef<[u8]>) -> bool;
        delete_all(keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> u64;
        exists(key: impl AsRef<[u8]>) -> bool;
        expire(key: impl AsRef<[u8]>, ttl: Duration) -> bool;
        persist(key: impl AsRef<[u8]>) -> bool;
        ttl(key: impl AsRef<[u8]>) -> Ttl;
        incr(key: impl AsRef<[u8]>) -> i64;
        incr_by(key: impl AsRef<[u8]>, by: i64) -> i64;
        decr(key: impl AsRef<[u8]>) -> i64;
        decr_by(key: impl AsRef<[u8]>, by: i64) -> i64;
        mget(keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Option<Bytes>>;
        mset(pairs: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>) -> ();
        meta(key: impl AsRef<[u8]>) -> Option<Meta>;
        wait(peers: u64, limit: Duration) -> u64;
        token() -> Bytes;
        ready(token: impl AsRef<[u8]>, limit: Duration) -> bool;
        publish(channel: impl AsRef<[u8]>, message: impl AsRef<[u8]>) -> u64;
    }

    /// [`Client::connected_to`](crate::Client::connected_to), as of the last call to this client.
    pub fn connected_to(&self) -> Option<String> {
        self.client.connected_to()
    }

    /// The keys of [`Client::scan`](crate::Client::scan).
    pub fn scan(&self, pattern: impl AsRef<[u8]>) -> Items<Scan> {
        self.items(|client| client.scan(pattern))
    }

    /// The events of [`Client::watch`](crate::Client::watch). Each step waits for the next, without a limit.
    pub fn watch<P: AsRef<[u8]>>(&self, prefixes: impl IntoIterator<Item = P>) -> Items<Watch> {
        self.items(|client| client.watch(prefixes))
    }

    /// The events of [`Client::watch_from`](crate::Client::watch_from).
    pub fn watch_from<P: AsRef<[u8]>>(
        &self,
        prefixes: impl IntoIterator<Item = P>,
        cursor: impl AsRef<[u8]>,
    ) -> Items<Watch> {
        self.items(|client| client.watch_from(prefixes, cursor))
    }

    /// The messages of [`Client::subscribe`](crate::Client::subscribe). Each step waits for the next, without a
    /// limit.
    ///
    /// # Errors
    /// As [`Client::subscribe`](crate::Client::subscribe).
    pub fn subscribe<C: AsRef<[u8]>>(
        &self,
        channels: impl IntoIterator<Item = C>,
    ) -> Result<Items<Subscription>, ClientError> {
        let stream = self.runtime.run(self.client.subscribe(channels))?;
        Ok(Items { stream, runtime: Arc::clone(&self.runtime) })
    }

    /// The messages of [`Client::subscribe_matching`](crate::Client::subscribe_matching).
    ///
    /// # Errors
    /// As [`Client::subscribe`](crate::Client::subscribe).
    pub fn subscribe_matching<P: AsRef<[u8]>>(
        &self,
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Items<Subscription>, ClientError> {
        let stream = self.runtime.run(self.client.subscribe_matching(patterns))?;
        Ok(Items { stream, runtime: Arc::clone(&self.runtime) })
    }

    fn items<S>(&self, start: impl FnOnce(&crate::Client) -> S) -> Items<S> {
        let runtime = Arc::clone(&self.runtime);
        // Inside the runtime, because the streams use its clock.
        let stream = runtime.run(async { start(&self.client) });
        Items { stream, runtime }
    }
}

/// The items of an asynchronous stream, as an iterator.
#[derive(Debug)]
pub struct Items<S> {
    stream: S,
    runtime: Arc<Own>,
}

impl<S: Stream + Unpin> Iterator for Items<S> {
    type Item = S::Item;

    fn next(&mut self) -> Option<S::Item> {
        self.runtime.run(poll_fn(|cx| Pin::new(&mut self.stream).poll_next(cx)))
    }
}
