//! Divides the open files that the process may have among peers, pages and clients.
//!
//! Clients get what the rest leaves. Otherwise they could take all: then a peer that was restarted could not link,
//! and one more client would wait in the system's accept queue instead of getting an error.

/// For standard streams, listeners, `--lost-file`, the runtime and name resolution, and for surplus clients while
/// they are refused.
const OWN: usize = 20;

/// For peers: one link each and the connections that are not linked yet. At most an eighth, if that is enough for a
/// small cluster.
const PEERS: Share = Share { part: 8, least: 8, most: 320 };

/// For the http port in the same way: pages, scrapers and health checks.
const PAGES: Share = Share { part: 16, least: 4, most: crate::http::MAX_CONNECTIONS };

struct Share {
    part: usize,
    least: usize,
    most: usize,
}

impl Share {
    fn of(&self, all: usize) -> usize {
        (all / self.part).clamp(self.least, self.most)
    }
}

/// Most connections of each kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    pub(super) clients: usize,
    /// Of the http port.
    pub(super) pages: usize,
    /// Accepted connections of peers that are not linked yet.
    pub(super) handshakes: usize,
}

impl Descriptors {
    /// Divides `limit` open files; `max_clients` is the configured limit.
    pub(super) fn share(limit: Option<u64>, max_clients: usize) -> Self {
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let rest = limit.saturating_sub(OWN);
        let (peers, pages) = (PEERS.of(rest), PAGES.of(rest));
        // At least one, so that an operator can find out what is wrong.
        let clients = rest.saturating_sub(peers + pages).clamp(1, max_clients.max(1));
        Descriptors { clients, pages, handshakes: peers / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_a_reserve_for_peers_pages_and_files_leaves() {
        let clients = |limit| Descriptors::share(limit, 10_000).clients;
        assert_eq!(clients(None), 10_000);
        assert_eq!(clients(Some(65_536)), 10_000);
        assert_eq!(clients(Some(10_240)), 10_240 - 20 - 320 - 256);
        assert_eq!(clients(Some(1024)), 1024 - 20 - 125 - 62);
        assert_eq!(clients(Some(64)), 64 - 20 - 8 - 4);
        assert_eq!(clients(Some(3)), 1);
        assert_eq!(Descriptors::share(Some(64), 10), Descriptors { clients: 10, pages: 4, handshakes: 4 });
        assert_eq!(Descriptors::share(None, 7), Descriptors { clients: 7, pages: 256, handshakes: 160 });
    }
}
