//! What the control groups of this process allow it: CPU time and memory.
//!
//! Each limit is the tightest of the process's own group and all groups above it, of both versions: a host may
//! have the second beside the first. Which directory is whose is read from `proc/self/cgroup` and
//! `proc/self/mountinfo` (cgroups(7), proc_pid_mountinfo(5)) below a root directory, `/` outside of tests. In a
//! cgroup namespace the path is `/` and the groups above are hidden; their limits then are too.
//!
//! The CPUs of a group (cpuset) need no look here: they are in the affinity mask already.
//!
//! Not here: what follows from a limit (`placement` of the product).

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::kernel::read_trimmed;

/// Version 1 writes "no limit" as the largest number of whole pages; no machine has as much.
const MEMORY_UNLIMITED: u64 = 1 << 60;

/// CPU time in each period, for all threads of a group together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CpuQuota {
    /// Microseconds of CPU time.
    pub quota_us: u64,
    /// In so many microseconds.
    pub period_us: u64,
    /// The file that says so.
    pub file: PathBuf,
}

impl CpuQuota {
    /// Whole CPUs.
    pub fn cpus_floor(&self) -> usize {
        usize::try_from(self.quota_us / self.period_us).unwrap_or(usize::MAX)
    }

    fn is_below(&self, other: &CpuQuota) -> bool {
        let product = |quota: u64, period: u64| u128::from(quota) * u128::from(period);
        product(self.quota_us, other.period_us) < product(other.quota_us, self.period_us)
    }
}

/// CPUs with at most two decimals, like `1.5`.
impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = u128::from(self.quota_us) * 100 / u128::from(self.period_us);
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}"),
            (_, 0) => write!(f, "{whole}.{}", rest / 10),
            _ => write!(f, "{whole}.{rest:02}"),
        }
    }
}

/// Memory of all processes of a group together; past it the kernel kills.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryLimit {
    /// Bytes.
    pub bytes: u64,
    /// The file that says so.
    pub file: PathBuf,
}

/// The tightest limit of CPU time (`cpu.max`; `cpu.cfs_quota_us` with `cpu.cfs_period_us`), if there is one.
pub fn cpu_quota(root: &Path) -> Option<CpuQuota> {
    let all = groups(root, "cpu").into_iter().filter_map(|group| match group.version {
        Version::Two => {
            let file = group.dir.join("cpu.max");
            let text = read_trimmed(&below(root, &file)).ok()?;
            let (quota, period) = text.split_once(' ')?;
            quota_of(quota, period, file)
        }
        Version::One => {
            let file = group.dir.join("cpu.cfs_quota_us");
            let quota = read_trimmed(&below(root, &file)).ok()?;
            let period = read_trimmed(&below(root, &group.dir.join("cpu.cfs_period_us"))).ok()?;
            quota_of(&quota, &period, file)
        }
    });
    all.reduce(|least, one| if one.is_below(&least) { one } else { least })
}

/// The tightest limit of memory (`memory.max`; `memory.limit_in_bytes`), if there is one.
pub fn memory_limit(root: &Path) -> Option<MemoryLimit> {
    let all = groups(root, "memory").into_iter().filter_map(|group| {
        let file = group.dir.join(match group.version {
            Version::Two => "memory.max",
            Version::One => "memory.limit_in_bytes",
        });
        let bytes: u64 = read_trimmed(&below(root, &file)).ok()?.parse().ok()?;
        (bytes < MEMORY_UNLIMITED).then_some(MemoryLimit { bytes, file })
    });
    all.min_by_key(|limit| limit.bytes)
}

/// `max` and `-1` are no numbers here, and no limits.
fn quota_of(quota: &str, period: &str, file: PathBuf) -> Option<CpuQuota> {
    let (quota_us, period_us) = (quota.parse().ok()?, period.parse().ok()?);
    (period_us > 0).then_some(CpuQuota { quota_us, period_us, file })
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    One,
    Two,
}

/// A directory of a group, as this process sees it.
struct Group {
    version: Version,
    dir: PathBuf,
}

/// Where a hierarchy is mounted.
struct Mount {
    version: Version,
    /// The group that is seen at `point`.
    top: PathBuf,
    point: PathBuf,
}

/// This process's groups that may have files of `controller`, each followed by those above it.
fn groups(root: &Path, controller: &str) -> Vec<Group> {
    let own = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounts = mounts(root, controller);
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let version = match controllers {
            "" => Version::Two,
            list if list.split(',').any(|name| name == controller) => Version::One,
            _ => continue,
        };
        for mount in mounts.iter().filter(|mount| mount.version == version) {
            // What is mounted may begin further down than the path, or the group may be outside of what a
            // namespace shows (`..`). The top of the mount is above the process in both cases.
            let rest = Path::new(path).strip_prefix(&mount.top).unwrap_or(Path::new(""));
            let outside = rest.components().any(|part| part == Component::ParentDir);
            let own = if outside { mount.point.clone() } else { mount.point.join(rest) };
            let up = own.ancestors().take_while(|dir| dir.starts_with(&mount.point));
            found.extend(up.map(|dir| Group { version, dir: dir.to_owned() }));
        }
    }
    found
}

/// Where the hierarchies that may have `controller` are mounted.
fn mounts(root: &Path, controller: &str) -> Vec<Mount> {
    let text = std::fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let mount = |line: &str| {
        let (of_mount, of_filesystem) = line.split_once(" - ")?;
        let mut fields = of_mount.split(' ').skip(3);
        let (top, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        let mut fields = of_filesystem.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1).unwrap_or(""));
        let version = match kind {
            "cgroup2" => Version::Two,
            "cgroup" if options.split(',').any(|name| name == controller) => Version::One,
            _ => return None,
        };
        Some(Mount { version, top, point })
    };
    text.lines().filter_map(mount).collect()
}

/// A path of mountinfo: blanks, line ends and backslashes are written `\040`, in octal.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut path = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                path.push(char::from(code));
                path.push_str(&part[3..]);
            }
            None => path.push_str(part),
        }
    }
    path.into()
}

/// An absolute path of the machine below its root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kernel::tests::put;

    /// A machine with one hierarchy of version 2, and this process in the group at `path`.
    fn unified(top: &str, path: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "proc/self/cgroup", &format!("0::{path}\n"));
        let mount =
            format!("30 23 0:26 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
        put(root.path(), "proc/self/mountinfo", &format!("23 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mount}"));
        root
    }

    /// One of version 1, `cpu,cpuacct` and `memory` apart.
    fn divided(path: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        put(
            root.path(),
            "proc/self/cgroup",
            &format!("5:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:/x\n0::/\n"),
        );
        put(
            root.path(),
            "proc/self/mountinfo",
            "32 31 0:29 / /sys/fs/cgroup/cpu\\054cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
        );
        root
    }

    fn quota(root: &tempfile::TempDir) -> Option<String> {
        cpu_quota(root.path()).map(|quota| quota.to_string())
    }

    #[test]
    fn a_quota_of_version_2_is_time_in_a_period_or_max() {
        let root = unified("/", "/app");
        assert_eq!(quota(&root), None, "no file");
        for (text, cpus, floor) in [
            ("50000 100000", Some("0.5"), Some(0)),
            ("150000 100000", Some("1.5"), Some(1)),
            ("400000 100000", Some("4"), Some(4)),
            ("33333 50000", Some("0.66"), Some(0)),
            ("105000 100000", Some("1.05"), Some(1)),
            ("max 100000", None, None),
            ("1 0", None, None),
            ("many 100000", None, None),
            ("5", None, None),
        ] {
            put(root.path(), "sys/fs/cgroup/app/cpu.max", &format!("{text}\n"));
            assert_eq!(quota(&root).as_deref(), cpus, "{text}");
            assert_eq!(cpu_quota(root.path()).map(|quota| quota.cpus_floor()), floor, "{text}");
        }
    }

    #[test]
    fn the_tightest_group_up_the_tree_counts() {
        let root = unified("/", "/a/b/c");
        put(root.path(), "sys/fs/cgroup/a/cpu.max", "300000 100000\n");
        put(root.path(), "sys/fs/cgroup/a/b/cpu.max", "20000 10000\n");
        put(root.path(), "sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
        put(root.path(), "sys/fs/cgroup/other/cpu.max", "1000 100000\n");
        let least = cpu_quota(root.path()).unwrap();
        assert_eq!(least.to_string(), "2");
        assert_eq!(least.file, Path::new("/sys/fs/cgroup/a/b/cpu.max"));
        put(root.path(), "sys/fs/cgroup/a/memory.max", "1000\n");
        put(root.path(), "sys/fs/cgroup/a/b/memory.max", "2000\n");
        put(root.path(), "sys/fs/cgroup/a/b/c/memory.max", "max\n");
        let least = memory_limit(root.path()).unwrap();
        assert_eq!((least.bytes, least.file.to_str()), (1000, Some("/sys/fs/cgroup/a/memory.max")));
    }

    #[test]
    fn version_1_has_a_directory_for_each_controller() {
        let root = divided("/app");
        assert_eq!((quota(&root), memory_limit(root.path())), (None, None));
        let group = "sys/fs/cgroup/cpu,cpuacct/app";
        put(root.path(), &format!("{group}/cpu.cfs_period_us"), "100000\n");
        put(root.path(), &format!("{group}/cpu.cfs_quota_us"), "-1\n");
        assert_eq!(quota(&root), None);
        put(root.path(), &format!("{group}/cpu.cfs_quota_us"), "150000\n");
        assert_eq!(quota(&root).as_deref(), Some("1.5"));
        put(root.path(), "sys/fs/cgroup/memory/app/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(memory_limit(root.path()), None);
        put(root.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
        assert_eq!(memory_limit(root.path()).unwrap().bytes, 512 << 20);
        // The second version beside it may hold a limit as well.
        put(root.path(), "sys/fs/cgroup/unified/cpu.max", "100000 100000\n");
        assert_eq!(quota(&root).as_deref(), Some("1"));
    }

    #[test]
    fn in_a_namespace_the_top_of_the_mount_is_the_own_group() {
        let root = unified("/", "/");
        put(root.path(), "sys/fs/cgroup/cpu.max", "250000 100000\n");
        assert_eq!(quota(&root).as_deref(), Some("2.5"));
        // Outside of what the namespace shows.
        let root = unified("/", "/../other");
        put(root.path(), "sys/fs/cgroup/cpu.max", "250000 100000\n");
        put(root.path(), "sys/fs/other/cpu.max", "100000 100000\n");
        assert_eq!(quota(&root).as_deref(), Some("2.5"));
    }

    #[test]
    fn a_mount_that_begins_further_down_is_entered_from_there() {
        let root = unified("/docker/abc", "/docker/abc/in");
        put(root.path(), "sys/fs/cgroup/cpu.max", "300000 100000\n");
        put(root.path(), "sys/fs/cgroup/in/cpu.max", "200000 100000\n");
        assert_eq!(quota(&root).as_deref(), Some("2"));
        let elsewhere = unified("/docker/xyz", "/docker/abc");
        put(elsewhere.path(), "sys/fs/cgroup/cpu.max", "300000 100000\n");
        assert_eq!(quota(&elsewhere).as_deref(), Some("3"));
    }

    #[test]
    fn a_process_without_groups_has_no_limits() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!((cpu_quota(root.path()), memory_limit(root.path())), (None, None));
        put(root.path(), "proc/self/cgroup", "nonsense\n");
        put(root.path(), "proc/self/mountinfo", "nonsense - cgroup2\n");
        assert_eq!((cpu_quota(root.path()), memory_limit(root.path())), (None, None));
    }
}
