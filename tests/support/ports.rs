//! Ports that no other test on this machine takes at the same time.
//!
//! A node must listen on the same port after a restart, so a port that is free for the moment is
//! not enough. A locked file claims a port; the lock ends with its process. All ports lie below the
//! range from which the system draws ports for outgoing connections.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

const FIRST: u16 = 12_000;
const COUNT: u16 = 16_000;

/// A claimed port, released when dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _claim: File,
}

impl Port {
    /// Claims a port that no process listens on.
    pub(crate) fn claim() -> Self {
        let dir = std::env::temp_dir().join("fluxgate-test-ports");
        fs::create_dir_all(&dir).unwrap();
        // Tests that start at the same offset would only meet each other's locks.
        let offset = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap();
        for step in 0..COUNT {
            let number = FIRST + (offset + step) % COUNT;
            let claim = File::create(dir.join(number.to_string())).unwrap();
            let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
            if claim.try_lock().is_ok() && free() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no port is free");
    }

    /// The address on loopback.
    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
