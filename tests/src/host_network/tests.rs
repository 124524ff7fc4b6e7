//! A network of its own carries, is cut without a word, comes back, and leaves nothing.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test at once")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host_network::HostNetwork;
use crate::sshd::{Sshd, SshdOptions};
use crate::world::temporary_directory;

fn names(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn sshd_in(network: &Arc<HostNetwork>, directory: &std::path::Path) -> Sshd {
    let options = SshdOptions {
        network: Some(Arc::clone(network)),
        ..SshdOptions::default()
    };
    Sshd::start(directory, options).unwrap()
}

/// What a server says first, if it says anything.
fn greeting(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut buffer = [0; 8];
    stream.read_exact(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

#[test]
fn a_target_has_an_address_of_its_own_and_everything_goes_with_it() {
    let network = Arc::new(HostNetwork::new().unwrap());
    let other = HostNetwork::new().unwrap();
    assert_ne!(network.address(), other.address());
    let directory = temporary_directory().unwrap();
    let sshd = sshd_in(&network, directory.path());
    assert_eq!(sshd.address().ip(), network.address());
    let mut stream = TcpStream::connect(sshd.address()).unwrap();
    assert_eq!(greeting(&mut stream).unwrap(), "SSH-2.0-");
    // Its ports are not this machine's.
    TcpListener::bind(("127.0.0.1", sshd.address().port())).unwrap();
    let (namespace, interface) = (network.namespace().to_owned(), network.outside.clone());
    assert!(names(&["netns", "list"]).contains(&namespace));
    assert!(names(&["link", "show"]).contains(&interface));
    drop((sshd, network));
    assert!(!names(&["netns", "list"]).contains(&namespace));
    crate::processes::wait_until("the cable to go", Duration::from_secs(10), || {
        Ok(!names(&["link", "show"]).contains(&format!("{interface}@")))
    })
    .unwrap();
}

#[test]
fn a_pulled_cable_is_silent_and_what_was_open_goes_on_when_it_is_back() {
    let network = Arc::new(HostNetwork::new().unwrap());
    let directory = temporary_directory().unwrap();
    let sshd = sshd_in(&network, directory.path());
    let mut stream = TcpStream::connect(sshd.address()).unwrap();
    assert_eq!(greeting(&mut stream).unwrap(), "SSH-2.0-");
    network.unplug().unwrap();
    // Nobody says that it is over: neither the write fails nor does the stream end.
    stream.write_all(b"SSH-2.0-nobody\r\n").unwrap();
    let mut rest = Vec::new();
    stream
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let error = stream.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    assert!(!rest.contains(&20), "a key exchange came through");
    network.plug_in().unwrap();
    // What was written arrives by and by, and the server answers with its key exchange (message 20).
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut buffer = [0; 4096];
    while !rest.contains(&20) {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the server hung up");
        rest.extend_from_slice(&buffer[..length]);
    }
}

#[test]
fn a_slow_network_is_slow_until_it_is_fast_again() {
    let network = HostNetwork::new().unwrap();
    let listener = TcpListener::bind((network.gateway(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let send = |bytes: usize| {
        let script = format!(
            "import socket; s = socket.create_connection(('{}', {port})); s.sendall(bytes({bytes}))",
            network.gateway()
        );
        let mut child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", network.namespace()))
            .args(["python3", "-c", &script])
            .spawn()
            .unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let start = Instant::now();
        let mut taken = Vec::new();
        stream.read_to_end(&mut taken).unwrap();
        assert_eq!(taken.len(), bytes);
        assert!(child.wait().unwrap().success());
        start.elapsed()
    };
    network.slow_down(4_000_000).unwrap();
    // Half a megabyte at half a megabyte a second; less only by what the bucket holds.
    let slow = send(500_000);
    assert!(slow > Duration::from_millis(600), "{slow:?}");
    network.speed_up().unwrap();
    let fast = send(500_000);
    assert!(fast < slow / 2, "{fast:?} after {slow:?}");
}
