//! The addresses to connect from, as a user writes them.
//!
//! Not here: whether this host has them (the kernel says so when one is used), how they are taken in turn
//! (`worker`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that may be named. Each gives some 28,000 ports: a thousand times the connections of a big run.
pub const SOURCES_MAX: usize = 1 << 16;

/// Reads `127.0.0.1-127.0.0.8,10.0.0.5`: addresses and ranges of them, both ends included, as they are
/// written.
///
/// # Errors
/// What is wrong and how it is written right: nothing named, no address, a range that is backwards or mixes
/// families, two families in all, an address named twice, more than [`SOURCES_MAX`].
pub fn parse_sources(text: &str) -> Result<Vec<IpAddr>, String> {
    let mut found: Vec<IpAddr> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (address(first, part)?, address(last, part)?),
            None => (address(part, part)?, address(part, part)?),
        };
        let range = range(first, last).map_err(|why| format!("the source addresses \"{part}\" {why}"))?;
        if range.count.saturating_add(found.len() as u128) > SOURCES_MAX as u128 {
            return Err(format!(
                "\"{text}\" names more than {SOURCES_MAX} source addresses; \
                 one is enough for some 28,000 connections"
            ));
        }
        found.extend(range.addresses());
    }
    if let Some(other) = found.iter().find(|addr| addr.is_ipv4() != found[0].is_ipv4()) {
        let first = found[0];
        return Err(format!(
            "the source addresses {first} and {other} are not of one family: name IPv4 or IPv6"
        ));
    }
    let mut sorted = found.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("the source address {} is named twice in \"{text}\"", pair[0])),
        None => Ok(found),
    }
}

fn address(text: &str, part: &str) -> Result<IpAddr, String> {
    let wanted = "write addresses or ranges of them, like 127.0.0.1-127.0.0.8,10.0.0.5";
    text.trim().parse().map_err(|_| format!("\"{part}\" is not a source address: {wanted}"))
}

/// Addresses in a row, as numbers.
struct Range {
    first: u128,
    count: u128,
    v4: bool,
}

fn range(first: IpAddr, last: IpAddr) -> Result<Range, &'static str> {
    let (first, last, v4) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits().into(), last.to_bits().into(), true),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits(), false),
        _ => return Err("begin in one family and end in the other"),
    };
    let count = u128::checked_sub(last, first).ok_or("are backwards: write the lower one first")?;
    Ok(Range { first, count: count.saturating_add(1), v4 })
}

impl Range {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        (0..self.count).map(|index| match (u32::try_from(self.first + index), self.v4) {
            (Ok(bits), true) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(self.first + index)),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        parse_sources(text).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_and_ranges_come_as_they_are_written() {
        assert_eq!(texts("10.0.0.5"), ["10.0.0.5"]);
        let found = texts("127.0.0.254-127.0.1.1, 10.0.0.5");
        assert_eq!(found, ["127.0.0.254", "127.0.0.255", "127.0.1.0", "127.0.1.1", "10.0.0.5"]);
        assert_eq!(texts("::1"), ["::1"]);
        assert_eq!(texts("::1-::3"), ["::1", "::2", "::3"], "small numbers of IPv6 are no IPv4");
        assert_eq!(texts("255.255.255.255-255.255.255.255"), ["255.255.255.255"]);
    }

    #[test]
    fn as_many_as_the_bound_are_taken_and_one_more_is_not() {
        assert_eq!(parse_sources("127.0.0.0-127.0.255.255").unwrap().len(), SOURCES_MAX);
        for text in ["127.0.0.0-127.1.0.0", "127.0.0.0-127.0.255.255,10.0.0.1", "::-ffff:ffff::", &whole_v6()]
        {
            let error = parse_sources(text).unwrap_err();
            assert!(error.contains("more than 65536"), "{error}");
        }
    }

    fn whole_v6() -> String {
        format!("::-{}", Ipv6Addr::from_bits(u128::MAX))
    }

    #[test]
    fn a_bad_list_says_what_is_wrong_and_how_it_is_right() {
        for (text, what) in [
            ("", "\"\" is not a source address"),
            ("127.0.0.1,", "\"\" is not"),
            ("localhost", "\"localhost\" is not"),
            ("127.0.0.1-8", "like 127.0.0.1-127.0.0.8"),
            ("127.0.0.1-", "is not"),
            ("127.0.0.2-127.0.0.1", "backwards"),
            ("127.0.0.1-::1", "one family"),
            ("127.0.0.1,::1", "not of one family"),
            ("127.0.0.1-127.0.0.3,127.0.0.2", "127.0.0.2 is named twice"),
        ] {
            let error = parse_sources(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
