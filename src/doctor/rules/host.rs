//! What the kernel and the limits of the process allow.
//!
//! Not here: CPUs (`cpus`), packets (`net`).

use corelane_uring::SetupError;

use super::{count, finding};
use crate::doctor::finding::{Finding, Severity::*};
use crate::doctor::{Drift, Facts};
use crate::preflight::RELEASE_MIN;

/// A value that shell and units understand.
fn bytes_or_infinity(bytes: u64) -> String {
    if bytes == u64::MAX { "unlimited".to_owned() } else { bytes.to_string() }
}

pub(super) fn kernel(facts: &Facts) -> Vec<Finding> {
    let (release, least) = (facts.release, RELEASE_MIN);
    if release == (0, 0) || release >= least {
        return Vec::new();
    }
    vec![finding(
        ("kernel", Blocks),
        format!("this kernel is Linux {}.{}", release.0, release.1),
        format!("the node builds on what io_uring has since Linux {}.{}", least.0, least.1),
        "apt-get install linux-image-amd64 && reboot    # Debian 12 or newer; others have a name of their own",
        "the node starts",
        "a reboot, and a new kernel for everything on this host",
    )]
}

pub(super) fn ring_sysctl(facts: &Facts) -> Vec<Finding> {
    let Some((level, group)) = facts.ring.forbidden else { return Vec::new() };
    let (cause, command) = match (level, group) {
        (1, Some(group)) => (
            format!("io_uring is for group {group} only, and this user is not in it"),
            format!(
                "usermod -aG \"$(getent group {group} | cut -d: -f1)\" \"${{SUDO_USER:-$(id -un)}}\"    # and log in anew; the \
                 unit's user is corelane"
            ),
        ),
        (1, None) => (
            "io_uring is for a group only, and none is named".to_owned(),
            "groupadd -f corelane && sysctl -w kernel.io_uring_group=\"$(getent group corelane | cut -d: -f3)\""
                .to_owned(),
        ),
        _ => (
            "io_uring is switched off for everybody".to_owned(),
            "scripts/tune apply --yes --only io_uring    # for the group corelane; for all: sysctl -w \
             kernel.io_uring_disabled=0"
                .to_owned(),
        ),
    };
    vec![finding(
        ("io-uring-sysctl", Blocks),
        format!("kernel.io_uring_disabled is {level}"),
        cause,
        command,
        "the node starts",
        "whoever may use io_uring reaches more of the kernel's code; a group keeps that to the node",
    )]
}

/// What asking for rings answered, where the sysctl does not say it already.
pub(super) fn ring_refused(facts: &Facts) -> Vec<Finding> {
    let Some(Err(error)) = &facts.ring.probe else { return Vec::new() };
    if facts.ring.forbidden.is_some() {
        return Vec::new();
    }
    let evidence = format!("asked for {}: {error}", count(facts.shards(), "ring"));
    let filtered = facts.ring.seccomp == Some(2);
    const PROFILE: &str = "docker run --security-opt seccomp=deploy/seccomp-io_uring.json ...";
    const PROFILE_RISK: &str = "the container may use io_uring, whose operations no seccomp filter sees";
    let one = match error {
        SetupError::Enosys if !filtered => finding(
            ("io-uring-missing", Blocks),
            evidence,
            "the kernel was built without io_uring, or something stands in for it that has none (gVisor)",
            "grep CONFIG_IO_URING= \"/boot/config-$(uname -r)\"    # not y: install a kernel of your distribution",
            "the node starts",
            "a reboot, and another kernel for everything on this host",
        ),
        SetupError::Enosys => finding(
            ("io-uring-missing", Blocks),
            evidence,
            "this process runs under a seccomp filter, which answers as if there were no io_uring",
            PROFILE,
            "the node starts",
            PROFILE_RISK,
        ),
        SetupError::Disabled { .. } if filtered => finding(
            ("io-uring-refused", Blocks),
            evidence,
            "this process runs under a seccomp filter, which refuses io_uring: container engines do so by default",
            PROFILE,
            "the node starts",
            PROFILE_RISK,
        ),
        SetupError::Disabled { .. } => finding(
            ("io-uring-refused", Blocks),
            evidence,
            "kernel.io_uring_disabled and seccomp allow it, so a security module does not",
            "journalctl -k | grep -iE 'io_uring|apparmor|avc:'    # then allow what it names in that policy",
            "the node starts",
            "the policy lets this program do more",
        ),
        SetupError::TooOld { missing } => finding(
            ("kernel", Blocks),
            evidence,
            format!("io_uring of this kernel has no {missing}"),
            "apt-get install linux-image-amd64 && reboot    # Debian 12 or newer; others have a name of their own",
            "the node starts",
            "a reboot, and a new kernel for everything on this host",
        ),
        SetupError::Memlock { .. } | SetupError::Buffers { .. } => {
            let wanted = facts.limits.memlock_wanted.saturating_mul(2).max(8 << 20);
            finding(
                ("memlock", Blocks),
                evidence,
                match facts.limits.memlock {
                    Some(limit) => format!(
                        "the kernel counts rings of all processes of this user against its limit of locked memory, {} \
                         bytes, and it is used up",
                        limit.hard
                    ),
                    None => {
                        "the limit of locked memory does not apply here, so memory itself is short".to_owned()
                    }
                },
                raise("memlock", "LimitMEMLOCK", wanted),
                "the node starts, and has room for a second one beside it",
                "as much memory of this user can be kept from being swapped",
            )
        }
        SetupError::Table { descriptors, .. } => finding(
            ("nofile", Blocks),
            evidence,
            format!(
                "a ring wants a table of {descriptors} descriptors, which the limit of open files bounds"
            ),
            raise("nofile", "LimitNOFILE", facts.limits.nofile_wanted),
            "the node starts with the connections it was to hold",
            NOFILE_RISK,
        ),
        SetupError::Other { step, .. } => finding(
            ("io-uring-refused", Blocks),
            evidence,
            format!("the kernel refused this step of the set-up: {step}"),
            "strace -f -e trace=io_uring_setup,io_uring_register corelane check    # shows call and answer",
            "what refuses it is named",
            "none: it only looks",
        ),
    };
    vec![one]
}

pub(super) fn ring_features(facts: &Facts) -> Vec<Finding> {
    let Some(Ok(probe)) = &facts.ring.probe else { return Vec::new() };
    // What somebody left off is no finding.
    let lacking: Vec<&str> =
        probe.lacking.iter().filter(|lack| !lack.contains("masked")).map(String::as_str).collect();
    if lacking.is_empty() {
        return Vec::new();
    }
    vec![finding(
        ("ring-features", Advice),
        format!("rings lack {}", lacking.join(", ")),
        format!(
            "Linux {}.{} does not have them; the node goes another way",
            facts.release.0, facts.release.1
        ),
        "uname -r    # the newest long-term kernel of your distribution has all of them",
        "less CPU for each request",
        "a reboot",
    )]
}

const NOFILE_RISK: &str =
    "a program that looks at every possible descriptor, or uses select(), may take long or fail";

/// A limit in the shell that starts it, with what to write elsewhere.
fn raise(name: &str, directive: &str, to: u64) -> String {
    format!(
        "sudo prlimit --pid $$ --{name}={to}:{to}    # a unit: {directive}={to}; a container: --ulimit {name}={to}"
    )
}

pub(super) fn nofile(facts: &Facts) -> Vec<Finding> {
    let (Some(limit), wanted) = (facts.limits.nofile, facts.limits.nofile_wanted) else { return Vec::new() };
    if limit.hard >= wanted || matches!(facts.ring.probe, Some(Err(SetupError::Table { .. }))) {
        return Vec::new();
    }
    let (connections, who) = (facts.maxima.connections_max, whose(facts));
    vec![finding(
        ("nofile", Hurts),
        format!("the limit of open files of {who} is {} (hard), and {wanted} are needed", limit.hard),
        format!(
            "connections_max = {connections} for each of {} does not fit: a default is lowered, a value that was set \
             is refused",
            count(facts.shards(), "shard")
        ),
        raise("nofile", "LimitNOFILE", wanted),
        format!("each shard holds {connections} connections"),
        NOFILE_RISK,
    )]
}

fn whose(facts: &Facts) -> String {
    facts.limits.pid.map_or_else(|| "this process".to_owned(), |pid| format!("process {pid}"))
}

pub(super) fn memlock(facts: &Facts) -> Vec<Finding> {
    let (Some(limit), wanted) = (facts.limits.memlock, facts.limits.memlock_wanted) else {
        return Vec::new();
    };
    if limit.hard >= wanted || matches!(facts.ring.probe, Some(Err(SetupError::Memlock { .. }))) {
        return Vec::new();
    }
    let good = wanted.saturating_mul(2);
    vec![finding(
        ("memlock", Hurts),
        format!(
            "the limit of locked memory of {} is {} bytes (hard), and {} of this size are charged {wanted}",
            whose(facts),
            bytes_or_infinity(limit.hard),
            count(facts.shards(), "ring")
        ),
        "rings are made smaller where their sizes are defaults, and refused where they were set: more calls into the \
         kernel for the same work",
        raise("memlock", "LimitMEMLOCK", good),
        "rings of full size, and room for a second node of the same user beside this one",
        "as much memory of this user can be kept from being swapped",
    )]
}

pub(super) fn huge_pages(facts: &Facts) -> Vec<Finding> {
    let Some(enabled) = &facts.huge_pages else { return Vec::new() };
    if enabled.contains("[always]") || enabled.contains("[madvise]") || enabled.is_empty() {
        return Vec::new();
    }
    vec![finding(
        ("huge-pages", Advice),
        format!("huge_pages is on, and transparent_hugepage/enabled is {enabled}"),
        "the kernel takes the advice and does not follow it",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled    # or: scripts/tune apply --yes --only thp",
        "fewer misses of the TLB on large pools",
        "programs that ask for huge pages may stall while the kernel makes some",
    )]
}

pub(super) fn sysctl(facts: &Facts) -> Vec<Finding> {
    let each = |drift: &Drift| {
        let (rule, now) = (&drift.rule, drift.now.split_whitespace().collect::<Vec<_>>().join(" "));
        finding(
            ("sysctl", Advice),
            format!("{} is {now}, and sysctl/10-server.conf wants {}", rule.key, rule.value),
            rule.why.clone(),
            format!("scripts/tune apply --yes --only {}", rule.key),
            "what the cause says no longer happens; `scripts/tune revert` takes it back",
            rule.harm.clone(),
        )
    };
    facts.drift.iter().map(each).collect()
}
