//! How deep a JSON text is nested, before a parser is let loose on it.
//!
//! Parsers of JSON call themselves for each bracket, also for fields that they only skip; a text of a million
//! opening brackets from a server or a file would end the process for want of stack.
//!
//! Not here: whether the text is JSON at all (the parser says so).

/// Whether no value of `json` is inside of more than `depth_max` brackets. Brackets in strings do not count.
pub fn is_nested_within(json: &str, depth_max: u32) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_u32, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_up_to_the_bound_and_not_past_it() {
        assert!(is_nested_within(r#"{"a":[{}],"b":[[],[],[]]}"#, 3));
        assert!(!is_nested_within(r#"{"a":[{}],"b":[[],[],[]]}"#, 2));
        assert!(is_nested_within("1", 0));
        assert!(!is_nested_within("[]", 0));
        assert!(is_nested_within("]]][", 1), "no text is too odd");
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert!(is_nested_within(r#"["[[[", "\"[[", "\\"]"#, 1));
        assert!(!is_nested_within(r#"["\\", [0]]"#, 1), "the backslash was escaped, the string has ended");
    }
}
