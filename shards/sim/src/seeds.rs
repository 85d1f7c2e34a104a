//! The seeds of a test that runs many: counted, or the one that is to be looked at again.

/// Environment variable that names one seed to run alone.
pub const SEED_VARIABLE: &str = "CORELANE_SEED";

/// Seeds `0..default_count`, or only N where `CORELANE_SEED=N` is set. When the test panics while a seed is
/// being run, says on stderr how to run that seed again.
///
/// Panics where the variable is not a number.
pub fn seeds(default_count: u64) -> Seeds {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => Seeds::parse(&text),
        Err(_) => Seeds { next: 0, end: default_count, current: None },
    }
}

/// See [`seeds`].
#[derive(Debug)]
pub struct Seeds {
    next: u64,
    end: u64,
    current: Option<u64>,
}

impl Seeds {
    fn parse(text: &str) -> Seeds {
        match text.trim().parse::<u64>() {
            Ok(seed) if seed < u64::MAX => Seeds { next: seed, end: seed + 1, current: None },
            _ => panic!("{SEED_VARIABLE} is {text:?}: set it to a number below {}", u64::MAX),
        }
    }
}

impl Iterator for Seeds {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.current = (self.next < self.end).then_some(self.next);
        self.next += u64::from(self.current.is_some());
        self.current
    }
}

impl Drop for Seeds {
    fn drop(&mut self) {
        if let Some(seed) = self.current
            && std::thread::panicking()
        {
            eprintln!("failed with seed {seed}; to run it alone: {SEED_VARIABLE}={seed} cargo test <name>");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_seed_runs_alone() {
        assert_eq!(Seeds::parse("7").collect::<Vec<_>>(), [7]);
    }

    #[test]
    #[should_panic(expected = "CORELANE_SEED is \"x\"")]
    fn a_seed_that_is_no_number_is_refused() {
        Seeds::parse("x");
    }
}
