//! When which host is to be backed up. Pure: calendars, what is known of each host, and the time come in, decisions go out.
//! Never reads a clock, a file or a database.

pub mod calendar;
pub mod cron;
pub mod error;
pub mod field;
pub mod jitter;
pub mod occasions;
pub mod outlook;
pub mod rates;
pub mod roster;
pub mod systemd;
pub mod timing;
pub mod window;

#[cfg(test)]
mod simulation;
