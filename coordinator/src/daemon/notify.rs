//! Tells systemd how the daemon is doing (sd_notify(3)): one datagram to the socket it named. Does nothing where it named none,
//! and never fails: a service manager that does not listen must not stop backups.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::ClockId;

/// systemd, if it started this process.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let for_us =
            variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let micros = variable("WATCHDOG_USEC").and_then(|micros| micros.parse().ok());
        Self {
            socket: std::env::var_os("NOTIFY_SOCKET").and_then(reach),
            watchdog: micros.map(Duration::from_micros).filter(|_| for_us),
        }
    }

    /// How often it is to be told that all is well: twice as often as it wants to hear it.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Everything runs.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again; [`ServiceManager::ready`] ends it.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// All is well.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, text: &str) {
        let Some((socket, address)) = &self.socket else {
            return;
        };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// A socket to send from, and the one named, which is a path or begins with an @ for one without.
fn reach(name: OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let bytes = name.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::{ServiceManager, reach};

    #[test]
    fn each_state_is_one_datagram_and_nobody_listening_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager {
            socket: reach(path.into_os_string()),
            watchdog: Some(Duration::from_secs(10)),
        };
        manager.ready();
        manager.reloading();
        manager.alive();
        manager.stopping();
        let next = || {
            let mut bytes = [0; 200];
            let length = systemd.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        assert_eq!(next(), "READY=1");
        assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(next(), "WATCHDOG=1");
        assert_eq!(next(), "STOPPING=1");
        assert_eq!(manager.watchdog_interval(), Some(Duration::from_secs(5)));
        drop(systemd);
        manager.alive();
        ServiceManager::default().ready();
    }
}
