//! Runs the SSH side against OpenSSH, and against peers that break its rules.
//! They need sshd, ssh-keygen, ssh-agent and to be root; mounts need CAP_SYS_ADMIN.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod sshd;

mod connecting;
mod deploying;
mod executing;
mod guarding;
mod hostile;
mod logging_in;
mod pure;
mod tunnelling;
