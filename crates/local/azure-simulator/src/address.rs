//! Addresses and prefixes, as plain number ranges.

use std::net::IpAddr;

/// A CIDR block or a single address. Host bits may be set; they are ignored, as Azure ignores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    first: u128,
    last: u128,
    pub(crate) v6: bool,
}

impl Prefix {
    /// `None` if `text` is neither an address nor a CIDR block.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let (value, v6) = number(address.parse().ok()?);
        let width = if v6 { 128 } else { 32 };
        let host_bits =
            width - length.filter(|length| *length <= width).or(length.is_none().then_some(width))?;
        let hosts = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        Some(Self { first: value & !hosts, last: value | hosts, v6 })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (value, v6) = number(address);
        v6 == self.v6 && self.first <= value && value <= self.last
    }

    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.v6 == other.v6 && self.first <= other.first && other.last <= self.last
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.first == 0 && self.last == if self.v6 { u128::MAX } else { u128::from(u32::MAX) }
    }

    /// IPv4 addresses that Azure may hand out: the first four and the last one of a subnet are its own.
    pub(crate) fn assignable_v4(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let range = if self.v6 { 1..1 } else { self.first + 4..self.last };
        range.filter_map(|value| u32::try_from(value).ok()).map(|value| IpAddr::V4(value.into()))
    }
}

fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), false),
        IpAddr::V6(address) => (u128::from(address), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(prefix: &str, address: &str) -> bool {
        Prefix::parse(prefix).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn prefixes_hold_their_addresses_and_no_others() {
        assert!(contains("10.0.1.0/24", "10.0.1.255"));
        assert!(!contains("10.0.1.0/24", "10.0.2.0"));
        assert!(contains("10.0.1.77/24", "10.0.1.1"), "host bits do not matter");
        assert!(contains("128.0.0.0/1", "203.0.113.7"));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"), "an IPv4 default is no IPv6 default");
        assert!(contains("::/0", "2001:db8::1"));
        assert!(contains("192.0.2.1", "192.0.2.1"));
    }

    #[test]
    fn nonsense_is_no_prefix() {
        for text in
            ["", "*", "Internet", "10.0.0.0/42", "10.0.0/8", "10.0.0.1-10.0.0.9", "::/129", "1.2.3.4/"]
        {
            assert_eq!(Prefix::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_address_handed_out_is_the_fifth() {
        let first = Prefix::parse("10.0.1.0/29").unwrap().assignable_v4().map(|a| a.to_string());
        assert_eq!(first.collect::<Vec<_>>(), ["10.0.1.4", "10.0.1.5", "10.0.1.6"]);
    }
}
