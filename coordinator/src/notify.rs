//! Tells people what they must know: when something begins to be wrong and when it ends, each once, and once a day how
//! everything is.
//!
//! What is told comes from the audit log and from the hosts' status, whoever wrote it: [`transitions`] finds what changed,
//! [`notifier`] writes that into the state together with how far it went, and [`deliveries`] delivers what waits there until it is
//! delivered. So nothing is told twice because a daemon was started anew, and nothing is forgotten.

pub mod alert;
pub mod command;
pub mod deliver;
pub mod deliveries;
pub mod digest;
pub mod http;
pub mod mail;
pub mod notifier;
pub mod secret;
pub mod transitions;
