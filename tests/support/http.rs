//! HTTP/1.1 over a plain socket, byte for byte.
//!
//! Answers for: a test sees status, headers in their order and the body as they were sent, and can
//! send what no HTTP library would. Every read has a deadline, so a hanging server fails the test
//! instead of hanging it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer; longer than any timeout of the server.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for a connection on loopback.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A request that is well formed unless a test changes that.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST without a body.
    pub(crate) fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// Adds a header; `Host` replaces the default one.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds the key in the recommended header.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.raw_json(&body.to_string())
    }

    /// Adds a body that claims to be JSON.
    pub(crate) fn raw_json(self, body: &str) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Adds a body as it is.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The bytes on the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name == "Host") {
            head += "host: fluxgate.test\r\n";
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// The same request for an HTTP library.
    pub(crate) fn to_http(&self, to: SocketAddr) -> http::Request<Vec<u8>> {
        let uri = format!("http://{to}{}", self.target);
        let mut request = http::Request::builder().method(self.method.as_str()).uri(uri);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body.clone().unwrap_or_default()).unwrap()
    }

    /// Whether its answer has no body, whatever the headers say.
    fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Sends it on its own connection.
    pub(crate) fn try_send(&self, to: SocketAddr) -> io::Result<Answer> {
        Conn::open(to)?.call(self)
    }

    /// Sends it on its own connection to a node that must answer.
    #[track_caller]
    pub(crate) fn send(&self, to: SocketAddr) -> Answer {
        let shown = format!("{} {} to {to}", self.method, self.target);
        match self.try_send(to) {
            Ok(answer) => answer,
            Err(error) => panic!("{shown} got no answer: {error}"),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case and values, in their order.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {self}"),
        }
    }

    /// The only value of a header. A header that occurs twice fails the test.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "`{name}` occurs twice: {self}");
        first
    }

    /// A required header.
    #[track_caller]
    pub(crate) fn must_header(&self, name: &str) -> &str {
        match self.header(name) {
            Some(value) => value,
            None => panic!("`{name}` is missing: {self}"),
        }
    }

    /// A required header with a whole number.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        let value = self.must_header(name);
        match value.parse() {
            Ok(number) => number,
            Err(error) => panic!("`{name}: {value}` is not a number ({error}): {self}"),
        }
    }

    /// Limit, remaining and reset, which a verdict must have.
    #[track_caller]
    pub(crate) fn window(&self) -> (u64, u64, u64) {
        (
            self.number("x-ratelimit-limit"),
            self.number("x-ratelimit-remaining"),
            self.number("x-ratelimit-reset"),
        )
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Fails unless status, body and type are exactly those of this error.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, error: &str, message: &str) -> Self {
        let body = format!(r#"{{"error":"{error}","message":{}}}"#, Value::from(message));
        assert_eq!((self.status, self.text()), (status, body), "{self}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self}");
        self
    }

    /// Fails unless this is an error with our two fields and this code.
    #[track_caller]
    pub(crate) fn expect_code(self, status: u16, error: &str) -> Self {
        assert_eq!(self.status, status, "{self}");
        self.assert_two_fields();
        assert_eq!(self.json()["error"], error, "{self}");
        self
    }

    /// Fails unless the body is exactly `error` and `message`, in this order.
    #[track_caller]
    pub(crate) fn assert_two_fields(&self) {
        let json = self.json();
        let fields: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["error", "message"], "{self}");
        assert!(json["error"].is_string() && json["message"].is_string(), "{self}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self}");
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "\n< {}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "< {name}: {value}")?;
        }
        write!(f, "< {:.2000}", self.text())
    }
}

/// A kept-alive connection.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Conn {
    pub(crate) fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Limits the wait for bytes.
    pub(crate) fn timeout(self, timeout: Duration) -> io::Result<Self> {
        self.stream.set_read_timeout(Some(timeout))?;
        Ok(self)
    }

    /// Sends and waits for the answer.
    pub(crate) fn call(&mut self, request: &Request) -> io::Result<Answer> {
        self.write(&request.to_bytes())?;
        self.read(request.is_head())
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Shuts the sending side down.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads one answer.
    pub(crate) fn read(&mut self, to_head: bool) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let mut answer = parse_head(&String::from_utf8_lossy(&head))?;
        if to_head || matches!(answer.status, 100..=199 | 204 | 304) {
            return Ok(answer);
        }
        answer.body = if answer.header("transfer-encoding") == Some("chunked") {
            self.read_chunks()?
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            self.take(length)?
        } else {
            self.read_to_end()?
        };
        Ok(answer)
    }

    /// Reads until the server closes; returns the bytes.
    pub(crate) fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&self.buffer, b"\r\n") {
                    break at;
                }
                self.fill()?;
            };
            let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            self.take(end + 2)?;
            body.extend(self.take(length)?);
            self.take(2)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0u8; 16 * 1024];
        let read = self.stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

fn parse_head(head: &str) -> io::Result<Answer> {
    let wrong = || io::Error::other(format!("not an HTTP answer: {head:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
    let headers = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<io::Result<_>>()?;
    Ok(Answer { status, headers, body: Vec::new() })
}
