//! The example `glommio_files` does what its first lines say.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::common::client::get;
use crate::common::{self, Answer, Client, Cut, Process, pattern, until};

/// The built example. `cargo test` builds it with the others, but not when it is asked for this file alone.
fn example() -> Command {
    let program = std::env::current_exe().unwrap();
    let profile = program.parent().and_then(Path::parent).unwrap();
    let path = profile.join("examples/glommio_files");
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    // It is made of what this program is made of, and of one more file.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/glommio_files.rs");
    if changed(&path) < changed(&source) || changed(&path) < changed(&program) {
        let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        cargo.args(["build", "--features", "glommio", "--example", "glommio_files", "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Command::new(path)
}

fn serving(directory: &Path, flags: &[&str]) -> Process {
    let mut command = example();
    command.args(["--listen", "127.0.0.1:0"]).args(flags).arg(directory);
    Process::start(&mut command)
}

fn head(client: &mut Client, path: &str) -> Answer {
    client.send(format!("HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
    client.answer_without_body()
}

/// Descriptors the process has open below a directory.
fn descriptors_below(process: &Process, directory: &Path) -> usize {
    let directory = directory.canonicalize().unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
    let is_below =
        |link: std::io::Result<std::path::PathBuf>| link.is_ok_and(|to| to.starts_with(&directory));
    open.filter(|fd| fd.as_ref().is_ok_and(|fd| is_below(std::fs::read_link(fd.path())))).count()
}

const LENGTHS: [usize; 8] = [0, 1, 4_095, 4_096, 4_097, 65_536, 65_537, (1 << 20) + 1];

#[test]
fn the_example_serves_the_bytes_of_files_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for len in LENGTHS {
        std::fs::write(at(&len.to_string()), pattern(len)).unwrap();
    }
    std::fs::create_dir(at("below")).unwrap();
    std::fs::write(at("below/file"), "not for clients").unwrap();
    std::fs::write(at(".hidden"), "not for clients").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let mut process = serving(directory.path(), &["--shards", "1", "--no-job"]);

    let mut client = Client::connect(process.addr);
    for round in 0..3 {
        for len in LENGTHS {
            let answer = client.get(&format!("/files/{len}"));
            assert!(answer.status == 200 && answer.body == pattern(len), "{len} bytes, round {round}");
            assert_eq!(answer.field("content-length"), Some(len.to_string().as_str()));
            assert_eq!(answer.field("accept-ranges"), Some("none"));
            let without = head(&mut client, &format!("/files/{len}"));
            assert_eq!(
                (without.status, without.field("content-length")),
                (200, answer.field("content-length"))
            );
        }
    }
    let long = "n".repeat(300);
    let names = [
        "no",
        "",
        "below",
        "below/file",
        "below%2Ffile",
        "..",
        "%2e%2e",
        "..%2Fno",
        ".hidden",
        "link",
        "pipe",
    ];
    for name in names.into_iter().chain([".", "a%00b", "%ff", &long]) {
        assert_eq!(client.get(&format!("/files/{name}")).status, 404, "{name:?}");
        assert_eq!(head(&mut client, &format!("/files/{name}")).status, 404, "{name:?}");
    }
    assert_eq!(client.get("/job").status, 404, "there is none");
    assert_eq!(client.get("/plaintext").text(), "Hello, World!");
    until("every file is closed", || descriptors_below(&process, directory.path()) == 0);
    drop(client);
    process.signal("TERM");
    assert_eq!(process.wait(common::PATIENCE).code(), Some(0));
}

#[test]
fn the_example_cuts_an_answer_whose_file_became_shorter_or_whose_client_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    // More than sockets take: most of it is read only when the client has read some.
    let len = 256 << 20;
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(len).unwrap();
    let process = serving(directory.path(), &["--shards", "1", "--no-job"]);
    for _ in 0..8 {
        let mut leaves = Client::connect(process.addr);
        leaves.send(get("/files/large"));
        assert_eq!(leaves.take(12), b"HTTP/1.1 200");
    }
    until("their files are closed", || descriptors_below(&process, directory.path()) == 0);

    let mut client = Client::connect(process.addr);
    client.send(get("/files/large"));
    assert_eq!(client.stream().peek(&mut [0]).unwrap(), 1, "the length is promised");
    file.set_len(1_000_000).unwrap();
    match client.next(false) {
        Err(Cut::Partial(came, _)) => assert!(came.len() < 256 << 20, "the rest was made up"),
        other => panic!("{:?}", other.map(|answer| answer.head)),
    }
    until("it says why", || {
        process.said().iter().any(|line| line.contains("large") && line.contains("cut short"))
    });
    assert_eq!(Client::connect(process.addr).get("/files/large").body.len(), 1_000_000);
    until("the file is closed", || descriptors_below(&process, directory.path()) == 0);
}

/// A whole number of each shard's report.
fn numbers(client: &mut Client, key: &str) -> Vec<u64> {
    let reports: Vec<BTreeMap<String, sonic_rs::Value>> =
        sonic_rs::from_slice(&client.get("/job").body).unwrap();
    reports.iter().map(|report| report[key].to_string().parse().unwrap()).collect()
}

#[test]
fn the_job_of_the_example_goes_on_beside_requests_and_ends_with_the_node() {
    for files in [0, 3] {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..files {
            std::fs::write(directory.path().join(n.to_string()), pattern(50_000 + n)).unwrap();
        }
        let mut process = serving(directory.path(), &["--shards", "2"]);
        let mut client = Client::connect(process.addr);
        let before = numbers(&mut client, "rounds");
        assert_eq!(before.len(), 2, "a report of each shard");
        for n in 0..100 {
            assert_eq!(client.get("/plaintext").status, 200);
            if files > 0 {
                assert!(client.get(&format!("/files/{}", n % files)).body == pattern(50_000 + n % files));
            }
        }
        for key in ["rounds", "bytes"] {
            let before = numbers(&mut client, key);
            let more = |now: Vec<u64>| before.iter().zip(now).all(|(before, now)| now > *before);
            until("the jobs of all shards go on", || more(numbers(&mut client, key)));
        }
        drop(client);
        process.signal("TERM");
        assert_eq!(process.wait(common::PATIENCE).code(), Some(0));
    }
}

#[test]
fn the_example_says_what_to_type_where_it_cannot_run() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let wrong: [(&[&str], &str); 6] = [
        (&[], "<DIRECTORY>"),
        (&["/no/such/directory"], "/no/such/directory: "),
        (&[file], "name the one that holds the files"),
        (&["--listen", "here", "/"], "--listen"),
        (&["--shards", "0", "/"], "--shards"),
        (&["--jobs", "/"], "--help"),
    ];
    for (flags, says) in wrong {
        let output = example().args(flags).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{flags:?}: {said}");
    }
    let output = example().arg("--help").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("/job") && said.contains("--no-job"), "{said}");
}
