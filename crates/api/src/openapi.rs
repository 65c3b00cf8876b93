//! The OpenAPI document, generated from the types of this crate.
