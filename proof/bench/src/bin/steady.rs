//! Requests at a steady rate over HTTP/1.1, for hours, and what their latencies were in each interval.
//!
//! `steady RATE CONNECTIONS PATH ADDRESS…`: POST to PATH at each address in turn, with the keys that
//! standard input names: a line `+KEY` adds one, `-KEY` takes one away, and the end of the input ends
//! the program. Prints a line of JSON for each [`INTERVAL`]: answers by status, latencies in
//! microseconds. What the machine itself added, `machine` measures beside it.
//!
//! A latency counts from the moment when the request was due, sent or not: a server that stalls shows
//! in every request that was due meanwhile. One thread has all connections and looks at them every
//! [`STEP`], so a latency may be measured too long by that. It costs half of what a client that waits
//! for each answer costs, and it does not get slower per request when it is behind.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{park_timeout, spawn};
use std::time::{Duration, Instant};

/// What one line of the output covers.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often the connections are looked at.
const STEP: Duration = Duration::from_micros(200);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// After this an answer counts as missing.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a connection is made again.
const RECONNECT: Duration = Duration::from_millis(100);
/// How long making one may take: meanwhile nothing is sent.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);
/// Lines of standard input that wait.
const LINES_MAX: usize = 64;
/// Latencies are counted in steps of a sixteenth of their power of two.
const STEP_BITS: u32 = 4;

/// Latencies of one interval, in microseconds.
#[derive(Default)]
struct Latencies(BTreeMap<u64, u64>);

impl Latencies {
    /// Counts it as the end of its step: never as less than it was.
    fn note(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX / 2).max(1);
        let step = micros.ilog2().saturating_sub(STEP_BITS);
        *self.0.entry((((micros >> step) + 1) << step) - 1).or_default() += 1;
    }

    /// The latency that this part of the requests, in thousandths, did not exceed.
    fn at(&self, thousandths: u64) -> u64 {
        let all: u64 = self.0.values().sum();
        let mut left = all * thousandths / 1_000;
        for (micros, count) in &self.0 {
            if left < *count {
                return *micros;
            }
            left -= count;
        }
        self.0.keys().next_back().copied().unwrap_or(0)
    }
}

/// What was counted in one interval.
#[derive(Default)]
struct Counted {
    latencies: Latencies,
    statuses: BTreeMap<u16, u64>,
    broken: u64,
}

fn wrong(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why.to_owned())
}

/// The status in these bytes, once they are a whole answer.
fn status_of(answer: &[u8]) -> Result<Option<u16>> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..head]).map_err(|_| wrong("not HTTP"))?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    if answer.len() < head + 4 + length {
        return Ok(None);
    }
    text.get(9..12).and_then(|s| s.parse().ok()).map(Some).ok_or_else(|| wrong("no status"))
}

/// A connection, which has one request under way at a time.
struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    // When the next request is due, or the one under way was.
    due: Instant,
    under_way: bool,
    buffer: Box<[u8; ANSWER_BYTES_MAX]>,
    filled: usize,
}

impl Connection {
    /// Sends the next request; a new connection if there is none.
    fn send(&mut self, request: &[u8]) -> Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            self.stream = Some(stream);
        }
        // A request is far smaller than the kernel's buffer, which is empty.
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        stream.write_all(request)?;
        (self.under_way, self.filled) = (true, 0);
        Ok(())
    }

    /// The status of the answer, if it is there.
    fn read(&mut self) -> Result<Option<u16>> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        match stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.filled += read;
                status_of(&self.buffer[..self.filled])
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an answer if one is there, and sends a request if one is due then.
    fn step(&mut self, every: Duration, keys: &mut Keys, counted: &mut Counted) -> Result<()> {
        if self.under_way {
            let status = self.read()?;
            let latency = self.due.elapsed();
            let Some(status) = status else {
                return if latency > REPLY_TIMEOUT {
                    Err(ErrorKind::TimedOut.into())
                } else {
                    Ok(())
                };
            };
            counted.latencies.note(latency);
            *counted.statuses.entry(status).or_default() += 1;
            self.under_way = false;
            self.due += every;
        }
        if self.due <= Instant::now() {
            match keys.any() {
                Some(request) => self.send(request)?,
                None => self.due += every,
            }
        }
        Ok(())
    }

    /// Begins again, after a pause.
    fn break_off(&mut self, every: Duration) {
        (self.stream, self.under_way) = (None, false);
        self.due = Instant::now() + every.max(RECONNECT);
    }
}

/// The keys to use, each with its whole request.
struct Keys {
    requests: Vec<(String, Vec<u8>)>,
    random: u64,
}

impl Keys {
    fn any(&mut self) -> Option<&[u8]> {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let at = usize::try_from(self.random >> 16).unwrap_or(0) % self.requests.len().max(1);
        self.requests.get(at).map(|(_, request)| request.as_slice())
    }

    /// Follows a line of standard input.
    fn take(&mut self, line: &str, path: &str) -> Result<()> {
        match line.split_at_checked(1) {
            Some(("+", key)) => {
                let request = format!(
                    "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n"
                );
                self.requests.push((key.to_owned(), request.into_bytes()));
            }
            Some(("-", key)) => self.requests.retain(|(known, _)| known != key),
            _ => return Err(wrong("a line is +KEY or -KEY")),
        }
        Ok(())
    }
}

/// Prints what was counted in the last interval.
fn print(counted: &Counted) -> Result<()> {
    let counts: Vec<String> =
        counted.statuses.iter().map(|(status, count)| format!("\"{status}\": {count}")).collect();
    writeln!(
        std::io::stdout(),
        "{{\"statuses\": {{{}}}, \"broken\": {}, \"p50_us\": {}, \"p99_us\": {}, \"p999_us\": {}, \
         \"max_us\": {}}}",
        counts.join(", "),
        counted.broken,
        counted.latencies.at(500),
        counted.latencies.at(990),
        counted.latencies.at(999),
        counted.latencies.at(1_000),
    )
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [rate, connections, path, addresses @ ..] = words.as_slice() else {
        return Err(wrong("expected RATE CONNECTIONS PATH ADDRESS…"));
    };
    let (rate, connections): (f64, u32) = match (rate.parse(), connections.parse()) {
        (Ok(rate), Ok(connections)) if rate > 0.0 && connections > 0 => (rate, connections),
        _ => return Err(wrong("a rate and a number of connections, both above 0")),
    };
    let addresses: Vec<SocketAddr> = addresses
        .iter()
        .map(|address| address.parse().map_err(|_| wrong("an address is IP:PORT")))
        .collect::<Result<_>>()?;
    if addresses.is_empty() || addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(wrong("expected loopback addresses"));
    }
    let (lines, read) = mpsc::sync_channel::<String>(LINES_MAX);
    spawn(move || {
        let mut all = std::io::stdin().lock().lines().map_while(Result::ok);
        // Fails when the program ends.
        let _ended = all.try_for_each(|line| lines.send(line));
    });
    let every = Duration::from_secs_f64(f64::from(connections) / rate);
    let begin = Instant::now();
    let all = (0..connections).zip(addresses.iter().cycle()).map(|(at, address)| Connection {
        address: *address,
        stream: None,
        due: begin + every.mul_f64(f64::from(at) / f64::from(connections)),
        under_way: false,
        buffer: Box::new([0; ANSWER_BYTES_MAX]),
        filled: 0,
    });
    run(all.collect(), every, &read, path)
}

/// Sends and receives, and prints a line for each interval, to the end of the input.
fn run(
    mut connections: Vec<Connection>,
    every: Duration,
    lines: &mpsc::Receiver<String>,
    path: &str,
) -> Result<()> {
    let mut keys = Keys { requests: Vec::new(), random: 0x9E37_79B9_7F4A_7C15 };
    let mut counted = Counted::default();
    let (mut step, mut report) = (Instant::now(), Instant::now() + INTERVAL);
    loop {
        match lines.try_recv() {
            Ok(line) => keys.take(&line, path)?,
            Err(mpsc::TryRecvError::Empty) => (),
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        }
        for connection in &mut connections {
            if connection.step(every, &mut keys, &mut counted).is_err() {
                counted.broken += 1;
                connection.break_off(every);
            }
        }
        let now = Instant::now();
        if now >= report {
            print(&std::mem::take(&mut counted))?;
            report += INTERVAL;
        }
        step = now.max(step + STEP);
        park_timeout(step - now);
    }
}
