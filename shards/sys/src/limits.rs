//! Resource limits of the process and the capability that lifts one of them.
//!
//! Not here: how much a node needs (`config`), what to tell the operator when it is too little (`doctor`).

use std::io;
use std::path::Path;

use crate::kernel::status_field;

/// A soft and a hard limit, `u64::MAX` for none (`getrlimit(2)`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rlimit {
    /// What holds now.
    pub soft: u64,
    /// Up to where the soft limit can be raised without privilege.
    pub hard: u64,
}

const _: () = assert!(libc::RLIM_INFINITY == u64::MAX);

/// Which limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource {
    /// Open descriptors (`RLIMIT_NOFILE`), in counts; also the size of each ring's direct table.
    Nofile,
    /// Locked memory (`RLIMIT_MEMLOCK`), in bytes; rings are charged to it, per user.
    Memlock,
}

/// Bit of `CAP_IPC_LOCK` in a capability mask (`linux/capability.h`).
const CAP_IPC_LOCK: u32 = 14;

impl Resource {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Resource::Nofile => libc::RLIMIT_NOFILE,
            Resource::Memlock => libc::RLIMIT_MEMLOCK,
        }
    }

    /// The limit that holds for this process.
    ///
    /// # Errors
    /// None that `getrlimit(2)` names for these resources.
    pub fn get(self) -> io::Result<Rlimit> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: rule 1.
        match unsafe { libc::getrlimit(self.number(), &raw mut limit) } {
            0 => Ok(Rlimit { soft: limit.rlim_cur, hard: limit.rlim_max }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sets both limits of this process. Lowering the hard one cannot be undone without privilege.
    ///
    /// # Errors
    /// `EINVAL` if soft exceeds hard; `EPERM` if hard is raised without privilege, or past
    /// `fs.nr_open` for descriptors.
    pub fn set(self, limit: Rlimit) -> io::Result<()> {
        let limit = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
        // SAFETY: rule 1.
        match unsafe { libc::setrlimit(self.number(), &raw const limit) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Raises the soft limit to the hard one and returns what holds then.
    ///
    /// # Errors
    /// As [`Resource::set`]; the limit is as before then.
    pub fn raise(self) -> io::Result<Rlimit> {
        let limit = self.get()?;
        if limit.soft < limit.hard {
            self.set(Rlimit { soft: limit.hard, hard: limit.hard })?;
        }
        self.get()
    }
}

/// Raises the soft limit of open descriptors to the hard one and returns what holds then.
///
/// # Errors
/// As [`Resource::set`].
pub fn raise_nofile() -> io::Result<Rlimit> {
    Resource::Nofile.raise()
}

/// Raises the soft limit of locked memory to the hard one and returns what holds then.
///
/// # Errors
/// As [`Resource::set`].
pub fn raise_memlock() -> io::Result<Rlimit> {
    Resource::Memlock.raise()
}

/// Whether `RLIMIT_MEMLOCK` does not apply to us: `CAP_IPC_LOCK` in `CapEff` of `proc/self/status`.
///
/// # Errors
/// What reading the file answers; `InvalidData` if it has no such line.
pub fn has_cap_ipc_lock(root: &Path) -> io::Result<bool> {
    let text = status_field(root, "CapEff")?;
    match u64::from_str_radix(&text, 16) {
        Ok(mask) => Ok(mask >> CAP_IPC_LOCK & 1 == 1),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kernel::tests::fake_status;

    // Limits belong to the process, so the one test that changes them puts them back.
    #[test]
    fn the_soft_limit_rises_to_the_hard_one_and_no_further() {
        let before = Resource::Nofile.get().unwrap();
        assert!(before.soft <= before.hard);
        let low = Rlimit { soft: before.hard.min(512), hard: before.hard };
        Resource::Nofile.set(low).unwrap();
        assert_eq!(Resource::Nofile.get().unwrap(), low);
        let raised = raise_nofile().unwrap();
        assert_eq!(raised, Rlimit { soft: before.hard, hard: before.hard });
        assert_eq!(raise_nofile().unwrap(), raised);
        Resource::Nofile.set(before).unwrap();
    }

    #[test]
    fn a_soft_limit_above_the_hard_one_is_refused_by_the_kernel() {
        let now = Resource::Memlock.get().unwrap();
        if now.hard == u64::MAX {
            return; // Nothing is above it.
        }
        let error = Resource::Memlock.set(Rlimit { soft: now.hard + 1, hard: now.hard }).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(Resource::Memlock.get().unwrap(), now);
    }

    #[test]
    fn the_capability_is_one_bit_of_the_effective_mask() {
        for (mask, expected) in [("0000000000004000", true), ("ffffffffffffbfff", false), ("0", false)] {
            let root = fake_status(&format!("Name:\tx\nCapPrm:\tffff\nCapEff:\t{mask}\n"));
            assert_eq!(has_cap_ipc_lock(root.path()).unwrap(), expected, "{mask}");
        }
        for text in ["CapEff:\tnone\n", "Name:\tx\n"] {
            let root = fake_status(text);
            assert_eq!(has_cap_ipc_lock(root.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert!(has_cap_ipc_lock(Path::new("/")).is_ok());
    }
}
