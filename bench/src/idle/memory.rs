//! What processes and the kernel say of their memory, in files of `/proc`.
//!
//! Slabs are counted for the whole machine: both ends of a connection on loopback, and whatever else runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Slab caches that are listed.
const CACHES: usize = 12;

/// The kernel's own memory at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Kernel {
    /// In slabs, those that could be given back included.
    pub(super) slab_bytes: u64,
    /// In buffers of TCP sockets.
    pub(super) tcp_bytes: u64,
    /// Objects in use and bytes of each, by cache. Empty where only root may read it.
    caches: BTreeMap<String, (u64, u64)>,
}

impl Kernel {
    pub(super) fn now() -> io::Result<Kernel> {
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let sockstat = fs::read_to_string("/proc/net/sockstat")?;
        let slabs = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        let unread = || io::Error::other("unreadable memory figures");
        Ok(Kernel {
            slab_bytes: kib_of(&meminfo, "Slab:").ok_or_else(unread)? * 1024,
            tcp_bytes: tcp_pages(&sockstat).ok_or_else(unread)? * 4096,
            caches: slabs.lines().filter_map(cache).collect(),
        })
    }

    /// The caches that have grown most since `before`, by bytes: name, objects, bytes.
    pub(super) fn grown_most(&self, before: &Kernel) -> Vec<(String, i64, i64)> {
        let grown = self.caches.iter().map(|(name, &(count, size))| {
            let then = before.caches.get(name).map_or(0, |&(count, _)| count);
            let more = count.cast_signed() - then.cast_signed();
            (name.clone(), more, more * size.cast_signed())
        });
        let mut grown: Vec<_> = grown.filter(|&(_, more, _)| more > 0).collect();
        grown.sort_by_key(|&(_, _, bytes)| -bytes);
        grown.truncate(CACHES);
        grown
    }
}

/// `NAME   N kB` (proc_meminfo(5)).
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// `TCP: inuse N orphan N tw N alloc N mem PAGES`.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// `name active_objs num_objs objsize ...` (slabinfo(5)).
fn cache(line: &str) -> Option<(String, (u64, u64))> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    let active = words.next()?.parse().ok()?;
    Some((name.to_owned(), (active, words.nth(1)?.parse().ok()?)))
}

/// Resident bytes of a process.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = kib_of(&status, "VmRSS:").ok_or_else(|| io::Error::other("no VmRSS"))?;
    Ok(kib * 1024)
}

/// Descriptors a process has open. Direct descriptors of a ring are none.
pub(super) fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Threads of a process.
pub(super) fn threads(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// The limit of open files of a process.
pub(super) fn files(pid: u32) -> io::Result<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    soft.map(str::to_owned).ok_or_else(|| io::Error::other("no limit of open files"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_the_files_of_the_kernel() {
        assert_eq!(kib_of("MemTotal:  9 kB\nSlab:     1234 kB\n", "Slab:"), Some(1234));
        assert_eq!(kib_of("MemTotal:  9 kB\n", "Slab:"), None);
        assert_eq!(tcp_pages("sockets: used 9\nTCP: inuse 5 orphan 0 tw 1 alloc 8 mem 77\nUDP: 1"), Some(77));
        let line = "TCP   226 240   2432   13    8 : tunables    0    0    0 : slabdata     20     20      0";
        assert_eq!(cache(line), Some(("TCP".to_owned(), (226, 2432))));
        assert_eq!(cache("# name            <active_objs> <num_objs> <objsize>"), None);
    }

    #[test]
    fn caches_are_listed_by_how_much_they_have_grown() {
        let kernel = |tcp, filp| Kernel {
            caches: [("TCP".to_owned(), (tcp, 2_000)), ("filp".to_owned(), (filp, 200))].into(),
            ..Kernel::default()
        };
        let grown = kernel(110, 400).grown_most(&kernel(100, 100));
        assert_eq!(grown, [("filp".to_owned(), 300, 60_000), ("TCP".to_owned(), 10, 20_000)]);
        assert!(kernel(1, 1).grown_most(&kernel(1, 2)).is_empty());
    }

    #[test]
    fn this_process_and_kernel_can_be_read() {
        let pid = std::process::id();
        assert!(resident(pid).is_ok_and(|bytes| bytes > 100_000));
        assert!(descriptors(pid).is_ok_and(|count| count >= 3));
        assert!(threads(pid).is_ok_and(|count| count >= 1));
        assert!(files(pid).is_ok());
        assert!(Kernel::now().is_ok_and(|kernel| kernel.slab_bytes > 0));
    }
}
