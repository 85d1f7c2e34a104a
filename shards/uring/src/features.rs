//! What a ring can have beyond the bare minimum: names, sets, and why something is missing.
//!
//! A mask of these names (`"defer_taskrun,direct"`, `"all"`) leaves features off, to test the paths that
//! old kernels take and to find out what one of them is worth.
//!
//! Not here: asking the kernel for them (`setup.rs`).

use std::fmt;
use std::str::FromStr;

/// A set of features.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Features(u32);

/// Name and bit of each, oldest kernel first; dropped from the back when the kernel refuses.
const NAMES: [(&str, Features); 18] = [
    ("cqsize", Features::CQSIZE),
    ("clamp", Features::CLAMP),
    ("ext_arg", Features::EXT_ARG),
    ("submit_all", Features::SUBMIT_ALL),
    ("ring_fd", Features::RING_FD),
    ("msg_ring", Features::MSG_RING),
    ("coop_taskrun", Features::COOP_TASKRUN),
    ("taskrun_flag", Features::TASKRUN_FLAG),
    ("direct", Features::DIRECT),
    ("buffer_ring", Features::BUFFER_RING),
    ("multishot_accept", Features::MULTISHOT_ACCEPT),
    ("multishot_recv", Features::MULTISHOT_RECV),
    ("single_issuer", Features::SINGLE_ISSUER),
    ("defer_taskrun", Features::DEFER_TASKRUN),
    ("no_sqarray", Features::NO_SQARRAY),
    ("peer_name", Features::PEER_NAME),
    ("min_wait", Features::MIN_WAIT),
    ("no_iowait", Features::NO_IOWAIT),
];

impl Features {
    /// The empty set.
    pub const NONE: Features = Features(0);
    /// The completion queue has the size asked for, not twice the submission queue (5.5).
    pub const CQSIZE: Features = Features(1);
    /// Sizes beyond the kernel's maximum are cut, not refused (5.6).
    pub const CLAMP: Features = Features(1 << 1);
    /// A timed sleep is one call; without, it costs a timeout operation (5.11).
    pub const EXT_ARG: Features = Features(1 << 2);
    /// A bad operation does not hold up those behind it (5.18).
    pub const SUBMIT_ALL: Features = Features(1 << 3);
    /// The ring is entered by a registered index: no descriptor lookup a call (5.18).
    pub const RING_FD: Features = Features(1 << 4);
    /// Rings write to each other: with `direct`, a socket can be given to another ring (5.18, sockets 6.0).
    pub const MSG_RING: Features = Features(1 << 5);
    /// Completions do not interrupt the thread (5.19).
    pub const COOP_TASKRUN: Features = Features(1 << 6);
    /// The kernel says when it has work to run; without, every turn enters (5.19). Needs one of
    /// `coop_taskrun` and `defer_taskrun`.
    pub const TASKRUN_FLAG: Features = Features(1 << 7);
    /// Sockets and files live in the ring's own table, not among the process's descriptors (5.19).
    pub const DIRECT: Features = Features(1 << 8);
    /// Receive buffers go back through shared memory; without, by an operation (5.19).
    pub const BUFFER_RING: Features = Features(1 << 9);
    /// One accept brings many connections; without, it is pushed again for each (5.19).
    pub const MULTISHOT_ACCEPT: Features = Features(1 << 10);
    /// One receive brings many buffers; without, it is pushed again for each (6.0).
    pub const MULTISHOT_RECV: Features = Features(1 << 11);
    /// One thread submits, and the kernel relies on it (6.0).
    pub const SINGLE_ISSUER: Features = Features(1 << 12);
    /// Work is run only inside `enter` (6.1). Needs `single_issuer`.
    pub const DEFER_TASKRUN: Features = Features(1 << 13);
    /// No indirection between the queue and its entries (6.6).
    pub const NO_SQARRAY: Features = Features(1 << 14);
    /// Sockets take commands: the peer's address of any can be asked for, and options of those in the ring's table
    /// can be set (6.7).
    pub const PEER_NAME: Features = Features(1 << 15);
    /// Sleeping does not count as waiting for I/O (6.15).
    pub const NO_IOWAIT: Features = Features(1 << 16);
    /// A sleep can wait for several completions for some time, and then for one (6.12). Needs `ext_arg`.
    pub const MIN_WAIT: Features = Features(1 << 17);
    /// Every feature.
    pub const ALL: Features = Features((1 << 18) - 1);

    /// Whether every member of `other` is in.
    #[inline]
    pub const fn contains(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Members of either.
    #[must_use]
    pub const fn with(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// Members that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }

    /// The members one by one, oldest kernel first, each with its name.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = (&'static str, Features)> {
        NAMES.into_iter().filter(move |&(_, one)| self.contains(one))
    }
}

/// The names in the order of [`Features::iter`], by commas; `all` and `none` for the two ends.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Features::ALL => f.write_str("all"),
            Features::NONE => f.write_str("none"),
            some => {
                for (at, (name, _)) in some.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { "," })?;
                    f.write_str(name)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A word that names no feature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownFeature(pub String);

impl fmt::Display for UnknownFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no ring feature; there are all, none", self.0)?;
        NAMES.iter().try_for_each(|(name, _)| write!(f, ", {name}"))
    }
}

impl std::error::Error for UnknownFeature {}

/// Reads names by commas, spaces around them allowed; `all`, `none` and the empty text too.
impl FromStr for Features {
    type Err = UnknownFeature;

    fn from_str(text: &str) -> Result<Features, UnknownFeature> {
        text.split(',').map(str::trim).try_fold(Features::NONE, |set, word| {
            let one = match word {
                "" | "none" => Some(Features::NONE),
                "all" => Some(Features::ALL),
                _ => NAMES.iter().find(|(name, _)| *name == word).map(|&(_, one)| one),
            };
            one.map(|one| set.with(one)).ok_or_else(|| UnknownFeature(word.to_owned()))
        })
    }
}

/// Why a ring does without a feature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// [`RingConfig::without`](crate::RingConfig::without) has it.
    Masked,
    /// It builds on this other one, which is missing.
    Needs(Features),
    /// The kernel does not say that it has it.
    Absent,
    /// The kernel answered this errno.
    Refused(i32),
}

/// A feature that a ring does without.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lacking {
    /// Which one.
    pub feature: Features,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let feature = self.feature;
        match self.why {
            Why::Masked => write!(f, "{feature}: masked"),
            Why::Needs(other) => write!(f, "{feature}: needs {other}"),
            Why::Absent => write!(f, "{feature}: not in this kernel"),
            Why::Refused(errno) => {
                write!(f, "{feature}: refused by the kernel ({})", std::io::Error::from_raw_os_error(errno))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_set_reads_back_from_what_it_prints() {
        for bits in 0..=Features::ALL.0 {
            let set = Features(bits);
            assert_eq!(set.to_string().parse(), Ok(set));
        }
    }

    #[test]
    fn all_is_exactly_the_named_ones_and_no_two_share_a_bit() {
        let sum = NAMES.iter().fold(Features::NONE, |sum, &(name, one)| {
            assert!(!sum.contains(one), "{name}");
            sum.with(one)
        });
        assert_eq!(sum, Features::ALL);
    }

    #[test]
    fn names_may_have_spaces_and_a_wrong_one_is_named_with_the_right_ones() {
        let set: Features = " direct , defer_taskrun,".parse().unwrap();
        assert_eq!(set, Features::DIRECT.with(Features::DEFER_TASKRUN));
        let err = "direct,defer".parse::<Features>().unwrap_err();
        assert_eq!(err, UnknownFeature("defer".to_owned()));
        assert!(err.to_string().contains("defer_taskrun"));
    }
}
