//! The rules of the repository that no compiler checks: crate edges, circles of files, file heads and
//! lengths, words, constants, documents and review dates.
//!
//! The checks read the manifests and the files that git knows or would add, so they check a file
//! before it is committed. Every finding is `file:line: rule`. A new edge or exception is a line in
//! a table, with a reason.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/constants.rs"]
mod constants;
#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/language.rs"]
mod language;
#[path = "tidy/repository.rs"]
mod repository;
#[path = "tidy/text.rs"]
mod text;
