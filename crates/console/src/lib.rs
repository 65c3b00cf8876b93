//! The web console: its pages, files, sessions and forms, without a server.
//!
//! Answers for: what a person sees and what a form means. Time, randomness and secrets are
//! arguments; pages are texts, forms become requests of the JSON contract, and the server executes
//! these. Must never change a key itself, so that the console can do nothing beyond the contract.
//! Must not depend on axum or the engine.
//!
//! The server renders every page, and a page works without its script. The script adds copy
//! buttons, the reader's time zone, live figures and confirmations.

pub mod assets;
pub mod chart;
pub mod export;
pub mod form;
pub mod health;
pub mod moment;
pub mod page;
pub mod session;
pub mod slowdown;
