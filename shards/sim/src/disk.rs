//! Files in memory, and what of them a power cut would leave.
//!
//! # Rules
//! 1. What is written can be read back at once; it is on the disk only after a sync that succeeded.
//! 2. A write that was not synced is, after a crash, there, not there, or torn; and writes are independent
//!    of each other.
//! 3. A file never synced may be gone after a crash; one synced once is found again.
//!
//! Directories are not kept: every path is its own name, and any parent exists.
//!
//! Not here: descriptors, offsets given by operations (`files`).

use std::collections::BTreeMap;

use corelane_base::Rng;

/// Files by path: to start a simulation with, or what one left behind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Disk {
    files: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Disk {
    /// No files.
    pub fn new() -> Disk {
        Disk::default()
    }

    /// Adds a file, or replaces it.
    pub fn put(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), bytes.into());
    }

    /// The bytes of a file.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path.as_bytes()).map(Vec::as_slice)
    }

    /// Removes a file; says whether it was there.
    pub fn remove(&mut self, path: &str) -> bool {
        self.files.remove(path.as_bytes()).is_some()
    }

    /// Every path and its bytes, in the order of the paths.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_slice(), bytes.as_slice()))
    }
}

#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate,
}

#[derive(Debug)]
struct Node {
    /// What a read sees.
    data: Vec<u8>,
    /// What the disk holds; none where the file was never synced.
    durable: Option<Vec<u8>>,
    /// What stands between the two, oldest first.
    pending: Vec<Change>,
}

/// The files of a running simulation. A node is never given up, so an open file outlives its path.
#[derive(Debug)]
pub(crate) struct Files {
    paths: BTreeMap<Vec<u8>, usize>,
    nodes: Vec<Node>,
    bytes_max: u64,
}

/// Writes `bytes` at `at`, filling a hole with zeros.
fn put_at(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if data.len() < end {
        data.resize(end, 0);
    }
    data[at..end].copy_from_slice(bytes);
}

impl Files {
    pub(crate) fn new(disk: &Disk, bytes_max: u64) -> Files {
        let mut files = Files { paths: BTreeMap::new(), nodes: Vec::new(), bytes_max };
        for (path, bytes) in disk.iter() {
            files.put(path, bytes);
        }
        files
    }

    /// Places a file there as if it had always been.
    pub(crate) fn put(&mut self, path: &[u8], bytes: &[u8]) {
        let node = Node { data: bytes.to_vec(), durable: Some(bytes.to_vec()), pending: Vec::new() };
        self.paths.insert(path.to_vec(), self.nodes.len());
        self.nodes.push(node);
    }

    pub(crate) fn find(&self, path: &[u8]) -> Option<usize> {
        self.paths.get(path).copied()
    }

    pub(crate) fn create(&mut self, path: &[u8]) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node { data: Vec::new(), durable: None, pending: Vec::new() });
        self.paths.insert(path.to_vec(), node);
        node
    }

    pub(crate) fn remove(&mut self, path: &[u8]) -> bool {
        self.paths.remove(path).is_some()
    }

    pub(crate) fn data(&self, node: usize) -> &[u8] {
        &self.nodes[node].data
    }

    pub(crate) fn truncate(&mut self, node: usize) {
        self.nodes[node].data.clear();
        self.nodes[node].pending.push(Change::Truncate);
    }

    /// Room for a write of `len` at `at`: how many of its bytes fit below `bytes_max`.
    pub(crate) fn room(&self, node: usize, at: usize, len: usize) -> usize {
        let others: usize =
            self.paths.values().filter(|&&n| n != node).map(|&n| self.nodes[n].data.len()).sum();
        let end_max = usize::try_from(self.bytes_max).unwrap_or(usize::MAX).saturating_sub(others);
        len.min(end_max.max(self.nodes[node].data.len()).saturating_sub(at))
    }

    pub(crate) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    pub(crate) fn write(&mut self, node: usize, at: usize, bytes: &[u8]) {
        put_at(&mut self.nodes[node].data, at, bytes);
        self.nodes[node].pending.push(Change::Write { at, bytes: bytes.to_vec() });
    }

    pub(crate) fn sync(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.pending.clear();
        node.durable = Some(node.data.clone());
    }

    /// A sync that failed: the pages count as clean and never reach the disk unless written again.
    pub(crate) fn sync_failed(&mut self, node: usize) {
        self.nodes[node].pending.clear();
    }

    /// What a reader sees now.
    pub(crate) fn visible(&self) -> Disk {
        let files = self.paths.iter().map(|(path, &node)| (path.clone(), self.nodes[node].data.clone()));
        Disk { files: files.collect() }
    }

    /// What a power cut now would leave (rules 2 and 3).
    pub(crate) fn after_crash(&self, rng: &mut Rng) -> Disk {
        let mut disk = Disk::new();
        for (path, &node) in &self.paths {
            let node = &self.nodes[node];
            let mut data = match &node.durable {
                Some(durable) => durable.clone(),
                None if rng.chance(1, 2) => Vec::new(),
                None => continue,
            };
            for change in &node.pending {
                match (change, rng.below(3)) {
                    (_, 0) => {}
                    (Change::Truncate, _) => data.clear(),
                    (Change::Write { at, bytes }, 1) => put_at(&mut data, *at, bytes),
                    (Change::Write { at, bytes }, _) => {
                        put_at(&mut data, *at, &bytes[..rng.index(bytes.len() + 1)]);
                    }
                }
            }
            disk.files.insert(path.clone(), data);
        }
        disk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_a_crash_and_what_was_not_may_be_lost_or_torn() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..100 {
            let mut files = Files::new(&Disk::new(), 1 << 20);
            let node = files.create(b"log");
            files.write(node, 0, b"safe");
            files.sync(node);
            files.write(node, 4, b"tail");
            let disk = files.after_crash(&mut Rng::new(seed));
            let left = disk.get("log").unwrap_or_default();
            assert!(left.starts_with(b"safe") && b"safetail".starts_with(left), "{left:?}");
            match left.len() {
                4 => lost += 1,
                8 => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 10 && kept > 10 && torn > 10, "{lost} {kept} {torn}");
    }

    #[test]
    fn a_failed_sync_loses_the_writes_before_it_for_good() {
        let mut files = Files::new(&Disk::new(), 1 << 20);
        files.put(b"f", b"old");
        let node = files.find(b"f").unwrap_or(usize::MAX);
        files.write(node, 0, b"new");
        files.sync_failed(node);
        assert_eq!(files.data(node), b"new");
        assert_eq!(files.after_crash(&mut Rng::new(1)).get("f"), Some(&b"old"[..]));
    }

    #[test]
    fn a_write_fits_up_to_the_size_of_the_disk_and_not_past_it() {
        let mut files = Files::new(&Disk::new(), 10);
        files.put(b"other", b"1234");
        let node = files.create(b"f");
        assert_eq!(files.room(node, 0, 6), 6);
        assert_eq!(files.room(node, 0, 7), 6);
        assert_eq!(files.room(node, 6, 1), 0);
    }
}
