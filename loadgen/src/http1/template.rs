//! Text with places that are filled in for each request.
//!
//! # Rules
//! 1. What is filled in depends on the seed and the number of the request alone, so any worker writes the
//!    same.
//! 2. A placeholder that is not understood is an error when the template is read, never text that is sent.
//!
//! The numbers are no secrets, and good enough to spread keys: a `corelane_base::Rng` for each request.
//!
//! Not here: which texts are templates and what they may hold (`requests`).

use corelane_base::Rng;

/// What can be filled in; part of every error.
const PLACEHOLDERS: &str = "{{counter}}, {{counter:START}}, {{counter:START:STEP}}, {{random:LOW..HIGH}}, \
                            {{hex:N}}, {{uuid}}, {{choice:a|b|c}}, and {{{{ for {{ itself";

/// Digits of one `{{hex:N}}`: a SHA-256. More come from two of them.
const HEX_DIGITS_MAX: u8 = 64;

/// One part of a text.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    /// `start + step * number`, around the ends of an `i64`.
    Counter {
        start: i64,
        step: i64,
    },
    /// `low` to `low + span`.
    Random {
        low: i64,
        span: u64,
    },
    Hex {
        digits: u8,
    },
    Uuid,
    Choice(Vec<Vec<u8>>),
}

/// A text whose placeholders were understood.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Template {
    /// No two texts side by side, and none that is empty.
    pieces: Vec<Piece>,
}

impl Template {
    /// Reads the placeholders in `text`.
    ///
    /// # Errors
    /// A text that names the placeholder, and says what there is.
    pub(super) fn parse(text: &[u8]) -> Result<Template, String> {
        let mut template = Template::default();
        let mut rest = text;
        while let Some(start) = find(rest, b"{{") {
            let (before, open) = rest.split_at(start);
            template.push_text(before);
            let inside = &open[2..];
            if let Some(behind) = inside.strip_prefix(b"{{") {
                template.push_text(b"{{");
                rest = behind;
                continue;
            }
            let Some(end) = find(inside, b"}}") else {
                let shown = String::from_utf8_lossy(&open[..open.len().min(20)]);
                return Err(format!(
                    "`{shown}` opens a placeholder that no `}}}}` closes; there are {PLACEHOLDERS}"
                ));
            };
            template.pieces.push(placeholder(&inside[..end])?);
            rest = &inside[end + 2..];
        }
        template.push_text(rest);
        Ok(template)
    }

    /// Adds bytes that are sent as they are.
    pub(super) fn push_text(&mut self, text: &[u8]) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(last)) => last.extend_from_slice(text),
            _ => self.pieces.push(Piece::Text(text.to_vec())),
        }
    }

    /// Adds all of `other`.
    pub(super) fn push(&mut self, other: Template) {
        for piece in other.pieces {
            match piece {
                Piece::Text(text) => self.push_text(&text),
                piece => self.pieces.push(piece),
            }
        }
    }

    /// The whole text, where nothing is filled in.
    pub(super) fn as_text(&self) -> Option<&[u8]> {
        match &self.pieces[..] {
            [] => Some(&[]),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text it begins with.
    pub(super) fn first_text(&self) -> &[u8] {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => &[],
        }
    }

    /// All texts of a user that can become part of it. Whatever else is filled in are letters, digits and
    /// `-`.
    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().flat_map(|piece| {
            let texts = match piece {
                Piece::Text(text) => std::slice::from_ref(text),
                Piece::Choice(choices) => choices,
                _ => &[],
            };
            texts.iter().map(Vec::as_slice)
        })
    }

    /// Appends it as it is in request `number`, whose random numbers are `rng`.
    pub(super) fn write(&self, number: u64, rng: &mut Rng, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Counter { start, step } => {
                    write_signed(start.wrapping_add(step.wrapping_mul(number.cast_signed())), out);
                }
                Piece::Random { low, span } => {
                    let above = match span.checked_add(1) {
                        Some(count) => rng.below(count),
                        None => rng.next_u64(),
                    };
                    write_signed(low.wrapping_add_unsigned(above), out);
                }
                Piece::Hex { digits } => write_hex(rng, usize::from(*digits), out),
                Piece::Uuid => write_uuid(rng, out),
                Piece::Choice(choices) => out.extend_from_slice(&choices[rng.index(choices.len())]),
            }
        }
    }
}

/// What `inside`, without its braces, stands for.
fn placeholder(inside: &[u8]) -> Result<Piece, String> {
    let text = String::from_utf8_lossy(inside);
    let (name, rest) = match text.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (&*text, None),
    };
    let bad = |why: String| format!("placeholder `{{{{{text}}}}}`: {why}; there are {PLACEHOLDERS}");
    let whole = |text: &str| text.parse::<i64>().map_err(|_| bad(format!("`{text}` is no whole number")));
    match (name, rest) {
        ("counter", None) => Ok(Piece::Counter { start: 0, step: 1 }),
        ("counter", Some(rest)) => {
            let (start, step) = rest.split_once(':').unwrap_or((rest, "1"));
            Ok(Piece::Counter { start: whole(start)?, step: whole(step)? })
        }
        ("random", Some(rest)) => {
            let Some((low, high)) = rest.split_once("..") else {
                return Err(bad(format!("`{rest}` is no LOW..HIGH")));
            };
            let (low, high) = (whole(low)?, whole(high)?);
            if low > high {
                return Err(bad(format!("{low} is above {high}")));
            }
            Ok(Piece::Random { low, span: high.abs_diff(low) })
        }
        ("hex", Some(rest)) => match rest.parse() {
            Ok(digits @ 1..=HEX_DIGITS_MAX) => Ok(Piece::Hex { digits }),
            _ => Err(bad(format!("`{rest}` is no number of digits from 1 to {HEX_DIGITS_MAX}"))),
        },
        ("uuid", None) => Ok(Piece::Uuid),
        ("choice", Some(_)) => {
            // From the bytes themselves: a body need not be UTF-8.
            let choices: Vec<Vec<u8>> =
                inside["choice:".len()..].split(|&byte| byte == b'|').map(<[u8]>::to_vec).collect();
            if choices.iter().all(Vec::is_empty) {
                return Err(bad("nothing to choose from".into()));
            }
            Ok(Piece::Choice(choices))
        }
        ("random" | "hex" | "choice", None) => {
            Err(bad(format!("`{name}` wants a `:` and what to draw from")))
        }
        ("uuid", Some(_)) => Err(bad("`uuid` takes nothing".into())),
        _ => Err(bad("unknown".into())),
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, wanted)
}

/// Appends `value` in decimal.
pub(super) fn write_decimal(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn write_signed(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    write_decimal(value.unsigned_abs(), out);
}

fn write_hex(rng: &mut Rng, digits: usize, out: &mut Vec<u8>) {
    let mut left = digits;
    while left > 0 {
        let count = left.min(16);
        write_low_hex(rng.next_u64(), count, out);
        left -= count;
    }
}

/// The lowest `count` hex digits of `bits`, the highest of them first.
fn write_low_hex(bits: u64, count: usize, out: &mut Vec<u8>) {
    out.extend((0..count).rev().map(|at| b"0123456789abcdef"[(bits >> (4 * at) & 15) as usize]));
}

/// A random UUID: version 4, variant 10 (RFC 9562, 5.4).
fn write_uuid(rng: &mut Rng, out: &mut Vec<u8>) {
    let (high, low) = (rng.next_u64(), rng.next_u64());
    write_low_hex(high >> 32, 8, out);
    out.push(b'-');
    write_low_hex(high >> 16, 4, out);
    out.push(b'-');
    write_low_hex((high & 0x0fff) | 0x4000, 4, out);
    out.push(b'-');
    write_low_hex((low >> 48 & 0x3fff) | 0x8000, 4, out);
    out.push(b'-');
    write_low_hex(low, 12, out);
}
