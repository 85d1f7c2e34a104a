//! Whether a run can have what it needs: descriptors, and local ports.
//!
//! Asked before the first connection, so that a user reads one line with a cure instead of a run full of
//! errors.
//!
//! Not here: whether the server has as much.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use corelane_sys::kernel::sysctl;
use corelane_sys::limits::Resource;

use super::{SOURCES_MAX, read_word};

/// Descriptors of the process beside its connections: streams, outputs, files of `/proc` (at most 8 at once),
/// signals, agents (one each). Rounded up.
const DESCRIPTORS_FIXED: u64 = 64;
/// Descriptors of a worker beside its connections: its ring, an eventfd, a timer, and room.
const DESCRIPTORS_PER_THREAD: u64 = 8;
/// Slots of a ring's table beside its share of the connections: a closing one may overlap with its successor.
const SLOTS_SPARE: u64 = 16;
/// Slots that any ring's table may have (`IORING_MAX_FIXED_FILES`, io_uring/rsrc.c).
const SLOTS_MAX: u64 = 1 << 20;

/// Raises the limit of open descriptors as far as it goes, and checks that `connections` of all `threads`
/// together fit. With `direct` a connection is a slot in the table of its ring and no descriptor of the
/// process; each table may have as many slots as the process may have descriptors (io_uring_register(2),
/// `EMFILE`).
///
/// # Errors
/// What is needed, what the limit is, and what to type.
pub fn check_descriptors(connections: u32, threads: u32, direct: bool) -> Result<(), String> {
    let raised = Resource::Nofile.raise().or_else(|_| Resource::Nofile.get());
    let limit =
        raised.map_err(|error| format!("the limit of open descriptors could not be read: {error}"))?;
    descriptors_fit(connections, threads, direct, limit.soft)
}

fn descriptors_fit(connections: u32, threads: u32, direct: bool, limit: u64) -> Result<(), String> {
    let (connections, threads) = (u64::from(connections), u64::from(threads.max(1)));
    let beside = DESCRIPTORS_FIXED + threads * DESCRIPTORS_PER_THREAD;
    if !direct {
        return match connections + beside {
            needed if needed <= limit => Ok(()),
            needed => Err(format!(
                "{connections} connections need {needed} descriptors, and this process may have {limit} \
                 (RLIMIT_NOFILE): {}, or ask for --connections {}",
                raise_to(needed),
                limit.saturating_sub(beside).max(1)
            )),
        };
    }
    if beside > limit {
        return Err(format!(
            "{threads} threads need {beside} descriptors, and this process may have {limit} \
             (RLIMIT_NOFILE): {}",
            raise_to(beside)
        ));
    }
    let slots_max = limit.min(SLOTS_MAX);
    let needed = connections.div_ceil(threads) + SLOTS_SPARE;
    if needed <= slots_max {
        return Ok(());
    }
    // As many threads as make each share fit. There is room beside the spare ones: `beside` is more than
    // those.
    let enough = connections.div_ceil(slots_max.saturating_sub(SLOTS_SPARE).max(1));
    let mut cures = vec![format!("type --threads {enough}")];
    if needed <= SLOTS_MAX {
        cures.push(raise_to(needed));
    }
    Err(format!(
        "{connections} connections on {threads} thread{} need a table of {needed} descriptors in each ring, \
         and one may have {slots_max} ({}): {}",
        if threads == 1 { "" } else { "s" },
        if limit <= SLOTS_MAX { "RLIMIT_NOFILE" } else { "the kernel's bound" },
        cures.join(", or ")
    ))
}

fn raise_to(needed: u64) -> String {
    format!(
        "type `ulimit -n {needed}` in the shell that starts it (as root), or LimitNOFILE={needed} in its unit"
    )
}

/// Local ports of a source and target that may be in use before finding a free one gets slow and others of
/// this host are in the way, percent.
const PORTS_TIGHT_PERCENT: u64 = 90;

/// Checks that `connections` to one `target` find local ports: each of `sources` (none: one, which the kernel
/// chooses) has those of `net.ipv4.ip_local_port_range`, which holds for IPv6 too, less the reserved ones.
/// `Ok` with a warning where it is tight. Where the range cannot be read, the kernel will tell.
///
/// # Errors
/// How many there are, and what to type.
pub fn check_ports(
    root: &Path,
    connections: u32,
    sources: &[IpAddr],
    target: IpAddr,
) -> Result<Option<String>, String> {
    let Some(each) = ports(root) else { return Ok(None) };
    let connections = u64::from(connections);
    let count = sources.len().max(1) as u64;
    let all = each.saturating_mul(count);
    if connections.saturating_mul(100) <= all.saturating_mul(PORTS_TIGHT_PERCENT) {
        return Ok(None);
    }
    let seen = format!(
        "{connections} connections to one address, and {count} source address{} with {each} local ports each \
         (net.ipv4.ip_local_port_range)",
        if count == 1 { "" } else { "es" }
    );
    let cure = more_ports(connections, each, target);
    if connections > all {
        Err(format!("{seen} are too few: {cure}"))
    } else {
        Ok(Some(format!("{seen} leave less than {}% free: {cure}", 100 - PORTS_TIGHT_PERCENT)))
    }
}

/// What to type for more ports. All of 127.0.0.0/8 is this host without further ado; of other addresses only
/// the administrator knows.
fn more_ports(connections: u64, each: u64, target: IpAddr) -> String {
    // As many as leave a tenth of them free.
    let count = (connections * 100).div_ceil(each * PORTS_TIGHT_PERCENT).max(2);
    let sources = || {
        let offset = count.min(SOURCES_MAX as u64);
        let last =
            Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 0).to_bits() | u32::try_from(offset).unwrap_or(1));
        format!("type --source 127.0.0.1-{last}")
    };
    match target.to_canonical() {
        IpAddr::V4(ip) if ip.is_loopback() => sources(),
        ip if ip.is_loopback() => format!("name the server as 127.0.0.1 and {}", sources()),
        _ => format!(
            "give this host {count} addresses and name them with --source FIRST-LAST, or type \
             `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`"
        ),
    }
}

/// Ports that a connection from one address may come from; None where the kernel does not say.
fn ports(root: &Path) -> Option<u64> {
    let text = sysctl(root, "net.ipv4.ip_local_port_range").ok()?;
    let mut ends = text.split_ascii_whitespace().map(|end| end.parse::<u16>().ok());
    let (low, high) = (ends.next()??, ends.next()??);
    let all = u64::from(high.checked_sub(low)?) + 1;
    let left = all - reserved(root).range(low..=high).count() as u64;
    (left > 0).then_some(left)
}

/// Ports that the kernel does not give out: numbers and ranges of them, with commas.
fn reserved(root: &Path) -> BTreeSet<u16> {
    let text = read_word(root, "proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::fake::machine;

    #[test]
    fn connections_that_are_descriptors_fit_up_to_the_limit() {
        let limit = 1000 + DESCRIPTORS_FIXED + 2 * DESCRIPTORS_PER_THREAD;
        assert_eq!(descriptors_fit(1000, 2, false, limit), Ok(()));
        let error = descriptors_fit(1001, 2, false, limit).unwrap_err();
        for part in ["1001 connections", "need 1081", "may have 1080", "ulimit -n 1081", "LimitNOFILE=1081"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(error.ends_with("--connections 1000"), "{error}");
    }

    #[test]
    fn connections_that_are_slots_fit_up_to_the_limit_of_each_ring() {
        let limit = 500 + SLOTS_SPARE;
        assert_eq!(descriptors_fit(1000, 2, true, limit), Ok(()));
        let error = descriptors_fit(1001, 2, true, limit).unwrap_err();
        for part in [
            "1001 connections on 2 threads",
            "517 descriptors",
            "have 516 (RLIMIT",
            "--threads 3, or",
            "ulimit -n 517",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(descriptors_fit(1001, 3, true, limit), Ok(()), "the cure helps");
        assert_eq!(descriptors_fit(1001, 2, true, 517), Ok(()), "and so does the other");
        assert!(descriptors_fit(600, 1, true, limit).unwrap_err().contains("on 1 thread need"));
    }

    #[test]
    fn more_slots_than_any_ring_has_are_cured_by_threads_alone() {
        let most = u32::try_from(SLOTS_MAX - SLOTS_SPARE).unwrap();
        assert_eq!(descriptors_fit(most, 1, true, u64::MAX), Ok(()));
        let error = descriptors_fit(most + 1, 1, true, u64::MAX).unwrap_err();
        assert!(error.contains("the kernel's bound"), "{error}");
        assert!(error.ends_with("type --threads 2"), "{error}");
    }

    #[test]
    fn threads_need_descriptors_of_their_own() {
        let limit = DESCRIPTORS_FIXED + 4 * DESCRIPTORS_PER_THREAD;
        assert_eq!(descriptors_fit(1, 4, true, limit), Ok(()));
        let error = descriptors_fit(1, 5, true, limit).unwrap_err();
        assert!(error.contains("5 threads need 104"), "{error}");
        assert!(descriptors_fit(u32::MAX, u32::MAX, false, limit).is_err(), "no overflow");
    }

    #[test]
    fn a_small_run_fits_this_machine() {
        assert_eq!(check_descriptors(1, 1, true), Ok(()));
        assert_eq!(check_descriptors(1, 1, false), Ok(()));
    }

    /// A machine with ports from 10,000 on.
    fn with_ports(count: u16) -> tempfile::TempDir {
        machine(&[("proc/sys/net/ipv4/ip_local_port_range", &format!("10000\t{}\n", 9999 + count))])
    }

    fn check(count: u32, sources: &str, target: &str) -> Result<Option<String>, String> {
        let sources =
            if sources.is_empty() { Vec::new() } else { crate::host::parse_sources(sources).unwrap() };
        check_ports(with_ports(1000).path(), count, &sources, target.parse().unwrap())
    }

    #[test]
    fn ports_are_enough_or_tight_or_too_few() {
        assert_eq!(check(900, "", "127.0.0.1"), Ok(None));
        let tight = check(901, "", "127.0.0.1").unwrap().unwrap();
        assert!(tight.contains("1 source address with 1000 local ports each"), "{tight}");
        assert!(tight.ends_with("less than 10% free: type --source 127.0.0.1-127.0.0.2"), "{tight}");
        assert!(check(1000, "", "127.0.0.1").unwrap().is_some());
        let few = check(1001, "", "127.0.0.1").unwrap_err();
        assert!(few.ends_with("are too few: type --source 127.0.0.1-127.0.0.2"), "{few}");
        assert_eq!(check(1800, "127.0.0.1-127.0.0.2", "127.0.0.1"), Ok(None));
        assert!(check(2001, "127.0.0.1-127.0.0.2", "127.0.0.1").is_err());
    }

    #[test]
    fn the_cure_for_ports_helps_and_depends_on_the_target() {
        let local = check(100_000, "", "127.0.0.1").unwrap_err();
        assert!(local.ends_with("--source 127.0.0.1-127.0.0.112"), "{local}");
        assert_eq!(check(100_000, "127.0.0.1-127.0.0.112", "127.0.0.1"), Ok(None));
        assert!(check(100_000, "127.0.0.1-127.0.0.111", "127.0.0.1").unwrap().is_some());
        let more = check(1_000_000, "", "127.0.0.1").unwrap_err();
        assert!(more.ends_with("--source 127.0.0.1-127.0.4.88"), "{more}");
        let v6 = check(2000, "", "::1").unwrap_err();
        assert!(v6.contains("name the server as 127.0.0.1"), "{v6}");
        let far = check(2000, "", "198.51.100.1").unwrap_err();
        assert!(far.contains("give this host 3 addresses"), "{far}");
        assert!(far.contains("ip_local_port_range=\"1024 65535\""), "{far}");
    }

    #[test]
    fn reserved_ports_are_not_counted() {
        let root = with_ports(1000);
        let reserved = "proc/sys/net/ipv4/ip_local_reserved_ports";
        for (text, left) in [("8080", 1000), ("10000", 999), ("9990-10009,10005,10999", 989), ("x,1-x", 1000)]
        {
            crate::host::fake::put(root.path(), reserved, &format!("{text}\n"));
            assert_eq!(ports(root.path()), Some(left), "{text}");
        }
    }

    #[test]
    fn a_range_that_is_not_shown_or_empty_is_left_to_the_kernel() {
        for text in ["", "x y", "1", "10 9", "1 70000"] {
            let root = machine(&[("proc/sys/net/ipv4/ip_local_port_range", text)]);
            assert_eq!(
                check_ports(root.path(), u32::MAX, &[], "127.0.0.1".parse().unwrap()),
                Ok(None),
                "{text}"
            );
        }
    }
}
