//! Memory nodes: which there are, and keeping memory on one.
//!
//! The calls are those of `set_mempolicy(2)` and its like, which libc has no functions for. Containers often
//! forbid them and kernels may lack them: what is refused is an error value, and costs speed only.
//!
//! Not here: which node a shard is on (`topology`), mapping memory (`map`).

use std::io;
use std::path::Path;

use crate::cpu::parse_cpu_list;
use crate::kernel::read_trimmed;

/// Node numbers are below this: `MAX_NUMNODES` with the largest `CONFIG_NODES_SHIFT`, 10.
pub const NODES_MAX: usize = 1024;

const WORD_BITS: usize = u64::BITS as usize;

/// One bit for each possible node (`set_mempolicy(2)`, `nodemask`).
type NodeMask = [u64; NODES_MAX / WORD_BITS];

/// One memory node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its number.
    pub id: usize,
    /// Its CPUs, rising; none for memory without CPUs.
    pub cpus: Vec<usize>,
    /// Whether it has memory of its own.
    pub has_memory: bool,
}

/// The nodes of the machine, rising; none on a kernel without NUMA. `root` is `/` outside of tests.
pub fn nodes(root: &Path) -> Vec<Node> {
    let dir = root.join("sys/devices/system/node");
    let list = |path: &Path| read_trimmed(path).ok().and_then(|text| parse_cpu_list(&text).ok());
    // Where the kernel does not list them, all have some.
    let with_memory = list(&dir.join("has_memory"));
    let Ok(entries) = std::fs::read_dir(&dir) else { return Vec::new() };
    let id_of = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix("node")?.parse::<usize>().ok();
    let ids = entries.filter_map(Result::ok).filter_map(|entry| id_of(&entry.file_name()));
    let mut ids: Vec<usize> = ids.filter(|&id| id < NODES_MAX).collect();
    ids.sort_unstable();
    let node = |id| Node {
        id,
        cpus: list(&dir.join(format!("node{id}/cpulist"))).unwrap_or_default(),
        has_memory: with_memory.as_ref().is_none_or(|with| with.contains(&id)),
    };
    ids.into_iter().map(node).collect()
}

/// Asks that `len` bytes from `start` come from `node` as long as there is some, else from another
/// (`mbind(2)`, `MPOL_PREFERRED`). For pages that are not there yet.
///
/// # Errors
/// `EPERM` where a filter forbids it, `ENOSYS` on a kernel without NUMA, `EINVAL` if there is no such node or
/// the cpuset forbids it.
pub(crate) fn prefer(start: *mut libc::c_void, len: usize, node: usize) -> io::Result<()> {
    let mut mask: NodeMask = [0; NODES_MAX / WORD_BITS];
    let Some(word) = mask.get_mut(node / WORD_BITS) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    *word = 1 << (node % WORD_BITS);
    // SAFETY: rule 1: the mask has the number of bits named, of which the kernel takes one off
    // (`get_nodes` in mm/mempolicy.c). A policy does not change what the range holds, and a range that is not
    // mapped is refused.
    let answer = unsafe {
        libc::syscall(libc::SYS_mbind, start, len, libc::MPOL_PREFERRED, mask.as_ptr(), NODES_MAX + 1, 0)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kernel::tests::put;

    /// The node of the page at `addr`, which is brought into memory if it is not (`get_mempolicy(2)`).
    pub(crate) fn node_at(addr: *const u8) -> io::Result<usize> {
        /// `MPOL_F_NODE | MPOL_F_ADDR` of `linux/mempolicy.h`: answer with the node of the page at an address.
        const NODE_OF_ADDR: libc::c_int = 1 | 2;
        let mut node: libc::c_int = 0;
        let no_mask = std::ptr::null_mut::<u64>();
        // SAFETY: rule 1: one int for the node, and no mask. A wrong address is answered, not read.
        let answer = unsafe {
            libc::syscall(libc::SYS_get_mempolicy, &raw mut node, no_mask, 0_usize, addr, NODE_OF_ADDR)
        };
        if answer == 0 { Ok(usize::try_from(node).unwrap()) } else { Err(io::Error::last_os_error()) }
    }

    #[test]
    fn nodes_are_read_with_their_cpus_and_their_memory() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(nodes(root.path()), []);
        for (path, text) in [
            ("node10/cpulist", "\n"),
            ("node0/cpulist", "0-1,4\n"),
            ("node2/cpulist", "2-3\n"),
            ("online", "0,2,10\n"),
        ] {
            put(root.path(), &format!("sys/devices/system/node/{path}"), text);
        }
        let node = |id, cpus: &[usize], has_memory| Node { id, cpus: cpus.to_vec(), has_memory };
        assert_eq!(
            nodes(root.path()),
            [node(0, &[0, 1, 4], true), node(2, &[2, 3], true), node(10, &[], true)]
        );
        put(root.path(), "sys/devices/system/node/has_memory", "0,10\n");
        let with: Vec<bool> = nodes(root.path()).iter().map(|node| node.has_memory).collect();
        assert_eq!(with, [true, false, true]);
    }

    #[test]
    fn on_this_machine_every_allowed_cpu_is_on_one_node_or_there_are_none() {
        let nodes = nodes(Path::new("/"));
        for cpu in crate::cpu::allowed_cpus().unwrap() {
            let holding = nodes.iter().filter(|node| node.cpus.contains(&cpu)).count();
            assert!(holding == 1 || nodes.is_empty(), "CPU {cpu}");
        }
    }
}
