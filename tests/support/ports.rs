//! Ports that no other test of this machine takes meanwhile.
//!
//! A node must listen on the same port after a restart, so a port that is merely free for the
//! moment will not do. A port is claimed by a locked file; the lock ends with its process. All
//! ports lie below the range from which the system draws ports for outgoing connections.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

const FIRST: u16 = 12_000;
const COUNT: u16 = 16_000;

/// A claimed port, given back when dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _claim: File,
}

impl Port {
    /// Claims a port on which nothing listens.
    pub(crate) fn claim() -> Self {
        let dir = std::env::temp_dir().join("fluxgate-test-ports");
        fs::create_dir_all(&dir).unwrap();
        // Tests that begin at the same place would only meet at each other's locks.
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
