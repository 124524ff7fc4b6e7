//! A range of IP addresses: `10.0.0.0/8`, `2001:db8::/32`, or a single one. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// A text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of addresses: write 10.0.0.0/8, 2001:db8::/32 or a single address")]
pub struct ParseAddressRangeError {
    text: String,
}

impl AddressRange {
    /// Whether an address is in it. One that is IPv4 in the form of IPv6 is taken as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_same_kind = address.is_ipv4() == self.first.is_ipv4();
        is_same_kind && masked(address, self.bits) == self.first
    }
}

/// An address with only its first bits.
pub fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32)));
            IpAddr::V4((address.to_bits() & mask.unwrap_or(0)).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128)));
            IpAddr::V6((address.to_bits() & mask.unwrap_or(0)).into())
        }
    }
}

impl FromStr for AddressRange {
    type Err = ParseAddressRangeError;

    fn from_str(text: &str) -> Result<Self, ParseAddressRangeError> {
        let parse = || -> Option<Self> {
            let (address, bits) = match text.split_once('/') {
                Some((address, bits)) => (address, Some(bits)),
                None => (text, None),
            };
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = match bits {
                Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                    bits.parse().ok()?
                }
                Some(_) => return None,
                None => most,
            };
            // Bits behind the prefix are a slip: what was meant is not known.
            let is_range = bits <= most && masked(address, bits) == address;
            is_range.then_some(Self {
                first: address,
                bits,
            })
        };
        parse().ok_or_else(|| ParseAddressRangeError {
            text: text.chars().take(80).collect(),
        })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::AddressRange;

    fn range(text: &str) -> AddressRange {
        text.parse().expect("a range")
    }

    #[test]
    fn a_range_contains_what_shares_its_first_bits() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db9::1", true),
        ];
        for (text, address, inside) in cases {
            let address = address.parse().expect("an address");
            assert_eq!(range(text).contains(address), inside, "{text} {address}");
            assert_eq!(range(&range(text).to_string()), range(text));
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::1/129",
            "web1",
            "10.0.0.0/",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }
}
