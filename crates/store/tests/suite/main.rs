//! Tests of the store through its public interface: its promises must hold after a reopen, a power
//! cut, a full disk and damage of every kind.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod codec;
mod crash;
mod damage;
mod data_dir;
mod disk_image;
mod faults;
mod helpers;
mod model;
mod order;
mod snapshot;
