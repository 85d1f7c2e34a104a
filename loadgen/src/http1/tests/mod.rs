//! Tests of the HTTP/1.1 client: answers, requests, and properties of any bytes.
#![allow(clippy::unwrap_used)]

mod answers;
mod limits;
mod props;
mod requests;

use super::*;
use crate::model::RequestSpec;

/// A request like `GET /path`.
fn spec(method: &str, path: &str) -> RequestSpec {
    RequestSpec { weight: 1, method: method.into(), path: path.into(), ..RequestSpec::default() }
}

/// A machine of one GET.
fn plain() -> Http1 {
    Http1::new(&[spec("GET", "/")], "t", 0, &[], false).unwrap()
}
