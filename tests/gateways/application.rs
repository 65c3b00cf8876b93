//! The application behind a gateway: answers every request with 200, sends limit headers of its
//! own, records its requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::Key;
use crate::support::ports::Port;

/// Its answer.
pub(super) const BODY: &str = r#"{"hello":"application"}"#;
/// Limits of its own, which no client must see.
const OWN_LIMITS: &str =
    "X-RateLimit-Limit: 999\r\nX-RateLimit-Remaining: 998\r\nX-RateLimit-Reset: 997\r\n";

/// Paths with this ending are answered with CORS headers of their own, or with `Vary`.
pub(super) const WITH_CORS: &str = "/with-cors";
pub(super) const WITH_VARY: &str = "/with-vary";
const OWN_CORS: &str = "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
    Access-Control-Expose-Headers: X-Own\r\nVary: Accept-Encoding, Origin\r\n";
const OWN_VARY: &str = "Vary: Accept-Encoding\r\n";

/// Status, header lines and body of an answer.
type AnswerTo = fn(&Seen) -> (&'static str, &'static str, &'static str);

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub(super) body: Vec<u8>,
}

impl Seen {
    /// The values of a header, joined.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let first = found.next().map(|(_, value)| value.as_str()).filter(|value| !value.is_empty());
        assert!(found.next().is_none(), "{name} occurs twice: {self:?}");
        first
    }

    /// Fails unless the headers identify the key, and contain nothing of the key itself.
    #[track_caller]
    pub(super) fn assert_knows(&self, key: &Key) {
        assert_eq!(self.header("x-auth-key-id"), Some(&*key.id), "{self:?}");
        assert_eq!(self.header("x-auth-key-name"), Some("Caf%C3%A9%201"), "{self:?}");
        assert_eq!(self.header("x-auth-owner"), Some("user_42"), "{self:?}");
        assert_eq!(self.header("x-auth-scope"), key.created["scope"].as_str(), "{self:?}");
        let everything = format!("{:?}", self.headers);
        assert!(!everything.contains(&key.secret), "{self:?}");
        assert!(!everything.contains("forged"), "{self:?}");
        assert_eq!(self.header("authorization"), None, "{self:?}");
        assert_eq!(self.header("x-api-key"), None, "{self:?}");
    }
}

/// The running application; it ends with the test's process.
#[derive(Debug)]
pub(super) struct Application {
    port: Port,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Application {
    pub(super) fn start() -> Self {
        Self::answering(|seen| {
            let headers = match &*seen.line {
                line if line.ends_with(WITH_CORS) => OWN_CORS,
                line if line.ends_with(WITH_VARY) => OWN_VARY,
                _ => OWN_LIMITS,
            };
            ("200 OK", headers, BODY)
        })
    }

    /// A server that gives each request its own status, headers and body.
    pub(super) fn answering(answer: AnswerTo) -> Self {
        let port = Port::claim();
        let listener = TcpListener::bind(port.addr()).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let log = Arc::clone(&log);
                // A broken connection concerns only its client.
                thread::spawn(move || stream.and_then(|stream| serve(stream, &log, answer)));
            }
        });
        Self { port, seen }
    }

    pub(super) fn port(&self) -> u16 {
        self.port.addr().port()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Seen>>, answer: AnswerTo) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read(&mut reader)? {
        let (status, headers, body) = answer(&seen);
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        log.lock().unwrap().push(seen);
        writer.write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let line = first.trim_end().rsplit_once(' ').map_or("", |(line, _)| line).to_owned();
    let mut headers = Vec::new();
    loop {
        let mut text = String::new();
        reader.read_line(&mut text)?;
        let Some((name, value)) = text.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut seen = Seen { line, headers, body: Vec::new() };
    if seen.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            seen.body.extend(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = seen.header("content-length") {
        let length: usize = length.parse().map_err(std::io::Error::other)?;
        seen.body.resize(length, 0);
        reader.read_exact(&mut seen.body)?;
    }
    Ok(Some(seen))
}
