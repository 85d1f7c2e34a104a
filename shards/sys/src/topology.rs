//! Which CPUs share what: a core, the last level of cache, a memory node.
//!
//! Read from sysfs (Documentation/ABI/stable/sysfs-devices-system-cpu, .../testing/sysfs-devices-system-cpu)
//! below a root directory, `/` outside of tests. A machine that shows nothing (some virtual ones, some
//! containers) has CPUs that share nothing: each counts as a core of its own, with cache and node unknown.
//!
//! Not here: which CPU becomes which shard (`placement` of the product), the memory of nodes (`numa`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cpu::parse_cpu_list;
use crate::kernel::read_trimmed;
use crate::numa;

/// Caches of one CPU that are looked at: four levels, and instructions apart from data.
const CACHES_MAX: usize = 8;

/// One CPU and what it shares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cpu {
    /// Its number.
    pub id: usize,
    /// The lowest CPU of its core. Hardware threads of one core have the same.
    pub core: usize,
    /// The lowest CPU that shares its last level of cache, if the machine says so.
    pub llc: Option<usize>,
    /// Its memory node, if the kernel knows nodes.
    pub node: Option<usize>,
}

/// What `cpus` share, in the order given. Opens about three files for each core and one for each cache and
/// node: some milliseconds on the largest machines.
pub fn read(root: &Path, cpus: &[usize]) -> Vec<Cpu> {
    let nodes = numa::nodes(root);
    let mut cores = BTreeMap::new();
    let mut llcs = BTreeMap::new();
    let place = |&id: &usize| {
        let core = *cores.entry(id).or_insert_with(|| siblings(root, id).first().copied().unwrap_or(id));
        if !llcs.contains_key(&id) {
            // One look for all that share it.
            let sharing = last_cache(root, id).unwrap_or_default();
            let lowest = sharing.first().copied();
            llcs.extend(sharing.into_iter().map(|cpu| (cpu, lowest)));
            llcs.entry(id).or_insert(lowest);
        }
        let node = nodes.iter().find(|node| node.cpus.contains(&id)).map(|node| node.id);
        Cpu { id, core, llc: llcs[&id], node }
    };
    cpus.iter().map(place).collect()
}

/// The CPUs that share a core with `cpu`, itself included, rising; itself alone where that is not shown.
pub fn siblings(root: &Path, cpu: usize) -> Vec<usize> {
    let dir = root.join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
    // The first name is the newer one (Linux 5.5).
    let list = ["core_cpus_list", "thread_siblings_list"].iter().find_map(|name| list(&dir.join(name)));
    list.filter(|list| list.contains(&cpu)).unwrap_or_else(|| vec![cpu])
}

/// CPUs that the kernel keeps other work away from (`isolcpus=`, isolated cpusets), rising. A program gets
/// there only if it names them.
pub fn isolated(root: &Path) -> Vec<usize> {
    list(&root.join("sys/devices/system/cpu/isolated")).unwrap_or_default()
}

/// Whether `cpu` runs; nothing where the kernel does not list what does.
pub fn is_online(root: &Path, cpu: usize) -> Option<bool> {
    list(&root.join("sys/devices/system/cpu/online")).map(|online| online.contains(&cpu))
}

/// The CPUs that share the highest level of cache of `cpu`.
fn last_cache(root: &Path, cpu: usize) -> Option<Vec<usize>> {
    let caches = root.join(format!("sys/devices/system/cpu/cpu{cpu}/cache"));
    let levels = (0..CACHES_MAX).map_while(|index| {
        let dir = caches.join(format!("index{index}"));
        let level = read_trimmed(&dir.join("level")).ok()?;
        Some((level.parse::<u32>().ok()?, dir))
    });
    // Instructions alone are not what shards share.
    let data =
        |(_, dir): &(u32, PathBuf)| read_trimmed(&dir.join("type")).is_ok_and(|kind| kind != "Instruction");
    let (_, dir) = levels.filter(data).max_by_key(|(level, _)| *level)?;
    list(&dir.join("shared_cpu_list")).filter(|list| list.contains(&cpu))
}

/// A CPU list in a file; nothing if it is missing, empty or no list.
fn list(path: &Path) -> Option<Vec<usize>> {
    parse_cpu_list(&read_trimmed(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cpu::allowed_cpus;
    use crate::kernel::tests::put;

    /// Four CPUs in two cores {0,2} {1,3}, one cache for all, a first level that is none's last.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (cpu, core) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let dir = format!("sys/devices/system/cpu/cpu{cpu}");
            put(root.path(), &format!("{dir}/topology/thread_siblings_list"), &format!("{core}\n"));
            for (index, level, kind, shared) in
                [(0, 1, "Data", core), (1, 1, "Instruction", core), (2, 3, "Unified", "0-3")]
            {
                let cache = format!("{dir}/cache/index{index}");
                put(root.path(), &format!("{cache}/level"), &format!("{level}\n"));
                put(root.path(), &format!("{cache}/type"), &format!("{kind}\n"));
                put(root.path(), &format!("{cache}/shared_cpu_list"), &format!("{shared}\n"));
            }
        }
        root
    }

    #[test]
    fn cores_caches_and_nodes_are_named_by_their_lowest_cpu() {
        let root = machine();
        put(root.path(), "sys/devices/system/node/node1/cpulist", "0-3\n");
        let cpu = |id, core| Cpu { id, core, llc: Some(0), node: Some(1) };
        assert_eq!(read(root.path(), &[3, 0, 2]), [cpu(3, 1), cpu(0, 0), cpu(2, 0)]);
        put(root.path(), "sys/devices/system/cpu/cpu1/topology/core_cpus_list", "1\n");
        assert_eq!(siblings(root.path(), 1), [1], "the newer name wins");
    }

    #[test]
    fn a_machine_that_shows_nothing_has_cpus_that_share_nothing() {
        let root = tempfile::tempdir().unwrap();
        let cpu = |id| Cpu { id, core: id, llc: None, node: None };
        assert_eq!(read(root.path(), &[0, 7]), [cpu(0), cpu(7)]);
        assert_eq!((is_online(root.path(), 0), isolated(root.path())), (None, Vec::new()));
    }

    #[test]
    fn files_that_say_nonsense_say_nothing() {
        let root = machine();
        put(root.path(), "sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "none\n");
        put(root.path(), "sys/devices/system/cpu/cpu0/cache/index2/shared_cpu_list", "1-3\n");
        put(root.path(), "sys/devices/system/cpu/isolated", "\n");
        put(root.path(), "sys/devices/system/cpu/online", "0-1\n");
        assert_eq!(read(root.path(), &[0])[0], Cpu { id: 0, core: 0, llc: None, node: None });
        assert_eq!(isolated(root.path()), []);
        assert_eq!((is_online(root.path(), 1), is_online(root.path(), 2)), (Some(true), Some(false)));
    }

    #[test]
    fn on_this_machine_each_cpu_is_where_it_says() {
        let root = Path::new("/");
        let allowed = allowed_cpus().unwrap();
        for cpu in read(root, &allowed) {
            assert!(cpu.core <= cpu.id);
            assert!(cpu.llc.is_none_or(|lowest| lowest <= cpu.id));
            assert!(siblings(root, cpu.id).contains(&cpu.id));
            assert_ne!(is_online(root, cpu.id), Some(false));
        }
    }
}
