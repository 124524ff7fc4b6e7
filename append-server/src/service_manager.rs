//! What systemd is told of a service: that it is ready, lives, reads its configuration anew, or ends (`sd_notify(3)`). Says
//! nothing where no service manager asked to be told, and never fails the service.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::time::ClockId;

/// Where the service manager listens.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// Within how many microseconds a sign of life must follow the one before.
const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// For which process that is meant.
const WATCHDOG_PROCESS_VARIABLE: &str = "WATCHDOG_PID";

/// How long telling may take: a service manager that does not listen must not hold up the service.
const TELL_DEADLINE: Duration = Duration::from_millis(500);

/// The service manager that started this process, if one did and wants to be told.
#[derive(Debug, Default)]
pub struct ServiceManager {
    address: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As this process's environment says.
    pub fn from_environment() -> Self {
        let of_process = std::env::var(WATCHDOG_PROCESS_VARIABLE).ok();
        let is_meant = of_process.is_none_or(|id| id == std::process::id().to_string());
        let within = std::env::var(WATCHDOG_VARIABLE).ok();
        Self::new(
            std::env::var_os(SOCKET_VARIABLE).as_deref(),
            within.filter(|_| is_meant).as_deref(),
        )
    }

    fn new(socket: Option<&OsStr>, watchdog_usecs: Option<&str>) -> Self {
        let address = socket.and_then(|socket| {
            let address = address(socket);
            if let Err(error) = &address {
                tracing::warn!(%error, ?socket, "the service manager cannot be told anything");
            }
            address.ok()
        });
        let usecs = watchdog_usecs.and_then(|text| text.parse().ok());
        Self {
            watchdog: usecs
                .filter(|usecs| *usecs > 0 && address.is_some())
                .map(Duration::from_micros),
            address,
        }
    }

    /// How often to call [`Self::alive`]: twice within the time that the service manager gives. Nothing where it does not
    /// watch.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|within| within / 2)
    }

    /// The service does its work from now on; ends a reload too.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The service lives.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.tell("WATCHDOG=1");
        }
    }

    /// The service reads its configuration anew, until it is [`Self::ready`] again.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let usecs = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usecs}"));
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Gives signs of life for as long as it is polled, where they are wanted: from a runtime whose threads all hang none
    /// come.
    pub async fn keep_alive(&self) {
        let Some(interval) = self.watchdog_interval() else {
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(interval);
        loop {
            ticks.tick().await;
            self.alive();
        }
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.address else {
            return;
        };
        let told = UnixDatagram::unbound().and_then(|socket| {
            socket.set_write_timeout(Some(TELL_DEADLINE))?;
            socket.send_to_addr(state.as_bytes(), address)
        });
        if let Err(error) = told {
            tracing::warn!(%error, state, "the service manager could not be told");
        }
    }
}

/// A path, or with `@` in front a name that is in no file system.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(Path::new(socket)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsStr;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Duration;

    use super::ServiceManager;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn every_state_is_one_datagram_in_the_words_of_sd_notify() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::new(Some(path.as_os_str()), Some("30000000"));
        assert_eq!(manager.watchdog_interval(), Some(Duration::from_secs(15)));
        manager.ready();
        assert_eq!(received(&socket), "READY=1");
        manager.alive();
        assert_eq!(received(&socket), "WATCHDOG=1");
        manager.stopping();
        assert_eq!(received(&socket), "STOPPING=1");
        manager.reloading();
        let told = received(&socket);
        let usecs = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usecs.parse::<u64>().unwrap() > 0, "{told}");
    }

    #[test]
    fn a_name_that_is_no_file_is_reached() {
        let name = format!("capstan-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        ServiceManager::new(Some(OsStr::new(&format!("@{name}"))), None).ready();
        assert_eq!(received(&socket), "READY=1");
    }

    #[test]
    fn nobody_is_told_where_nobody_asked() {
        let manager = ServiceManager::new(None, Some("30000000"));
        assert_eq!(manager.watchdog_interval(), None);
        manager.ready();
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let manager = ServiceManager::new(Some(gone.as_os_str()), Some("soon"));
        assert_eq!(manager.watchdog_interval(), None);
        manager.ready();
    }
}
