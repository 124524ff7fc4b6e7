//! The coordinator: decides which host to back up, runs it, verifies, commits and restores.

pub mod cli;
pub mod commands;
pub mod demo;
pub mod exit_code;
pub mod logging;
pub mod terminal;

pub mod config;
pub mod coordinator;

pub mod daemon;
pub mod schedule;
pub mod status;

pub mod agents;
pub mod backup;
pub mod ssh;

pub mod listener;
pub mod notify;

pub mod retention;
pub mod safety;

pub mod export;
pub mod rescue;
pub mod restore;
pub mod scan;
pub mod snapshot;

pub mod catalog;
pub mod index;
pub mod repository;
pub mod storage;

pub mod allocator;
pub mod audit;
pub mod clock;
pub mod database;
pub mod events;
pub mod keyring;
pub mod lock;
pub mod machine;
