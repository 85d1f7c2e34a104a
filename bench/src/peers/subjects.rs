//! Who is compared: where each program is, what it can be asked, and how it is started.
//!
//! # Rules
//! 1. The order of [`Program::ALL`] is that of the tables.
//! 2. What is not here says what to type to have it. A program that is found may still not run: `server`
//!    finds out.
//! 3. Every server has one thread that serves, on the server's CPU; what else it has for itself sleeps.
//!
//! Not here: configurations of nginx and haproxy (`proxies`), processes (`server`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::loads::{Load, Mode, Target};
use super::model::Subject;
use super::proxies::{self, Nobody};

/// A server, before anybody looked for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Program {
    LimitUring,
    LimitEpoll,
    Corelane,
    /// Corelane that polls instead of sleeping; only at one connection.
    CorelaneBusy,
    /// Corelane on the glommio host, which is a build of its own.
    CorelaneGlommio,
    /// Corelane with two shards on the one CPU; only in `shards`.
    CorelaneTwo,
    /// A program of `bench/peers`: its name, and the crate that it shows.
    Peer(&'static str, &'static str),
    Nginx,
    Haproxy,
}

impl Program {
    /// All of them, in the order of the tables.
    pub(super) const ALL: [(&'static str, Program); 16] = [
        ("limit-uring", Program::LimitUring),
        ("limit-epoll", Program::LimitEpoll),
        (BASE, Program::Corelane),
        ("corelane-busy", Program::CorelaneBusy),
        ("corelane-glommio", Program::CorelaneGlommio),
        ("corelane-2", Program::CorelaneTwo),
        ("hyper", Program::Peer("peer-hyper", "hyper")),
        ("axum", Program::Peer("peer-axum", "axum")),
        ("actix", Program::Peer("peer-actix", "actix-web")),
        ("ntex", Program::Peer("peer-ntex", "ntex")),
        ("may", Program::Peer("peer-may", "may_minihttp")),
        ("monoio", Program::Peer("peer-monoio", "monoio")),
        ("glommio", Program::Peer("peer-glommio", "glommio")),
        ("ringline", Program::Peer("peer-ringline", "ringline")),
        ("nginx", Program::Nginx),
        ("haproxy", Program::Haproxy),
    ];
}

/// The subject that ratios are to.
pub(super) const BASE: &str = "corelane";

/// Whether a subject of this name is another project's: neither a limit loop nor Corelane in some form.
pub(super) fn is_peer(subject: &Subject) -> bool {
    !subject.is_limit && subject.name != BASE && !subject.name.starts_with("corelane-")
}

/// Where programs are looked for.
#[derive(Debug)]
pub(super) struct Places {
    /// Corelane, its examples below `examples`, and loadgen.
    pub(super) programs: PathBuf,
    /// Programs of `bench/peers`, the first that has one wins.
    pub(super) peers: Vec<PathBuf>,
}

impl Places {
    /// Corelane with the feature `glommio`: beside the others as `corelane-glommio`, or in the target directory that
    /// it is built in.
    fn glommio(&self) -> PathBuf {
        let beside = self.programs.join("corelane-glommio");
        if beside.is_file() {
            return beside;
        }
        self.programs.parent().unwrap_or(&self.programs).join("glommio/release/corelane")
    }

    /// `extra` before the target directories of `bench/peers` and of `CARGO_TARGET_DIR`.
    pub(super) fn new(programs: PathBuf, extra: &[PathBuf]) -> Self {
        let usual = [
            Some(folder().join("peers/target/release")),
            std::env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("release")),
        ];
        Self { programs, peers: extra.iter().cloned().chain(usual.into_iter().flatten()).collect() }
    }
}

/// The folder `bench` of the repository.
pub(super) fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a subject takes part in a load.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Runs,
    /// It cannot, and the table says why.
    Cannot(String),
    /// The load is not about it: no row.
    Outside,
}

/// A server that was looked for.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) subject: Subject,
    pub(super) program: Program,
    path: PathBuf,
    /// `examples/downloads`, for Corelane.
    downloads: Option<PathBuf>,
}

/// What a start needs to know.
pub(super) struct Start<'s> {
    pub(super) port: u16,
    /// Another free port.
    pub(super) admin_port: u16,
    pub(super) cpu: usize,
    /// A folder of its own, which need not exist.
    pub(super) folder: &'s Path,
    /// A file of [`BLOB_LEN`](super::loads::BLOB_LEN) bytes.
    pub(super) blob: &'s Path,
}

/// Those that are asked for, found or not; `names` may be `all`.
///
/// # Errors
/// A name that is none, with those that are.
pub(super) fn chosen(names: &[String], places: &Places) -> Result<Vec<Server>, String> {
    let all = names.iter().any(|name| name == "all");
    if let Some(name) = names.iter().find(|name| *name != "all" && !is_known(name)) {
        let known: Vec<&str> = Program::ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("--subjects {name}: there is none; there are all, {}", known.join(", ")));
    }
    let wanted = Program::ALL.iter().filter(|(name, _)| all || names.iter().any(|wanted| wanted == name));
    Ok(wanted.map(|&(name, program)| find(name, program, places)).collect())
}

fn is_known(name: &str) -> bool {
    Program::ALL.iter().any(|(known, _)| *known == name)
}

fn find(name: &str, program: Program, places: &Places) -> Server {
    let mut server = Server {
        subject: Subject {
            name: name.to_owned(),
            what: String::new(),
            is_limit: matches!(program, Program::LimitUring | Program::LimitEpoll),
            absent: None,
        },
        program,
        path: PathBuf::new(),
        downloads: None,
    };
    match look(program, places) {
        Ok((path, what)) => {
            server.path = path;
            server.subject.what = what;
        }
        Err((what, absent)) => {
            server.subject.what = what;
            server.subject.absent = Some(absent);
        }
    }
    let downloads = places.programs.join("examples/downloads");
    server.downloads = Some(downloads).filter(|path| path.is_file());
    server
}

/// Where the program is and what it is; or what it would be, and why it is not here.
fn look(program: Program, places: &Places) -> Result<(PathBuf, String), (String, String)> {
    match program {
        Program::LimitUring | Program::LimitEpoll => {
            let kind = if program == Program::LimitUring { "io_uring" } else { "epoll" };
            let what = format!("hand-written {kind} loop, only the work");
            std::env::current_exe()
                .map(|path| (path, what.clone()))
                .map_err(|error| (what, format!("where this program is: {error}")))
        }
        Program::Corelane | Program::CorelaneBusy | Program::CorelaneTwo | Program::CorelaneGlommio => {
            let how = match program {
                Program::CorelaneBusy => "one shard that polls instead of sleeping",
                Program::CorelaneTwo => "two shards on the one CPU",
                Program::CorelaneGlommio => "one shard on the glommio host",
                _ => "one shard, everything on",
            };
            let (path, more) = match program {
                Program::CorelaneGlommio => {
                    (places.glommio(), " --features glommio --target-dir target/glommio")
                }
                _ => (places.programs.join("corelane"), ""),
            };
            if !path.is_file() {
                let absent = format!("no {}: cargo build --release -p corelane{more}", path.display());
                return Err((format!("corelane, {how}"), absent));
            }
            let version = first_line(&path, "--version").unwrap_or_else(|| "corelane".to_owned());
            let what = format!("{version}, {how}");
            Ok((path, what))
        }
        Program::Peer(binary, krate) => {
            let what = match locked_version(krate) {
                Some(version) => format!("{krate} {version}, one thread"),
                None => format!("{krate}, one thread"),
            };
            let mut found = places.peers.iter().map(|folder| folder.join(binary));
            match found.find(|path| path.is_file()) {
                Some(path) => Ok((path, what)),
                None => Err((what, format!("{binary} is not built: run bench/peers/build, or add --build"))),
            }
        }
        Program::Nginx => packaged("nginx", "-v", "one worker, sendfile"),
        Program::Haproxy => packaged("haproxy", "-v", "one thread, http-request return"),
    }
}

/// A program of a Debian package, which a user's `PATH` need not lead to.
fn packaged(name: &str, version: &str, how: &str) -> Result<(PathBuf, String), (String, String)> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut found = std::env::split_paths(&folders).chain(more).map(|folder| folder.join(name));
    let Some(path) = found.find(|path| path.is_file()) else {
        return Err((format!("{name}, {how}"), format!("not installed: apt-get install {name}")));
    };
    let said = first_line(&path, version).and_then(|line| version_in(&line).map(str::to_owned));
    let what = said.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"));
    Ok((path, format!("{what}, {how}")))
}

/// The first word that begins with a digit, also behind a slash: `nginx version: nginx/1.22.1`.
fn version_in(line: &str) -> Option<&str> {
    line.split([' ', '/']).find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

/// What a program says first, on either output.
fn first_line(path: &Path, argument: &str) -> Option<String> {
    let output = Command::new(path).arg(argument).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
}

/// The version of a crate in the lock file of `bench/peers`.
fn locked_version(krate: &str) -> Option<String> {
    version_of(&fs::read_to_string(folder().join("peers/Cargo.lock")).ok()?, krate)
}

/// The last one, which is the newest: a lock file is in order.
fn version_of(lock: &str, krate: &str) -> Option<String> {
    let name = format!("name = \"{krate}\"");
    let versions = lock.lines().zip(lock.lines().skip(1)).filter(|(line, _)| **line == name);
    let quoted = versions.last()?.1.strip_prefix("version = \"")?;
    quoted.strip_suffix('"').map(str::to_owned)
}

impl Server {
    /// Whether it runs under `load`.
    pub(super) fn part(&self, load: &Load) -> Part {
        let cannot = |why: &str| Part::Cannot(why.to_owned());
        let part = match (self.program, load.mode, load.target) {
            (Program::CorelaneTwo, Mode::Shards, _) => Part::Runs,
            (Program::CorelaneTwo, ..) => Part::Outside,
            (Program::CorelaneBusy, Mode::Closed, Target::Plaintext) if load.connections == 1 => Part::Runs,
            (Program::CorelaneBusy, ..) => Part::Outside,
            (Program::Corelane, ..) => Part::Runs,
            (_, Mode::Shards | Mode::Crowd, _) => Part::Outside,
            (Program::LimitUring | Program::LimitEpoll, _, Target::Plaintext) => Part::Runs,
            (Program::LimitUring | Program::LimitEpoll, ..) => cannot("has one answer, that of /plaintext"),
            (Program::CorelaneGlommio, _, Target::Blob | Target::File) => {
                cannot("the example that serves it has no option for the host")
            }
            (Program::Peer(..), _, Target::File) => cannot("serves no files here"),
            (Program::Nginx, _, Target::Echo(_)) => cannot("cannot answer with the body of the request"),
            (Program::Haproxy, _, Target::Echo(_)) => cannot("cannot answer with the body of the request"),
            (Program::Haproxy, _, Target::Blob | Target::File) => {
                cannot("an answer of its own is no longer than its buffer, 16 KiB")
            }
            _ => Part::Runs,
        };
        match (&part, &self.subject.absent) {
            (Part::Runs, Some(absent)) => Part::Cannot(absent.clone()),
            (Part::Runs, None) if self.needs_downloads(load) && self.downloads.is_none() => cannot(
                "examples/downloads is not built: cargo build --release -p corelane --example downloads",
            ),
            _ => part,
        }
    }

    /// `/blob` and `/file` of Corelane are an example's.
    fn needs_downloads(&self, load: &Load) -> bool {
        self.program == Program::Corelane && matches!(load.target, Target::Blob | Target::File)
    }

    /// Whether it is to be kept on the server's CPU.
    pub(super) fn is_pinned(load: &Load) -> bool {
        load.mode != Mode::Crowd
    }

    /// Program and arguments; writes the configuration of those that have one.
    ///
    /// # Errors
    /// The configuration could not be written.
    pub(super) fn command(&self, load: &Load, start: &Start<'_>) -> Result<Vec<String>, String> {
        let written = |result: std::io::Result<PathBuf>| {
            let path = result.map_err(|error| format!("{}: {error}", start.folder.display()))?;
            Ok::<String, String>(path.display().to_string())
        };
        let listen = format!("127.0.0.1:{}", start.port);
        let cpu = start.cpu.to_string();
        let mut words = vec![self.path.display().to_string()];
        let mut add = |more: &[&str]| words.extend(more.iter().map(|&word| word.to_owned()));
        match self.program {
            Program::LimitUring => add(&["limit-uring", "--listen", &listen, "--cpu", &cpu]),
            Program::LimitEpoll => add(&["limit-epoll", "--listen", &listen, "--cpu", &cpu]),
            Program::Peer(..) => {
                add(&["--listen", &listen, "--cpus", &cpu]);
                // What suits pipelines makes these two copy large bodies; they have a switch for downloads.
                if load.target == Target::Blob && ["hyper", "axum"].contains(&self.subject.name.as_str()) {
                    add(&["--writev"]);
                }
            }
            Program::Nginx => {
                let nobody = Nobody::if_root();
                let text = proxies::nginx(start.port, start.folder, start.blob, nobody.as_ref());
                let file = written(proxies::write(start.folder, "nginx.conf", &text))?;
                let folder = start.folder.display().to_string();
                add(&["-e", "stderr", "-p", &folder, "-c", &file]);
            }
            Program::Haproxy => {
                let text = proxies::haproxy(start.port, Nobody::if_root().as_ref());
                let file = written(proxies::write(start.folder, "haproxy.cfg", &text))?;
                add(&["-db", "-f", &file]);
            }
            Program::Corelane if self.needs_downloads(load) => {
                let downloads = self.downloads.as_ref().ok_or("examples/downloads is not built")?;
                words[0] = downloads.display().to_string();
                let blob = start.blob.display().to_string();
                words.extend(["--listen", &listen, "--file", &blob].map(str::to_owned));
            }
            _ => {
                let admin = format!("127.0.0.1:{}", start.admin_port);
                add(&["--listen", &listen]);
                match (self.program, load.mode) {
                    (_, Mode::Crowd) => add(&[
                        "--admin",
                        "off",
                        "--shards",
                        "8",
                        "--no-pin",
                        "--accept",
                        "balanced",
                        "--limit",
                        "connections_max=14000",
                        "--limit",
                        "idle_time=1h",
                    ]),
                    _ => add(&["--admin", &admin]),
                }
                match self.program {
                    Program::CorelaneBusy => add(&["--limit", "busy_poll=1s"]),
                    Program::CorelaneTwo => add(&["--shards", "2", "--no-pin"]),
                    Program::CorelaneGlommio => add(&["--host", "glommio"]),
                    _ => {}
                }
            }
        }
        Ok(words)
    }
}

#[cfg(test)]
#[path = "subjects/tests.rs"]
mod tests;
