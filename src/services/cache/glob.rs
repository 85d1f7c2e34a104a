//! Patterns of names, as KEYS, SCAN, PSUBSCRIBE and ACL have them.
//!
//! `*` is any text, `?` any byte, `[a-c]` one byte of these, `[^a-c]` one of the others, and `\` takes the byte behind it
//! as it is. Odd patterns mean what they mean in Redis 7.0: a class that is not closed ends with the pattern, a `\` at
//! the end stands for itself, and no pattern but the empty one matches an empty name.
//!
//! # Rules
//! 1. Only the last `*` is ever tried again, since all else consumes exactly one byte: the time is at most the length of
//!    the pattern times that of the name.
//! 2. And it is at most `STEPS_MAX`: a match that would take longer is none.
//!
//! Not here: the shortcut for `*` alone, which in KEYS and SCAN matches the empty key, too (the commands).

/// Bytes of the pattern that one match may look at: some 1 ms. A pattern of 1 KiB can try them all on 1 KiB of name.
const STEPS_MAX: usize = 1 << 20;

/// Whether `pattern` matches all of `text`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, false)
}

/// As [`matches()`], with no difference between small and capital letters (ASCII).
pub fn matches_any_case(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, true)
}

fn run(pattern: &[u8], text: &[u8], any_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t, mut steps) = (0, 0, 0);
    // Behind the last star, and the first byte that was not given to it yet.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            star = Some((p, t));
        }
        if t == text.len() {
            // Without the rest of the pattern, and a longer star only leaves it less.
            return p == pattern.len();
        }
        let next = if p < pattern.len() { one(pattern, p, text[t], any_case) } else { Err(0) };
        steps += next.unwrap_or_else(|looked| p + looked).saturating_sub(p) + 1;
        if steps > STEPS_MAX {
            return false;
        }
        match (next, star) {
            (Ok(behind), _) => (p, t) = (behind, t + 1),
            (Err(_), Some((behind, given))) => {
                (p, t) = (behind, given + 1);
                star = Some((behind, given + 1));
            }
            (Err(_), None) => return false,
        }
    }
}

/// Matches one byte by what stands at `p`, which is no star: where the pattern goes on, or how much of it was looked at.
fn one(pattern: &[u8], p: usize, byte: u8, any_case: bool) -> Result<usize, usize> {
    let fold = |byte: u8| if any_case { byte.to_ascii_lowercase() } else { byte };
    let (literal, behind) = match pattern[p] {
        b'?' => return Ok(p + 1),
        b'[' => return class(pattern, p + 1, byte, fold),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1], p + 2),
        literal => (literal, p + 1),
    };
    if fold(literal) == fold(byte) { Ok(behind) } else { Err(behind - p) }
}

/// As [`one`], for a class whose `[` stands before `p`.
fn class(pattern: &[u8], mut p: usize, byte: u8, fold: impl Fn(u8) -> u8) -> Result<usize, usize> {
    let start = p;
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    loop {
        match &pattern[p..] {
            [] => break,
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                p += 2;
            }
            [b']', ..] => {
                p += 1;
                break;
            }
            [from, b'-', to, ..] => {
                let (from, to) = if from > to { (to, from) } else { (from, to) };
                found |= (fold(*from)..=fold(*to)).contains(&fold(byte));
                p += 3;
            }
            [literal, ..] => {
                found |= fold(*literal) == fold(byte);
                p += 1;
            }
        }
    }
    if found == negated { Err(p - start) } else { Ok(p) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, wanted) in [
            ("*", "abc", true),
            ("*", "", false),
            ("", "", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a", "ha", true),
            ("h[", "ha", false),
            ("h[^", "ha", true),
            ("[]", "a", false),
            ("[]]", "]", false),
            ("[\\]]", "]", true),
            ("[a-]", "-", false),
            ("[a-]", "^", true),
            ("[a-", "-", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
            ("a**", "a", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbx", false),
            ("a", "ab", false),
            ("ab", "a", false),
            ("ABC", "abc", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} on {text}");
        }
        assert!(matches_any_case(b"H[A-C]*", b"hBllo"));
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_exponential_time() {
        let pattern = b"*a".repeat(40);
        assert!(!matches(&[&pattern[..], b"b"].concat(), &b"a".repeat(100)));
        assert!(matches(&pattern, &b"a".repeat(100)));
    }

    #[test]
    fn a_match_that_would_take_too_long_is_none() {
        // With all steps it would match.
        let (pattern, text) = ([&b"*"[..], &b"a".repeat(100_000), b"b"].concat(), b"a".repeat(200_000));
        assert!(!matches(&pattern, &[&text[..], b"b"].concat()));
    }
}
