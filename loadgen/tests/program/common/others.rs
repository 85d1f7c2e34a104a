//! Servers others wrote, on free ports of loopback, with no trace outside a directory of the test's own.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Child, free_port, temp_dir, until};

/// Where a program is.
fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are kept from the paths of users.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A tool others wrote; None if it is missing, which fails on a build machine and is said elsewhere.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let found = found(name);
    if found.is_none() {
        assert!(std::env::var("CI").is_err(), "{name} is missing: scripts/test installs it");
        eprintln!("skipped: needs {name}");
    }
    found
}

/// The node of this workspace, where it was built beside the program.
pub(crate) fn corelane() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("corelane");
    if !beside.is_file() {
        eprintln!("skipped: needs {}, which `cargo build` makes", beside.display());
        return None;
    }
    Some(beside)
}

/// Waits until it accepts.
#[track_caller]
fn accepts(child: &Child, addr: SocketAddr) {
    until(&format!("it accepts on {addr}; it said {:?}", child.err()), || TcpStream::connect(addr).is_ok());
}

/// `redis-server`, without files.
pub(crate) struct Redis {
    pub(crate) addr: SocketAddr,
    cli: PathBuf,
    _child: Child,
    _dir: tempfile::TempDir,
}

impl Redis {
    /// None where it is missing.
    pub(crate) fn start() -> Option<Redis> {
        // One program is told by its name what to be; Debian has it in `redis-tools`, without the service.
        let (server, cli) = (found("redis-server").or_else(|| tool("redis-check-rdb"))?, tool("redis-cli")?);
        let (dir, port) = (temp_dir(), free_port());
        let mut command = Command::new(server);
        command.arg0("redis-server").current_dir(dir.path());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        let child = Child::start(&mut command);
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        accepts(&child, addr);
        Some(Redis { addr, cli, _child: child, _dir: dir })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// What `redis-cli` prints for a command.
    #[track_caller]
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.cli);
        command.args(["-p", &self.addr.port().to_string()]).args(words);
        let ran = super::run_within(&mut command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out.trim_end().to_owned()
    }
}

/// nginx with one static file, `index.html`.
pub(crate) struct Nginx {
    pub(crate) addr: SocketAddr,
    _child: Child,
    _dir: tempfile::TempDir,
}

impl Nginx {
    /// None where it is missing.
    pub(crate) fn start() -> Option<Nginx> {
        let nginx = tool("nginx")?;
        let (dir, port) = (temp_dir(), free_port());
        let root = dir.path().display();
        // Without a master all is one process, which ends by its number; every path is below the directory.
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {root}/{name};"));
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr warn;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; {} keepalive_requests 100000; if_modified_since before;\n\
             server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n",
            paths.join(" ")
        );
        std::fs::write(dir.path().join("nginx.conf"), config).expect("the directory can be written");
        std::fs::write(dir.path().join("index.html"), "<p>static</p>\n").expect("so can this");
        let mut command = Command::new(nginx);
        command.arg("-p").arg(dir.path()).args(["-e", "stderr", "-c", "nginx.conf"]);
        let child = Child::start(&mut command);
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        accepts(&child, addr);
        Some(Nginx { addr, _child: child, _dir: dir })
    }
}

/// `python3 -m http.server`, which speaks HTTP/1.0.
pub(crate) struct Python {
    pub(crate) addr: SocketAddr,
    _child: Child,
    _dir: tempfile::TempDir,
}

impl Python {
    /// None where it is missing.
    pub(crate) fn start() -> Option<Python> {
        let python = tool("python3")?;
        let (dir, port) = (temp_dir(), free_port());
        std::fs::write(dir.path().join("index.html"), "<p>static</p>\n")
            .expect("the directory can be written");
        let mut command = Command::new(python);
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(dir.path());
        let child = Child::start(&mut command);
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        accepts(&child, addr);
        Some(Python { addr, _child: child, _dir: dir })
    }
}
