//! How a value is written and read: counts, bytes, times, addresses, networks, CPU lists, words.
//!
//! # Rules
//! 1. What `write` gives, `read` takes back to the same value.
//! 2. `read` answers nothing for what it does not understand; what the value may be is said once, by `may_be`.
//!
//! Not here: which key has which kind (`keys`), bounds (`Limits::check`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use super::{Listen, SHARDS_MAX, Secret};
use crate::services::cache::session::USERS_MAX;
use crate::services::cache::upstream::Url;

/// A value as it was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Given<'a> {
    /// From a flag or the environment, where everything is a word.
    Word(&'a str),
    /// A string of the file.
    Text(&'a str),
    /// A whole number of the file.
    Integer(i64),
    /// A truth value of the file.
    Bool(bool),
    /// A list of the file.
    List(Vec<Given<'a>>),
    /// Anything else a file can hold.
    Other,
}

impl<'a> Given<'a> {
    /// A word or a string.
    fn text(&self) -> Option<&'a str> {
        match self {
            Given::Word(text) | Given::Text(text) => Some(text.trim()),
            _ => None,
        }
    }

    /// The parts of a word or string, which commas divide, or the strings of a list. Blanks around them go.
    fn texts(&self) -> Option<Vec<&'a str>> {
        match self {
            Given::List(list) => list.iter().map(Given::text).collect(),
            _ => match self.text()? {
                "" => Some(Vec::new()),
                text => Some(text.split(',').map(str::trim).collect()),
            },
        }
    }
}

/// One way to write values of `T`.
pub(crate) trait Kind<T> {
    /// The value, if it is understood.
    fn read(given: &Given<'_>) -> Option<T>;
    /// As TOML.
    fn write(value: &T) -> String;
    /// What may be written, as the end of a sentence that starts with "write".
    fn may_be() -> String;
}

/// A number of things.
pub(crate) struct Count;
/// A number of bytes.
pub(crate) struct Bytes;
/// A time with its unit.
pub(crate) struct Time;
/// Where to listen: at least one place.
pub(crate) struct Listens;
/// Where to listen, if anywhere.
pub(crate) struct Places;
/// An address and port, or nothing.
pub(crate) struct Address;
/// Networks of addresses.
pub(crate) struct Networks;
/// A number of shards, or the choice left to the node.
pub(crate) struct Shards;
/// What nobody else may know.
pub(crate) struct Token;
/// Lines that nobody else may know.
pub(crate) struct Secrets;
/// CPUs, or the choice left to the node.
pub(crate) struct Cpus;
/// Yes or no.
pub(crate) struct Truth;
/// Which log lines are written.
pub(crate) struct LogFilter;
/// One of few words.
pub(crate) struct Word;
/// The value of a header field.
pub(crate) struct FieldValue;
/// The path of a directory, or nothing.
pub(crate) struct Directory;
/// The place of a Redis server, or nothing.
pub(crate) struct Upstream;

/// The unsigned numbers that limits are.
pub(crate) trait Number:
    Copy + fmt::Display + FromStr + TryFrom<u64> + TryFrom<i64> + Into<u64>
{
    /// The largest.
    const MAX: Self;
}

impl Number for u16 {
    const MAX: u16 = u16::MAX;
}
impl Number for u32 {
    const MAX: u32 = u32::MAX;
}
impl Number for u64 {
    const MAX: u64 = u64::MAX;
}

impl<T: Number> Kind<T> for Count {
    fn read(given: &Given<'_>) -> Option<T> {
        match given {
            Given::Integer(value) => T::try_from(*value).ok(),
            // Digits only: `from_str` would take a sign.
            Given::Word(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
    }

    fn write(value: &T) -> String {
        value.to_string()
    }

    fn may_be() -> String {
        format!("a whole number from 0 to {}", T::MAX)
    }
}

const BYTE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl<T: Number> Kind<T> for Bytes {
    fn read(given: &Given<'_>) -> Option<T> {
        match given {
            Given::Integer(value) => T::try_from(*value).ok(),
            _ => {
                let (number, unit) = number_and_unit(given.text()?)?;
                let (_, factor) =
                    BYTE_UNITS.iter().find(|(name, _)| *name == unit || (unit.is_empty() && *name == "B"))?;
                T::try_from(number.checked_mul(*factor)?).ok()
            }
        }
    }

    fn write(value: &T) -> String {
        let bytes: u64 = (*value).into();
        let unit = BYTE_UNITS.iter().find(|(_, factor)| bytes.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) if *factor > 1 && bytes > 0 => format!("\"{}{name}\"", bytes / factor),
            _ => bytes.to_string(),
        }
    }

    fn may_be() -> String {
        format!("bytes up to {}, as a whole number or with a unit like \"64KiB\" (KiB, MiB, GiB)", T::MAX)
    }
}

const TIME_UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Kind<Duration> for Time {
    fn read(given: &Given<'_>) -> Option<Duration> {
        let (number, unit) = number_and_unit(given.text()?)?;
        let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
        Some(Duration::from_nanos(number.checked_mul(*factor)?))
    }

    fn write(value: &Duration) -> String {
        let ns = value.as_nanos();
        if ns == 0 {
            return "\"0s\"".to_owned();
        }
        // The last unit is 1 and divides everything.
        let unit = TIME_UNITS.iter().find(|(_, factor)| ns.is_multiple_of(u128::from(*factor)));
        unit.map_or_else(String::new, |(name, factor)| format!("\"{}{name}\"", ns / u128::from(*factor)))
    }

    fn may_be() -> String {
        "a time with its unit, like \"250ms\", \"10s\" or \"5m\" (us, ms, s, m, h)".to_owned()
    }
}

/// `64KiB` or `64 KiB` in its two parts.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

/// Places to listen at, each with a listener on each shard.
const LISTENS_MAX: usize = 16;

impl Kind<Vec<Listen>> for Listens {
    fn read(given: &Given<'_>) -> Option<Vec<Listen>> {
        let list: Option<Vec<Listen>> = given.texts()?.into_iter().map(Listen::parse).collect();
        // Port 0 is another one each time.
        let twice = |list: &[Listen]| {
            let port_0 = |listen: &Listen| listen.tcp().is_some_and(|addr| addr.port() == 0);
            list.iter().enumerate().any(|(n, listen)| !port_0(listen) && list[..n].contains(listen))
        };
        list.filter(|list| (1..=LISTENS_MAX).contains(&list.len()) && !twice(list))
    }

    fn write(value: &Vec<Listen>) -> String {
        match &value[..] {
            [one] => quoted(&one.to_string()),
            list => quoted_list(list.iter().map(ToString::to_string)),
        }
    }

    fn may_be() -> String {
        format!(
            "an IP address and a port, like \"127.0.0.1:8080\" or \"[::]:8080\" (port 0: any free one), or \
             \"unix:/path\"; up to {LISTENS_MAX} of them, each once, by commas"
        )
    }
}

/// How "not at all" is written.
const OFF: &str = "off";

impl Kind<Vec<Listen>> for Places {
    fn read(given: &Given<'_>) -> Option<Vec<Listen>> {
        match given.text() {
            Some(OFF) => Some(Vec::new()),
            _ => Listens::read(given),
        }
    }

    fn write(value: &Vec<Listen>) -> String {
        if value.is_empty() { quoted(OFF) } else { Listens::write(value) }
    }

    fn may_be() -> String {
        format!("{}; or \"{OFF}\"", <Listens as Kind<Vec<Listen>>>::may_be())
    }
}

impl Kind<Option<SocketAddr>> for Address {
    fn read(given: &Given<'_>) -> Option<Option<SocketAddr>> {
        match given.text()? {
            OFF => Some(None),
            text => text.parse().ok().map(Some),
        }
    }

    fn write(value: &Option<SocketAddr>) -> String {
        quoted(&value.map_or_else(|| OFF.to_owned(), |addr| addr.to_string()))
    }

    fn may_be() -> String {
        format!("an IP address and a port, like \"127.0.0.1:9901\", or \"{OFF}\"")
    }
}

/// Networks of one list: each connection is compared with all of them.
const NETWORKS_MAX: usize = 256;

impl Kind<Vec<IpNet>> for Networks {
    fn read(given: &Given<'_>) -> Option<Vec<IpNet>> {
        let network = |text: &str| match text.contains('/') {
            // Bits after the prefix are a mistake: of the address, or of the prefix.
            true => text.parse().ok().filter(|net: &IpNet| net.trunc() == *net),
            false => text.parse().ok().map(|addr: IpAddr| IpNet::from(addr)),
        };
        let list: Option<Vec<IpNet>> = given.texts()?.into_iter().map(network).collect();
        list.filter(|list| list.len() <= NETWORKS_MAX)
    }

    fn write(value: &Vec<IpNet>) -> String {
        quoted_list(value.iter().map(ToString::to_string))
    }

    fn may_be() -> String {
        format!(
            "networks like \"10.0.0.0/8\" (no bits set after the prefix) or single addresses, at most \
             {NETWORKS_MAX}, by commas"
        )
    }
}

impl Kind<Option<u16>> for Shards {
    fn read(given: &Given<'_>) -> Option<Option<u16>> {
        if given.text() == Some(AUTO) {
            return Some(None);
        }
        <Count as Kind<u16>>::read(given).filter(|count| (1..=SHARDS_MAX).contains(count)).map(Some)
    }

    fn write(value: &Option<u16>) -> String {
        value.map_or_else(|| quoted(AUTO), |count| count.to_string())
    }

    fn may_be() -> String {
        format!("a whole number from 1 to {SHARDS_MAX}, or \"{AUTO}\"")
    }
}

/// Fewer characters can be guessed over a network.
const TOKEN_LEN_MIN: usize = 16;
/// It comes with every request of the admin interface.
const TOKEN_LEN_MAX: usize = 256;

impl Kind<Secret> for Token {
    fn read(given: &Given<'_>) -> Option<Secret> {
        let text = given.text()?;
        let understood = text.is_empty()
            || (TOKEN_LEN_MIN..=TOKEN_LEN_MAX).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_graphic());
        understood.then(|| Secret::new(text))
    }

    /// Of a secret that is set, no more than that: rule 1 does not hold, and nothing prints it as a value.
    fn write(value: &Secret) -> String {
        quoted(if value.is_empty() { "" } else { "(set)" })
    }

    fn may_be() -> String {
        format!(
            "{TOKEN_LEN_MIN} to {TOKEN_LEN_MAX} visible ASCII characters without blanks, like those of `openssl \
             rand -hex 32`, or nothing for no token"
        )
    }
}

/// Bytes of a line.
const SECRET_LEN_MAX: usize = 64 << 10;

impl Kind<Vec<Secret>> for Secrets {
    fn read(given: &Given<'_>) -> Option<Vec<Secret>> {
        let Given::List(lines) = given else { return None };
        let line =
            |line: &Given<'_>| line.text().filter(|text| text.len() <= SECRET_LEN_MAX).map(Secret::new);
        let lines: Option<Vec<Secret>> = lines.iter().map(line).collect();
        lines.filter(|lines| lines.len() <= USERS_MAX)
    }

    /// As [`Token`]: how many there are.
    fn write(value: &Vec<Secret>) -> String {
        quoted_list(value.iter().map(|_| "(set)".to_owned()))
    }

    fn may_be() -> String {
        format!("a list of up to {USERS_MAX} strings, of each user one: its name, then its rules")
    }
}

/// How "the node chooses" is written.
const AUTO: &str = "auto";

impl Kind<Option<Vec<usize>>> for Cpus {
    fn read(given: &Given<'_>) -> Option<Option<Vec<usize>>> {
        match given {
            Given::List(list) => {
                let number = |one: &Given<'_>| match one {
                    Given::Integer(one) => Some(one.to_string()),
                    _ => None,
                };
                let words: Option<Vec<String>> = list.iter().map(number).collect();
                cpu_list(&words?.join(",")).map(Some)
            }
            Given::Integer(one) => cpu_list(&one.to_string()).map(Some),
            _ if given.text()? == AUTO => Some(None),
            _ => cpu_list(given.text()?).map(Some),
        }
    }

    fn write(value: &Option<Vec<usize>>) -> String {
        quoted(
            &value.as_ref().map_or_else(|| AUTO.to_owned(), |cpus| corelane_sys::cpu::format_cpu_list(cpus)),
        )
    }

    fn may_be() -> String {
        format!(
            "at most {SHARDS_MAX} CPU numbers below {}, each once, like \"0,2-5\", or \"{AUTO}\"",
            corelane_sys::cpu::CPUS_MAX
        )
    }
}

fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let list = corelane_sys::cpu::parse_cpu_list(text).ok();
    list.filter(|list| list.len() <= usize::from(SHARDS_MAX))
}

impl Kind<bool> for Truth {
    fn read(given: &Given<'_>) -> Option<bool> {
        match given {
            Given::Bool(value) => Some(*value),
            Given::Word("true") => Some(true),
            Given::Word("false") => Some(false),
            _ => None,
        }
    }

    fn write(value: &bool) -> String {
        value.to_string()
    }

    fn may_be() -> String {
        "true or false".to_owned()
    }
}

impl Kind<String> for LogFilter {
    /// Stricter than the filter itself, which takes a misspelt level for the name of a module.
    fn read(given: &Given<'_>) -> Option<String> {
        let text = given.text()?;
        let understood = text.split(',').all(|part| {
            let (target, level) = part.split_once('=').unwrap_or(("corelane", part));
            !target.is_empty()
                && target.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
                && !level.is_empty()
                && !level.bytes().any(|b| b.is_ascii_digit())
                && level.parse::<LevelFilter>().is_ok()
        });
        understood.then(|| text.to_owned())
    }

    fn write(value: &String) -> String {
        quoted(value)
    }

    fn may_be() -> String {
        "off, error, warn, info, debug or trace, for single modules like \"info,corelane_net=debug\""
            .to_owned()
    }
}

/// A type whose values are words.
pub(crate) trait Words: Sized + Copy + PartialEq + 'static {
    /// Each with its word.
    const ALL: &'static [(&'static str, Self)];
}

impl<T: Words> Kind<T> for Word {
    fn read(given: &Given<'_>) -> Option<T> {
        let text = given.text()?;
        T::ALL.iter().find(|(word, _)| *word == text).map(|&(_, value)| value)
    }

    fn write(value: &T) -> String {
        quoted(T::ALL.iter().find(|(_, one)| one == value).map_or("", |&(word, _)| word))
    }

    fn may_be() -> String {
        T::ALL.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
    }
}

impl Kind<Option<Url>> for Upstream {
    fn read(given: &Given<'_>) -> Option<Option<Url>> {
        match given.text()? {
            OFF => Some(None),
            text => Url::parse(text).ok().map(Some),
        }
    }

    /// Without the password: rule 1 holds where there is none.
    fn write(value: &Option<Url>) -> String {
        quoted(&value.as_ref().map_or_else(|| OFF.to_owned(), ToString::to_string))
    }

    fn may_be() -> String {
        format!("redis://host:6379, with user:password@ before the host and /1 for a database; or \"{OFF}\"")
    }
}

/// Bytes of the longest path that Linux takes (PATH_MAX, less its zero).
const PATH_LEN_MAX: usize = 4095;

impl Kind<Option<PathBuf>> for Directory {
    fn read(given: &Given<'_>) -> Option<Option<PathBuf>> {
        match given.text()? {
            OFF => Some(None),
            text if (1..=PATH_LEN_MAX).contains(&text.len()) && !text.contains('\0') => {
                Some(Some(text.into()))
            }
            _ => None,
        }
    }

    fn write(value: &Option<PathBuf>) -> String {
        quoted(&value.as_ref().map_or_else(|| OFF.to_owned(), |path| path.display().to_string()))
    }

    fn may_be() -> String {
        format!("the path of a directory, like \"/var/lib/corelane\", or \"{OFF}\"")
    }
}

/// Bytes of the longest value: it goes out with every answer.
const FIELD_VALUE_LEN_MAX: usize = 64;

impl Kind<String> for FieldValue {
    fn read(given: &Given<'_>) -> Option<String> {
        let text = given.text()?;
        // Visible characters and inner blanks (RFC 9110, 5.5), none of which a peer can take for the end.
        let understood =
            text.len() <= FIELD_VALUE_LEN_MAX && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        understood.then(|| text.to_owned())
    }

    fn write(value: &String) -> String {
        quoted(value)
    }

    fn may_be() -> String {
        format!("at most {FIELD_VALUE_LEN_MAX} visible ASCII characters, or nothing to send no such field")
    }
}

/// As a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// As a TOML list of strings, on one line.
fn quoted_list(texts: impl Iterator<Item = String>) -> String {
    format!("[{}]", texts.map(|text| quoted(&text)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn word<T, K: Kind<T>>(text: &str) -> Option<T> {
        K::read(&Given::Word(text))
    }

    #[test]
    fn sizes_are_whole_numbers_or_have_a_binary_unit() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64KiB", 65_536), ("64 KiB", 65_536), ("1MiB", 1 << 20), ("7B", 7)]
        {
            assert_eq!(word::<u64, Bytes>(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "64KB", "64k", "-1", "1.5MiB", "64KiB6", "18446744073709551615KiB"] {
            assert_eq!(word::<u64, Bytes>(text), None, "{text}");
        }
        assert_eq!(word::<u32, Bytes>("4GiB"), None);
        assert_eq!(word::<u32, Bytes>("4194303KiB"), Some(4_294_966_272));
    }

    #[test]
    fn times_have_a_unit_and_no_fraction() {
        for (text, ms) in [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("24h", 86_400_000), ("0s", 0)] {
            assert_eq!(word::<Duration, Time>(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["10", "", "s", "1.5s", "-1s", "1d", "10S", "99999999999999h"] {
            assert_eq!(word::<Duration, Time>(text), None, "{text}");
        }
        assert_eq!(<Time as Kind<Duration>>::read(&Given::Integer(10)), None);
    }

    #[test]
    fn counts_have_no_unit_and_stay_in_their_type() {
        assert_eq!(word::<u16, Count>("65535"), Some(65_535));
        assert_eq!(word::<u16, Count>("65536"), None);
        assert_eq!(word::<u16, Count>("+1"), None);
        assert_eq!(<Count as Kind<u16>>::read(&Given::Integer(-1)), None);
        assert_eq!(<Count as Kind<u16>>::read(&Given::Text("100")), None);
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_value() {
        for bytes in [0_u64, 1, 1023, 1024, 1025, 65_536, 1 << 20, (1 << 20) + 1, 3 << 30, 1 << 62] {
            let text = Bytes::write(&bytes);
            assert_eq!(word::<u64, Bytes>(text.trim_matches('"')), Some(bytes), "{text}");
        }
        for ns in [0, 1, 999, 1_000, 1_500_000, 1_000_000_000, 90_000_000_000, 86_400_000_000_000] {
            let text = Time::write(&Duration::from_nanos(ns));
            assert_eq!(
                word::<Duration, Time>(text.trim_matches('"')),
                Some(Duration::from_nanos(ns)),
                "{text}"
            );
        }
        for list in ["auto", "0", "0,2-5"] {
            let cpus = word::<Option<Vec<usize>>, Cpus>(list).unwrap();
            assert_eq!(Cpus::write(&cpus), format!("\"{list}\""));
        }
    }

    #[test]
    fn a_log_filter_names_levels_and_a_misspelt_one_is_no_module() {
        for text in ["info", "off", "warn,corelane_net=debug", "corelane::boot=trace"] {
            assert_eq!(word::<String, LogFilter>(text).as_deref(), Some(text));
        }
        for text in ["", "verbose", "info,", "corelane_net", "=info", "net=", "3", "a b=info"] {
            assert_eq!(word::<String, LogFilter>(text), None, "{text}");
        }
    }

    #[test]
    fn places_to_listen_at_come_each_once_and_not_without_end() {
        let list = |text: &str| word::<Vec<Listen>, Listens>(text);
        let two = list("0.0.0.0:80, unix:/run/x.sock").unwrap();
        assert_eq!(Listens::write(&two), "[\"0.0.0.0:80\", \"unix:/run/x.sock\"]");
        assert_eq!(Listens::write(&list("[::1]:80").unwrap()), "\"[::1]:80\"");
        assert_eq!(list("127.0.0.1:0,127.0.0.1:0").map(|list| list.len()), Some(2), "two free ports");
        let many = |count: u16| (1..=count).map(|port| format!("[::]:{port}")).collect::<Vec<_>>().join(",");
        assert!(list(&many(16)).is_some());
        for text in ["", ",", "[::]:1,", "[::]:1,[::]:1", "unix:/a,unix:/a", &many(17)] {
            assert_eq!(list(text), None, "{text}");
        }
        let texts = Given::List(vec![Given::Text("[::]:1"), Given::Text("unix:/a")]);
        assert_eq!(Listens::read(&texts), list("[::]:1,unix:/a"));
        assert_eq!(Listens::read(&Given::List(vec![Given::Text("[::]:1,[::]:2")])), None, "one each");
        assert_eq!(Listens::read(&Given::List(Vec::new())), None);
    }

    #[test]
    fn a_network_has_no_bits_after_its_prefix() {
        let list = |text: &str| word::<Vec<IpNet>, Networks>(text);
        let some = list("10.0.0.0/8,2001:db8::/32, 192.0.2.1,::1").unwrap();
        assert_eq!(
            Networks::write(&some),
            "[\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.1/32\", \"::1/128\"]"
        );
        assert_eq!(list(""), Some(Vec::new()));
        assert_eq!(Networks::read(&Given::List(Vec::new())), Some(Vec::new()));
        for text in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0", "::/129", "net", "10.0.0.0/8,"] {
            assert_eq!(list(text), None, "{text}");
        }
        assert!(list(&["::1"; 256].join(",")).is_some());
        assert!(list(&["::1"; 257].join(",")).is_none());
    }

    #[test]
    fn shards_are_counted_from_one_and_bounded() {
        let count = |text: &str| word::<Option<u16>, Shards>(text);
        assert_eq!(count("1"), Some(Some(1)));
        assert_eq!(count("1024"), Some(Some(1024)));
        assert_eq!(count("auto"), Some(None));
        for text in ["0", "1025", "-1", "two", ""] {
            assert_eq!(count(text), None, "{text}");
        }
        assert!(word::<Option<Vec<usize>>, Cpus>("0-1023").is_some());
        assert!(word::<Option<Vec<usize>>, Cpus>("0-1024").is_none());
    }

    #[test]
    fn a_token_is_long_enough_and_never_written() {
        let token = |text: &str| word::<Secret, Token>(text);
        for text in ["", &"x".repeat(16), &"x".repeat(256)] {
            assert_eq!(token(text).unwrap().expose(), text);
        }
        for text in ["x", &"x".repeat(15), &"x".repeat(257), &"x y".repeat(9), &"é".repeat(20)] {
            assert!(token(text).is_none(), "{text}");
        }
        let set = token("0123456789abcdef").unwrap();
        assert_eq!((Token::write(&set), format!("{set:?}")), ("\"(set)\"".to_owned(), "(set)".to_owned()));
        assert_eq!(Token::write(&Secret::default()), "\"\"");
    }

    #[test]
    fn a_field_value_cannot_end_its_line() {
        assert_eq!(word::<String, FieldValue>("core lane/1").as_deref(), Some("core lane/1"));
        assert_eq!(word::<String, FieldValue>("").as_deref(), Some(""));
        for text in ["a\r\nb", "a\tb", "é"] {
            assert_eq!(word::<String, FieldValue>(text), None, "{text}");
        }
        assert!(word::<String, FieldValue>(&"x".repeat(64)).is_some());
        assert!(word::<String, FieldValue>(&"x".repeat(65)).is_none());
    }
}
