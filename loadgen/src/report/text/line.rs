//! A line of a terminal that knows its width and never exceeds it, with colour or without.
//!
//! Width is in columns (Unicode TR11), so that a wide character counts twice. Colour adds none.
//!
//! Not here: what is written (`text`).

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// How a piece of text stands out, where colour was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
    Bar,
}

impl Style {
    /// Select Graphic Rendition parameters (ECMA-48, 8.3.117). The eight basic colours only: a terminal's
    /// theme knows how they look on its background.
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "1;32",
            Style::Warn => "1;33",
            Style::Bad => "1;31",
            Style::Bar => "36",
        }
    }
}

/// What all lines of a report share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) width: usize,
    pub(super) color: bool,
    pub(super) unicode: bool,
}

#[derive(Debug)]
pub(super) struct Line {
    screen: Screen,
    text: String,
    width: usize,
}

impl Line {
    pub(super) fn new(screen: Screen) -> Line {
        Line { screen, text: String::new(), width: 0 }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Appends as much of `text` as fits; where that is not all, its end is an ellipsis.
    pub(super) fn push(&mut self, text: &str, style: Style) {
        let text = if self.screen.unicode { text.into() } else { ascii(text) };
        let room = self.screen.width - self.width;
        let text = cut(&text, room, if self.screen.unicode { "…" } else { "..." });
        self.width += text.width();
        if self.screen.color && style != Style::Plain && !text.trim().is_empty() {
            self.text += &format!("\u{1b}[{}m{text}\u{1b}[0m", style.code());
        } else {
            self.text += &text;
        }
    }

    /// Spaces up to column `to`.
    pub(super) fn pad_to(&mut self, to: usize) {
        while self.width < to.min(self.screen.width) {
            self.text.push(' ');
            self.width += 1;
        }
    }

    /// `text` so that it ends at column `at`.
    pub(super) fn push_right(&mut self, text: &str, at: usize, style: Style) {
        self.pad_to(at.saturating_sub(text.width()));
        self.push(text, style);
    }

    /// The line, and what was laid out for the columns right of it.
    pub(super) fn finish_with(self, laid_out: &str) -> String {
        (self.text + laid_out).trim_end().to_string()
    }

    pub(super) fn finish(self) -> String {
        self.text.trim_end().to_string()
    }
}

fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

fn cut(text: &str, room: usize, ellipsis: &str) -> String {
    if text.width() <= room {
        return text.into();
    }
    let keep = room.saturating_sub(ellipsis.width());
    let mut kept = String::new();
    let mut width = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if width + wide > keep {
            break;
        }
        width += wide;
        kept.push(c);
    }
    // Fewer columns than the ellipsis takes hold none.
    if ellipsis.width() <= room { kept + ellipsis } else { kept }
}

/// `text` in lines of at most `width` columns, broken at spaces, but not between a number and its unit or its
/// sign; a word that is longer is broken where it must be.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in words(text) {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        let mut used = line.width();
        for c in word.chars() {
            let wide = c.width().unwrap_or(0);
            if used + wide > width && used > 0 {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += wide;
        }
    }
    lines.push(line);
    lines
}

/// Words, where `>= 1.27 ms` is one.
fn words(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let unit = word.trim_end_matches([',', ';', '.', ':', ')']).trim_end_matches("/s");
        let is_unit = matches!(unit, "ns" | "us" | "ms" | "s" | "B" | "kB" | "MB" | "GB");
        match all.last_mut() {
            Some(last) if last.ends_with(">=") || last.ends_with("<=") => *last += &format!(" {word}"),
            Some(last) if is_unit && last.ends_with(|c: char| c.is_ascii_digit()) => {
                *last += &format!(" {word}")
            }
            _ => all.push(word.into()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_its_width_with_an_ellipsis() {
        let fill = |unicode| {
            let mut line = Line::new(Screen { width: 10, color: true, unicode });
            line.push("12345", Style::Bold);
            line.push("67890a", Style::Plain);
            (line.width(), line.finish())
        };
        assert_eq!(fill(true), (10, "\u{1b}[1m12345\u{1b}[0m6789…".into()));
        assert_eq!(fill(false), (10, "\u{1b}[1m12345\u{1b}[0m67...".into()));
    }

    #[test]
    fn a_wide_character_takes_two_columns() {
        let mut line = Line::new(Screen { width: 4, color: false, unicode: true });
        line.push("日本語", Style::Plain);
        assert_eq!(line.width(), 3);
        assert_eq!(line.finish(), "日…");
    }

    #[test]
    fn words_wrap_and_a_long_word_is_broken() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
    }

    #[test]
    fn a_number_stays_with_its_unit_and_its_sign() {
        assert_eq!(wrap("max is >= 1.27 ms, so", 11), ["max is", ">= 1.27 ms,", "so"]);
        assert_eq!(wrap("6.12 MB/s in", 9), ["6.12 MB/s", "in"]);
    }
}
