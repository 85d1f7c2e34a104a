//! A process that opens connections and holds them, and the side that tells it to.
//!
//! It reads commands from standard input, one a line, and answers each with a line: how many of them worked,
//! microseconds of the slowest, and why the first failed that did.
//!
//! | command | effect |
//! |---|---|
//! | `open COUNT` | opens as many, and asks on each once |
//! | `ask INDEX ..` | asks on these once more |
//! | `close` | closes all |
//!
//! It ends when its input does.
//!
//! Not here: which ask (`idle`).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit};

use crate::ab::process::answer_len;

/// Connections under way at once: few enough that those of all holders fit into a queue of 4,096.
const BATCH: usize = 64;

/// For an answer that should be there by now.
const SHORT: Duration = Duration::from_millis(10);

/// Descriptors that are not connections: standard streams, and some to spare.
const OTHERS: u64 = 20;

/// What a holder does.
#[derive(clap::Args)]
pub(crate) struct HoldOptions {
    /// The address to connect from.
    #[arg(long)]
    from: Ipv4Addr,
    /// The address to connect to.
    #[arg(long)]
    to: SocketAddr,
    /// What is asked for.
    #[arg(long)]
    path: String,
    /// Seconds an answer may take.
    #[arg(long)]
    patience: u32,
}

/// The answer to a command.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Done {
    pub(super) count: u32,
    pub(super) slowest: Duration,
    pub(super) why: Option<String>,
}

impl Done {
    fn parse(line: &str) -> Option<Done> {
        let mut words = line.trim_end().splitn(3, ' ');
        let count = words.next()?.parse().ok()?;
        let slowest = Duration::from_micros(words.next()?.parse().ok()?);
        Some(Done { count, slowest, why: words.next().map(str::to_owned) })
    }

    fn line(&self) -> String {
        let why = self.why.as_ref().map_or_else(String::new, |why| format!(" {why}"));
        format!("{} {}{why}\n", self.count, self.slowest.as_micros())
    }

    fn add<T>(&mut self, start: Instant, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.slowest = self.slowest.max(start.elapsed());
                self.count += 1;
                Some(value)
            }
            Err(error) => {
                self.why.get_or_insert_with(|| error.to_string().replace('\n', " "));
                None
            }
        }
    }
}

/// A holder, seen from the process that started it. Ends when dropped.
pub(super) struct Holder {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Holder {
    /// # Errors
    /// Why it could not be started.
    pub(super) fn start(from: Ipv4Addr, to: SocketAddr, path: &str, patience: u32) -> Result<Holder, String> {
        let start = || -> io::Result<Holder> {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["idle-hold", "--from", &from.to_string(), "--to", &to.to_string()]);
            command.args(["--path", path, "--patience", &patience.to_string()]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let lines = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
            Ok(Holder { child, lines: BufReader::new(lines) })
        };
        start().map_err(|error| format!("a holder: {error}"))
    }

    /// Gives it a command.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn tell(&mut self, command: &str) -> Result<(), String> {
        let mut input = self.child.stdin.as_ref().ok_or("a holder without input")?;
        input.write_all(format!("{command}\n").as_bytes()).map_err(|error| format!("a holder: {error}"))
    }

    /// The answer to the oldest command that has none.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn hear(&mut self) -> Result<Done, String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).map_err(|error| format!("a holder: {error}"))?;
        Done::parse(&line).ok_or_else(|| format!("a holder said {line:?}"))
    }

    /// Has it close all it holds.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn close(&mut self) -> Result<(), String> {
        self.tell("close")?;
        self.hear().map(drop)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// Serves commands until the input ends.
///
/// # Errors
/// What could not be read, written or understood.
pub(crate) fn hold(options: &HoldOptions) -> Result<bool, String> {
    let fits = raise_files().map_err(|error| error.to_string())?;
    let mut connections: Vec<TcpStream> = Vec::new();
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", options.path, options.to);
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let numbers = rest.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<usize>, _>>();
        let numbers = numbers.map_err(|error| format!("{line}: {error}"))?;
        let done = match (command, &numbers[..]) {
            ("open", &[count]) if (connections.len() + count) as u64 <= fits => {
                open(options, &request, count, &mut connections)
            }
            ("open", _) => Done {
                why: Some(format!("one holder has {fits} files: use more --holders")),
                ..Done::default()
            },
            ("ask", chosen) => ask(&request, chosen, &connections),
            ("close", []) => {
                connections.clear();
                Done::default()
            }
            _ => return Err(format!("not a command: {line}")),
        };
        io::stdout().lock().write_all(done.line().as_bytes()).map_err(|error| error.to_string())?;
    }
    for connection in &connections {
        // A reset leaves nothing behind: thousands of ports in TIME_WAIT make it slow to find one in the next run.
        sockopt::set_socket_linger(connection, Some(Duration::ZERO)).map_err(|error| error.to_string())?;
    }
    Ok(true)
}

/// Takes all the descriptors this process may have; how many connections that makes.
fn raise_files() -> io::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(u64::MAX).saturating_sub(OTHERS))
}

/// Opens connections, batch by batch, up to the first that fails; those that were answered are kept.
fn open(options: &HoldOptions, request: &str, count: usize, kept: &mut Vec<TcpStream>) -> Done {
    let mut done = Done::default();
    for first in (0..count).step_by(BATCH) {
        let start = Instant::now();
        let mut opened = Vec::new();
        for _ in first..count.min(first + BATCH) {
            // One that fails takes its reason with it; the rest goes on.
            let mut failed = Done::default();
            let asked = connect(options).and_then(|mut stream| {
                stream.write_all(request.as_bytes())?;
                Ok(stream)
            });
            opened.extend(failed.add(start, asked));
            done.why = done.why.take().or(failed.why);
        }
        for mut stream in opened {
            // All of a batch had their time once the first one had.
            let time = if done.why.is_none() { Ok(()) } else { stream.set_read_timeout(Some(SHORT)) };
            let answered = time.and_then(|()| answer(&mut stream));
            kept.extend(done.add(start, answered.map(|()| stream)));
        }
        if done.why.is_some() {
            break;
        }
    }
    done
}

fn ask(request: &str, chosen: &[usize], connections: &[TcpStream]) -> Done {
    let mut done = Done::default();
    for &index in chosen {
        let start = Instant::now();
        let asked = connections.get(index).ok_or_else(|| io::Error::other("no such connection"));
        let answered = asked.and_then(|mut stream| {
            stream.write_all(request.as_bytes())?;
            answer(&mut stream)
        });
        done.add(start, answered);
    }
    done
}

/// A connection from the address of this holder, its port chosen by the kernel. Bound, as Linux would connect from
/// 127.0.0.1 to anywhere in 127/8.
fn connect(options: &HoldOptions) -> io::Result<TcpStream> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((options.from, 0)))?;
    rustix::net::connect(&socket, &options.to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(options.patience.into())))?;
    Ok(stream)
}

/// Reads one answer, whole; nothing may follow it.
fn answer(stream: &mut impl Read) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let len = stream.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..len]);
        match answer_len(&bytes).map_err(io::Error::other)? {
            Some(whole) if bytes.len() == whole => return Ok(()),
            Some(whole) if bytes.len() > whole => {
                return Err(io::Error::other("bytes that nobody asked for"));
            }
            _ if len == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_a_holder_says_is_what_is_heard() {
        for why in [None, Some("Connection refused (os error 111)".to_owned())] {
            let done = Done { count: 12, slowest: Duration::from_micros(345), why };
            assert_eq!(Done::parse(&done.line()), Some(done));
        }
        assert_eq!(Done::parse(""), None);
        assert_eq!(Done::parse("twelve 1\n"), None);
    }

    #[test]
    fn an_answer_is_one_whole_answer() {
        let of = |text: &str| answer(&mut text.as_bytes()).map_err(|error| error.to_string());
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(of(whole), Ok(()));
        assert_eq!(of(&whole[..whole.len() - 1]), Err("unexpected end of file".to_owned()));
        assert_eq!(of(&format!("{whole}x")), Err("bytes that nobody asked for".to_owned()));
        assert!(of("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
