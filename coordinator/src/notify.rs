//! Tells people what they must know: when something begins to be wrong and when it ends, each once, and once a day how
//! everything is.
//!
//! What is told comes from the audit log and from the hosts' status, whoever wrote it: [`transitions`] finds what changed,
//! [`notifier`] writes that into the state together with how far it went, and [`deliveries`] gives every target its own turn, in
//! which what waits for it is delivered until it is taken. So nothing is told twice because a daemon was started anew, and nothing
//! is forgotten. What a target took without saying so in time, or was taking when the daemon was killed, comes again; with the
//! same id until it is summed up.

pub mod alert;
pub mod command;
pub mod deliver;
pub mod deliveries;
pub mod digest;
pub mod http;
pub mod mail;
pub mod missed;
pub mod notifier;
pub mod secret;
pub mod switch;
pub mod transitions;
pub mod turn;
