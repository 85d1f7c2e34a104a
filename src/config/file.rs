//! The file: TOML read with the place of every key, so that what is wrong can be pointed at.
//!
//! A key that is not in the table is an error, as is one in the wrong place: a limit that does nothing
//! because of a typing error is worse than a node that does not start.
//!
//! Not here: what a key means (`keys`).

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::kinds::Given;
use super::{Config, ConfigError, HIDDEN, Origin, keys};

/// Bytes of the longest file: every key with a page of comment is far below.
pub(super) const FILE_LEN_MAX: u64 = 1 << 20;

/// Key names closer than this (1 is the same) are taken for a typing error.
const LIKENESS_MIN: f64 = 0.7;

/// A file that is being read.
struct File<'a> {
    path: Arc<PathBuf>,
    text: &'a str,
}

impl File<'_> {
    fn at(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Origin::File { path: Arc::clone(&self.path), line: before.matches('\n').count() + 1 }
    }

    /// As it stands in the file, on one line and not endless.
    fn source(&self, span: Range<usize>) -> String {
        const CHARS_MAX: usize = 60;
        let text = self.text.get(span).unwrap_or("");
        let line = text.split('\n').next().unwrap_or("");
        let mut short: String = line.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect();
        if short.len() < text.len() {
            short.push_str("...");
        }
        short
    }
}

/// Puts what the file at `path` says over what `config` has.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub(super) fn read(config: &mut Config, path: &Path) -> Result<(), ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(unreadable(std::io::Error::other(format!("it is longer than {FILE_LEN_MAX} bytes"))));
    }
    let path = Arc::new(path.to_owned());
    match std::str::from_utf8(&bytes) {
        Ok(text) => read_text(config, &File { path, text }),
        Err(error) => {
            let lines = bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
            let origin = Origin::File { path, line: lines + 1 };
            Err(ConfigError::Syntax { origin, text: "this is no UTF-8".to_owned() })
        }
    }
}

fn read_text(config: &mut Config, file: &File<'_>) -> Result<(), ConfigError> {
    let table = DeTable::parse(file.text).map_err(|error| {
        let origin = file.at(error.span().map_or(0, |span| span.start));
        ConfigError::Syntax { origin, text: error.message().trim().replace('\n', ", ") }
    })?;
    read_table(config, file, table.get_ref(), "")
}

fn read_table(
    config: &mut Config,
    file: &File<'_>,
    table: &DeTable<'_>,
    above: &str,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let full = format!("{above}{}", name.get_ref());
        let origin = file.at(name.span().start);
        if keys::TABLES.iter().any(|(table, _)| *table == full)
            && let DeValue::Table(inner) = value.get_ref()
        {
            read_table(config, file, inner, &format!("{full}."))?;
            continue;
        }
        // A quoted key may hold a dot, and is then another one.
        let Some(key) = keys::find(&full).filter(|key| key.short() == name.get_ref()) else {
            let nearest = nearest(name.get_ref()).map(|key| key.name);
            return Err(ConfigError::UnknownKey { origin, key: one_line(&full), nearest });
        };
        if !config.set(key, &given(value.get_ref()), origin.clone()) {
            let value = if key.is_secret { HIDDEN.to_owned() } else { file.source(value.span()) };
            let may_be = key.may_be();
            return Err(ConfigError::Value { origin, key: key.name, value, may_be });
        }
    }
    Ok(())
}

/// The key that may have been meant by `name`, in whatever table it is.
pub(super) fn nearest(name: &str) -> Option<&'static keys::Key> {
    let likeness = |key: &keys::Key| strsim::normalized_damerau_levenshtein(key.short(), name);
    keys::all()
        .map(|key| (likeness(key), key))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

/// A key as it was written, which may hold anything when it was quoted.
pub(super) fn one_line(name: &str) -> String {
    name.escape_debug().take(80).collect()
}

fn given<'a>(value: &'a DeValue<'a>) -> Given<'a> {
    match value {
        DeValue::String(text) => Given::Text(text),
        DeValue::Boolean(value) => Given::Bool(*value),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Given::Other, Given::Integer)
        }
        DeValue::Array(list) => Given::List(list.iter().map(|one| given(one.get_ref())).collect()),
        _ => Given::Other,
    }
}
