//! Who the client is, where trusted proxies stand in between: `Forwarded` (RFC 7239) and `X-Forwarded-*`.
//!
//! Anyone can send these fields, and a proxy appends to what it was sent. Only what trusted proxies appended
//! is worth anything, and it stands at the right end. So the list is walked from the right: the peer is
//! trusted, so the last element is its word on whom it had before it; if that is a trusted proxy too, the
//! next element is that one's word; and so on. The first address that is not trusted is the client. What is
//! left of it, only the client says.
//!
//! # Rules
//! 1. A peer that is not trusted is the client itself; nothing in its fields is believed.
//! 2. Lists are cut from the right as well, quotes included: no byte that a client sends (an open quote, a
//!    line of its own, a thousand elements) changes how what was appended behind it is read.
//! 3. An element that is malformed, `unknown` or obfuscated ends the walk: the client is the last address
//!    known, that of the proxy that wrote it. So do [`ELEMENTS_MAX`] elements.
//! 4. `proto` and `host` are those of the element that ended the walk: what the outermost trusted proxy was
//!    asked for. Of `X-Forwarded-Proto` and `X-Forwarded-Host`, which proxies overwrite more often than they
//!    append to, it is the last value.
//! 5. With both kinds present, `Forwarded` wins: it is the standard, and says of one hop in one place what
//!    the others spread over three lists. It must not name another client than `X-Forwarded-For` does: a
//!    proxy that writes one of the two passes the other through as the client sent it, and nothing tells
//!    which is which. Then neither is believed, and the client is the peer. Where only `proto` or `host`
//!    differ, that one is not known.
//!
//! What the walk cannot see: a trusted proxy that passes these fields on without adding to them lets its
//! clients choose their address. Let each proxy write one kind and remove the other, and trust the addresses
//! of proxies, never `0.0.0.0/0`.
//!
//! Not here: the PROXY protocol, which changes the peer itself (`net`), and `by`, `Via`, `X-Real-IP`.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

use ipnet::{IpNet, Ipv4Net};

/// Elements of a list that are looked at, empty ones included; of as many field lines at most.
///
/// A chain of proxies is two or three long. Beyond, the client is the last address found.
pub const ELEMENTS_MAX: usize = 32;

/// Which peers are proxies whose word on their clients is believed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trust {
    networks: Vec<IpNet>,
}

impl Trust {
    /// Trusts every address in these networks. `::ffff:10.0.0.0/104`, IPv4 within IPv6, means `10.0.0.0/8`.
    pub fn new(networks: Vec<IpNet>) -> Trust {
        Trust { networks: networks.into_iter().map(unmapped).collect() }
    }

    /// The networks.
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// Whether an address is a trusted proxy's. IPv4 within IPv6 counts as IPv4. O(networks).
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.networks.iter().any(|network| network.contains(&addr))
    }
}

fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let narrow = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let narrow = narrow.and_then(|(addr, prefix_len)| Ipv4Net::new(addr, prefix_len).ok());
    narrow.map_or(network, IpNet::V4)
}

/// How a client reached the outermost trusted proxy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Proto {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// Where the address of a client was found.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum How {
    /// It is the peer's.
    Peer,
    /// In `Forwarded`.
    Forwarded,
    /// In `X-Forwarded-For`.
    XForwardedFor,
}

/// Who sent a request, as far as trusted proxies tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Client<'a> {
    /// The address. Never IPv4 within IPv6.
    pub addr: IpAddr,
    /// The port, where it is known.
    pub port: Option<u16>,
    /// How it reached the outermost trusted proxy, where one says so.
    pub proto: Option<Proto>,
    /// Whom it asked that proxy for, where it says so: host and perhaps port, of harmless characters.
    pub host: Option<&'a str>,
    /// Where the address was found.
    pub how: How,
}

/// Who is behind `peer`, by the fields of its request: names in any case, values as sent.
///
/// Allocates nothing. Costs one pass over the fields, and one over what they say.
pub fn client_of<'a>(
    peer: SocketAddr,
    fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    trust: &Trust,
) -> Client<'a> {
    let direct = Client {
        addr: peer.ip().to_canonical(),
        port: Some(peer.port()),
        proto: None,
        host: None,
        how: How::Peer,
    };
    if !trust.contains(direct.addr) {
        return direct;
    }
    let (mut forwarded, mut x_for) = (Lines::default(), Lines::default());
    let (mut x_proto, mut x_host) = (None, None);
    for (name, value) in fields {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            9 if is("forwarded") => forwarded.push(value),
            15 if is("x-forwarded-for") => x_for.push(value),
            16 if is("x-forwarded-host") => x_host = as_host(last_of(value)),
            17 if is("x-forwarded-proto") => x_proto = as_proto(last_of(value)),
            _ => {}
        }
    }
    let standard = walk(direct, &forwarded, last_unquoted_comma, forwarded_element, How::Forwarded, trust);
    let other = walk(direct, &x_for, last_comma, x_element, How::XForwardedFor, trust);
    let other = Client { proto: x_proto, host: x_host, ..other };
    if forwarded.is_empty() {
        return other;
    }
    if !x_for.is_empty() && standard.addr != other.addr {
        return direct;
    }
    Client {
        proto: unless_they_differ(standard.proto, other.proto),
        host: unless_they_differ(standard.host, other.host),
        ..standard
    }
}

fn unless_they_differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => one.or(other),
    }
}

/// The last [`ELEMENTS_MAX`] lines of one field.
#[derive(Default)]
struct Lines<'a> {
    lines: [&'a [u8]; ELEMENTS_MAX],
    count: usize,
}

impl<'a> Lines<'a> {
    /// Keeps a line. A blank one is as good as none.
    fn push(&mut self, line: &'a [u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        self.lines[self.count % ELEMENTS_MAX] = line;
        self.count += 1;
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The last first.
    fn backwards(&self) -> impl Iterator<Item = &'a [u8]> {
        let kept = self.count.saturating_sub(ELEMENTS_MAX)..self.count;
        kept.rev().map(|index| self.lines[index % ELEMENTS_MAX])
    }
}

/// What one proxy says of the hop before it.
struct Hop<'a> {
    /// `None` where it does not know or does not tell.
    node: Option<(IpAddr, Option<u16>)>,
    proto: Option<Proto>,
    host: Option<&'a str>,
}

/// Walks all lines from the right, as long as those who wrote them are trusted.
fn walk<'a>(
    direct: Client<'a>,
    lines: &Lines<'a>,
    last_comma: fn(&[u8]) -> Option<usize>,
    read: fn(&'a [u8]) -> Option<Hop<'a>>,
    how: How,
    trust: &Trust,
) -> Client<'a> {
    let elements = lines.backwards().flat_map(|line| {
        let mut rest = Some(line);
        std::iter::from_fn(move || {
            let list = rest?;
            let comma = last_comma(list);
            rest = comma.map(|comma| &list[..comma]);
            Some(list[comma.map_or(0, |comma| comma + 1)..].trim_ascii())
        })
    });
    let mut client = direct;
    // Empty elements are none (RFC 9110, 5.6.1.2).
    for element in elements.take(ELEMENTS_MAX).filter(|element| !element.is_empty()) {
        let Some(hop) = read(element) else { break };
        client = Client { proto: hop.proto, host: hop.host, ..client };
        let Some((addr, port)) = hop.node else { break };
        client = Client { addr, port, how, ..client };
        if !trust.contains(addr) {
            break;
        }
    }
    client
}

fn last_comma(list: &[u8]) -> Option<usize> {
    memchr::memrchr(b',', list)
}

/// The last comma outside quotes, seen from the right (rule 2).
///
/// A quote is escaped where an odd number of backslashes stands before it (RFC 9110, 5.6.4). Within a
/// well-formed element that holds from the right too: what opens a string stands behind `=`.
fn last_unquoted_comma(list: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    for (index, byte) in list.iter().enumerate().rev() {
        match byte {
            b'"' if is_quoted => {
                let backslashes = list[..index].iter().rev().take_while(|&&byte| byte == b'\\').count();
                is_quoted = backslashes % 2 == 1;
            }
            b'"' => is_quoted = true,
            b',' if !is_quoted => return Some(index),
            _ => {}
        }
    }
    None
}

fn last_of(list: &[u8]) -> &[u8] {
    list[last_comma(list).map_or(0, |comma| comma + 1)..].trim_ascii()
}

/// Reads `for=...;proto=...;host=...;by=...` (RFC 7239, 4). `None` where it is malformed.
///
/// Blanks around `;` pass, and `:`, `[` and `]` outside quotes: many write so, and none of them delimits
/// anything.
fn forwarded_element(element: &[u8]) -> Option<Hop<'_>> {
    let (mut node, mut proto, mut host) = (None, None, None);
    let mut rest = element;
    loop {
        rest = rest.trim_ascii_start();
        if !matches!(rest.first(), None | Some(b';')) {
            let (name, value, behind) = pair(rest)?;
            let slot = match name {
                name if name.eq_ignore_ascii_case(b"for") => Some(&mut node),
                name if name.eq_ignore_ascii_case(b"proto") => Some(&mut proto),
                name if name.eq_ignore_ascii_case(b"host") => Some(&mut host),
                _ => None,
            };
            // "Each parameter MUST NOT occur more than once" in one element.
            if slot.and_then(|slot| slot.replace(value)).is_some() {
                return None;
            }
            rest = behind.trim_ascii_start();
        }
        match rest.split_first() {
            None => break,
            Some((b';', behind)) => rest = behind,
            Some(_) => return None,
        }
    }
    let node = match node {
        None => None,
        Some(value) => {
            let mut plain = [0; NODE_BYTES_MAX];
            as_node(unescape(value, &mut plain)?)?
        }
    };
    Some(Hop { node, proto: proto.and_then(as_proto), host: host.and_then(as_host) })
}

/// The name and the value of the first `name=value` or `name="value"`, and what is behind it.
fn pair(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let name_len = bytes.iter().position(|&byte| !is_tchar(byte)).filter(|&len| len > 0)?;
    let (name, behind) = bytes.split_at(name_len);
    let behind = behind.strip_prefix(b"=")?;
    if let Some(quoted) = behind.strip_prefix(b"\"") {
        let mut is_escaped = false;
        let len = quoted.iter().position(|&byte| {
            let is_end = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_end
        })?;
        return Some((name, &quoted[..len], &quoted[len + 1..]));
    }
    let is_value = |byte| is_tchar(byte) || matches!(byte, b':' | b'[' | b']');
    let len = behind.iter().position(|&byte| !is_value(byte)).unwrap_or(behind.len());
    let (value, behind) = behind.split_at(len);
    (len > 0).then_some((name, value, behind))
}

/// RFC 9110, 5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes of the longest address: IPv6 in brackets with a port has 53.
const NODE_BYTES_MAX: usize = 64;

/// The text of a quoted value. `None` where it is longer than any address, or no text.
fn unescape<'b>(value: &[u8], plain: &'b mut [u8; NODE_BYTES_MAX]) -> Option<&'b str> {
    let mut len = 0;
    let mut is_escaped = false;
    for &byte in value {
        is_escaped = byte == b'\\' && !is_escaped;
        if !is_escaped {
            *plain.get_mut(len)? = byte;
            len += 1;
        }
    }
    str::from_utf8(&plain[..len]).ok()
}

/// Reads one element of `X-Forwarded-For`: as a node, or IPv6 without brackets, which then has no port.
fn x_element(element: &[u8]) -> Option<Hop<'_>> {
    let text = str::from_utf8(element).ok()?;
    let node = match text.parse::<Ipv6Addr>() {
        Ok(addr) => Some((IpAddr::from(addr).to_canonical(), None)),
        Err(_) => as_node(text)?,
    };
    Some(Hop { node, proto: None, host: None })
}

/// Reads a node (RFC 7239, 6): an address and perhaps a port. `Some(None)` for one that is `unknown` or
/// obfuscated.
fn as_node(text: &str) -> Option<Option<(IpAddr, Option<u16>)>> {
    let name_len = match text.starts_with('[') {
        true => text.find(']')? + 1,
        false => text.find(':').unwrap_or(text.len()),
    };
    let (name, port) = text.split_at(name_len);
    let port = match port.strip_prefix(':') {
        Some(port) => as_port(port)?,
        None if port.is_empty() => None,
        None => return None,
    };
    if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
        return Some(None);
    }
    let addr = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into(),
        None => name.parse::<Ipv4Addr>().ok()?.into(),
    };
    Some(Some((IpAddr::to_canonical(&addr), port)))
}

/// Reads the port of a node (RFC 7239, 6). `Some(None)` for one that is obfuscated.
fn as_port(text: &str) -> Option<Option<u16>> {
    if is_obfuscated(text) {
        return Some(None);
    }
    let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok().map(Some) } else { None }
}

/// RFC 7239, 6.3.
fn is_obfuscated(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_allowed))
}

fn as_proto(value: &[u8]) -> Option<Proto> {
    match value {
        value if value.eq_ignore_ascii_case(b"http") => Some(Proto::Http),
        value if value.eq_ignore_ascii_case(b"https") => Some(Proto::Https),
        _ => None,
    }
}

/// Bytes of the longest host and port: a DNS name has 253.
const HOST_BYTES_MAX: usize = 259;

/// A host and perhaps a port, by their characters (RFC 3986, 3.2.2, but no sub-delims): fit for a log line
/// and for an absolute URL.
fn as_host(value: &[u8]) -> Option<&str> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%:[]".contains(byte);
    let is_host = (1..=HOST_BYTES_MAX).contains(&value.len()) && value.iter().all(is_allowed);
    if is_host { str::from_utf8(value).ok() } else { None }
}
