//! The black box: real `fluxgate serve` processes, real sockets and disks, judged only by what a
//! client sees.
//!
//! Answers for: the built binary keeps the HTTP contract, exact limits, the promises about writes,
//! and the stated cost of each fault. One test binary, so that the server and the harness are
//! linked once; each test starts its own cluster and ends its own processes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may stop where it fails, and says why on standard error"
)]

mod admins;
mod authorize;
mod batch;
mod cli;
mod cluster_exact;
mod cluster_faults;
mod cluster_members;
mod cluster_remaining;
mod cluster_restarts;
mod cluster_writes;
mod console;
mod contract;
mod exit_codes;
mod gateways;
mod help;
mod http2;
mod keys;
mod malformed;
mod monitoring;
mod owners;
mod plans;
mod reasons;
mod refusals;
mod safety;
mod security;
mod support;
mod tls;
mod traces;
mod transfer;
mod upkeep;
mod versions;
