//! Requests at a steady rate over HTTP/1.1, for hours, and what their latencies were in each interval.
//!
//! `steady RATE CONNECTIONS PATH ADDRESS…`: POST to PATH at each address in turn, with the keys that
//! standard input names: a line `+KEY` adds one, `-KEY` takes one away, and the end of the input ends
//! the program. Prints a line of JSON for each [`INTERVAL`]: answers by status, latencies in
//! microseconds, and for how long a thread that only sleeps was kept from running meanwhile, in all and
//! at most: what such pauses add to a latency is the machine's, not the server's.
//!
//! Answers for: a server that stalls shows in every request that was due meanwhile. A latency counts
//! from the moment when the request was due, unless it was sent within [`LATE_MAX`] of that.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, Error, ErrorKind, Result, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

/// What one line of the output covers.
const INTERVAL: Duration = Duration::from_secs(10);
/// How late a request may be sent without counting: timers have steps of a millisecond.
const LATE_MAX: Duration = Duration::from_millis(2);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// After this an answer counts as missing.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a connection is made again.
const RECONNECT: Duration = Duration::from_millis(100);
/// What the sleeping thread sleeps.
const NAP: Duration = Duration::from_millis(1);
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

/// What all connections share.
#[derive(Default)]
struct Shared {
    // Whole requests, by key.
    requests: RefCell<Vec<(String, Vec<u8>)>>,
    latencies: RefCell<Latencies>,
    statuses: RefCell<BTreeMap<u16, u64>>,
    broken: RefCell<u64>,
}

fn wrong(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why.to_owned())
}

/// Sends one request and reads its answer: the status.
async fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Result<u16> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 || buffer.len() > ANSWER_BYTES_MAX {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).map_err(|_| wrong("not HTTP"))?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        if buffer.len() >= head + 4 + length {
            return text.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(|| wrong("no status"));
        }
    }
}

/// Sends requests of one connection, each when it is due, to the end of the program.
async fn drive(shared: Rc<Shared>, address: SocketAddr, every: Duration, first: Duration) {
    let (mut stream, mut buffer) = (None, Vec::with_capacity(ANSWER_BYTES_MAX));
    let mut random = u64::from(address.port()) << 32 | u64::from(first.subsec_nanos()) | 1;
    let mut due = Instant::now() + first;
    loop {
        sleep_until(due.into()).await;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let request = {
            let requests = shared.requests.borrow();
            let at = usize::try_from(random >> 16).unwrap_or(0) % requests.len().max(1);
            requests.get(at).map(|(_, request)| request.clone())
        };
        let Some(request) = request else {
            due += every;
            continue;
        };
        let open = match stream.take() {
            Some(open) => Ok(open),
            None => TcpStream::connect(address).await.inspect(|s| drop(s.set_nodelay(true))),
        };
        let sent = Instant::now();
        let begun = if sent - due > LATE_MAX { due } else { sent };
        let answer = match open {
            Ok(mut open) => {
                let asked = ask(&mut open, &request, &mut buffer);
                let answer = tokio::time::timeout(REPLY_TIMEOUT, asked).await;
                answer.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map(|s| (s, open))
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok((status, open)) => {
                shared.latencies.borrow_mut().note(begun.elapsed());
                *shared.statuses.borrow_mut().entry(status).or_default() += 1;
                stream = Some(open);
            }
            Err(_) => {
                *shared.broken.borrow_mut() += 1;
                sleep(RECONNECT).await;
            }
        }
        due += every;
    }
}

/// How long the thread that only sleeps ran after its time, microseconds.
#[derive(Default)]
struct Pauses {
    // The sum of those above `LATE_MAX`.
    sum_us: AtomicU64,
    longest_us: AtomicU64,
}

/// Sleeps and sleeps, and notes how long after its time it ran again.
fn nap(pauses: &Pauses) -> ! {
    loop {
        let begun = Instant::now();
        std::thread::park_timeout(NAP);
        let late = begun.elapsed().saturating_sub(NAP);
        let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        pauses.longest_us.fetch_max(late_us, Ordering::Relaxed);
        if late > LATE_MAX {
            pauses.sum_us.fetch_add(late_us, Ordering::Relaxed);
        }
    }
}

fn request_of(path: &str, key: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n").into()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
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
    let pauses = Arc::new(Pauses::default());
    let noted = Arc::clone(&pauses);
    std::thread::spawn(move || nap(&noted));
    let (lines, mut read) = mpsc::channel::<String>(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let shared = Rc::new(Shared::default());
    let local = tokio::task::LocalSet::new();
    let every = Duration::from_secs_f64(f64::from(connections) / rate);
    for (at, address) in (0..connections).zip(addresses.iter().cycle()) {
        let first = every.mul_f64(f64::from(at) / f64::from(connections));
        local.spawn_local(drive(Rc::clone(&shared), *address, every, first));
    }
    local.run_until(report(&shared, &mut read, path, &pauses)).await
}

/// Takes the lines of standard input, and prints a line for each interval.
async fn report(
    shared: &Shared,
    read: &mut mpsc::Receiver<String>,
    path: &str,
    pauses: &Pauses,
) -> Result<()> {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            line = read.recv() => {
                let Some(line) = line else { return Ok(()) };
                let mut requests = shared.requests.borrow_mut();
                match line.split_at_checked(1) {
                    Some(("+", key)) => requests.push((key.to_owned(), request_of(path, key))),
                    Some(("-", key)) => requests.retain(|(known, _)| known != key),
                    _ => return Err(wrong("a line is +KEY or -KEY")),
                }
            }
            _ = ticks.tick() => {
                let latencies = std::mem::take(&mut *shared.latencies.borrow_mut());
                let statuses = std::mem::take(&mut *shared.statuses.borrow_mut());
                let broken = std::mem::take(&mut *shared.broken.borrow_mut());
                let counts: Vec<String> =
                    statuses.iter().map(|(status, count)| format!("\"{status}\": {count}")).collect();
                writeln!(
                    std::io::stdout(),
                    "{{\"statuses\": {{{}}}, \"broken\": {broken}, \"p50_us\": {}, \"p99_us\": {}, \
                     \"p999_us\": {}, \"max_us\": {}, \"stood_still_us\": {}, \
                     \"longest_pause_us\": {}}}",
                    counts.join(", "),
                    latencies.at(500),
                    latencies.at(990),
                    latencies.at(999),
                    latencies.at(1_000),
                    pauses.sum_us.swap(0, Ordering::Relaxed),
                    pauses.longest_us.swap(0, Ordering::Relaxed),
                )?;
            }
        }
    }
}
