//! The commands, one file each. Each has `Args`, which clap parses, and `run`.

pub(crate) mod audit;
pub(crate) mod audit_limits;
pub(crate) mod bench;
pub(crate) mod check_config;
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod healthcheck;
pub(crate) mod keys;
pub(crate) mod openapi;
pub(crate) mod owners;
pub(crate) mod plans;
pub(crate) mod pools;
mod records;
pub(crate) mod recover;
pub(crate) mod serve;
pub(crate) mod tls;
pub(crate) mod validate;
