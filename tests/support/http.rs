//! A small HTTP/1.1 client: one request a connection, whole answers or a stream of events.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer or an event may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// One event of a stream.
#[derive(Debug, Default, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {}", self.data))
    }
}

/// Sends a request; `headers` go beside `Host`, unless that is among them.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut reader = begin(address, method, path, headers, body).await;
    let whole = async {
        let (status, headers) = head(&mut reader).await;
        let is_chunked =
            headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let mut body = Vec::new();
        if is_chunked {
            while let Some(chunk) = chunk(&mut reader).await {
                body.extend(chunk);
            }
        } else if let Some((_, length)) = headers.iter().find(|(name, _)| name == "content-length") {
            // Not every server closes a connection because it is asked to; an answer to HEAD ends before its length.
            let length = length.parse().unwrap();
            (&mut reader).take(length).read_to_end(&mut body).await.unwrap();
        } else {
            reader.read_to_end(&mut body).await.unwrap();
        }
        Answer { status, headers, body }
    };
    timeout(PATIENCE, whole).await.unwrap_or_else(|_| panic!("no answer to {method} {path}"))
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, &[], "").await
}

/// What a path must answer 200 with.
pub async fn json(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json", "{path}");
    answer.json()
}

/// The token that the page carries.
pub async fn token(address: SocketAddr) -> String {
    let page = get(address, "/").await;
    let (_, rest) = page.text().split_once("name=\"sapwood-token\" content=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

/// Sends what the page would.
pub async fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    let token = token(address).await;
    send(address, "POST", path, &[("x-sapwood-token", &token)], &body.to_string()).await
}

async fn begin(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request += &format!("host: {address}\r\n");
    }
    headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    if method == "POST" {
        request += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
    BufReader::new(stream)
}

async fn line(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).await.unwrap();
    line.trim_end().to_owned()
}

async fn head(reader: &mut BufReader<TcpStream>) -> (u16, Vec<(String, String)>) {
    let status = line(reader).await;
    let status =
        status.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {status:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let line = line(reader).await;
        let Some((name, value)) = line.split_once(':') else { return (status, headers) };
        headers.push((name.to_ascii_lowercase(), value.trim_start().to_owned()));
    }
}

/// The next chunk of a body; `None` at its end.
async fn chunk(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let size = usize::from_str_radix(&line(reader).await, 16).unwrap_or(0);
    let mut chunk = vec![0; size];
    reader.read_exact(&mut chunk).await.ok()?;
    line(reader).await;
    (size > 0).then_some(chunk)
}

/// A stream of events that is being read.
pub struct Events {
    reader: BufReader<TcpStream>,
    text: String,
}

impl Events {
    pub async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Events {
        let mut reader = begin(address, "GET", path, headers, "").await;
        let (status, headers) = timeout(PATIENCE, head(&mut reader)).await.expect("no answer");
        assert_eq!(status, 200, "{path}");
        assert!(headers.contains(&("content-type".into(), "text/event-stream".into())), "{headers:?}");
        Events { reader, text: String::new() }
    }

    /// The next event; `None` if the server has ended the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parse(event);
                self.text = rest.to_owned();
                if event != Event::default() {
                    return Some(event);
                }
                continue;
            }
            let chunk = timeout(PATIENCE, chunk(&mut self.reader)).await.expect("no event")?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// The data of the next event of this name that fits.
    pub async fn until(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let event = self.next().await.expect("the stream has ended");
                if event.name == name && fits(&event.json()) {
                    return event.json();
                }
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {name} that fits"))
    }
}

fn parse(text: &str) -> Event {
    let mut event = Event::default();
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("event", name)) => event.name = name.to_owned(),
            Some(("id", id)) => event.id = id.to_owned(),
            Some(("data", data)) => event.data += data,
            _ => {}
        }
    }
    event
}
