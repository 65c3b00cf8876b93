//! The web console: its pages, files, sessions and forms, without a server.
//!
//! Answers for: what a person sees and what a form means. Time, randomness and secrets are
//! arguments; pages are texts, forms become the requests of the JSON contract, and whoever serves
//! them carries them out. Must never do anything to a key itself, so that the console can do
//! nothing that the contract does not know. Knows neither axum nor the engine.
//!
//! A page is rendered on the server and works without its script; the script adds copying, the
//! reader's zone, live figures and questions before something is lost.

pub mod assets;
pub mod chart;
pub mod export;
pub mod form;
pub mod health;
pub mod moment;
pub mod page;
pub mod session;
pub mod slowdown;
