//! Which process listens on a port of this host: `/proc/net/tcp`, then the descriptors of every process that we may look
//! at.
//!
//! Not here: what is then looked at (`gather`).

use std::fs;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`, include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// The process that listens on `port`; the lowest number if several share the socket. Takes a look at every descriptor
/// of every process: tens of milliseconds on a busy host. None where it belongs to another user and we are not root.
pub fn process_listening(root: &Path, port: u16) -> Option<u32> {
    let mut inodes = Vec::new();
    for file in ["proc/net/tcp", "proc/net/tcp6"] {
        inodes.extend(listening(&fs::read_to_string(root.join(file)).unwrap_or_default(), port));
    }
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let holds = |pid: &u32| {
        let fds = fs::read_dir(root.join(format!("proc/{pid}/fd"))).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|link| links.iter().any(|one| link == *one))
    };
    let entries = fs::read_dir(root.join("proc")).ok()?.flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    if links.is_empty() { None } else { pids.into_iter().find(holds) }
}

/// The inodes of sockets that listen on `port`: columns local address, state and inode (proc_pid_net(5)).
fn listening(text: &str, port: u16) -> Vec<u64> {
    let line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = columns.get(1)?.rsplit_once(':')?;
        let ours = u16::from_str_radix(local, 16) == Ok(port) && columns.get(3) == Some(&LISTEN);
        ours.then(|| columns.get(9)?.parse().ok()).flatten()
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_that_listens_is_found_and_one_that_only_connects_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(process_listening(Path::new("/"), port), Some(std::process::id()));
        let own = client.local_addr().unwrap().port();
        assert_eq!(process_listening(Path::new("/"), own), None);
    }

    #[test]
    fn a_table_that_is_odd_has_no_listeners() {
        let text = "  sl  local_address\n   0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 0 0 77 1\n\
                       1: 0100007F:1F90 00000000:0000 01 0:0 00:0 0 0 0 78 1\n   2: x\n   3: a:zz b 0A\n";
        assert_eq!(listening(text, 8080), [77]);
        assert_eq!(listening(text, 8081), [0; 0]);
        assert_eq!(listening("", 8080), [0; 0]);
    }
}
