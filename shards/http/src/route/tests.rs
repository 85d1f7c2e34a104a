//! Tables of routes and paths, against what each path must lead to.

#![allow(clippy::unwrap_used)]

use super::*;

fn routes(list: &[(Verb, &str)]) -> Routes {
    let mut routes = Routes::default();
    for (index, (verb, pattern)) in list.iter().enumerate() {
        routes.insert(*verb, pattern, u32::try_from(index).unwrap()).unwrap();
    }
    routes
}

/// As `app` looks for a route.
fn find<'a>(r: &'a Routes, verb: Verb, path: &'a str) -> Found<'a, 'a> {
    match r.literal(verb, path.as_bytes()) {
        Some(route) => Found::Route(route, Params::new()),
        None => r.pattern(verb, path),
    }
}

fn route(found: Found<'_, '_>) -> Option<u32> {
    match found {
        Found::Route(index, _) => Some(index),
        _ => None,
    }
}

fn allow(found: Found<'_, '_>) -> String {
    match found {
        Found::OtherMethods(set) => set.list(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn literals_beat_parameters_and_parameters_beat_the_rest() {
    let r = routes(&[
        (Verb::Get, "/users/{id}"),
        (Verb::Get, "/users/me"),
        (Verb::Get, "/{*rest}"),
        (Verb::Get, "/users/{id}/posts/{post}"),
        (Verb::Get, "/"),
        (Verb::Get, "/files/img-{n}.png"),
    ]);
    for (path, want) in [
        ("/users/me", 1),
        ("/users/7", 0),
        ("/users/7/posts/9", 3),
        ("/users/7/posts", 2),
        ("/", 4),
        ("/files/img-3.png", 5),
        ("/files/img-3.jpg", 2),
        ("/users/", 2),
        ("/users/me/", 2),
        ("/users//posts/1", 2),
        ("/x", 2),
    ] {
        assert_eq!(route(find(&r, Verb::Get, path)), Some(want), "{path}");
    }
}

#[test]
fn nothing_is_normalised() {
    let r = routes(&[(Verb::Get, "/a/b"), (Verb::Get, "/u/{x}")]);
    for path in ["/a//b", "/a/./b", "/a/../a/b", "/a/b/", "//a/b", "/A/b", "/%61/b", "/a%2Fb", "/u/", "/u"] {
        assert!(matches!(find(&r, Verb::Get, path), Found::Nothing), "{path}");
    }
    // dot segments are ordinary text of a parameter
    assert_eq!(route(find(&r, Verb::Get, "/u/..")), Some(1));
}

#[test]
fn an_escaped_slash_does_not_end_a_segment() {
    let r = routes(&[(Verb::Get, "/u/{x}")]);
    let Found::Route(0, params) = find(&r, Verb::Get, "/u/a%2Fb") else { panic!() };
    assert_eq!(params.get("x"), Some("a%2Fb"));
}

#[test]
fn each_method_has_its_own_patterns() {
    let r = routes(&[(Verb::Get, "/u/{id}"), (Verb::Post, "/u/{name}"), (Verb::Put, "/u/me")]);
    assert_eq!(route(find(&r, Verb::Get, "/u/me")), Some(0));
    assert_eq!(route(find(&r, Verb::Put, "/u/me")), Some(2));
    assert_eq!(allow(find(&r, Verb::Delete, "/u/me")), "GET, HEAD, POST, PUT, OPTIONS");
    assert_eq!(allow(find(&r, Verb::Put, "/u/you")), "GET, HEAD, POST, OPTIONS");
    assert_eq!(r.allowed("/u/you").list(), "GET, HEAD, POST, OPTIONS");
    assert!(r.allowed("/v").is_empty());
}

#[test]
fn head_takes_its_own_route_and_else_that_of_get() {
    let r = routes(&[
        (Verb::Get, "/a"),
        (Verb::Head, "/b"),
        (Verb::Get, "/b"),
        (Verb::Get, "/p/{x}"),
        (Verb::Head, "/q/{x}"),
        (Verb::Get, "/q/{x}"),
        (Verb::Post, "/c"),
    ]);
    for (path, want) in [("/a", 0), ("/b", 1), ("/p/1", 3), ("/q/1", 4)] {
        assert_eq!(route(find(&r, Verb::Head, path)), Some(want), "{path}");
    }
    assert_eq!(route(find(&r, Verb::Get, "/b")), Some(2));
    assert_eq!(allow(find(&r, Verb::Head, "/c")), "POST, OPTIONS");
}

#[test]
fn options_of_everything_lists_every_method_in_use() {
    assert_eq!(routes(&[]).allowed_anywhere().list(), "OPTIONS");
    let r = routes(&[(Verb::Get, "/a"), (Verb::Patch, "/b/{x}")]);
    assert_eq!(r.allowed_anywhere().list(), "GET, HEAD, OPTIONS, PATCH");
}

#[test]
fn a_conflict_names_both_routes() {
    let mut r = routes(&[(Verb::Get, "/a"), (Verb::Get, "/u/{id}")]);
    assert_eq!(
        r.insert(Verb::Get, "/a", 9).unwrap_err().to_string(),
        "route `GET /a` conflicts with route `GET /a`"
    );
    assert_eq!(
        r.insert(Verb::Get, "/u/{name}", 9).unwrap_err().to_string(),
        "route `GET /u/{name}` conflicts with route `GET /u/{id}`"
    );
    // and leaves what stood there
    assert_eq!(route(find(&r, Verb::Get, "/u/1")), Some(1));
}

#[test]
fn malformed_patterns_say_what_is_wrong() {
    for (pattern, why) in [
        ("", "starts with `/`"),
        ("a", "starts with `/`"),
        ("/a?b", "before `?`"),
        ("/a#b", "before `?`"),
        ("/a b", "percent-encoded"),
        ("/\u{e4}", "percent-encoded"),
        ("/a\\b", "percent-encoded"),
        ("/{a}/{a}", "same name"),
        ("/{a}{b}", "one parameter only"),
        ("/{*a}/b", "last segment"),
        ("/{}", "both braces"),
        ("/{a", "both braces"),
    ] {
        let error = Routes::default().insert(Verb::Get, pattern, 0).unwrap_err().to_string();
        assert!(error.contains(why), "{pattern}: {error}");
        assert!(error.contains(&format!("GET {pattern}")), "{error}");
    }
}

#[test]
fn the_longest_path_without_a_match_ends_soon() {
    let r = routes(&[(Verb::Get, "/a/{b}/c/{d}"), (Verb::Get, "/a/{b}/c/{d}/e"), (Verb::Get, "/{x}/y")]);
    let path = "/a/c".repeat(8000);
    assert!(matches!(find(&r, Verb::Get, &path), Found::Nothing));
}
