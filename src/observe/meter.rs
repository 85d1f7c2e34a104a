//! CPU time as a part of the time that passed.
//!
//! Not here: reading either (the callers).

use std::cell::Cell;

/// Readings this far apart make a rate.
const APART_NS: u64 = 1_000_000_000;

/// Two readings of (time, CPU time), the older one first.
#[derive(Debug)]
pub struct CpuMeter {
    readings: Cell<[(u64, u64); 2]>,
}

impl CpuMeter {
    /// Begins with these nanoseconds of time and of CPU time.
    pub fn new(now_ns: u64, cpu_ns: u64) -> CpuMeter {
        CpuMeter { readings: Cell::new([(now_ns, cpu_ns); 2]) }
    }

    /// CPU used since a reading that is at least a second old, or since the start: 1 is one CPU. Readings are
    /// taken here only, so the time is that since somebody last asked, if that is longer.
    pub fn used(&self, now_ns: u64, cpu_ns: u64) -> f64 {
        let [older, newer] = self.readings.get();
        let apart = now_ns.saturating_sub(newer.0) >= APART_NS;
        let (from_ns, from_cpu_ns) = if apart { newer } else { older };
        if apart {
            self.readings.set([newer, (now_ns, cpu_ns)]);
        }
        super::ratio(cpu_ns.saturating_sub(from_cpu_ns), now_ns.saturating_sub(from_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn cpu_is_measured_over_a_second_at_least() {
        let meter = CpuMeter::new(0, 0);
        assert!((meter.used(S / 2, S / 4) - 0.5).abs() < 1e-9, "since the start");
        assert!((meter.used(S, S / 4) - 0.25).abs() < 1e-9);
        // Asked again at once: over the second before, not over a moment.
        assert!((meter.used(S + S / 4, S / 2) - 0.4).abs() < 1e-9);
        assert!((meter.used(2 * S, S / 2) - 0.25).abs() < 1e-9, "since the reading of one second ago");
        assert!(meter.used(12 * S, S / 2).abs() < 1e-9, "nothing was used for ten seconds");
    }

    #[test]
    fn no_time_passed_is_no_use() {
        assert!(CpuMeter::new(5, 5).used(5, 9).abs() < 1e-9);
    }
}
