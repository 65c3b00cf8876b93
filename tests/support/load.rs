//! Requests: many at the same moment, or a stream of them while a test does something else.
//!
//! Answers for: a whole burst is in flight before the first answer is read, and every request of a
//! stream is recorded with the time of the request and of the answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::{Answer, Conn, Request};
use super::node::Addresses;

/// Requests of one burst that are in flight at once; each has its own connection.
const IN_FLIGHT_MAX: usize = 512;

/// A pool of connections that are reused from wave to wave.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    conns: Vec<(SocketAddr, Conn)>,
}

impl Burst {
    /// Sends every request to its node at once, and then reads the answers, in order. More than
    /// [`IN_FLIGHT_MAX`] requests go in waves.
    #[track_caller]
    pub(crate) fn send(&mut self, requests: &[(SocketAddr, Request)]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(requests.len());
        for wave in requests.chunks(IN_FLIGHT_MAX) {
            answers.extend(self.wave(wave));
        }
        answers
    }

    #[track_caller]
    fn wave(&mut self, requests: &[(SocketAddr, Request)]) -> Vec<Answer> {
        let mut used: Vec<(SocketAddr, Conn)> = requests
            .iter()
            .map(|(to, _)| match self.conns.iter().position(|(at, _)| at == to) {
                Some(at) => self.conns.swap_remove(at),
                None => (*to, Conn::open(*to).unwrap()),
            })
            .collect();
        for ((_, conn), (_, request)) in used.iter_mut().zip(requests) {
            conn.write(&request.to_bytes()).unwrap();
        }
        let answers = used.iter_mut().map(|(to, conn)| match conn.read(false) {
            Ok(answer) => answer,
            Err(error) => panic!("a request of a burst at {to} got no answer: {error}"),
        });
        let answers = answers.collect();
        self.conns.append(&mut used);
        answers
    }
}

/// The result of one request of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The node that got it.
    pub(crate) node: u64,
    /// Index of the request in the stream's list.
    pub(crate) request: usize,
    /// When it was sent.
    pub(crate) asked: Instant,
    /// When the answer arrived, or the connection was lost.
    pub(crate) answered: Instant,
    /// The answer, or why there is none.
    pub(crate) outcome: Result<Answer, String>,
}

impl Sample {
    /// The status; 0 without an answer.
    pub(crate) fn status(&self) -> u16 {
        self.outcome.as_ref().map_or(0, |answer| answer.status)
    }
}

/// A stream of requests to every node, one connection each.
#[derive(Debug)]
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Stream {
    /// Starts to send these requests in turn to each node, `rate` times a second at each.
    pub(crate) fn start(nodes: &[Addresses], requests: &[Request], rate: u32) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let pace = Duration::from_secs(1) / rate;
        let threads = nodes.iter().map(|&node| {
            let (stop, requests) = (Arc::clone(&stop), requests.to_vec());
            std::thread::spawn(move || stream(node, &requests, pace, &stop))
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// Ends the stream and returns all samples, by node in the order of sending.
    pub(crate) fn finish(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        let samples = self.threads.into_iter().map(|thread| thread.join().unwrap());
        samples.flatten().collect()
    }
}

fn stream(node: Addresses, requests: &[Request], pace: Duration, stop: &AtomicBool) -> Vec<Sample> {
    let (mut samples, mut conn) = (Vec::new(), None);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let request = samples.len() % requests.len();
        let asked = Instant::now();
        let outcome = call(&mut conn, node.gateway, &requests[request]);
        samples.push(Sample {
            node: node.id,
            request,
            asked,
            answered: Instant::now(),
            outcome: outcome.map_err(|error| error.to_string()),
        });
        due = (due + pace).max(asked);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    samples
}

/// Calls on the kept connection, or on a new one after a failure.
fn call(conn: &mut Option<Conn>, to: SocketAddr, request: &Request) -> io::Result<Answer> {
    let mut open = match conn.take() {
        Some(open) => open,
        None => Conn::open(to)?,
    };
    let answer = open.call(request)?;
    // A stopping server announces it; the next request needs another connection.
    if answer.header("connection") != Some("close") {
        *conn = Some(open);
    }
    Ok(answer)
}
