//! A connection to a daemon.
