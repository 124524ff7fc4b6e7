//! Keys: the master key, the roots derived from it, a repository's keys derived from those, and the
//! bundles and the recovery kit that hold them. Never stores anything; secrets print nothing and are wiped.

pub mod bundle;
pub mod certificate;
pub mod derive;
pub mod kit;
pub mod repository;
pub mod secret;
