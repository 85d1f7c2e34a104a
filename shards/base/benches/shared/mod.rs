//! What the micro benches of all shards' crates share; each takes this file in by its path.
//!
//! Not here: cases.

use divan::{Bencher, black_box};

/// Runs before the first that is measured.
const WARM_RUNS: u32 = 32;

/// Whether this is a measurement (`cargo bench`), and not a test.
pub(crate) fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A case that is measured warm.
pub(crate) trait Warm {
    /// Repeats `case` on this thread. When measuring, first without looking: divan chooses by the first run
    /// how many make one sample, and a run that has to fetch its code and memory would make it one, timed to
    /// 20 ns.
    fn bench_warm<O>(self, case: impl FnMut() -> O);
}

impl Warm for Bencher<'_, '_> {
    fn bench_warm<O>(self, mut case: impl FnMut() -> O) {
        if measures() {
            for _ in 0..WARM_RUNS {
                black_box(case());
            }
        }
        self.bench_local(case);
    }
}
