//! JSON that a peer sent: read by `sonic-rs`, behind a bound on its nesting.
//!
//! `sonic-rs` (0.5) bounds its own recursion where it fills a type, but not where it skips an unknown field
//! or builds a `Value`: some 100 KB of `[` then end the process. The bound here stands before all of it.
//!
//! Not here: writing JSON (`answer::Json`).

use serde::de::DeserializeOwned;

use crate::answer::Reject;

/// Arrays and objects that may stand within one another.
///
/// What `sonic-rs` allows where it counts, and `serde_json` everywhere. At about 8 KiB of stack a level in
/// unoptimised code, 1 MiB: half of the smallest stack in use (2 MiB, a thread's default). Beyond: 400.
pub const JSON_DEPTH_MAX: usize = 127;

/// Bytes of a reason: it may quote what the peer sent.
const REASON_LEN_MAX: usize = 200;

/// Reads `T` from all of `bytes`. O(bytes), in two passes where there are more than [`JSON_DEPTH_MAX`].
///
/// ```
/// use corelane_http::json;
/// assert_eq!(json::parse::<Vec<u8>>(b"[1, 2]"), Ok(vec![1, 2]));
/// assert_eq!(json::parse::<Vec<u8>>(b"[1, 2").unwrap_err().status(), 400);
/// ```
///
/// # Errors
/// 400 with the reason and the place: not JSON, does not fit `T`, or nested deeper than [`JSON_DEPTH_MAX`].
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Reject> {
    if bytes.len() > JSON_DEPTH_MAX && is_deeper(bytes, JSON_DEPTH_MAX) {
        return Err(Reject::new(400, "the request body is nested too deeply"));
    }
    sonic_rs::from_slice(bytes).map_err(|error| {
        // The first line is the reason and the place; a picture of the text around it follows.
        let text = error.to_string();
        let first_line = text.lines().next().unwrap_or_default();
        let first_line = &first_line[..first_line.floor_char_boundary(REASON_LEN_MAX)];
        Reject::new(400, format!("the request body does not fit: {first_line}"))
    })
}

/// Whether more than `max` brackets are open at once. Up to the first fault of `json` this agrees with any
/// parser on what is within a string; behind it no parser goes on.
fn is_deeper(json: &[u8], max: usize) -> bool {
    let mut depth = 0_usize;
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => rest = after_string(rest),
            _ => {}
        }
    }
    false
}

/// What follows the string whose first quote stands before `rest`.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        if rest[at] == b'"' {
            return &rest[at + 1..];
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Tree(#[allow(dead_code)] Vec<Tree>);

    #[derive(Debug, serde::Deserialize)]
    struct Known {
        x: u8,
    }

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn nesting_is_taken_up_to_the_maximum_and_refused_beyond_it() {
        for (depth, fits) in [(JSON_DEPTH_MAX, true), (JSON_DEPTH_MAX + 1, false), (1_000_000, false)] {
            let json = nested(depth);
            assert_eq!(parse::<Tree>(json.as_bytes()).is_ok(), fits, "filled, {depth}");
            assert_eq!(parse::<sonic_rs::Value>(json.as_bytes()).is_ok(), fits, "a value, {depth}");
            assert_eq!(parse::<serde::de::IgnoredAny>(json.as_bytes()).is_ok(), fits, "skipped, {depth}");
            assert!(parse::<serde::de::IgnoredAny>("[".repeat(depth).as_bytes()).is_err(), "open, {depth}");
        }
        for (depth, fits) in [(JSON_DEPTH_MAX - 1, true), (JSON_DEPTH_MAX, false), (1_000_000, false)] {
            let json = format!(r#"{{"unknown":{},"x":1}}"#, nested(depth));
            assert_eq!(parse::<Known>(json.as_bytes()).is_ok_and(|k| k.x == 1), fits, "{depth}");
        }
    }

    #[test]
    fn a_reason_names_the_place_and_does_not_quote_without_end() {
        let error = parse::<u8>(b"\n \"x\"").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        #[derive(Debug, serde::Deserialize)]
        enum Colour {
            #[allow(dead_code)]
            Red,
        }
        let error =
            parse::<Colour>(format!("\"{}\"", "\u{20ac}".repeat(9999)).as_bytes()).unwrap_err().to_string();
        assert!(error.contains("unknown variant") && error.len() < 300, "{error}");
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        for open in ["[", "\\\"[", "\\\\", "{\\u005b["] {
            let json = format!(r#"["{}"]"#, open.repeat(300));
            assert!(parse::<Vec<String>>(json.as_bytes()).is_ok(), "{open}");
        }
        assert!(is_deeper(br#"["\\", [[ "#, 2));
        assert!(!is_deeper(br#"["\", [[ "#, 1));
        assert!(!is_deeper(b"[][][][]{}{}", 1));
        assert!(!is_deeper(b"]]]]", 0));
        assert!(!is_deeper(b"\"\\", 0));
    }
}
