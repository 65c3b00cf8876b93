//! The rules of a member, each by itself: what it asks its driver for, in which order, and what it
//! concludes from each answer.

mod barrier;
mod granting;
mod renewal;
mod routing;
mod world;
