//! Where and when a comparison ran: no figure is worth keeping without it.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The circumstances of one comparison.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Machine {
    /// Model name of the CPU and how many are online.
    pub(crate) cpu: String,
    /// Name and release of the kernel.
    pub(crate) kernel: String,
    /// Congestion control of new TCP sockets: its work is part of every answer.
    pub(crate) tcp: String,
    /// Commit of the working directory, marked `-dirty` when files differ from it.
    pub(crate) commit: String,
    /// Start, UTC.
    pub(crate) date: String,
    /// What was typed.
    pub(crate) command: String,
}

impl Machine {
    /// Reads `/proc/cpuinfo`, `uname`, and asks `git` and `date`; what cannot be read is "unknown".
    pub(crate) fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let uname = rustix::system::uname();
        let (system, release) = (uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
        let mut commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
        if !matches!(output("git", &["status", "--porcelain", "-uno"]).as_str(), "" | UNKNOWN) {
            commit.push_str("-dirty");
        }
        Self {
            cpu: format!("{}, {cpus} CPUs", model(&info)),
            kernel: format!("{system} {release}"),
            tcp: fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")
                .map_or_else(|_| UNKNOWN.to_owned(), |name| name.trim().to_owned()),
            commit,
            date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            command: std::env::args().collect::<Vec<_>>().join(" "),
        }
    }
}

const UNKNOWN: &str = "unknown";

fn model(cpuinfo: &str) -> &str {
    let field = |line: &'static str| {
        cpuinfo.lines().find_map(move |l| l.strip_prefix(line)?.trim_start().strip_prefix(':')).map(str::trim)
    };
    field("model name").or_else(|| field("CPU part")).unwrap_or(UNKNOWN)
}

fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_model_is_the_first_of_cpuinfo() {
        let info = "processor\t: 0\nvendor_id\t: X\nmodel\t\t: 2\nmodel name\t: Fast CPU @ 9 GHz\n\nprocessor\t: 1\n";
        assert_eq!(model(info), "Fast CPU @ 9 GHz");
        assert_eq!(model(""), UNKNOWN);
    }

    #[test]
    fn here_knows_its_kernel() {
        assert!(Machine::here().kernel.starts_with("Linux "));
    }
}
