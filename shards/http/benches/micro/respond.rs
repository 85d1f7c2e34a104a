//! What handlers give back: text, owned text, JSON of two sizes, fields; and JSON that a peer sent.

use bytes::Bytes;
use corelane_http::{App, IntoResponse, Json, Redirect, Status, json};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use serde::{Deserialize, Serialize};

use crate::shared::Warm;
use crate::{FEW_FIELDS, bench_get};

/// `{"message":"Hello, World!"}`.
#[derive(Serialize)]
struct Hello {
    message: &'static str,
}

/// The same as it is read.
#[derive(Deserialize)]
struct Message {
    message: String,
}

/// One of a page of a shop.
#[derive(Clone, Deserialize, Serialize)]
struct Item {
    id: u64,
    name: String,
    price: f64,
    tags: Vec<String>,
    in_stock: bool,
}

fn page() -> Vec<Item> {
    let item = |id| Item {
        id,
        name: format!("Thing number {id}, with \"quotes\""),
        price: 12.75,
        tags: vec!["new".into(), "small".into(), "blue".into()],
        in_stock: id % 3 != 0,
    };
    (1_000..1_020).map(item).collect()
}

/// What an answer is made of, by name.
const ANSWERS: [&str; 8] =
    ["text", "owned_text", "json_small", "json_page", "empty", "redirect", "four_fields", "shared_4_kib"];

#[divan::bench(args = ANSWERS)]
fn answer(bencher: Bencher<'_, '_>, name: &str) {
    let (page, shared) = (page(), Bytes::from(vec![b'b'; 4_096]));
    let app = App::new(7_u64);
    let (app, status) = match name {
        "text" => (app.get("/", |_| "Hello, World!"), 200),
        "owned_text" => (app.get("/", |request| format!("Hello, {}!", request.state())), 200),
        "json_small" => (app.get("/", |_| Json(Hello { message: "Hello, World!" })), 200),
        "json_page" => (app.get("/", move |_| Json(&page).into_response()), 200),
        "empty" => (app.get("/", |_| Status::NO_CONTENT), 204),
        "redirect" => (app.get("/", |_| Redirect::see_other("/elsewhere")), 303),
        "four_fields" => {
            let with_fields = |_: &corelane_http::Request<'_, u64>| {
                "Hello, World!"
                    .into_response()
                    .header("cache-control", b"no-store".as_slice())
                    .header("etag", b"\"5e9f8f8f-2b3c\"".as_slice())
                    .header("vary", b"accept-encoding".as_slice())
                    .header("x-frame-options", b"DENY".as_slice())
            };
            (app.get("/", with_fields), 200)
        }
        "shared_4_kib" => (app.get("/", move |_| shared.clone()), 200),
        name => panic!("no answer is called {name}"),
    };
    bench_get(bencher, &app, "/", FEW_FIELDS, Some(status));
}

#[divan::bench]
fn parse_small_json(bencher: Bencher<'_, '_>) {
    const TEXT: &[u8] = br#"{"message":"Hello, World!"}"#;
    bencher
        .counter(BytesCount::of_slice(TEXT))
        .bench_warm(|| json::parse::<Message>(black_box(TEXT)).unwrap().message);
}

/// Two KiB and a half, in 20 objects.
#[divan::bench]
fn parse_a_page_of_json(bencher: Bencher<'_, '_>) {
    let text = sonic_rs::to_vec(&page()).unwrap();
    bencher
        .counter(BytesCount::of_slice(&*text))
        .bench_warm(|| json::parse::<Vec<Item>>(black_box(&text)).unwrap());
}
