//! From a path to its handler: literal routes, parameters, what no route answers, middleware.

use corelane_http::{App, Log, OwnedRequest};
use divan::Bencher;

use crate::{FEW_FIELDS, bench_get};

fn app() -> App<u64> {
    App::new(7)
        .get("/", |_| "root")
        .get("/plaintext", |_| "hello")
        .get("/json", |_| "{}")
        .get("/health", |_| "ok")
        .get("/api/v1/settings/current", |_| "settings")
        .post("/form", |_| "posted")
        .get("/users/{id}", |request| request.param("id").map_or("none", |_| "user"))
        .get("/users/{id}/posts/{post}", |request| request.param("post").map_or("none", |_| "post"))
        .get("/files/{*path}", |request| request.param("path").map_or("none", |_| "file"))
        .get_async("/later", async |_: OwnedRequest<u64>| "later")
}

/// Cases by name: the path and what it is answered with.
const CASES: [(&str, &str, u16); 9] = [
    ("literal_short", "/plaintext", 200),
    ("literal_root", "/", 200),
    ("literal_long", "/api/v1/settings/current", 200),
    ("one_parameter", "/users/12345", 200),
    ("two_parameters", "/users/12345/posts/678", 200),
    ("rest_of_a_path", "/files/css/site/main.css", 200),
    ("not_found", "/nowhere", 404),
    ("other_method", "/form", 405),
    ("near_miss", "/users/12345/posts", 404),
];

const NAMES: [&str; CASES.len()] = {
    let (mut names, mut at) = ([""; CASES.len()], 0);
    while at < CASES.len() {
        names[at] = CASES[at].0;
        at += 1;
    }
    names
};

#[divan::bench(args = NAMES)]
fn route(bencher: Bencher<'_, '_>, name: &str) {
    let (_, path, status) = CASES.into_iter().find(|case| case.0 == name).unwrap();
    bench_get(bencher, &app(), path, FEW_FIELDS, Some(status));
}

/// A handler that is a future: its request is copied, and the future boxed, but not polled.
#[divan::bench]
fn begin_an_async_handler(bencher: Bencher<'_, '_>) {
    bench_get(bencher, &app(), "/later", FEW_FIELDS, None);
}

/// With nobody who listens to what it logs.
#[divan::bench]
fn literal_with_one_middleware(bencher: Bencher<'_, '_>) {
    bench_get(bencher, &app().middleware(Log), "/plaintext", FEW_FIELDS, Some(200));
}
