//! Each form a handler may return, against the answer it stands for.

#![allow(clippy::unwrap_used)]

use super::*;

fn parts(value: impl IntoResponse) -> (u16, Option<&'static str>, Vec<u8>) {
    let response = value.into_response();
    let body = match response.body {
        ResponseBody::Empty => Vec::new(),
        ResponseBody::Static(bytes) => bytes.to_vec(),
        ResponseBody::Bytes(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    };
    (response.status, response.content_type, body)
}

#[test]
fn text_and_bytes_name_their_kind() {
    assert_eq!(parts("a"), (200, Some(TEXT), b"a".to_vec()));
    assert_eq!(parts("a".to_string()), (200, Some(TEXT), b"a".to_vec()));
    assert_eq!(parts(Cow::Borrowed("a")), (200, Some(TEXT), b"a".to_vec()));
    assert_eq!(parts(b"a".as_slice()), (200, Some(BINARY), b"a".to_vec()));
    assert_eq!(parts(b"a".to_vec()), (200, Some(BINARY), b"a".to_vec()));
    assert_eq!(parts(Bytes::from_static(b"a")), (200, Some(BINARY), b"a".to_vec()));
    assert_eq!(parts(Html("<p>")), (200, Some(HTML), b"<p>".to_vec()));
}

#[test]
fn statuses_stand_alone_or_before_a_body() {
    assert_eq!(parts(()), (204, None, vec![]));
    assert_eq!(parts(Status::GONE), (410, None, vec![]));
    assert_eq!(parts((201, "made")), (201, Some(TEXT), b"made".to_vec()));
    assert_eq!(parts((Status::CREATED, ())), (201, None, vec![]));
}

#[test]
fn results_and_options_answer_either_way() {
    assert_eq!(parts(Ok::<_, Reject>("a")).0, 200);
    assert_eq!(parts(Err::<(), _>(Reject::new(409, "taken"))), (409, Some(TEXT), b"taken".to_vec()));
    assert_eq!(parts(Some("a")).0, 200);
    assert_eq!(parts(None::<&'static str>), (404, Some(TEXT), b"not found\n".to_vec()));
}

#[test]
fn json_is_written_or_answered_500() {
    assert_eq!(parts(Json(vec![Some(1), None])), (200, Some(JSON), b"[1,null]".to_vec()));
    struct Unwritable;
    impl Serialize for Unwritable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let (status, _, body) = parts(Json(Unwritable));
    assert_eq!(status, 500);
    // nothing of a half written value is sent
    assert_eq!(body, b"the answer could not be written as JSON\n");
}

#[test]
fn a_redirect_carries_its_location() {
    for (redirect, status) in [
        (Redirect::see_other("/a"), 303),
        (Redirect::temporary("/a".to_string()), 307),
        (Redirect::permanent("/a"), 308),
    ] {
        let response = redirect.into_response();
        assert_eq!(response.status, status);
        assert_eq!(response.headers.len(), 1);
        assert_eq!(response.headers[0].0, "location");
        assert_eq!(&*response.headers[0].1, b"/a");
    }
}

#[test]
fn body_errors_become_the_status_that_tells_who_must_act() {
    assert_eq!(Reject::from(BodyError::Broken).status(), 400);
    let too_large = Reject::from(BodyError::TooLarge { max: 5 });
    assert_eq!(too_large.status(), 413);
    assert!(too_large.to_string().contains("5 bytes"));
}
