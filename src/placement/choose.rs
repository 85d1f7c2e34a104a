//! Which of the allowed CPUs shards get.
//!
//! # Policy
//! 1. A shard has a core for itself. A second thread of a core is used only when no core is left.
//! 2. Few shards stay together: in the first cache that has a core for each, else in the first memory node,
//!    else anywhere. Shards talk over lanes, and a line that stays in one cache is several times cheaper to
//!    hand over than one that crosses a node. Within these bounds caches are filled one after the other.
//! 3. The core of CPU 0 comes last in its cache: the kernel's own work and most interrupts are there.
//! 4. All else is by rising number, so that the same machine gives the same answer.
//!
//! Not here: how many shards (`placement`), what CPUs share (`corelane_sys::topology`).

use corelane_sys::topology::Cpu;

/// A core: its allowed CPUs, rising, at least one.
pub(super) struct Core {
    threads: Vec<Cpu>,
}

impl Core {
    fn first(&self) -> &Cpu {
        &self.threads[0]
    }

    /// Cores with the same share node and cache, as far as is known.
    fn group(&self) -> (Option<usize>, Option<usize>) {
        (self.first().node, self.first().llc)
    }

    pub(super) fn has(&self, cpu: usize) -> bool {
        self.threads.iter().any(|thread| thread.id == cpu)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = usize> {
        self.threads.iter().map(|thread| thread.id)
    }
}

/// The cores of `cpus`, by node, cache and number.
pub(super) fn cores(cpus: &[Cpu]) -> Vec<Core> {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable_by_key(|cpu| (cpu.core, cpu.id));
    sorted.dedup_by_key(|cpu| cpu.id);
    let mut cores: Vec<Core> =
        sorted.chunk_by(|a, b| a.core == b.core).map(|threads| Core { threads: threads.to_vec() }).collect();
    cores.sort_by_key(|core| (core.group(), core.first().id));
    cores
}

/// `count` CPUs of `cores`, by node, cache and number. At most as many as there are.
pub(super) fn choose(cores: &[Core], count: usize) -> Vec<Cpu> {
    let mut chosen = Vec::new();
    let mut depth = 0;
    // Policy 1: first threads, then second ones, as far as it takes.
    while chosen.len() < count {
        let with: Vec<&Core> = cores.iter().filter(|core| core.threads.len() > depth).collect();
        if with.is_empty() {
            break;
        }
        let wanted = with.len().min(count - chosen.len());
        chosen.extend(together(&with, wanted).into_iter().map(|core| core.threads[depth]));
        depth += 1;
    }
    chosen.sort_unstable_by_key(|cpu| (cpu.node, cpu.llc, cpu.id));
    chosen
}

/// Policy 2 and 3. `cores` is sorted as by [`cores`] and has at least `count`.
fn together<'a>(cores: &[&'a Core], count: usize) -> Vec<&'a Core> {
    debug_assert!(count <= cores.len());
    let same_node = |a: &&Core, b: &&Core| a.group().0 == b.group().0;
    let same_cache = |a: &&Core, b: &&Core| a.group() == b.group();
    let fits = |part: &&[&Core]| part.len() >= count;
    let within = cores
        .chunk_by(same_cache)
        .find(fits)
        .or_else(|| cores.chunk_by(same_node).find(fits))
        .unwrap_or(cores);
    let mut ordered: Vec<&Core> = Vec::with_capacity(within.len());
    for cache in within.chunk_by(same_cache) {
        let (last, first): (Vec<&Core>, Vec<&Core>) = cache.iter().partition(|core| core.has(0));
        ordered.extend(first.into_iter().chain(last));
    }
    ordered.truncate(count);
    ordered
}
