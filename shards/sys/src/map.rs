//! Anonymous private memory straight from the kernel.
//!
//! A [`Mapping`] is zero-filled, page-aligned and returned to the kernel on drop. Ranges are byte ranges
//! from its start, on page borders; a range that is not is a bug of the caller and asserts.
//!
//! Not here: who may look at the bytes (see rule 3 in the crate's header; `pools` is the main user).

use std::fmt;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::OnceLock;

use crate::numa;

/// Bytes of a huge page where a page is 4 KiB (x86-64, most arm64). Elsewhere mappings are aligned in vain.
pub const HUGE_PAGE_LEN: usize = 2 << 20;

/// Bytes of one page of this machine (`sysconf(_SC_PAGESIZE)`), a power of two; asked once.
pub fn page_len() -> usize {
    static PAGE_LEN: OnceLock<usize> = OnceLock::new();
    *PAGE_LEN.get_or_init(|| {
        // SAFETY: sysconf takes no pointer and has no precondition.
        let answer = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let len = usize::try_from(answer).unwrap_or(4096);
        assert!(len.is_power_of_two());
        len
    })
}

/// How a mapping is made. The default is lazy, anywhere, of plain pages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MapOptions {
    /// Commits every page at once.
    pub populate: bool,
    /// The memory node its pages come from, as long as there is some.
    pub node: Option<usize>,
    /// Asks for huge pages, and aligns the mapping to them if it holds one.
    pub huge_pages: bool,
}

/// An option that the kernel refused. The mapping works without; what it costs is speed.
#[derive(Debug)]
pub enum Refusal {
    /// Memory comes from where the kernel finds it: with first touch by a pinned thread mostly the same.
    Node {
        /// Asked for.
        node: usize,
        /// Why not.
        error: io::Error,
    },
    /// Plain pages.
    HugePages {
        /// Why not.
        error: io::Error,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Node { node, error } => {
                write!(
                    f,
                    "memory was not bound to node {node} (mbind: {error}): it is where it is touched first"
                )
            }
            Refusal::HugePages { error } => {
                write!(f, "no huge pages (madvise: {error}): plain ones are used")
            }
        }
    }
}

/// An anonymous private mapping, readable and writable, unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: rule 3. A `Mapping` is an address range that belongs to the process, not to a thread, and its
// methods are system calls; it never makes a reference to the bytes.
unsafe impl Send for Mapping {}
// SAFETY: rule 3, as for `Send`: a shared `Mapping` allows system calls only, which the kernel orders.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes, rounded up to whole pages, all zero.
    ///
    /// With `populate` every page is committed now (`MAP_POPULATE`): the call takes as long as zeroing
    /// that much memory, and no later access faults. Without, a page is committed on its first touch.
    ///
    /// # Errors
    /// `InvalidInput` if `len` is 0 or overflows when rounded; `ENOMEM` if the kernel has no room.
    pub fn anonymous(len: usize, populate: bool) -> io::Result<Mapping> {
        Mapping::map(whole_pages(len)?, populate)
    }

    /// Maps `len` bytes, rounded up to whole pages, all zero, with `options`. Says which of them were refused.
    ///
    /// Node and page size are asked for before any page is there, so they hold for all.
    ///
    /// # Errors
    /// As [`Mapping::anonymous`]. With `populate` also `EFAULT` or `ENOMEM` if memory runs out on the way.
    pub fn with(len: usize, options: &MapOptions) -> io::Result<(Mapping, Vec<Refusal>)> {
        let MapOptions { populate, node, huge_pages } = *options;
        let mut refused = Vec::new();
        let len = whole_pages(len)?;
        if node.is_none() && !huge_pages {
            return Ok((Mapping::map(len, populate)?, refused));
        }
        let align = if huge_pages && len >= HUGE_PAGE_LEN { HUGE_PAGE_LEN } else { page_len() };
        let mapping = Mapping::aligned(len, align)?;
        if let Some(node) = node
            && let Err(error) = numa::prefer(mapping.start.as_ptr().cast(), len, node)
        {
            refused.push(Refusal::Node { node, error });
        }
        if huge_pages && let Err(error) = mapping.advise(0..len, libc::MADV_HUGEPAGE) {
            refused.push(Refusal::HugePages { error });
        }
        if populate {
            mapping.advise(0..len, libc::MADV_POPULATE_WRITE)?;
        }
        Ok((mapping, refused))
    }

    /// `len` whole pages from a multiple of `align`, a power of two of at least a page.
    fn aligned(len: usize, align: usize) -> io::Result<Mapping> {
        let Some(room) = len.checked_add(align - page_len()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut mapping = Mapping::map(room, false)?;
        let before = mapping.start.as_ptr().align_offset(align);
        let after = room - before - len;
        for (start, len) in [(0, before), (before + len, after)] {
            if len > 0 {
                let start = mapping.start.as_ptr().wrapping_add(start).cast();
                // SAFETY: rule 3: the range is inside our own mapping, nobody has seen it, and the lines below
                // take it out of what `drop` unmaps.
                let answer = unsafe { libc::munmap(start, len) };
                assert_eq!(answer, 0, "munmap: {}", io::Error::last_os_error());
            }
        }
        // SAFETY: `before < room`, so the sum stays in the mapping.
        mapping.start = unsafe { mapping.start.add(before) };
        mapping.len = len;
        Ok(mapping)
    }

    /// `len` is whole pages and not zero.
    fn map(len: usize, populate: bool) -> io::Result<Mapping> {
        let populate = if populate { libc::MAP_POPULATE } else { 0 };
        // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | populate,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        match NonNull::new(start.cast::<u8>()) {
            Some(start) => Ok(Mapping { start, len }),
            None => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    /// The first byte; aligned to [`page_len`], valid until the mapping is dropped.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes mapped, a multiple of [`page_len`].
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Keeps the mapping out of core dumps (`MADV_DONTDUMP`).
    ///
    /// # Errors
    /// What `madvise(2)` answers.
    pub fn advise_dont_dump(&self) -> io::Result<()> {
        self.advise(0..self.len, libc::MADV_DONTDUMP)
    }

    /// Gives the memory behind `range` back to the kernel; it reads as zero afterwards.
    ///
    /// Costs one system call plus the freeing of the pages that were committed.
    ///
    /// # Errors
    /// `EINVAL` if pages of the range are locked (`mlock`).
    pub fn dont_need(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, libc::MADV_DONTNEED)
    }

    /// Makes every access to `range` fault with SIGSEGV (or `EFAULT` inside the kernel).
    ///
    /// # Errors
    /// `ENOMEM` past `vm.max_map_count` (a protected range splits the mapping).
    pub fn protect_none(&self, range: Range<usize>) -> io::Result<()> {
        self.protect(range, libc::PROT_NONE)
    }

    /// Makes `range` readable and writable again, with the contents it had.
    ///
    /// # Errors
    /// `ENOMEM` as [`Mapping::protect_none`].
    pub fn protect_rw(&self, range: Range<usize>) -> io::Result<()> {
        self.protect(range, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Bytes of `range` that are in memory now (`mincore(2)`), in whole pages.
    ///
    /// Allocates one byte a page while it runs; for tests and reports.
    ///
    /// # Errors
    /// What `mincore(2)` answers.
    pub fn resident_bytes(&self, range: Range<usize>) -> io::Result<usize> {
        let (start, len) = self.part(range);
        let mut pages = vec![0_u8; len / page_len()];
        // SAFETY: rule 1; `pages` has one byte for each page of the range, as mincore(2) asks.
        let answer = unsafe { libc::mincore(start, len, pages.as_mut_ptr()) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages.iter().filter(|&&page| page & 1 == 1).count() * page_len())
    }

    /// Checks `range` and turns it into what the calls take.
    fn part(&self, range: Range<usize>) -> (*mut libc::c_void, usize) {
        assert!(range.start <= range.end, "range {range:?} is backwards");
        assert!(range.end <= self.len, "range {range:?} leaves a mapping of {} bytes", self.len);
        assert!(range.start.is_multiple_of(page_len()), "range {range:?} starts inside a page");
        assert!(range.end.is_multiple_of(page_len()), "range {range:?} ends inside a page");
        (self.start.as_ptr().wrapping_add(range.start).cast(), range.end - range.start)
    }

    fn advise(&self, range: Range<usize>, advice: libc::c_int) -> io::Result<()> {
        let (start, len) = self.part(range);
        // SAFETY: rule 3: the range is inside our own mapping, and its users keep no reference there.
        let answer = unsafe { libc::madvise(start, len, advice) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn protect(&self, range: Range<usize>, protection: libc::c_int) -> io::Result<()> {
        let (start, len) = self.part(range);
        // SAFETY: rule 3: the range is inside our own mapping, and its users keep no reference there.
        let answer = unsafe { libc::mprotect(start, len, protection) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// `len` rounded up to whole pages.
fn whole_pages(len: usize) -> io::Result<usize> {
    match len.checked_next_multiple_of(page_len()) {
        Some(len) if len > 0 => Ok(len),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: rule 3: `start..start+len` is exactly what mmap gave us, and we unmap it once.
        let answer = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(answer, 0, "munmap: {}", io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(map: &Mapping, at: usize, byte: u8) {
        assert!(at < map.len());
        // SAFETY: rule 3: inside the mapping, and no reference into it exists in these tests.
        unsafe { map.as_ptr().as_ptr().add(at).write_volatile(byte) };
    }

    fn read(map: &Mapping, at: usize) -> u8 {
        assert!(at < map.len());
        // SAFETY: rule 3: inside the mapping, which is zero-filled and thus initialised.
        unsafe { map.as_ptr().as_ptr().add(at).read_volatile() }
    }

    #[test]
    fn one_byte_maps_one_page_of_zeroes() {
        let map = Mapping::anonymous(1, false).unwrap();
        assert_eq!(map.len(), page_len());
        assert!(map.as_ptr().as_ptr().addr().is_multiple_of(page_len()));
        assert!((0..map.len()).all(|at| read(&map, at) == 0));
    }

    #[test]
    fn zero_bytes_and_overflowing_lengths_are_refused() {
        assert_eq!(Mapping::anonymous(0, false).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Mapping::anonymous(usize::MAX, false).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let huge = Mapping::anonymous(usize::MAX / 2, false).unwrap_err();
        assert_eq!(huge.raw_os_error(), Some(libc::ENOMEM));
    }

    #[test]
    fn populate_commits_all_pages_and_plain_commits_none() {
        let plain = Mapping::anonymous(16 * page_len(), false).unwrap();
        assert_eq!(plain.resident_bytes(0..plain.len()).unwrap(), 0);
        let full = Mapping::anonymous(16 * page_len(), true).unwrap();
        assert_eq!(full.resident_bytes(0..full.len()).unwrap(), full.len());
    }

    #[test]
    fn memory_with_a_node_comes_from_there_and_is_zero() {
        let Ok(node) = numa::tests::node_at(Mapping::anonymous(1, true).unwrap().as_ptr().as_ptr()) else {
            return; // This kernel has no nodes, or a filter forbids to ask.
        };
        for populate in [false, true] {
            let options = MapOptions { populate, node: Some(node), huge_pages: false };
            let (map, refused) = Mapping::with(5 * page_len() - 1, &options).unwrap();
            assert!(refused.is_empty(), "{refused:?}");
            assert_eq!(map.len(), 5 * page_len());
            let there = if populate { map.len() } else { 0 };
            assert_eq!(map.resident_bytes(0..map.len()).unwrap(), there);
            assert_eq!(numa::tests::node_at(map.as_ptr().as_ptr()).unwrap(), node);
            assert_eq!(read(&map, 4 * page_len()), 0);
            // The kernel's own view (proc_pid_numa_maps(5)): address, policy, pages.
            let maps = std::fs::read_to_string("/proc/self/numa_maps").unwrap_or_default();
            let start = format!("{:x} ", map.as_ptr().as_ptr().addr());
            if let Some(line) = maps.lines().find_map(|line| line.strip_prefix(&start)) {
                assert!(line.starts_with("prefer"), "{line}");
            }
        }
    }

    #[test]
    fn a_node_that_is_not_there_is_refused_and_the_memory_is_usable() {
        for node in [numa::NODES_MAX - 1, numa::NODES_MAX, usize::MAX] {
            let options = MapOptions { populate: true, node: Some(node), huge_pages: false };
            let (map, refused) = Mapping::with(1, &options).unwrap();
            let [Refusal::Node { node: named, .. }] = refused[..] else { panic!("{refused:?}") };
            assert_eq!(named, node);
            assert!(
                refused[0].to_string().starts_with(&format!("memory was not bound to node {node} (mbind: "))
            );
            write(&map, 0, 1);
            assert_eq!(map.resident_bytes(0..map.len()).unwrap(), map.len());
        }
    }

    #[test]
    fn a_mapping_that_holds_a_huge_page_starts_on_one() {
        let options = MapOptions { huge_pages: true, ..MapOptions::default() };
        for (len, align) in [
            (HUGE_PAGE_LEN, HUGE_PAGE_LEN),
            (3 * HUGE_PAGE_LEN + 1, HUGE_PAGE_LEN),
            (HUGE_PAGE_LEN - page_len(), page_len()),
        ] {
            let (map, refused) = Mapping::with(len, &options).unwrap();
            assert!(map.as_ptr().as_ptr().addr().is_multiple_of(align), "{len}");
            assert_eq!(map.len(), len.next_multiple_of(page_len()));
            write(&map, 0, 1);
            write(&map, len - 1, 2);
            assert_eq!([read(&map, 0), read(&map, len - 1)], [1, 2]);
            // A kernel without them says so, and nothing else is different.
            assert!(refused.len() <= 1, "{refused:?}");
        }
        assert!(Mapping::with(usize::MAX / 2, &options).is_err());
        assert!(Mapping::with(0, &options).is_err());
    }

    #[test]
    fn dont_need_drops_the_range_and_leaves_its_neighbours() {
        let page = page_len();
        let map = Mapping::anonymous(3 * page, true).unwrap();
        for at in [0, page, 2 * page] {
            write(&map, at, 7);
        }
        map.dont_need(page..2 * page).unwrap();
        assert_eq!(map.resident_bytes(0..3 * page).unwrap(), 2 * page);
        assert_eq!([read(&map, 0), read(&map, page), read(&map, 2 * page)], [7, 0, 7]);
    }

    #[test]
    fn protection_comes_and_goes_with_the_contents_kept() {
        let page = page_len();
        let map = Mapping::anonymous(2 * page, false).unwrap();
        write(&map, page, 9);
        map.protect_none(page..2 * page).unwrap();
        // The kernel sees the protection too: writing from there to a pipe fails with EFAULT, not a signal.
        let (_reader, writer) = std::io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&writer);
        let from = map.as_ptr().as_ptr().wrapping_add(page).cast();
        // SAFETY: rule 1, except that the bytes are unreadable on purpose; write(2) answers EFAULT.
        assert_eq!(unsafe { libc::write(fd, from, 1) }, -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
        map.protect_rw(page..2 * page).unwrap();
        assert_eq!(read(&map, page), 9);
    }

    #[test]
    #[should_panic(expected = "starts inside a page")]
    fn a_range_off_the_page_border_is_a_bug() {
        let map = Mapping::anonymous(2 * page_len(), false).unwrap();
        drop(map.dont_need(1..page_len()));
    }

    #[test]
    #[should_panic(expected = "leaves a mapping")]
    fn a_range_one_page_past_the_end_is_a_bug() {
        let map = Mapping::anonymous(page_len(), false).unwrap();
        drop(map.protect_none(0..2 * page_len()));
    }
}
