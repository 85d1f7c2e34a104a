//! One look before the measured window and one after it, put together: a [`HostUse`].
//!
//! Before, what takes long comes first and the counters last; after, the counters come first: they then cover
//! little more than the window.
//!
//! Not here: what each look reads (`counters`, `server`, `shards`).

use std::net::SocketAddr;
use std::path::Path;

use super::{Counters, ServerThreads, ask_shards, cpus_beside, is_local, shards_since};
use crate::model::HostUse;

/// What was seen before the window.
#[derive(Clone, Debug)]
pub struct Watch {
    target: SocketAddr,
    host: String,
    asks: bool,
    cpus: Vec<usize>,
    same_host: bool,
    server: Option<ServerThreads>,
    shards: Option<Vec<u64>>,
    counters: Counters,
}

impl Watch {
    /// Looks before the window. `cpus` are those of the workers, none for all. With `asks`, which is for HTTP,
    /// the server at `target`, called `host`, gets one request for its shards. Blocks: 0.2 s, and 1 s if asked.
    pub fn begin(root: &Path, target: SocketAddr, host: &str, cpus: &[usize], asks: bool) -> Watch {
        let same_host = is_local(target.ip());
        let shards = if asks { ask_shards(target, host) } else { None };
        Watch {
            target,
            host: host.to_owned(),
            // A server that did not answer is not asked again.
            asks: shards.is_some(),
            cpus: cpus.to_vec(),
            same_host,
            shards,
            server: if same_host { ServerThreads::find(root, target) } else { None },
            counters: Counters::read(root),
        }
    }

    /// Looks after the window: what happened since. Blocks for 1 s at most, where the server says something of
    /// its shards.
    pub fn end(&self, root: &Path) -> HostUse {
        let mut host = Counters::read(root).since(&self.counters, &self.cpus);
        host.same_host = self.same_host;
        if let Some(before) = &self.server {
            let after = before.again(root);
            host.server_cpus = after.map(|after| after.cpus_since(before)).unwrap_or_default();
            host.server_siblings = cpus_beside(root, &host.server_cpus);
        }
        let shards = if self.asks { ask_shards(self.target, &self.host) } else { None };
        host.shard_requests = shards_since(self.shards.as_deref(), shards.as_deref());
        host
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::host::fake::{link, machine, put};

    /// Answers one connection after the other with these numbers of two shards.
    fn node(answers: Vec<[u64; 2]>) -> (SocketAddr, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            for [a, b] in answers {
                let (mut stream, _) = listener.accept().unwrap();
                assert_ne!(stream.read(&mut [0; 512]).unwrap(), 0);
                let shard = |index, count| format!(r#"{{"shard":{index},"responses":{count}}}"#);
                let body = format!(r#"{{"silent":[],"shards":[{},{}]}}"#, shard(0, a), shard(1, b));
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        (addr, served)
    }

    #[test]
    fn both_looks_together_tell_what_happened_between() {
        let (addr, served) = node(vec![[5, 6], [15, 7]]);
        let tcp = format!("0: 0100007F:{:04X} 0:0 0A 0:0 0:0 0 0 0 900\n", addr.port());
        let stat = |used: u64| {
            format!("42 (x) R{} {used} 0{} 1{} 3", " 0".repeat(10), " 0".repeat(6), " 0".repeat(16))
        };
        let root = machine(&[
            ("proc/net/tcp", &tcp),
            ("proc/net/snmp", "Tcp: RetransSegs\nTcp: 1\n"),
            ("proc/uptime", "10.00 1.00\n"),
            ("proc/42/task/42/stat", &stat(0)),
            ("sys/devices/system/cpu/cpu3/topology/core_cpus_list", "3,7\n"),
        ]);
        link(root.path(), "proc/42/fd/3", "socket:[900]");
        let watch = Watch::begin(root.path(), addr, "x", &[], true);
        put(root.path(), "proc/net/snmp", "Tcp: RetransSegs\nTcp: 4\n");
        put(root.path(), "proc/uptime", "11.00 1.00\n");
        put(root.path(), "proc/42/task/42/stat", &stat(90));
        let expected = HostUse {
            retransmits: Some(3),
            same_host: true,
            server_cpus: vec![3],
            server_siblings: vec![7],
            shard_requests: vec![10, 1],
            ..HostUse::default()
        };
        assert_eq!(watch.end(root.path()), expected);
        served.join().unwrap();
    }

    #[test]
    fn a_server_that_said_nothing_of_shards_is_not_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let root = machine(&[]);
        let served = std::thread::spawn(move || {
            drop(listener.accept().unwrap());
            listener
        });
        let watch = Watch::begin(root.path(), addr, "x", &[], true);
        let listener = served.join().unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(watch.end(root.path()), HostUse { same_host: true, ..HostUse::default() });
        let silent = Watch::begin(root.path(), addr, "x", &[], false);
        silent.end(root.path());
        assert!(listener.accept().is_err(), "nobody connected");
    }
}
