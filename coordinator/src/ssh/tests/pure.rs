//! What needs no server: addresses, fingerprints, quoting, escaping.

use std::process::Command;

use append_server::ssh::escape::{escape_for_log, escape_within};
use append_server::ssh::host_key::Fingerprint;
use append_server::ssh::target::{Address, AddressError};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use crate::ssh::janitor::DirectoryName;
use crate::ssh::shell::{command_line, words};
use crate::ssh::tunnel::TransportChoice;

#[test]
fn addresses_are_parsed_and_printed() {
    for (text, host, port) in [
        ("web1", "web1", 22),
        ("web1.example.com:2222", "web1.example.com", 2222),
        ("192.0.2.1", "192.0.2.1", 22),
        ("2001:db8::1", "2001:db8::1", 22),
        ("[2001:db8::1]:2222", "2001:db8::1", 2222),
        ("[fe80::1%eth0]", "fe80::1%eth0", 22),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!((address.host(), address.port()), (host, port), "{text}");
        assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
    }
    for text in ["", ":22", "a b", "-oProxyCommand=x", "[::1", "we\nb", "u@h"] {
        let error = text.parse::<Address>().unwrap_err();
        assert!(matches!(error, AddressError::Host { .. }), "{text:?}");
    }
    for text in ["h:", "h:0", "h:65536", "h:ssh", "[::1]22", "[::1]:"] {
        let error = text.parse::<Address>().unwrap_err();
        assert!(matches!(error, AddressError::Port { .. }), "{text:?}");
    }
}

#[test]
fn fingerprints_are_those_of_openssh() {
    let text = "SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpKFNDhM+J8MxiFZNM";
    let fingerprint: Fingerprint = text.parse().unwrap();
    assert_eq!(fingerprint.to_string(), text);
    assert_eq!(
        format!("{text}=").parse::<Fingerprint>().unwrap(),
        fingerprint
    );
    let md5 = "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48";
    for bad in ["", "SHA256:", "SHA256:abc", &text[7..], md5] {
        assert!(bad.parse::<Fingerprint>().is_err(), "{bad:?}");
    }
}

#[test]
fn nothing_that_moves_a_cursor_or_forges_a_line_gets_through() {
    let evil = b"a\x1b]52;c;aGk=\x07\r\nINFO fake\0\x9b31m\xc2\x9b\xe2\x80\xae\\";
    let shown = "a\\u{1b}]52;c;aGk=\\u{7}\\r\\nINFO fake\\u{0}\\x9b31m\\u{9b}\\u{202e}\\\\";
    assert_eq!(escape_for_log(evil), shown);
    assert_eq!(escape_for_log("Größe ✓".as_bytes()), "Größe ✓");
}

#[test]
fn a_prefix_is_split_into_words() {
    assert_eq!(words("sudo -n"), ["sudo", "-n"]);
    assert!(words("  ").is_empty());
}

#[test]
fn transports_and_names_are_checked() {
    let choice: TransportChoice = "stdio".parse().unwrap();
    assert_eq!(choice, TransportChoice::Stdio);
    assert!("STDIO".parse::<TransportChoice>().is_err());
    for (repository, random) in [
        ("", "a"),
        ("a", ""),
        ("a/b", "c"),
        ("a", ".."),
        ("a", "b c"),
    ] {
        assert!(DirectoryName::new(repository, random).is_err());
    }
}

proptest! {
    #[test]
    fn escaped_text_has_no_control_characters(bytes in any::<Vec<u8>>()) {
        prop_assert!(!escape_for_log(&bytes).chars().any(char::is_control));
    }

    #[test]
    fn what_is_cut_is_the_beginning_of_the_escaped_text(bytes in any::<Vec<u8>>(), limit in 0usize..300) {
        let whole = escape_for_log(&bytes);
        let (text, taken) = escape_within(&bytes, limit);
        prop_assert!(text.len() <= limit && whole.starts_with(&text));
        prop_assert_eq!(escape_for_log(&bytes[..taken]), text);
        prop_assert!(taken == bytes.len() || whole.len() > limit);
    }

    #[test]
    fn quoted_words_arrive_as_they_were(
        given in proptest::collection::vec("[^\0]{0,12}", 1..5),
    ) {
        let mut line = String::from("printf '%s\\0' ");
        line.push_str(&command_line(&given));
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        let mut expected = given.join("\0").into_bytes();
        expected.push(0);
        prop_assert_eq!(output.stdout, expected);
    }
}
