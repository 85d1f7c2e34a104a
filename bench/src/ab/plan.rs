//! What is compared: servers, scenarios and targets, read from command-line words.
//!
//! Pure text in, checked values out. Not here: starting anything (`process`), the loop (`ab`).

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

/// A server to measure: a name for the table and the command that starts it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Server {
    /// Unique within one comparison.
    pub(crate) name: String,
    /// Program and arguments; `{port}` and `{cpu}` stand for values known at the start.
    pub(crate) command: Vec<String>,
}

impl FromStr for Server {
    type Err = String;

    /// Reads `NAME=COMMAND`, or the name of a built-in server alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = match text.split_once('=') {
            Some((name, command)) => (name, words(command)?),
            None => (text, built_in(text)?),
        };
        if name.is_empty() || command.is_empty() {
            return Err("expected NAME=COMMAND".to_owned());
        }
        Ok(Self { name: name.to_owned(), command })
    }
}

impl Server {
    /// The command for one start.
    pub(crate) fn command_at(&self, port: u16, cpu: usize) -> Vec<String> {
        let fill =
            |word: &String| word.replace("{port}", &port.to_string()).replace("{cpu}", &cpu.to_string());
        self.command.iter().map(fill).collect()
    }
}

/// Splits a command into words at blanks; single or double quotes keep blanks, nothing is expanded.
pub(crate) fn words(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("quote without end in: {command}"));
    }
    words.extend(word);
    Ok(words)
}

/// The command of a server this repository builds.
fn built_in(name: &str) -> Result<Vec<String>, String> {
    let program = match name {
        "limit-uring" | "limit-epoll" => std::env::current_exe().map_err(|error| error.to_string())?,
        "hyper" => peer("peer-hyper")?,
        _ => return Err("not built in (limit-uring, limit-epoll, hyper): expected NAME=COMMAND".to_owned()),
    };
    let mut command = vec![program.display().to_string()];
    if name.starts_with("limit-") {
        command.push(name.to_owned());
    }
    command.extend(["--listen", "127.0.0.1:{port}", "--cpu", "{cpu}"].map(str::to_owned));
    Ok(command)
}

/// Finds a binary of the peers workspace in its own target directory or in `CARGO_TARGET_DIR`.
fn peer(program: &str) -> Result<PathBuf, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let targets = [std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from), Some(manifest.join("target"))];
    let mut found = targets.into_iter().flatten().map(|target| target.join("release").join(program));
    found.find(|path| path.is_file()).ok_or_else(|| {
        let manifest = manifest.join("Cargo.toml");
        format!("{program} is not built: cargo build --release --manifest-path {}", manifest.display())
    })
}

/// One load: how many connections, and how many requests each keeps in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Scenario {
    /// Open connections of the client.
    pub(crate) connections: u32,
    /// Requests written at once on each; 1 is no pipelining.
    pub(crate) pipeline: u32,
}

impl FromStr for Scenario {
    type Err = String;

    /// Reads `64x16`: 64 connections, 16 requests in flight on each.
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |number: &str| number.parse().ok().filter(|&n| n > 0);
        let (connections, pipeline) = text.split_once('x').ok_or("expected CONNECTIONSxDEPTH")?;
        match (parse(connections), parse(pipeline)) {
            (Some(connections), Some(pipeline)) => Ok(Self { connections, pipeline }),
            _ => Err("expected CONNECTIONSxDEPTH".to_owned()),
        }
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.connections, self.pipeline)
    }
}

/// A target: in every scenario, `server` may cost at most `factor` times what `base` costs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MaxRatio {
    /// The server judged.
    pub(crate) server: String,
    /// The server it is compared with.
    pub(crate) base: String,
    /// The largest ratio of their median costs that passes.
    pub(crate) factor: f64,
}

impl FromStr for MaxRatio {
    type Err = String;

    /// Reads `SERVER/BASE<=1.10`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once("<=").and_then(|(names, factor)| {
            let (server, base) = names.trim().split_once('/')?;
            let factor = factor.trim().parse::<f64>().ok().filter(|f| f.is_finite() && *f > 0.0)?;
            Some(Self { server: server.trim().to_owned(), base: base.trim().to_owned(), factor })
        });
        parsed.ok_or_else(|| "expected SERVER/BASE<=FACTOR, like hyper/limit-uring<=1.20".to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_server_is_a_name_and_a_command_split_at_its_first_equals_sign() {
        let server: Server = "x=prog --set a=b --text 'two words' \"\"".parse().unwrap();
        assert_eq!(server.name, "x");
        assert_eq!(server.command, ["prog", "--set", "a=b", "--text", "two words", ""]);
    }

    #[test]
    fn an_unknown_name_an_empty_command_and_an_open_quote_are_refused() {
        for text in ["nonsense", "x=", "=prog", "x='prog"] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        let server: Server = "x=prog {cpu} 127.0.0.1:{port}/{port}".parse().unwrap();
        assert_eq!(server.command_at(8080, 3), ["prog", "3", "127.0.0.1:8080/8080"]);
    }

    #[test]
    fn the_limit_servers_need_no_command() {
        let server: Server = "limit-epoll".parse().unwrap();
        assert_eq!(server.command[1..], ["limit-epoll", "--listen", "127.0.0.1:{port}", "--cpu", "{cpu}"]);
    }

    #[test]
    fn scenarios_need_two_positive_numbers() {
        assert_eq!("64x16".parse(), Ok(Scenario { connections: 64, pipeline: 16 }));
        for text in ["64", "0x1", "1x0", "x", "64x-1"] {
            assert!(text.parse::<Scenario>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_names_two_servers_and_a_positive_factor() {
        let target: MaxRatio = "b / a <= 1.10".parse().unwrap();
        assert_eq!(target, MaxRatio { server: "b".into(), base: "a".into(), factor: 1.1 });
        for text in ["b/a<1.1", "b<=1.1", "b/a<=", "b/a<=-1", "b/a<=inf"] {
            assert!(text.parse::<MaxRatio>().is_err(), "{text}");
        }
    }
}
