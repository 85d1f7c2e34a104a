//! Who the client is, case by case, and what no client can do about it.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Client, ELEMENTS_MAX, How, Proto, Trust, client_of};
use crate::harness::TestServer;
use crate::{App, OwnedRequest, Request};

/// The proxies of these tests: all of 10.0.0.0/8 and of 2001:db8:10::/48.
fn trust() -> Trust {
    Trust::new(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8:10::/48".parse().unwrap()])
}

const PROXY: &str = "10.0.0.1:443";
const FORWARDED: &str = "Forwarded";
const X_FOR: &str = "X-Forwarded-For";

fn client<'a>(peer: &str, fields: &[(&'a str, &'a str)]) -> Client<'a> {
    let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    client_of(peer.parse().unwrap(), fields, &trust())
}

/// `address how`, and what else is known, of a request that a proxy passed on.
fn behind_proxy(fields: &[(&str, &str)]) -> String {
    let client = client(PROXY, fields);
    let socket = match client.port {
        Some(port) => SocketAddr::new(client.addr, port).to_string(),
        None => client.addr.to_string(),
    };
    let proto = client.proto.map(|proto| format!(" {proto:?}")).unwrap_or_default();
    let host = client.host.map(|host| format!(" {host}")).unwrap_or_default();
    format!("{socket} {:?}{proto}{host}", client.how)
}

#[test]
fn a_peer_that_is_not_trusted_is_the_client_whatever_it_sends() {
    let spoofed = [
        (FORWARDED, "for=10.0.0.9;proto=https;host=bank.example"),
        (X_FOR, "10.0.0.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "bank.example"),
    ];
    for peer in ["192.0.2.1:5", "[2001:db8:11::1]:5", "11.0.0.1:5", "[::ffff:192.0.2.1]:5"] {
        let found = client(peer, &spoofed);
        let peer: SocketAddr = peer.parse().unwrap();
        let want =
            Client { addr: peer.ip().to_canonical(), port: Some(5), proto: None, host: None, how: How::Peer };
        assert_eq!(found, want);
    }
    // nobody is trusted unless someone says so
    let all = spoofed.map(|(name, value)| (name, value.as_bytes()));
    let found = client_of(PROXY.parse().unwrap(), all, &Trust::default());
    assert_eq!((found.addr, found.how), ("10.0.0.1".parse().unwrap(), How::Peer));
}

#[test]
fn elements_of_the_standard_field_are_read_by_its_grammar() {
    for (value, want) in [
        ("for=192.0.2.7", "192.0.2.7 Forwarded"),
        ("For=\"192.0.2.7:80\"", "192.0.2.7:80 Forwarded"),
        (
            "FOR=192.0.2.7;PROTO=HTTPS;HOST=a.example:8443;by=10.0.0.1",
            "192.0.2.7 Forwarded Https a.example:8443",
        ),
        (
            "host=\"[2001:db8::1]:80\"; proto=http ;\tfor=192.0.2.7;",
            "192.0.2.7 Forwarded Http [2001:db8::1]:80",
        ),
        (";;for=192.0.2.7;;", "192.0.2.7 Forwarded"),
        ("for=\"[2001:db8:cafe::17]:4711\"", "[2001:db8:cafe::17]:4711 Forwarded"),
        ("for=\"[2001:db8:cafe::17]\"", "2001:db8:cafe::17 Forwarded"),
        ("for=[2001:db8:cafe::17]:4711", "[2001:db8:cafe::17]:4711 Forwarded"),
        ("for=192.0.2.7:80", "192.0.2.7:80 Forwarded"),
        ("for=\"[::ffff:192.0.2.7]:1\"", "192.0.2.7:1 Forwarded"),
        (r#"for="\[2001:db8\:\:7\]:\1""#, "[2001:db8::7]:1 Forwarded"),
        ("for=\"192.0.2.7:_http\"", "192.0.2.7 Forwarded"),
        ("for=192.0.2.7;ext=\"a,b;for=10.1.1.1\\\"\\\\\"", "192.0.2.7 Forwarded"),
        ("for=192.0.2.7;host=\"a,b\";proto=ftp", "192.0.2.7 Forwarded"),
        ("for=192.0.2.7;host=a*b.example", "192.0.2.7 Forwarded"),
        ("for=192.0.2.7;host=\"\"", "192.0.2.7 Forwarded"),
        // the proxy does not know, or does not tell: it is the last that is known
        ("for=unknown", "10.0.0.1:443 Peer"),
        ("for=\"Unknown:80\";proto=https", "10.0.0.1:443 Peer Https"),
        ("for=_hidden.One-2;host=a.example", "10.0.0.1:443 Peer a.example"),
        ("proto=https", "10.0.0.1:443 Peer Https"),
    ] {
        assert_eq!(behind_proxy(&[(FORWARDED, value)]), want, "{value}");
    }
}

#[test]
fn a_malformed_element_ends_the_walk_at_whoever_wrote_it() {
    for value in [
        "for",
        "for=",
        "=192.0.2.7",
        "for =192.0.2.7",
        "for= 192.0.2.7",
        "for=192.0.2.7 proto=https",
        "for=\"192.0.2.7",
        "for=192.0.2.7\"",
        "for=\"192.0.2.7\\\"",
        "for=\"192.0.2.7\"x",
        "for=192.0.2.7;for=192.0.2.8",
        "for=192.0.2.7;proto=http;proto=https",
        "for=192.0.2.7;(=a",
        "for=192.0.2.256",
        "for=192.0.2",
        "for=192.0.02.7",
        "for=3221225991",
        "for=\"192.0.2.7:\"",
        "for=\"192.0.2.7:65536\"",
        "for=\"192.0.2.7:000080\"",
        "for=\"192.0.2.7:+80\"",
        "for=\"192.0.2.7:80:80\"",
        "for=\"2001:db8::7\"",
        "for=\"[2001:db8::7\"",
        "for=\"[2001:db8::7]80\"",
        "for=\"[fe80::1%eth0]\"",
        "for=\"[192.0.2.7]\"",
        "for=\" 192.0.2.7\"",
        r#"for="\\[2001:db8::7]""#,
        "for=192.0.2.7;by=",
        "for=192.0.2.7;by=a\"",
        "for=_",
        "for=_a!b",
        "for=a.example",
        "for=\"\"",
        "for=\"0000000000000000000000000000000000000000000000000000000000000000:1\"",
        "192.0.2.7",
        "for=\u{e4}",
    ] {
        assert_eq!(behind_proxy(&[(FORWARDED, value)]), "10.0.0.1:443 Peer", "{value}");
        // as the word of a second proxy: the client is that one
        let chain = format!("{value}, for=10.0.0.2;proto=http");
        assert_eq!(behind_proxy(&[(FORWARDED, &chain)]), "10.0.0.2 Forwarded Http", "{value}");
        // what is left of it is nobody's word
        let hidden = format!("for=192.0.2.9, {value}");
        assert_eq!(behind_proxy(&[(FORWARDED, &hidden)]), "10.0.0.1:443 Peer", "{value}");
        // and what is left of the client does not matter
        let behind = format!("{value}, for=192.0.2.9");
        assert_eq!(behind_proxy(&[(FORWARDED, &behind)]), "192.0.2.9 Forwarded", "{value}");
    }
}

#[test]
fn elements_of_the_older_field_are_addresses_with_or_without_ports() {
    for (value, want) in [
        ("192.0.2.7", "192.0.2.7 XForwardedFor"),
        ("192.0.2.7:80", "192.0.2.7:80 XForwardedFor"),
        ("2001:db8::7", "2001:db8::7 XForwardedFor"),
        ("::ffff:192.0.2.7", "192.0.2.7 XForwardedFor"),
        ("[2001:db8::7]", "2001:db8::7 XForwardedFor"),
        ("[2001:db8::7]:80", "[2001:db8::7]:80 XForwardedFor"),
        (" 192.0.2.8,192.0.2.7 , ,", "192.0.2.7 XForwardedFor"),
        ("unknown", "10.0.0.1:443 Peer"),
        ("\"192.0.2.7\"", "10.0.0.1:443 Peer"),
        ("for=192.0.2.7", "10.0.0.1:443 Peer"),
        ("192.0.2.7/32", "10.0.0.1:443 Peer"),
        ("a.example", "10.0.0.1:443 Peer"),
        ("", "10.0.0.1:443 Peer"),
        (",", "10.0.0.1:443 Peer"),
    ] {
        assert_eq!(behind_proxy(&[("x-FORWARDED-for", value)]), want, "{value}");
    }
}

#[test]
fn the_walk_goes_from_proxy_to_proxy_and_stops_at_the_first_stranger() {
    for (value, want) in [
        ("192.0.2.7, 10.0.0.3, 10.0.0.2", "192.0.2.7 XForwardedFor"),
        ("192.0.2.7, 2001:db8:10:3::1, 10.0.0.2", "192.0.2.7 XForwardedFor"),
        ("192.0.2.7, ::ffff:10.0.0.2", "192.0.2.7 XForwardedFor"),
        // said by the client
        ("10.0.0.9, 192.0.2.7", "192.0.2.7 XForwardedFor"),
        ("10.0.0.9, 10.0.0.8, 192.0.2.7, 10.0.0.2", "192.0.2.7 XForwardedFor"),
        ("192.0.2.9, 192.0.2.7", "192.0.2.7 XForwardedFor"),
        ("unknown, 192.0.2.7", "192.0.2.7 XForwardedFor"),
        // a client within the networks of the proxies
        ("10.0.0.3, 10.0.0.2", "10.0.0.3 XForwardedFor"),
        // a proxy that does not know its client
        ("192.0.2.7, unknown, 10.0.0.2", "10.0.0.2 XForwardedFor"),
    ] {
        assert_eq!(behind_proxy(&[(X_FOR, value)]), want, "{value}");
        // the same in the other notation, where IPv6 has brackets
        let node = |text: &str| match text.contains(':') {
            true => format!("for=\"[{text}]\""),
            false => format!("for={text}"),
        };
        let standard: Vec<String> = value.split(", ").map(node).collect();
        let want = want.replace(" XForwardedFor", " Forwarded");
        assert_eq!(behind_proxy(&[(FORWARDED, &standard.join(","))]), want, "{value}");
    }
}

#[test]
fn several_lines_are_one_list() {
    let lines =
        [(X_FOR, "10.0.0.9"), (X_FOR, "192.0.2.9, 192.0.2.7"), ("Accept", "*/*"), (X_FOR, "10.0.0.2")];
    assert_eq!(behind_proxy(&lines), "192.0.2.7 XForwardedFor");
    let lines = [
        (FORWARDED, "for=10.0.0.9"),
        (FORWARDED, "for=192.0.2.7;host=a.example"),
        (FORWARDED, ""),
        (FORWARDED, "for=10.0.0.3;host=inner, for=10.0.0.2"),
    ];
    assert_eq!(behind_proxy(&lines), "192.0.2.7 Forwarded a.example");
}

#[test]
fn scheme_and_host_are_those_of_the_outermost_proxy() {
    let chain = "for=192.0.2.9;proto=http;host=spoofed, for=192.0.2.7;proto=https;host=a.example, \
                 for=10.0.0.2;proto=http;host=inner";
    assert_eq!(behind_proxy(&[(FORWARDED, chain)]), "192.0.2.7 Forwarded Https a.example");
    let silent = "for=192.0.2.7, for=10.0.0.2;proto=http;host=inner";
    assert_eq!(behind_proxy(&[(FORWARDED, silent)]), "192.0.2.7 Forwarded");
    let others = [
        (X_FOR, "192.0.2.7"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Proto", "http, HTTPS"),
        ("X-Forwarded-Host", "spoofed"),
        ("X-Forwarded-Host", "spoofed, a.example"),
    ];
    assert_eq!(behind_proxy(&others), "192.0.2.7 XForwardedFor Https a.example");
    assert_eq!(behind_proxy(&others[1..]), "10.0.0.1:443 Peer Https a.example");
    for host in ["", "a b", "a/b", "a\"b", "user@a", "a?b", "a,", &"a".repeat(260)] {
        assert_eq!(behind_proxy(&[("X-Forwarded-Host", host)]), "10.0.0.1:443 Peer", "{host}");
    }
    let longest = "a".repeat(259);
    assert_eq!(behind_proxy(&[("X-Forwarded-Host", &longest)]), format!("10.0.0.1:443 Peer {longest}"));
    for proto in ["", "https:", "wss", "https, ", "https http"] {
        assert_eq!(behind_proxy(&[("X-Forwarded-Proto", proto)]), "10.0.0.1:443 Peer", "{proto}");
    }
}

#[test]
fn the_standard_field_wins_where_both_name_the_same_client() {
    let both = |forwarded, others: &[(&'static str, &'static str)]| {
        behind_proxy(&[&[(FORWARDED, forwarded)], others].concat())
    };
    let x = [(X_FOR, "192.0.2.7"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.example")];
    let port = "for=\"192.0.2.7:4711\"";
    assert_eq!(both(port, &x), "192.0.2.7:4711 Forwarded Https a.example");
    assert_eq!(both("for=192.0.2.7;proto=https;host=a.example", &x), "192.0.2.7 Forwarded Https a.example");
    assert_eq!(both("for=192.0.2.7;proto=https", &x[..1]), "192.0.2.7 Forwarded Https");
    // a client that knows its own address cannot choose the rest
    assert_eq!(both("for=192.0.2.7;proto=http;host=evil.example", &x), "192.0.2.7 Forwarded");
    // a field without a value is none
    assert_eq!(both(" ", &x[..1]), "192.0.2.7 XForwardedFor");
    assert_eq!(both("for=192.0.2.7", &[(X_FOR, "")]), "192.0.2.7 Forwarded");
    // the walks may differ, so long as they end at one client
    let x = [(X_FOR, "192.0.2.7, 10.0.0.2")];
    assert_eq!(both("for=192.0.2.7", &x), "192.0.2.7 Forwarded");
    assert_eq!(both("for=192.0.2.7", &[("X-Forwarded-Proto", "https")]), "192.0.2.7 Forwarded Https");
}

#[test]
fn fields_that_name_different_clients_are_both_not_believed() {
    let lie = "for=10.0.0.9;proto=https;host=bank.example";
    for (forwarded, x_for) in [
        (lie, "192.0.2.7"),
        ("for=192.0.2.7;proto=https", "10.0.0.9"),
        ("for=unknown", "192.0.2.7"),
        ("for=\"", "192.0.2.7"),
        ("for=192.0.2.7", "unknown"),
        ("for=192.0.2.7", "192.0.2.8"),
    ] {
        let fields = [(FORWARDED, forwarded), (X_FOR, x_for), ("X-Forwarded-Host", "evil.example")];
        assert_eq!(behind_proxy(&fields), "10.0.0.1:443 Peer", "{forwarded} {x_for}");
    }
}

#[test]
fn as_many_elements_as_the_bound_are_looked_at() {
    let proxies = |count: usize| ["10.0.0.2"].repeat(count).join(", ");
    let list = |count| format!("192.0.2.7, {}", proxies(count));
    assert_eq!(behind_proxy(&[(X_FOR, &list(ELEMENTS_MAX - 1))]), "192.0.2.7 XForwardedFor");
    assert_eq!(behind_proxy(&[(X_FOR, &list(ELEMENTS_MAX))]), "10.0.0.2 XForwardedFor");
    let blank = format!("192.0.2.7{}", ",".repeat(ELEMENTS_MAX - 1));
    assert_eq!(behind_proxy(&[(X_FOR, &blank)]), "192.0.2.7 XForwardedFor");
    assert_eq!(behind_proxy(&[(X_FOR, &format!("{blank},"))]), "10.0.0.1:443 Peer");
    // lines of their own, before and behind the bound
    let mut lines = vec![(X_FOR, "192.0.2.9"); 100];
    lines.push((X_FOR, "192.0.2.7"));
    lines.extend(vec![(X_FOR, "10.0.0.2"); ELEMENTS_MAX - 1]);
    assert_eq!(behind_proxy(&lines), "192.0.2.7 XForwardedFor");
    lines.push((X_FOR, "10.0.0.2"));
    assert_eq!(behind_proxy(&lines), "10.0.0.2 XForwardedFor");
}

#[test]
fn networks_are_compared_within_their_family() {
    let trusts = |network: &str, addr: &str| {
        Trust::new(vec![network.parse().unwrap()]).contains(addr.parse().unwrap())
    };
    for (network, addr, want) in [
        ("10.0.0.0/8", "10.255.255.255", true),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.1.2.3/32", "10.1.2.3", true),
        ("::ffff:10.0.0.0/104", "10.1.2.3", true),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true),
        ("::ffff:10.0.0.0/104", "11.1.2.3", false),
        ("::ffff:0.0.0.0/96", "192.0.2.1", true),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("::/0", "2001:db8::1", true),
        ("::/0", "192.0.2.1", false),
        ("0.0.0.0/0", "2001:db8::1", false),
    ] {
        assert_eq!(trusts(network, addr), want, "{network} {addr}");
    }
    assert_eq!(trust().networks().len(), 2);
}

#[test]
fn handlers_of_either_kind_ask_for_the_client() {
    fn seen(request: &Request<'_, ()>) -> String {
        let Some(client) = request.client() else { return "nobody".into() };
        assert_eq!(request.client_addr(), Some(client.addr));
        format!("{:?} {:?} {:?} {:?}", request.peer(), client.addr, client.proto, client.host)
    }
    let app = App::new(()).trusted_proxies(vec!["10.0.0.0/8".parse().unwrap()]).get("/now", seen).get_async(
        "/later",
        async |request: OwnedRequest<()>| {
            assert_eq!(request.client().map(|client| client.addr), request.client_addr());
            seen(&request.view())
        },
    );
    let server = TestServer::new(app);
    for path in ["/now", "/later"] {
        let from = |peer: &str| {
            let field = "for=10.0.0.9, for=192.0.2.7;proto=https;host=a.example";
            let request = server.get(path).header("forwarded", field);
            request.peer(peer.parse().unwrap()).send().text().to_owned()
        };
        assert_eq!(from("10.0.0.1:1"), "Some(10.0.0.1:1) 192.0.2.7 Some(Https) Some(\"a.example\")");
        assert_eq!(from("192.0.2.1:1"), "Some(192.0.2.1:1) 192.0.2.1 None None");
        assert_eq!(server.get(path).header("forwarded", "for=192.0.2.7").send().text(), "nobody");
    }
}

/// Anything that a field value can hold (RFC 9110, 5.5), with much of what means something here.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(&b"\",;=\\ \t:[]."[..]),
        2 => prop::sample::select(&b"for=10.0.0.1"[..]),
        1 => any::<u8>().prop_filter("a control byte", |byte| !byte.is_ascii_control()),
    ];
    let word =
        prop::sample::select(&["for=10.0.0.9", "for=\"", "\\\"", ", ", "proto=https;", "10.0.0.9"][..]);
    let piece = prop_oneof![
        3 => vec(byte, 0..12),
        2 => word.prop_map(|word| word.as_bytes().to_vec()),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// 2000 cases of each property, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 2_000 };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_a_client_sends_changes_what_its_proxies_say_of_it(
        lines in vec(value(), 0..4),
        prefix in value(),
        proxies in 0..4_usize,
        is_standard in any::<bool>(),
        own_line in any::<bool>(),
    ) {
        let (name, said, hop) = match is_standard {
            true => {
                let said = r#"for="[2001:db8::7]:80";proto=http;host="a.example";by="_\"p""#;
                (FORWARDED, said, "for=10.0.0.2")
            }
            false => (X_FOR, "[2001:db8::7]:80", "10.0.0.2"),
        };
        // the outermost proxy behind what the client sent, then the others
        let mut last = prefix.clone();
        last.extend_from_slice(format!(", {said}").as_bytes());
        let inner = vec![hop; proxies].join(", ");
        let mut fields: Vec<(&str, &[u8])> = lines.iter().map(|line| (name, &line[..])).collect();
        if own_line {
            fields.extend([(name, &prefix[..]), (name, said.as_bytes()), (name, inner.as_bytes())]);
        } else {
            last.extend_from_slice(format!(", {inner}").as_bytes());
            fields.push((name, &last));
        }
        let found = client_of(PROXY.parse().unwrap(), fields, &trust());
        let addr: IpAddr = "2001:db8::7".parse().unwrap();
        prop_assert_eq!((found.addr, found.port), (addr, Some(80)));
        prop_assert_eq!(found.host, is_standard.then_some("a.example"));
        prop_assert_eq!(found.proto, is_standard.then_some(Proto::Http));
    }

    #[test]
    fn any_field_gives_an_answer_that_says_where_it_is_from(
        forwarded in vec(value(), 0..3),
        x_for in vec(value(), 0..3),
    ) {
        let lines = |name, values: &[Vec<u8>]| -> Vec<(&'static str, Vec<u8>)> {
            values.iter().map(|value| (name, value.clone())).collect()
        };
        let all = [lines(FORWARDED, &forwarded), lines(X_FOR, &x_for)].concat();
        let found = client_of(PROXY.parse().unwrap(), all.iter().map(|(n, v)| (*n, &v[..])), &trust());
        prop_assert_eq!(found.addr, found.addr.to_canonical());
        match found.how {
            How::Peer => prop_assert_eq!((found.addr, found.port), ("10.0.0.1".parse().unwrap(), Some(443))),
            How::Forwarded => prop_assert!(!forwarded.is_empty()),
            How::XForwardedFor => {
                prop_assert!(forwarded.iter().all(|line| line.trim_ascii().is_empty()));
            }
        }
    }
}
