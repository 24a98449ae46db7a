use std::future::Future;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// A fake node that runs `script` on its only connection. Returns its address.
async fn node<F: Future<Output = ()> + Send + 'static>(
    script: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { script(listener.accept().await.unwrap().0).await });
    addr
}

/// A fake node that expects and answers each of `exchanges` in turn, then waits for the client to close.
async fn scripted(exchanges: &'static [(&'static str, &'static str)]) -> String {
    node(move |mut stream| async move {
        for (request, reply) in exchanges {
            let mut received = vec![0; request.len()];
            stream.read_exact(&mut received).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&received), *request);
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
        while stream.read(&mut [0; 64]).await.is_ok_and(|len| len > 0) {}
    })
    .await
}

const PING: &str = "*1\r\n$4\r\nPING\r\n";

async fn connect(addr: &str) -> Connection {
    Connection::connect(addr, Options::default()).await.unwrap()
}

fn impatient() -> Options {
    Options { timeout: Duration::from_millis(50), ..Options::default() }
}

fn pong() -> Frame {
    Frame::Simple("PONG".into())
}

#[tokio::test]
async fn an_error_reply_leaves_the_connection_usable() {
    let addr = scripted(&[(PING, "-NOAUTH Authentication required.\r\n"), (PING, "+PONG\r\n")]).await;
    let mut connection = connect(&addr).await;
    let error = connection.call(&[b"PING"]).await.unwrap_err();
    assert!(matches!(&error, ClientError::Server { code, .. } if code == "NOAUTH"));
    assert_eq!(error.to_string(), "NOAUTH Authentication required.");
    assert_eq!(connection.call(&[b"PING"]).await.unwrap(), pong());
}

#[tokio::test]
async fn an_unreachable_node_is_named_with_a_hint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Connection::connect(&addr, Options::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("could not reach {addr}: connection refused; is `sapwood serve` running there?")
    );
}

#[tokio::test]
async fn the_password_and_the_protocol_are_agreed_first() {
    let options = |resp3| Options { password: Some("secret".into()), resp3, ..Options::default() };
    let resp3 = "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$6\r\nsecret\r\n";
    let addr = scripted(Box::leak(Box::new([(resp3, "%0\r\n"), (PING, "+PONG\r\n")]))).await;
    let mut connection = Connection::connect(&addr, options(true)).await.unwrap();
    assert_eq!(connection.call(&[b"PING"]).await.unwrap(), pong());

    let resp2 = "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n";
    let addr = scripted(Box::leak(Box::new([(resp2, "-WRONGPASS no\r\n")]))).await;
    let error = Connection::connect(&addr, options(false)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{addr} refused the connection: WRONGPASS no"));
    assert!(!format!("{:?}", options(true)).contains("secret"));
}

#[tokio::test]
async fn after_a_timeout_the_late_reply_is_never_taken_for_another_answer() {
    let addr = scripted(&[]).await;
    let mut connection = Connection::connect(&addr, impatient()).await.unwrap();
    let error = connection.call(&[b"PING"]).await.unwrap_err();
    assert_eq!(error.to_string(), "no reply within 50ms; the request may or may not have been applied");
    assert!(matches!(connection.call(&[b"PING"]).await, Err(ClientError::Lost)));
}

#[tokio::test]
async fn a_call_dropped_halfway_loses_the_connection() {
    let addr = scripted(&[]).await;
    let mut connection = connect(&addr).await;
    let call = connection.call(&[b"PING"]);
    assert!(timeout(Duration::from_millis(20), call).await.is_err());
    assert!(matches!(connection.call(&[b"PING"]).await, Err(ClientError::Lost)));
}

#[tokio::test]
async fn what_is_no_node_is_reported_while_connecting() {
    let addr = node(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 100]).await;
    })
    .await;
    let options = Options { resp3: true, ..Options::default() };
    let error = Connection::connect(&addr, options).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("could not reach {addr}: it answers in HTTP, so it is no client port")
    );
}

#[tokio::test]
async fn a_pipeline_has_a_result_for_each_call_in_order() {
    let requests: &str = PING.repeat(3).leak();
    let addr = scripted(Box::leak(Box::new([(requests, ":1\r\n-ERR two\r\n:3\r\n")]))).await;
    let mut connection = connect(&addr).await;
    let results = connection.pipeline([&[&b"PING"[..]][..]; 3]).await;
    assert!(matches!(
        &results[..],
        [Ok(Frame::Int(1)), Err(ClientError::Server { message, .. }), Ok(Frame::Int(3))] if message == "two"
    ));
    assert!(connection.pipeline([]).await.is_empty());
}

#[tokio::test]
async fn a_pipeline_cut_short_says_so_for_each_call_without_a_reply() {
    let addr = node(|mut stream| async move {
        stream.read_exact(&mut [0; 3 * PING.len()]).await.unwrap();
        stream.write_all(b"+PONG\r\n").await.unwrap();
    })
    .await;
    let results = connect(&addr).await.pipeline([&[&b"PING"[..]][..]; 3]).await;
    assert!(matches!(&results[..], [Ok(_), Err(ClientError::Closed), Err(ClientError::Closed)]));
}

/// Sends far more in both directions than the sockets buffer, to a node that stops reading while it cannot write.
#[tokio::test]
async fn a_pipeline_larger_than_the_socket_buffers_does_not_lock_up() {
    const CALLS: usize = 2_000;
    let value = vec![b'v'; 10_000];
    let addr = node(|mut stream| async move {
        let request_len = "*2\r\n$4\r\nECHO\r\n$10000\r\n".len() + 10_002;
        let mut request = vec![0; request_len];
        for _ in 0..CALLS {
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(&request["*2\r\n$4\r\nECHO\r\n".len()..]).await.unwrap();
        }
    })
    .await;
    let args: &[&[u8]] = &[b"ECHO", &value];
    let results = connect(&addr).await.pipeline(std::iter::repeat_n(args, CALLS)).await;
    assert_eq!(results.len(), CALLS);
    assert!(results.into_iter().all(|result| matches!(result, Ok(Frame::Bulk(bytes)) if bytes == value)));
}

#[tokio::test]
async fn pushes_are_dropped_by_a_call_and_received_by_a_stream() {
    let subscribe = "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n";
    let exchanges = [(PING, ">1\r\n:1\r\n+PONG\r\n"), (subscribe, ">1\r\n:2\r\n>1\r\n:3\r\n")];
    let addr = scripted(Box::leak(Box::new(exchanges))).await;
    let mut connection = connect(&addr).await;
    assert_eq!(connection.call(&[b"PING"]).await.unwrap(), pong());
    connection.stream(&[b"SUBSCRIBE", b"c"]).await.unwrap();
    assert_eq!(connection.receive().await.unwrap(), Frame::Push(vec![Frame::Int(2)]));
    assert_eq!(connection.receive().await.unwrap(), Frame::Push(vec![Frame::Int(3)]));
    assert!(matches!(connection.call(&[b"PING"]).await, Err(ClientError::Lost)));
}
