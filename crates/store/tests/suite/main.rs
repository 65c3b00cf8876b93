//! Tests of the store from outside: what is promised must hold after a reopen, a power
//! cut, a full disk and damage of every kind.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

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
