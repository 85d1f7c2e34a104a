//! What is sent: the text of requests, what is refused, placeholders, the draw.

use super::super::pick::Pick;
use super::*;

/// The text of request `number` of these.
fn text_of(requests: &[RequestSpec], number: u64) -> String {
    let mut machine = Http1::new(requests, "t:81", 7, &[], false).unwrap();
    let mut out = Vec::new();
    machine.write(number, &mut out);
    String::from_utf8(out).unwrap()
}

fn error_of(request: RequestSpec) -> String {
    Http1::new(&[request], "t", 0, &[], false).unwrap_err()
}

/// A POST whose body is this template.
fn body(template: &str) -> RequestSpec {
    RequestSpec { body: template.into(), template: true, ..spec("POST", "/") }
}

/// What a template becomes in request `number`.
fn filled(template: &str, number: u64) -> String {
    let text = text_of(&[body(template)], number);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{text}");
    body.to_owned()
}

fn header(name: &str, value: &str) -> RequestSpec {
    RequestSpec { headers: vec![(name.into(), value.into())], ..spec("GET", "/") }
}

#[test]
fn a_get_is_small_and_always_the_same() {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("GET /a?b=c HTTP/1.1\r\nHost: t:81\r\nUser-Agent: loadgen/{version}\r\n\r\n");
    assert_eq!(text_of(&[spec("GET", "/a?b=c")], 5), text);
    let machine = Http1::new(&[spec("GET", "/a?b=c")], "t:81", 7, &[], false).unwrap();
    let (bytes, ask) = machine.constant().unwrap();
    assert_eq!(bytes, text);
    assert_eq!(machine.kind(ask), 0);
    // Braces are text where templates were not asked for.
    assert!(text_of(&[spec("GET", "/{{x}}")], 0).starts_with("GET /{{x}} HTTP/1.1\r\n"));
}

#[test]
fn given_headers_replace_those_that_are_added() {
    let headers =
        vec![("X-Y".into(), " \tz ".into()), ("user-agent".into(), "me".into()), ("HOST".into(), "h".into())];
    let request = RequestSpec { headers, ..spec("OPTIONS", "*") };
    assert_eq!(text_of(&[request], 0), "OPTIONS * HTTP/1.1\r\nX-Y: z\r\nuser-agent: me\r\nHOST: h\r\n\r\n");
}

#[test]
fn a_length_is_sent_with_a_body_and_where_one_is_expected() {
    for method in ["POST", "PUT", "PATCH"] {
        assert!(text_of(&[spec(method, "/")], 0).ends_with("\r\nContent-Length: 0\r\n\r\n"));
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        assert!(!text_of(&[spec(method, "/")], 0).contains("Content-Length"));
        let request = RequestSpec { body: b"hello".to_vec(), ..spec(method, "/") };
        assert!(text_of(&[request], 0).ends_with("\r\nContent-Length: 5\r\n\r\nhello"));
    }
}

#[test]
fn one_request_a_connection_says_close() {
    let machine = Http1::new(&[spec("GET", "/")], "t", 0, &[], true).unwrap();
    let (bytes, ask) = machine.constant().unwrap();
    assert!(bytes.ends_with(b"\r\nConnection: close\r\n\r\n"));
    assert!(ask.close);
    for (value, closes) in [("close", true), ("x, Close", true), ("keep-alive", false)] {
        let machine = Http1::new(&[header("connection", value)], "t", 0, &[], false).unwrap();
        assert_eq!(machine.constant().unwrap().1.close, closes, "{value}");
    }
}

#[test]
fn head_is_known_by_its_method() {
    let ask = |method| Http1::new(&[spec(method, "/")], "t", 0, &[], false).unwrap().constant().unwrap().1;
    assert!(ask("HEAD").head);
    assert!(!ask("GET").head);
    assert!(!ask("head").head);
}

#[test]
fn what_would_break_a_request_is_refused_with_what_to_write() {
    let path = |path: &str| error_of(spec("GET", path));
    assert!(path("").contains("does not begin with `/`"));
    assert!(path("x").contains("does not begin with `/`"));
    assert!(path("/a b").contains("write it as %20"));
    assert!(path("/a\r\nX: y").contains("write it as %0D"));
    assert!(path("/\u{e4}").contains("write it as %C3"));
    assert!(path("/a#b").contains("fragment"));
    assert!(path("*").contains("OPTIONS"));
    assert!(error_of(spec("", "/")).contains("method"));
    assert!(error_of(spec("G T", "/")).contains("method"));
    assert!(error_of(spec("GET\r\n", "/")).contains("method"));
    assert!(error_of(spec("CONNECT", "/")).contains("tunnel"));
    assert!(error_of(header("", "x")).contains("header name"));
    assert!(error_of(header("X Y", "x")).contains("header name"));
    assert!(error_of(header("X:", "x")).contains("header name"));
    for value in ["a\r\nb: c", "a\nb", "a\0b", "a\x7fb"] {
        assert!(error_of(header("X", value)).contains("control character"));
    }
    for name in ["content-length", "Transfer-Encoding"] {
        assert!(error_of(header(name, "5")).contains("cannot be given"));
    }
    let hosts = vec![("Host".into(), "a".into()), ("host".into(), "b".into())];
    assert!(error_of(RequestSpec { headers: hosts, ..spec("GET", "/") }).contains("2 times"));
    // The request is named: by its name, or by its place from 1.
    assert!(error_of(spec("", "/")).starts_with("request 1: "));
    assert!(error_of(RequestSpec { name: "get".into(), ..spec("", "/") }).starts_with("request `get`: "));
}

#[test]
fn texts_to_choose_from_are_checked_like_any_other() {
    let template = |request| RequestSpec { template: true, ..request };
    assert!(error_of(template(spec("GET", "/{{choice:a|b c}}"))).contains("write it as %20"));
    assert!(error_of(template(header("X", "{{choice:a|b\r\nc: d}}"))).contains("control character"));
    assert!(error_of(template(spec("GET", "{{choice:/a|/b}}"))).contains("does not begin with `/`"));
}

#[test]
fn what_no_run_can_use_is_refused() {
    let new = |requests: &[RequestSpec], host: &str, wanted: &[u16]| {
        Http1::new(requests, host, 0, wanted, false).map(|_| ())
    };
    let one = [spec("GET", "/")];
    assert!(new(&[], "t", &[]).unwrap_err().contains("no request"));
    assert!(new(&one, "", &[]).unwrap_err().contains("host"));
    assert!(new(&one, "a b", &[]).unwrap_err().contains("host"));
    assert!(new(&one, "t\r\nX: y", &[]).unwrap_err().contains("host"));
    assert!(new(&one, "t", &[199]).unwrap_err().contains("199"));
    assert!(new(&one, "t", &[600]).unwrap_err().contains("600"));
    assert_eq!(new(&one, "[::1]:8080", &[200, 599]), Ok(()));
    let idle = RequestSpec { weight: 0, ..spec("GET", "/") };
    assert!(new(&[idle.clone(), idle.clone()], "t", &[]).unwrap_err().contains("weight 0"));
    assert_eq!(new(&[idle], "t", &[]), Ok(()));
}

#[test]
fn a_counter_follows_the_number_of_the_request() {
    assert_eq!(filled("{{counter}}", 0), "0");
    assert_eq!(filled("<{{counter}}>", 41), "<41>");
    assert_eq!(filled("{{counter:100}}", 41), "141");
    assert_eq!(filled("{{counter:100:-10}}", 41), "-310");
    assert_eq!(filled("{{counter:9223372036854775807}}", 1), "-9223372036854775808");
    assert_eq!(filled("{{counter:-9223372036854775808}}", 0), "-9223372036854775808");
}

#[test]
fn random_numbers_reach_both_ends_and_nothing_beyond() {
    let mut seen = [0; 3];
    for number in 0..200 {
        let value: i64 = filled("{{random:-1..1}}", number).parse().unwrap();
        seen[usize::try_from(value + 1).unwrap()] += 1;
    }
    assert!(seen.iter().all(|&count| count > 40), "{seen:?}");
    assert_eq!(filled("{{random:5..5}}", 3), "5");
    let all = "{{random:-9223372036854775808..9223372036854775807}}";
    assert_ne!(filled(all, 0), filled(all, 1));
    assert!(filled(all, 0).parse::<i64>().is_ok());
}

#[test]
fn hex_uuid_and_choice_have_their_form() {
    for digits in [1, 15, 16, 17, 64] {
        let hex = filled(&format!("{{{{hex:{digits}}}}}"), 3);
        assert_eq!(hex.len(), digits);
        assert!(hex.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    }
    for number in 0..50 {
        let uuid = filled("{{uuid}}", number);
        let lens: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lens, [8, 4, 4, 4, 12], "{uuid}");
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]));
    }
    let seen: std::collections::BTreeSet<String> =
        (0..100).map(|number| filled("{{choice:a||b c}}", number)).collect();
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), ["", "a", "b c"]);
}

#[test]
fn doubled_braces_are_text() {
    assert_eq!(filled("{{{{counter}} {{counter}}}} { } }}", 5), "{{counter}} 5}} { } }}");
    assert_eq!(filled(r#"{"a":{"b":{{counter}}}}"#, 5), r#"{"a":{"b":5}}"#);
}

#[test]
fn placeholders_work_in_path_and_headers_and_bodies_of_any_bytes() {
    let request = RequestSpec {
        headers: vec![("X-Id".into(), "n{{counter:1}}".into())],
        body: b"\xff{{counter}}\0{{choice:\xfe}}".to_vec(),
        template: true,
        ..spec("PUT", "/k/{{counter}}")
    };
    let mut machine = Http1::new(&[request], "t", 0, &[], false).unwrap();
    assert!(machine.constant().is_none());
    let mut out = Vec::new();
    machine.write(9, &mut out);
    assert!(out.starts_with(b"PUT /k/9 HTTP/1.1\r\nHost: t\r\nX-Id: n10\r\n"));
    assert!(out.ends_with(b"\r\nContent-Length: 4\r\n\r\n\xff9\0\xfe"));
}

#[test]
fn a_template_without_placeholders_is_constant() {
    let machine = Http1::new(&[body("just {{{{ text")], "t", 0, &[], false).unwrap();
    assert!(machine.constant().unwrap().0.ends_with(b"\r\nContent-Length: 12\r\n\r\njust {{ text"));
}

#[test]
fn a_placeholder_that_is_not_understood_is_named_with_what_there_is() {
    for bad in [
        "{{}}",
        "{{count}}",
        "{{ counter }}",
        "{{counter:}}",
        "{{counter:a}}",
        "{{counter:1:}}",
        "{{counter:1:2:3}}",
        "{{counter:9223372036854775808}}",
        "{{random}}",
        "{{random:5}}",
        "{{random:2..1}}",
        "{{random:1..x}}",
        "{{hex}}",
        "{{hex:0}}",
        "{{hex:65}}",
        "{{hex:x}}",
        "{{uuid:4}}",
        "{{choice}}",
        "{{choice:}}",
        "{{choice:||}}",
    ] {
        let error = error_of(body(&format!("a {bad} b")));
        assert!(error.contains(&format!("`{bad}`")), "{error}");
        assert!(error.contains("{{random:LOW..HIGH}}"), "{error}");
        assert!(error.contains("body: "), "{error}");
    }
    let error = error_of(body("a {{counter b"));
    assert!(error.contains("`{{counter b`"), "{error}");
    let path = error_of(RequestSpec { template: true, ..spec("GET", "/{{x}}") });
    assert!(path.contains("path: placeholder `{{x}}`: unknown"), "{path}");
}

#[test]
fn the_number_of_a_request_decides_it_on_any_worker() {
    let requests: Vec<RequestSpec> = (0..5)
        .map(|i| RequestSpec { weight: i + 1, template: true, ..spec("GET", &format!("/{i}/{{{{uuid}}}}")) })
        .collect();
    let text = |seed: u64, number: u64| {
        let mut out = Vec::new();
        let mut machine = Http1::new(&requests, "t", seed, &[], false).unwrap();
        let ask = machine.write(number, &mut out);
        (machine.kind(ask), out)
    };
    let mut forward = Http1::new(&requests, "t", 1, &[], false).unwrap();
    for number in 0..50 {
        let mut out = Vec::new();
        let kind = forward.write(number, &mut out);
        assert_eq!((forward.kind(kind), out), text(1, number));
    }
    assert_ne!(text(1, 3), text(2, 3));
    // No seed has the requests of another one, shifted: not its neighbour, nor one a step of the generator
    // away.
    for other in [2, 0x9e37_79b9_7f4a_7c16] {
        assert!((0..20).all(|number| text(1, number + 1) != text(other, number)));
    }
}

#[test]
fn weights_decide_how_often_a_request_is_drawn() {
    let weights = [1, 0, 2, 5, 0, 92];
    let requests: Vec<RequestSpec> =
        weights.iter().map(|&weight| RequestSpec { weight, ..spec("GET", "/") }).collect();
    let mut machine = Http1::new(&requests, "t", 3, &[], false).unwrap();
    let mut seen = [0_u32; 6];
    let mut out = Vec::new();
    for number in 0..10_000 {
        out.clear();
        let ask = machine.write(number, &mut out);
        seen[machine.kind(ask)] += 1;
    }
    for (weight, seen) in weights.iter().zip(seen) {
        // Five standard deviations of a binomial draw, and never one of weight 0.
        let mean = f64::from(*weight) * 100.0;
        let bound = 5.0 * (mean * (1.0 - mean / 10_000.0)).sqrt();
        assert!((f64::from(seen) - mean).abs() <= bound, "{weight}: {seen}");
    }
}

#[test]
fn boxes_hold_each_kind_exactly_as_often_as_it_weighs() {
    for weights in [&[1][..], &[1, 1], &[3, 1, 2], &[0, 7, 0, 1], &[u32::MAX, 1, u32::MAX]] {
        let pick = Pick::new(weights).unwrap();
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        assert_eq!(
            pick.shares(),
            weights.iter().map(|&w| u64::from(w) * weights.len() as u64).collect::<Vec<_>>()
        );
        assert_eq!(pick.shares().iter().sum::<u64>(), total * weights.len() as u64);
    }
    assert!(Pick::new(&[0, 0]).is_none());
}
