//! Rust source without what is not code: comments, strings and character literals become spaces.
//!
//! # Rules
//! 1. Lines keep their numbers: every newline stays, and every other blanked byte becomes one space.
//! 2. It is a scanner, not a parser: good for source that compiles, never wrong about where a line is.
//!
//! Not here: what is looked for (`rules`).

/// `source` with comments and literals blanked.
pub(crate) fn strip(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let word_before = previous.is_alphanumeric() || previous == '_';
        let literal = comment(rest)
            .or_else(|| if word_before { None } else { prefixed_string(rest) })
            .or_else(|| rest.starts_with('"').then(|| plain_string(rest, 1)))
            .or_else(|| character(rest));
        let length = match literal {
            Some(length) => {
                out.extend(rest[..length].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
                previous = ' ';
                length
            }
            None => {
                out.push(first);
                previous = first;
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    out
}

/// The length of the comment `text` starts with. Block comments nest.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        let step = match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => {
                depth += 1;
                2
            }
            b"*/" => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return Some(at);
        }
    }
    Some(bytes.len())
}

/// The length of the raw, byte or C string or byte character `text` starts with.
fn prefixed_string(text: &str) -> Option<usize> {
    let letters = ["br", "cr", "r", "b", "c"].into_iter().find(|p| text.starts_with(p))?;
    let after = &text[letters.len()..];
    if letters.ends_with('r') {
        let hashes = after.bytes().take_while(|b| *b == b'#').count();
        if !after[hashes..].starts_with('"') {
            return None;
        }
        let open = letters.len() + hashes + 1;
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(text[open..].find(&close).map_or(text.len(), |at| open + at + close.len()));
    }
    if after.starts_with('"') {
        return Some(plain_string(text, letters.len() + 1));
    }
    if letters == "b" { character(after).map(|length| length + 1) } else { None }
}

/// The length of the string whose opening quote ends at `open`.
fn plain_string(text: &str, open: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the character literal `text` starts with; lifetimes are none.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        let escape = 1 + inner[1..].chars().next()?.len_utf8();
        return inner[escape..].find('\'').map(|at| 1 + escape + at + 1);
    }
    inner[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

/// The numbers, from 1, of the lines of `text` that hold `word`, not as a part of a longer word.
pub(crate) fn lines_with(text: &str, word: &str) -> Vec<usize> {
    let named = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |line: &str, at: usize| {
        let longer_before = word.starts_with(named) && line[..at].chars().next_back().is_some_and(named);
        let longer_after = word.ends_with(named) && line[at + word.len()..].chars().next().is_some_and(named);
        !longer_before && !longer_after
    };
    let holds = |line: &str| line.match_indices(word).any(|(at, _)| whole(line, at));
    text.lines().enumerate().filter(|(_, line)| holds(line)).map(|(index, _)| index + 1).collect()
}

#[test]
fn comments_and_literals_are_blanked_and_code_is_kept() {
    let kept = |source: &str| strip(source).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(kept("a // b\nc /* d /* e */ f */ g"), "a c g");
    assert_eq!(kept(r#"a("b \" c", 'd', '\'', '\u{1F600}', b'e', b"f", c"g")"#), "a( , , , , , , )");
    assert_eq!(kept(r###"a r#"b " c"# d r"e" br##"f"# g"## h"###), "a d h");
    assert_eq!(kept("fn f<'a>(x: &'a str, r#type: u8) -> &'static str"), {
        "fn f<'a>(x: &'a str, r#type: u8) -> &'static str"
    });
    assert_eq!(kept("for_r\"x\" y"), "for_r y", "a letter of a longer word is no prefix");
    assert_eq!(kept("a \"never closed"), "a");
}

#[test]
fn blanking_keeps_every_line_where_it_was() {
    let source = "a\n/* b\nc */ d\n\"e\nf\" g\nr#\"h\n\"# é 'é' i";
    let stripped = strip(source);
    assert_eq!(stripped.lines().count(), source.lines().count());
    assert_eq!(lines_with(&stripped, "d"), [3]);
    assert_eq!(lines_with(&stripped, "g"), [5]);
    assert_eq!(lines_with(&stripped, "é"), [7]);
    assert_eq!(lines_with(&stripped, "h"), [0; 0]);
}

#[test]
fn a_word_is_found_whole_or_not_at_all() {
    assert_eq!(lines_with("now\nnowhere\nx.now()\nlet_now", "now"), [1, 3]);
    assert_eq!(lines_with("a::now()\na::nowhere", "::now"), [1]);
}
