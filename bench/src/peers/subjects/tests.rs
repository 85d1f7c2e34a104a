//! Who is compared, how each is started, and what it says when it cannot be.
#![allow(clippy::unwrap_used)]

use super::super::loads;
use super::*;

fn nowhere() -> Places {
    Places { programs: PathBuf::from("/nonexistent"), peers: vec![PathBuf::from("/nonexistent")] }
}

fn one(name: &str) -> Server {
    let mut server = chosen(&[name.to_owned()], &nowhere()).unwrap().remove(0);
    if server.path.as_os_str().is_empty() {
        server.path = PathBuf::from("/nonexistent/corelane");
    }
    server
}

fn load(id: &str) -> Load {
    loads::all().into_iter().find(|load| load.id == id).unwrap()
}

fn start() -> Start<'static> {
    Start {
        port: 8123,
        admin_port: 8124,
        cpu: 3,
        folder: Path::new("/nonexistent"),
        blob: Path::new("/tmp/blob"),
    }
}

#[test]
fn a_peer_that_is_not_built_says_what_to_type() {
    for name in ["hyper", "axum", "actix", "ntex", "may", "monoio", "glommio", "ringline"] {
        let server = one(name);
        let absent = server.subject.absent.clone().unwrap();
        assert!(absent.contains("bench/peers/build"), "{absent}");
        assert_eq!(server.part(&load("plaintext-64")), Part::Cannot(absent));
    }
    let absent = one("corelane").subject.absent.unwrap();
    assert!(absent.contains("cargo build --release -p corelane"), "{absent}");
}

#[test]
fn the_limit_loops_are_always_here_and_have_one_answer() {
    let server = one("limit-uring");
    assert!(server.subject.is_limit);
    assert_eq!(server.part(&load("plaintext-64")), Part::Runs);
    assert_eq!(server.part(&load("idle-10k")), Part::Runs);
    assert!(matches!(server.part(&load("echo-1k")), Part::Cannot(_)));
    assert_eq!(server.part(&load("shards")), Part::Outside);
    let words = server.command(&load("plaintext-64"), &start()).unwrap();
    assert_eq!(words[1..], ["limit-uring", "--listen", "127.0.0.1:8123", "--cpu", "3"]);
}

#[test]
fn forms_of_corelane_have_a_part_only_where_they_mean_something() {
    let parts = |name: &str| -> Vec<&str> {
        let mut server = one(name);
        server.subject.absent = None;
        let all = loads::all();
        let runs = all.into_iter().filter(|load| server.part(load) == Part::Runs);
        runs.map(|load| load.id).collect()
    };
    assert_eq!(parts("corelane-busy"), ["plaintext-1"]);
    assert_eq!(parts("corelane-2"), ["shards"]);
    assert!(parts("hyper").contains(&"blob") && !parts("hyper").contains(&"idle-100k"));
    assert!(!parts("nginx").contains(&"echo-1k") && parts("nginx").contains(&"file"));
    assert!(!parts("haproxy").contains(&"blob") && parts("haproxy").contains(&"json-64"));
}

#[test]
fn corelane_is_started_with_what_the_load_asks_for() {
    let words = |name: &str, id: &str| one(name).command(&load(id), &start()).unwrap().join(" ");
    assert_eq!(
        words("corelane", "plaintext-64"),
        "/nonexistent/corelane --listen 127.0.0.1:8123 --admin 127.0.0.1:8124"
    );
    assert!(words("corelane-busy", "plaintext-1").ends_with(" --limit busy_poll=1s"));
    assert!(words("corelane-2", "shards").ends_with(" --shards 2 --no-pin"));
    let crowd = words("corelane", "idle-100k");
    assert!(crowd.contains(" --shards 8 ") && crowd.contains(" connections_max=14000 "), "{crowd}");
    assert!(!Server::is_pinned(&load("idle-100k")) && Server::is_pinned(&load("shards")));
}

#[test]
fn without_the_example_for_downloads_corelane_says_so() {
    let mut server = one("corelane");
    server.subject.absent = None;
    let Part::Cannot(why) = server.part(&load("blob")) else { panic!("it is not there") };
    assert!(why.contains("--example downloads"), "{why}");
    server.downloads = Some(PathBuf::from("/x/downloads"));
    let words = server.command(&load("file"), &start()).unwrap();
    assert_eq!(words, ["/x/downloads", "--listen", "127.0.0.1:8123", "--file", "/tmp/blob"]);
}

#[test]
fn all_are_known_by_name_and_the_glommio_host_is_a_build_of_its_own() {
    let host = one("corelane-glommio");
    let absent = host.subject.absent.as_deref().unwrap_or_default();
    assert!(absent.contains("cargo build --release -p corelane --features glommio --target-dir"), "{absent}");
    assert!(
        chosen(&["all".to_owned()], &nowhere())
            .unwrap()
            .iter()
            .any(|one| one.subject.name == host.subject.name)
    );
    let error = chosen(&["nginy".to_owned()], &nowhere()).unwrap_err();
    assert!(error.contains("nginy") && error.contains("nginx"), "{error}");
    let words = host.command(&load("plaintext-64"), &start()).unwrap();
    assert!(words.windows(2).any(|pair| pair == ["--host", "glommio"]), "{words:?}");
}

#[test]
fn peers_are_those_of_other_projects() {
    let all = chosen(&["all".to_owned()], &nowhere()).unwrap();
    let peers = all.iter().filter(|server| is_peer(&server.subject)).count();
    assert_eq!(peers, 10);
}

#[test]
fn versions_are_read_from_lock_files_and_from_what_programs_say() {
    let lock =
        "name = \"hyper\"\nversion = \"0.14.1\"\n\nname = \"hyper\"\nversion = \"1.12.0\"\nname = \"h\"\n";
    assert_eq!(version_of(lock, "hyper").as_deref(), Some("1.12.0"));
    assert_eq!(version_of(lock, "axum"), None);
    assert_eq!(version_in("nginx version: nginx/1.22.1"), Some("1.22.1"));
    assert_eq!(version_in("HAProxy version 2.6.12-1+deb12u4 2025/01/01"), Some("2.6.12-1+deb12u4"));
}
