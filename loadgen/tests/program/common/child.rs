//! Children that go on until they are ended: by their process number, and when dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, Ran, loadgen, until};

/// Sends a signal by name to one process.
pub(crate) fn signal(id: u32, name: &str) {
    let signal = match name {
        "INT" => Signal::INT,
        "TERM" => Signal::TERM,
        _ => Signal::KILL,
    };
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a child has a number");
    // One that has ended by itself needs no signal.
    let _ = kill_process(pid, signal);
}

/// A child whose streams are read as they come. Killed when dropped.
pub(crate) struct Child {
    child: std::process::Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// Reads on, line by line, until the stream ends.
fn keep(stream: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut text = into.lock().expect("no reader panics");
            text.push_str(&line);
            text.push('\n');
        }
    })
}

impl Child {
    pub(crate) fn start(command: &mut Command) -> Child {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (out, err) = (Arc::default(), Arc::default());
        let readers = vec![
            keep(child.stdout.take().expect("it is piped"), &out),
            keep(child.stderr.take().expect("it is piped"), &err),
        ];
        Child { child, out, err, readers }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// What it said so far on standard output.
    pub(crate) fn out(&self) -> String {
        self.out.lock().expect("no reader panics").clone()
    }

    /// What it said so far on standard error.
    pub(crate) fn err(&self) -> String {
        self.err.lock().expect("no reader panics").clone()
    }

    /// Waits until it says this, on either stream.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) {
        until(&format!("it says {words:?}"), || self.out().contains(words) || self.err().contains(words));
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn status(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it still runs; it said {:?} and {:?}",
                self.out(),
                self.err()
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Waits for its end, and gives all that it said.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ran {
        let code = self.status().code();
        self.readers.drain(..).for_each(|reader| reader.join().expect("no reader panics"));
        Ran { code, out: self.out(), err: self.err() }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The built-in null server on a free port, with more flags.
#[track_caller]
pub(crate) fn null_server(flags: &[&str]) -> (Child, SocketAddr) {
    let mut command = loadgen(&["null", "--listen", "127.0.0.1:0"]);
    let child = Child::start(command.args(flags));
    child.says("null server on");
    let said = child.err();
    let word = said.split("://").nth(1).and_then(|rest| rest.split_whitespace().next());
    let addr = word.and_then(|word| word.parse().ok());
    (child, addr.unwrap_or_else(|| panic!("it does not say where it listens: {said}")))
}
