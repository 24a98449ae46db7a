//! Handshakes between two nodes, by the reasons that each gives.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::*;
use crate::env::{BoxFuture, Listener, SystemEnv};
use crate::model::{Time, timestamp};

/// Day 0: 2026-01-01.
const BEGIN: u64 = 1_767_225_600;

const DAY: u64 = 24 * 3600;

/// The system, with a clock that stands still.
struct StoppedClock(Time);

impl Env for StoppedClock {
    fn wall_clock(&self) -> Time {
        self.0
    }

    fn random(&self) -> u64 {
        SystemEnv.random()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        SystemEnv.listen(address)
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        SystemEnv.connect(address)
    }

    fn resolve<'a>(&'a self, host_port: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        SystemEnv.resolve(host_port)
    }
}

/// A clock that shows day `day`, a minute after midnight.
fn on_day(day: u64) -> Arc<dyn Env> {
    let since_epoch = Duration::from_secs(BEGIN + day * DAY + 60);
    Arc::new(StoppedClock(timestamp::time_since_epoch(since_epoch)))
}

/// A CA in a folder of its own, with certificates from day 1 to day 100.
struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), certificate.pem()).unwrap();
        Authority { dir, issuer: Issuer::new(params, key) }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Makes `FILE.crt` and `FILE.key` with these URIs.
    fn issue(&self, file: &str, uris: &[&str], purposes: &[ExtendedKeyUsagePurpose]) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = purposes.to_vec();
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(BEGIN + DAY);
        params.not_after = params.not_before + Duration::from_secs(99 * DAY);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.crt")), certificate.pem()).unwrap();
        write_private(&self.path(&format!("{file}.key")), &key.serialize_pem());
    }

    fn credentials(&self, file: &str) -> PeerCredentials {
        PeerCredentials::Certificates {
            cert: self.path(&format!("{file}.crt")),
            key: self.path(&format!("{file}.key")),
            ca: self.path("ca.crt"),
        }
    }

    /// The node `name` of cluster `oak`, with a certificate of its own, on day 1.
    fn node(&self, name: &str) -> PeerTls {
        self.issue(name, &[&format!("sapwood://oak/node/{name}")], &BOTH);
        load(self.credentials(name), name, on_day(1)).unwrap()
    }

    /// A node with the certificate of `file`, which it does not check itself, and the clock of `env`.
    fn unchecked(&self, file: &str, roots: &Authority, env: Arc<dyn Env>) -> PeerTls {
        let certificate = |path| vec![CertificateDer::from_pem_file(path).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{file}.key"))).unwrap();
        let chain = certificate(self.path(&format!("{file}.crt")));
        let identity = CertifiedKey::from_der(chain, key, &peer::provider()).unwrap();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificate(roots.path("ca.crt")));
        let verifier = chain::ByCertificate::new(Arc::new(store), "oak", peer::provider()).unwrap();
        let node = self.node("unchecked");
        node.current.lock().material = Arc::new(peer::material(verifier, identity, env));
        node
    }
}

const BOTH: [ExtendedKeyUsagePurpose; 2] =
    [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn load(credentials: PeerCredentials, name: &str, env: Arc<dyn Env>) -> Result<PeerTls, String> {
    PeerTls::load(credentials, "oak", name, env).map_err(|error| error.to_string())
}

/// A node of `cluster` whose file has these secrets.
fn sharing(cluster: &str, secrets: &str) -> (tempfile::TempDir, PeerTls) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    write_private(&path, secrets);
    let tls = PeerTls::load(PeerCredentials::Secret(path), cluster, "a", on_day(1)).unwrap();
    (dir, tls)
}

type Outcome = Result<Option<String>, String>;

/// Lets one node dial the other. Returns whom each has authenticated, or why not.
async fn handshake(dialler: &PeerTls, acceptor: &PeerTls) -> (Outcome, Outcome) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let address: SocketAddr = "127.0.0.1:7172".parse().unwrap();
    let dialling = async {
        let mut authenticated =
            dialler.dial(Box::new(near), address).await.map_err(|error| error.to_string())?;
        // The other side greets if it accepts, as the acceptor's hello would.
        let mut greeting = [0; 5];
        match authenticated.stream.read_exact(&mut greeting).await {
            Ok(_) => Ok(authenticated.name),
            Err(error) => Err(error.to_string()),
        }
    };
    let accepting = async {
        let accepted = acceptor.accept(Box::new(far), Instant::now() + HANDSHAKE_LIMIT).await;
        let mut authenticated = accepted.map_err(|error| error.to_string())?;
        authenticated.stream.write_all(b"hello").await.unwrap();
        authenticated.stream.flush().await.unwrap();
        Ok(authenticated.name)
    };
    tokio::join!(dialling, accepting)
}

fn named(name: &str) -> Outcome {
    Ok(Some(name.into()))
}

#[tokio::test]
async fn nodes_of_one_ca_authenticate_each_other_by_name() {
    let ca = Authority::new();
    assert_eq!(handshake(&ca.node("a"), &ca.node("b")).await, (named("b"), named("a")));
}

#[tokio::test]
async fn who_is_no_node_of_the_cluster_is_refused_whichever_side_dials() {
    let ca = Authority::new();
    let node = ca.node("a");
    ca.issue("client", &["sapwood://oak/client/web"], &BOTH);
    ca.issue("elm", &["sapwood://elm/node/b"], &BOTH);
    ca.issue("unnamed", &[], &BOTH);
    ca.issue("web", &["https://oak/node/b"], &BOTH);
    ca.issue("two", &["sapwood://oak/node/b", "sapwood://oak/node/c"], &BOTH);
    let name = "does not name a node of its cluster";
    for (file, reason) in [
        ("client", "is of a client (\"web\"), which is no node"),
        ("elm", "is of cluster \"elm\", this node belongs to \"oak\""),
        ("unnamed", "names no node"),
        ("web", "names no node"),
        ("two", "names no node"),
    ] {
        let intruder = ca.unchecked(file, &ca, on_day(1));
        let (theirs, ours) = handshake(&intruder, &node).await;
        assert!(ours.as_ref().unwrap_err().contains(reason), "{file}: {ours:?}");
        assert!(theirs.as_ref().unwrap_err().contains(name), "{file}: {theirs:?}");
        let (ours, theirs) = handshake(&node, &intruder).await;
        assert!(ours.as_ref().unwrap_err().contains(reason), "{file}: {ours:?}");
        assert!(theirs.as_ref().unwrap_err().contains(name), "{file}: {theirs:?}");
    }
    let counts = node.failures.counts();
    assert_eq!(counts, [("name", 5)], "those that it dialled; whoever accepts notes the others");
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_whichever_side_dials() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let node = ours.node("a");
    theirs.issue("b", &["sapwood://oak/node/b"], &BOTH);
    let intruder = theirs.unchecked("b", &ours, on_day(1));
    let (reason, alert) =
        ("its certificate is not signed by a CA of --peer-tls-ca", "not signed by a CA of its --peer-tls-ca");
    let (far, near) = handshake(&intruder, &node).await;
    assert_eq!(near.unwrap_err(), reason);
    assert!(far.as_ref().unwrap_err().contains(alert), "{far:?}");
    let (near, far) = handshake(&node, &intruder).await;
    assert_eq!(near.unwrap_err(), reason);
    assert!(far.as_ref().unwrap_err().contains(alert), "{far:?}");
}

#[tokio::test]
async fn a_certificate_for_one_side_of_a_connection_only_is_refused() {
    let ca = Authority::new();
    let node = ca.node("a");
    ca.issue("b", &["sapwood://oak/node/b"], &[ExtendedKeyUsagePurpose::ClientAuth]);
    let (ours, theirs) = handshake(&node, &ca.unchecked("b", &ca, on_day(1))).await;
    assert!(ours.as_ref().unwrap_err().contains("extended key usage"), "{ours:?}");
    assert!(theirs.as_ref().unwrap_err().contains("extended key usage"), "{theirs:?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_now_is_refused_by_the_clock_of_the_node() {
    let ca = Authority::new();
    let node = ca.node("a");
    for (day, own, others) in [
        (101, "it expired on 2026-04-11T00:00:00Z", "its certificate expired on 2026-04-11T00:00:00Z"),
        (0, "it begins to be valid on 2026-01-02T00:00:00Z", "begins to be valid on 2026-01-02T00:00:00Z"),
    ] {
        let refusal = load(ca.credentials("a"), "a", on_day(day)).err().unwrap();
        assert!(refusal.contains("--peer-tls-cert") && refusal.contains(own), "{refusal}");
        let other = ca.unchecked("a", &ca, on_day(day));
        let (theirs, ours) = handshake(&node, &other).await;
        assert!(ours.as_ref().unwrap_err().contains(others), "{ours:?}");
        assert!(theirs.as_ref().unwrap_err().contains("has expired, or is not valid yet"), "{theirs:?}");
    }
}

#[tokio::test]
async fn holders_of_a_secret_authenticate_each_other_and_nobody_else() {
    let (secret, other) = ("0123456789abcdef0123456789abcdef", "abcdef0123456789abcdef0123456789");
    let (_dir_a, a) = sharing("oak", secret);
    let (_dir_b, b) = sharing("oak", &format!("{secret}\r\n"));
    assert_eq!(handshake(&a, &b).await, (Ok(None), Ok(None)));
    let (_dir_c, c) = sharing("oak", other);
    let (_dir_d, d) = sharing("elm", secret);
    for stranger in [&c, &d] {
        let (dialler, acceptor) = handshake(stranger, &a).await;
        let reason =
            "it has another secret or cluster: give both nodes the same --peer-secret-file and --cluster";
        assert_eq!(dialler.unwrap_err(), reason);
        assert_eq!(acceptor.unwrap_err(), format!("it refuses this node: {reason}"));
    }
    // Both secrets are accepted while nodes change from one to the other.
    let (_dir_e, e) = sharing("oak", &format!("{other}\n{secret}\n"));
    for (dialler, acceptor) in [(&a, &e), (&e, &a), (&c, &e), (&e, &c)] {
        let outcome = handshake(dialler, acceptor).await;
        let a_knows_it = std::ptr::eq(dialler, &c) || std::ptr::eq(acceptor, &c);
        assert_eq!(outcome.0.is_ok() && outcome.1.is_ok(), a_knows_it, "{outcome:?}");
    }
    let (_dir_f, f) = sharing("oak", &format!("{secret}\n{other}\n"));
    assert_eq!(handshake(&f, &e).await, (Ok(None), Ok(None)));
}

#[tokio::test]
async fn a_node_with_certificates_and_one_with_a_secret_say_so() {
    let ca = Authority::new();
    let certified = ca.node("a");
    let (_dir, sharing) = sharing("oak", "0123456789abcdef0123456789abcdef");
    for (dialler, acceptor) in [(&certified, &sharing), (&sharing, &certified)] {
        let (theirs, ours) = handshake(dialler, acceptor).await;
        assert_eq!(
            ours.unwrap_err(),
            "one of the two nodes has --peer-tls-cert, the other --peer-secret-file: give both the same"
        );
        assert!(theirs.as_ref().unwrap_err().contains("--peer-secret-file"), "{theirs:?}");
    }
}

#[test]
fn files_that_cannot_be_used_are_refused_with_the_setting_and_what_to_do() {
    let ca = Authority::new();
    ca.node("a");
    let with = |change: &dyn Fn(&mut PathBuf, &mut PathBuf, &mut PathBuf)| {
        let PeerCredentials::Certificates { mut cert, mut key, ca } = ca.credentials("a") else { panic!() };
        let mut authorities = ca;
        change(&mut cert, &mut key, &mut authorities);
        load(PeerCredentials::Certificates { cert, key, ca: authorities }, "a", on_day(1)).err().unwrap()
    };
    let (other, missing) = (Authority::new(), ca.path("missing"));
    other.node("a");
    let refusal = with(&|cert, _, _| cert.clone_from(&missing));
    assert!(refusal.starts_with("--peer-tls-cert") && refusal.contains("No such file"), "{refusal}");
    let refusal = with(&|_, key, _| key.clone_from(&other.path("a.key")));
    assert!(
        refusal.starts_with("--peer-tls-key") && refusal.contains("not the key of the cert"),
        "{refusal}"
    );
    let refusal = with(&|cert, key, _| std::mem::swap(cert, key));
    assert!(refusal.contains("no certificate in PEM format"), "{refusal}");
    let refusal = with(&|_, key, _| key.clone_from(&ca.path("a.crt")));
    assert!(refusal.starts_with("--peer-tls-key"), "{refusal}");
    let refusal = with(&|_, _, authorities| authorities.clone_from(&other.path("ca.crt")));
    assert!(refusal.contains("not signed by a CA of --peer-tls-ca"), "{refusal}");
    let refusal = load(ca.credentials("a"), "b", on_day(1)).err().unwrap();
    assert!(
        refusal.contains("the certificate of node \"a\", and this node is \"b\": give --name a"),
        "{refusal}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(ca.path("a.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
        let refusal = with(&|_, _, _| ());
        assert!(refusal.contains("other users can read or write it"), "{refusal}");
    }
}

#[test]
fn a_secret_that_could_be_guessed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    let long = "0123456789abcdef0123456789abcdef";
    for (content, reason) in [
        (String::new(), "it is empty"),
        ("correct horse battery staple".into(), "a secret of 28 bytes could be guessed"),
        (format!("{long}\nshort"), "a secret of 5 bytes could be guessed"),
        (format!("{long}\n{long}\n{long}"), "more than two lines"),
    ] {
        write_private(&path, &content);
        let refusal = load(PeerCredentials::Secret(path.clone()), "a", on_day(1)).err().unwrap();
        assert!(refusal.contains(reason), "{refusal}");
        assert!(!refusal.contains("horse") && !refusal.contains(long), "{refusal}");
    }
}

#[tokio::test]
async fn a_reload_concerns_new_links_and_files_that_cannot_be_used_replace_nothing() {
    let (first, second) = ("0123456789abcdef0123456789abcdef", "abcdef0123456789abcdef0123456789");
    let (dir_a, a) = sharing("oak", first);
    let (_dir_b, b) = sharing("oak", &format!("{second}\n{first}"));
    assert_eq!(a.reload().ok(), Some(false));
    write_private(&dir_a.path().join("secret"), "short");
    assert!(a.reload().is_err());
    assert!(a.status().error.unwrap().contains("could be guessed"));
    assert_eq!((a.status().reloads, a.status().failed_reloads), (0, 1));
    let (_dir_c, c) = sharing("oak", first);
    assert_eq!(handshake(&a, &c).await, (Ok(None), Ok(None)), "the secret from before");
    assert!(handshake(&a, &b).await.0.is_err());
    write_private(&dir_a.path().join("secret"), &format!("{first}\n{second}"));
    assert_eq!(a.reload().ok(), Some(true));
    assert_eq!((a.status().reloads, a.status().error), (1, None));
    assert_eq!(handshake(&a, &b).await, (Ok(None), Ok(None)));
}

#[tokio::test(start_paused = true)]
async fn a_dialler_that_sends_nothing_or_garbage_ends_within_the_limit() {
    let (_dir, node) = sharing("oak", "0123456789abcdef0123456789abcdef");
    let (_silent, far) = tokio::io::duplex(64);
    let began = Instant::now();
    assert_eq!(
        node.accept(Box::new(far), began + HANDSHAKE_LIMIT).await.err(),
        Some(HandshakeError::TimedOut)
    );
    assert_eq!(began.elapsed(), HANDSHAKE_LIMIT);
    for garbage in [
        &b"\x16\x03\x01\xff\xff"[..],
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x15\x03\x03\x00\x02\x02\x28",
    ] {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        near.write_all(garbage).await.unwrap();
        near.shutdown().await.unwrap();
        let began = Instant::now();
        assert!(
            node.accept(Box::new(far), began + HANDSHAKE_LIMIT).await.is_err(),
            "{}",
            garbage.escape_ascii()
        );
        assert!(began.elapsed() <= HANDSHAKE_LIMIT + ALERT_LIMIT);
    }
}

/// The seed of a case that fails is in its message.
#[tokio::test(start_paused = true)]
async fn damaged_hellos_of_tls_are_refused_in_time_and_never_accepted() {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};
    let ca = Authority::new();
    let (_dir, shared) = sharing("oak", "0123456789abcdef0123456789abcdef");
    for node in [ca.node("a"), shared] {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let dialling = node.dial(Box::new(near), "127.0.0.1:1".parse().unwrap());
        let mut hello = vec![0; 1 << 14];
        let read = tokio::select! {
            _ = dialling => panic!("nobody has answered"),
            read = far.read(&mut hello) => read.unwrap(),
        };
        hello.truncate(read);
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut bytes = hello.clone();
            for _ in 0..rng.random_range(1..8) {
                let at = rng.random_range(0..bytes.len());
                match rng.random_range(0..4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes.insert(at, rng.random()),
                    _ => bytes[at] = rng.random(),
                }
            }
            let (mut near, far) = tokio::io::duplex(1 << 16);
            near.write_all(&bytes).await.unwrap();
            let began = Instant::now();
            let outcome = node.accept(Box::new(far), began + HANDSHAKE_LIMIT).await;
            assert!(outcome.is_err(), "seed {seed}");
            assert!(began.elapsed() <= HANDSHAKE_LIMIT + ALERT_LIMIT, "seed {seed}");
        }
    }
}

#[test]
fn certificates_are_reported_from_thirty_days_before_their_end() {
    use tokio_rustls::rustls::pki_types::UnixTime;
    let at = |day: u64| UnixTime::since_unix_epoch(Duration::from_secs(BEGIN + day * DAY));
    let warning = |day| material::warning(BEGIN + 100 * DAY, at(day));
    assert_eq!(warning(70), None);
    assert_eq!(warning(71).unwrap(), "it expires on 2026-04-11T00:00:00Z, in 29 days: renew it");
    assert_eq!(warning(100).unwrap(), "it expired on 2026-04-11T00:00:00Z: no new links can be made");
}
