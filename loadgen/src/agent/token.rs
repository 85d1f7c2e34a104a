//! The word that lets a controller in.
//!
//! # Rules
//! 1. It is never printed: `Debug` says that there is one.
//! 2. Comparing takes as long for a wrong one as for the right one.
//!
//! Not here: when one is needed (`server`).

use std::fmt;
use std::hint::black_box;
use std::io::Read as _;

use serde::{Deserialize, Serialize};

/// Bytes of a token: 16 random letters are beyond guessing at a try a round trip.
pub const TOKEN_LEN_MIN: usize = 16;
/// More is some other file.
pub const TOKEN_LEN_MAX: usize = 1024;

/// A secret that agent and controller share.
#[derive(Clone, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Token {
    /// A token of these characters, without the space around them.
    ///
    /// # Errors
    /// It is shorter than [`TOKEN_LEN_MIN`] or longer than [`TOKEN_LEN_MAX`].
    pub fn new(text: &str) -> Result<Token, String> {
        let text = text.trim();
        if !(TOKEN_LEN_MIN..=TOKEN_LEN_MAX).contains(&text.len()) {
            return Err(format!(
                "a token of {} bytes: {TOKEN_LEN_MIN} to {TOKEN_LEN_MAX} are possible; \
                 `head -c 24 /dev/urandom | base64 > FILE` makes a good one",
                text.len()
            ));
        }
        Ok(Token(text.to_owned()))
    }

    /// The token in a file.
    ///
    /// # Errors
    /// The file cannot be read, or holds no token.
    pub fn read(path: &str) -> Result<Token, String> {
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
        let limit = TOKEN_LEN_MAX as u64 + 64;
        file.take(limit).read_to_string(&mut text).map_err(|error| format!("{path}: {error}"))?;
        Token::new(&text).map_err(|error| format!("{path}: {error}"))
    }

    /// Whether `given` is the same. The time it takes depends on the length of `given` alone.
    pub fn is(&self, given: &Token) -> bool {
        let (mine, theirs) = (self.0.as_bytes(), given.0.as_bytes());
        let mut differs = u8::from(mine.len() != theirs.len());
        for (at, byte) in theirs.iter().enumerate() {
            differs |= byte ^ mine[at % mine.len().max(1)];
        }
        black_box(differs) == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_itself_and_no_other_whatever_its_length() {
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is(&token.clone()));
        for other in ["0123456789abcdeg", "1123456789abcdef", "0123456789abcdef0123456789abcdef"] {
            assert!(!token.is(&Token::new(other).unwrap()), "{other}");
        }
        // From the wire a token may have any length.
        assert!(!token.is(&Token(String::new())));
        assert!(!token.is(&Token("0123456789abcde".into())));
    }

    #[test]
    fn a_token_has_sixteen_bytes_at_least_and_1024_at_most() {
        for (len, is_good) in [(15, false), (16, true), (1024, true), (1025, false)] {
            assert_eq!(Token::new(&"x".repeat(len)).is_ok(), is_good, "{len}");
        }
    }

    #[test]
    fn a_token_is_not_printed_and_its_file_may_end_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        let token = Token::read(file.path().to_str().unwrap()).unwrap();
        assert!(token.is(&Token::new("0123456789abcdef").unwrap()));
        assert_eq!(format!("{token:?}"), "Token(hidden)");
        std::fs::write(file.path(), "x".repeat(5000)).unwrap();
        let error = Token::read(file.path().to_str().unwrap()).unwrap_err();
        assert!(error.contains("bytes: 16 to 1024"), "{error}");
    }
}
