//! What other programs may ask the daemon: whether it is well, whether a host is, and figures for Prometheus. Answers look-ups
//! alone; nothing can be changed through it.
//!
//! Plain HTTP on loopback or a Unix socket. All but `/healthz` needs a token with the right scope. Whoever is slow, asks for
//! much or sends much is cut.

pub mod address_range;
pub mod answer;
pub mod failures;
pub mod looks;
pub mod metrics;
pub mod requests;
pub mod serve;
pub mod token;
