//! Why files cannot be used, and why a peer was not authenticated.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, Error as TlsError, InvalidMessage, OtherError, PeerIncompatible,
};

use super::secret::MIN_SECRET;
use crate::config::SecretError;

/// The files by which a node authenticates its peers cannot be used. Those read before stay in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file cannot be read, or other users can read a key or secret.
    #[error("{flag} {}: {problem}", path.display())]
    Read {
        /// The setting that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        problem: SecretError,
    },
    /// A file does not have the expected content.
    #[error("{flag} {}: {problem}", path.display())]
    Content {
        /// The setting that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

impl CredentialsError {
    pub(super) fn content(flag: &'static str, path: &std::path::Path, problem: impl Into<String>) -> Self {
        CredentialsError::Content { flag, path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn short_secret(path: &std::path::Path, bytes: usize) -> Self {
        let problem = format!(
            "a secret of {bytes} bytes could be guessed: it takes {MIN_SECRET} or more that nobody has chosen, such as \
             `sapwood certs secret` prints"
        );
        CredentialsError::content("--peer-secret-file", path, problem)
    }
}

/// Why the other side of a connection was not authenticated. The connection is closed, and nothing else has changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(
        "it does not speak TLS, which this node requires of its peers: give it the same kind of --peer-tls-cert or \
         --peer-secret-file"
    )]
    Plaintext,
    #[error("it speaks TLS, but not the peer protocol of Sapwood: peers connect to the port of --peer")]
    OtherProtocol,
    #[error("no TLS handshake within {}s", super::HANDSHAKE_LIMIT.as_secs())]
    TimedOut,
    #[error("too many connections of this address are not authenticated yet")]
    Crowded,
    #[error(
        "it closed the connection in the TLS handshake: does it have --peer-tls-cert or --peer-secret-file, and is this \
         the port of --peer?"
    )]
    Closed,
    #[error("one of the two nodes has --peer-tls-cert, the other --peer-secret-file: give both the same")]
    OtherWay,
    #[error("it presents no certificate: give it --peer-tls-cert")]
    NoCertificate,
    #[error("its certificate is not signed by a CA of --peer-tls-ca")]
    UnknownCa,
    #[error("it has another secret or cluster: give both nodes the same --peer-secret-file and --cluster")]
    OtherSecret,
    #[error("its certificate expired on {0}: renew it")]
    Expired(String),
    #[error("its certificate begins to be valid on {0}: check the clocks of both")]
    NotYetValid(String),
    #[error(
        "its certificate may not be used for this: its extended key usage must allow servers and clients"
    )]
    Purpose,
    #[error(
        "its certificate names no node: it takes one URI such as sapwood://CLUSTER/node/NAME among its alternative names"
    )]
    Unnamed,
    #[error(
        "its certificate is of a client ({0:?}), which is no node: make one with `sapwood certs node NAME`"
    )]
    Client(String),
    #[error("its certificate is of cluster {theirs:?}, this node belongs to {own:?} (--cluster)")]
    WrongCluster { own: String, theirs: String },
    #[error("its certificate is not valid: {0}")]
    Invalid(String),
    #[error("it refuses this node: {0}")]
    Refused(&'static str),
    #[error("TLS failed: {0}")]
    Protocol(String),
    #[error("{0}")]
    Connection(String),
}

impl HandshakeError {
    /// Whether it shows that the two do not trust each other, rather than that a connection failed.
    pub(crate) fn is_distrust(&self) -> bool {
        use HandshakeError as E;
        !matches!(self, E::TimedOut | E::Crowded | E::Closed | E::Connection(_))
    }

    /// The reason as a label of metrics, of which there is a fixed number.
    pub(crate) fn reason(&self) -> &'static str {
        use HandshakeError as E;
        match self {
            E::Plaintext => "plaintext",
            E::TimedOut => "timeout",
            E::Crowded => "crowded",
            E::Closed | E::Connection(_) => "closed",
            E::OtherWay | E::NoCertificate | E::OtherProtocol => "other-kind",
            E::UnknownCa | E::OtherSecret => "untrusted",
            E::Expired(_) | E::NotYetValid(_) => "expired",
            E::Purpose | E::Unnamed | E::Client(_) | E::WrongCluster { .. } => "name",
            E::Refused(_) => "refused",
            E::Invalid(_) | E::Protocol(_) => "invalid",
        }
    }

    /// Returns why a handshake failed. `secret` is whether a shared secret was to authenticate it.
    pub(super) fn of(error: &io::Error, secret: bool) -> HandshakeError {
        use HandshakeError as E;
        let Some(tls) = tls_error(error) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    E::Closed
                }
                _ => E::Connection(error.to_string()),
            };
        };
        match tls {
            TlsError::AlertReceived(alert) => E::Refused(explain_alert(*alert, secret)),
            TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => E::Plaintext,
            TlsError::PeerIncompatible(
                PeerIncompatible::IncorrectCertificateTypeExtension
                | PeerIncompatible::UnsolicitedCertificateTypeExtension,
            ) => E::OtherWay,
            TlsError::NoCertificatesPresented => E::NoCertificate,
            TlsError::NoApplicationProtocol => E::OtherProtocol,
            TlsError::InvalidCertificate(certificate) => E::of_certificate(certificate, secret),
            other => E::Protocol(other.to_string()),
        }
    }

    fn of_certificate(error: &CertificateError, secret: bool) -> HandshakeError {
        use HandshakeError as E;
        match error {
            CertificateError::Other(OtherError(own)) => match own.downcast_ref::<HandshakeError>() {
                Some(own) => own.clone(),
                None => E::Invalid(own.to_string()),
            },
            CertificateError::UnknownIssuer if secret => E::OtherSecret,
            CertificateError::UnknownIssuer => E::UnknownCa,
            CertificateError::ExpiredContext { not_after, .. } => E::Expired(date(*not_after)),
            CertificateError::NotValidYetContext { not_before, .. } => E::NotYetValid(date(*not_before)),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => E::Purpose,
            other => E::Invalid(other.to_string()),
        }
    }

    /// Returns the refusal of the other side, if that is what an error of an established connection is.
    pub(super) fn of_alert(error: &io::Error, secret: bool) -> Option<HandshakeError> {
        match tls_error(error) {
            Some(TlsError::AlertReceived(alert)) => {
                Some(HandshakeError::Refused(explain_alert(*alert, secret)))
            }
            _ => None,
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref::<TlsError>()
}

/// What an alert means here, for the side that receives it. The other side's log has the details.
fn explain_alert(alert: AlertDescription, secret: bool) -> &'static str {
    match alert {
        AlertDescription::UnknownCA if secret => {
            "it has another secret or cluster: give both nodes the same --peer-secret-file and --cluster"
        }
        AlertDescription::UnknownCA => "this node's certificate is not signed by a CA of its --peer-tls-ca",
        AlertDescription::CertificateExpired => {
            "this node's certificate has expired, or is not valid yet by its clock"
        }
        AlertDescription::CertificateUnknown => {
            "this node's certificate does not name a node of its cluster; its log says what is wrong"
        }
        AlertDescription::UnsupportedCertificate => {
            "the extended key usage of this node's certificate must allow servers and clients"
        }
        AlertDescription::CertificateRequired => "this node has presented no certificate",
        AlertDescription::NoApplicationProtocol => "its port is not a peer port of Sapwood",
        AlertDescription::ProtocolVersion => "it does not speak TLS 1.3",
        AlertDescription::HandshakeFailure => {
            "it cannot agree on how to authenticate: do both have --peer-tls-cert, or both --peer-secret-file?"
        }
        _ => "the TLS handshake failed there; its log says why",
    }
}

/// The time as `2027-03-01T00:00:00Z`.
pub(super) fn date(time: UnixTime) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(at).to_string()
}
