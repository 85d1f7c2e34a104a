//! Where and by what a result is made: the facts of a host that change what is measured.
//!
//! Not here: whether two results may be compared (`compare`), when the window began (the caller writes
//! [`Provenance::started_unix_ms`]).

use std::collections::BTreeSet;
use std::path::Path;

use corelane_sys::cpu::{allowed_cpus, parse_cpu_list};
use corelane_sys::kernel::{status_field, sysctl};

use super::{read, read_word};
use crate::model::Provenance;

/// Where a digest of the host's tuning is looked for, first to last: one line that whoever tuned the host
/// left there, the same for hosts that are tuned the same. The second is for tuning that does not outlive a
/// reboot.
pub const TUNING_DIGESTS: [&str; 2] = ["var/lib/corelane/hosttune/digest", "run/corelane/tuning.digest"];

/// Characters of a digest: two of SHA-512 in hexadecimal would fit. What is longer is no digest.
const DIGEST_LEN_MAX: usize = 256;

/// Characters of any other text that a file gives. Kernel versions have about 100.
const TEXT_LEN_MAX: usize = 200;

/// Flaws that are listed; Linux 6.18 knows 19.
const MITIGATIONS_MAX: usize = 64;

/// All that is known of the host below `root`. `cpus` are those of the workers, for the governor; empty
/// stands for all that this process may use. What is not known is `unknown`, or 0 for a size.
///
/// `started_unix_ms` is 0: the caller knows when the window began.
pub fn provenance(root: &Path, cpus: &[usize], command: &str) -> Provenance {
    let allowed = allowed(root);
    let cpuinfo = read(root, "proc/cpuinfo").unwrap_or_default();
    let cpu_model = cpu_model(&cpuinfo);
    Provenance {
        tool: format!("loadgen {}", env!("CARGO_PKG_VERSION")),
        commit: option_env!("CORELANE_COMMIT").map(short),
        command: command.to_owned(),
        kernel: kernel(root),
        cpus: allowed.len(),
        memory_bytes: memory_bytes(root),
        governor: governor(root, if cpus.is_empty() { &allowed } else { cpus }),
        mitigations: mitigations(root),
        congestion_control: known(sysctl(root, "net.ipv4.tcp_congestion_control").ok()),
        clocksource: known(read_word(
            root,
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
        )),
        virtualised: is_virtualised(root, &cpuinfo),
        host_id: host_id(root, &cpu_model),
        tuning_digest: tuning_digest(root),
        cpu_model,
        started_unix_ms: 0,
    }
}

fn known(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).map_or_else(|| "unknown".to_owned(), |text| short(&text))
}

/// At most [`TEXT_LEN_MAX`] characters of one line.
fn short(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().chars().take(TEXT_LEN_MAX).collect()
}

/// CPUs that the main thread may use, as the file says; it has not pinned itself.
fn allowed(root: &Path) -> Vec<usize> {
    let listed = status_field(root, "Cpus_allowed_list").ok().and_then(|list| parse_cpu_list(&list).ok());
    listed.or_else(|| allowed_cpus().ok()).unwrap_or_default()
}

fn kernel(root: &Path) -> String {
    let parts = ["kernel.osrelease", "kernel.version"].map(|key| sysctl(root, key).unwrap_or_default());
    known(Some(parts.join(" ").trim().to_owned()))
}

/// The value of the first line `NAME<blanks>: VALUE`.
fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.trim_start().strip_prefix(':');
    cpuinfo.lines().find_map(value).map(str::trim).filter(|value| !value.is_empty())
}

/// `model name`, or what ARM has in place of it: numbers of who made it and what part it is.
fn cpu_model(cpuinfo: &str) -> String {
    let arm = || {
        let (maker, part) = (field(cpuinfo, "CPU implementer")?, field(cpuinfo, "CPU part")?);
        Some(format!("implementer {maker} part {part}"))
    };
    known(field(cpuinfo, "model name").map(str::to_owned).or_else(arm))
}

/// Both lists of what a CPU can do: `flags` on x86, `Features` on ARM. The flag `hypervisor` is set by
/// hypervisors that do not hide (CPUID leaf 1, ECX bit 31). ARM has none, so the firmware's words are looked
/// at.
fn is_virtualised(root: &Path, cpuinfo: &str) -> bool {
    let flagged =
        field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let xen = || read_word(root, "sys/hypervisor/type").is_some();
    let firmware = || {
        let words =
            ["sys_vendor", "product_name"].map(|name| read_word(root, format!("sys/class/dmi/id/{name}")));
        words.into_iter().flatten().any(|word| MACHINES.iter().any(|machine| word.contains(machine)))
    };
    flagged || xen() || firmware()
}

/// Words in the firmware of machines that are none.
const MACHINES: [&str; 9] = [
    "QEMU",
    "KVM",
    "VMware",
    "VirtualBox",
    "Bochs",
    "Parallels",
    "Virtual Machine",
    "Google Compute Engine",
    "OpenStack",
];

/// `MemTotal` of meminfo, which is in KiB.
fn memory_bytes(root: &Path) -> u64 {
    let text = read(root, "proc/meminfo").unwrap_or_default();
    let kib = field(&text, "MemTotal").and_then(|value| value.strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// The governors of these CPUs, each once, with commas between them; `none` where no CPU has one.
fn governor(root: &Path, cpus: &[usize]) -> String {
    let file = |cpu: &usize| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let found: BTreeSet<String> = cpus.iter().filter_map(|cpu| read_word(root, file(cpu))).collect();
    match found.len() {
        0 => "none".to_owned(),
        _ => short(&found.into_iter().collect::<Vec<_>>().join(",")),
    }
}

fn mitigations(root: &Path) -> Vec<String> {
    let dir = "sys/devices/system/cpu/vulnerabilities";
    let Ok(entries) = std::fs::read_dir(root.join(dir)) else { return Vec::new() };
    let line = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Some(format!("{}: {}", short(&name), short(&read_word(root, format!("{dir}/{name}"))?)))
    };
    let mut found: Vec<String> = entries.flatten().take(MITIGATIONS_MAX).filter_map(line).collect();
    found.sort_unstable();
    found
}

/// A hash of the machine id (machine-id(5)) and the CPU model, 16 hexadecimal digits. Where there is no
/// machine id, as in containers, of the host name.
///
/// It must be the same for every build, so it is not one of the standard library's. It need not resist
/// anybody: 64 bits of a machine id of 128 do not give it away, which is what machine-id(5) asks for.
fn host_id(root: &Path, cpu_model: &str) -> String {
    let machine = read_word(root, "etc/machine-id").or_else(|| sysctl(root, "kernel.hostname").ok());
    // The zero byte keeps the two apart.
    let text = format!("{}\0{cpu_model}", machine.unwrap_or_default());
    format!("{:016x}", fnv1a(text.as_bytes()))
}

/// FNV-1a, 64 bits (draft-eastlake-fnv, section 2; constants of section 5).
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

fn tuning_digest(root: &Path) -> Option<String> {
    let digest = |path: &str| {
        let text = read_word(root, path)?;
        let is_digest =
            text.len() <= DIGEST_LEN_MAX && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        is_digest.then_some(text)
    };
    TUNING_DIGESTS.into_iter().find_map(digest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::fake::{machine, put};

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: Xeon 9\nflags\t\t: fpu hypervisor\n\n\
        processor\t: 1\nmodel name\t: other\n";

    /// A virtual machine without cpufreq, as it shows itself.
    fn small() -> tempfile::TempDir {
        machine(&[
            ("proc/sys/kernel/osrelease", "6.18.44-fc\n"),
            ("proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC\n"),
            ("proc/cpuinfo", CPUINFO),
            ("proc/meminfo", "MemTotal:       24684012 kB\nMemFree: 1 kB\n"),
            ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n"),
            ("proc/sys/net/ipv4/tcp_congestion_control", "bbr\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock\n"),
            ("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected\n"),
            ("sys/devices/system/cpu/vulnerabilities/l1tf", "Mitigation: PTE\n"),
            ("etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n"),
        ])
    }

    #[test]
    fn a_virtual_machine_without_frequencies_is_told_as_it_is() {
        let root = small();
        let found = provenance(root.path(), &[1], "loadgen http://x/");
        assert_eq!(found.kernel, "6.18.44-fc #1 SMP PREEMPT_DYNAMIC");
        assert_eq!((found.cpu_model.as_str(), found.cpus, found.virtualised), ("Xeon 9", 2, true));
        assert_eq!((found.memory_bytes, found.governor.as_str()), (24_684_012 << 10, "none"));
        assert_eq!(found.mitigations, ["l1tf: Mitigation: PTE", "meltdown: Not affected"]);
        assert_eq!((found.congestion_control.as_str(), found.clocksource.as_str()), ("bbr", "kvm-clock"));
        assert_eq!((found.tuning_digest, found.started_unix_ms), (None, 0));
        assert_eq!(found.command, "loadgen http://x/");
        assert_eq!(found.tool, format!("loadgen {}", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn the_commit_is_that_of_the_build() {
        let root = machine(&[]);
        assert_eq!(provenance(root.path(), &[], "").commit.as_deref(), option_env!("CORELANE_COMMIT"));
    }

    #[test]
    fn a_machine_that_shows_nothing_is_unknown() {
        let root = machine(&[]);
        let found = provenance(root.path(), &[], "");
        for text in [found.kernel, found.cpu_model, found.congestion_control, found.clocksource] {
            assert_eq!(text, "unknown");
        }
        assert_eq!((found.memory_bytes, found.virtualised, found.mitigations.len()), (0, false, 0));
        assert_eq!((found.host_id.len(), found.governor.as_str()), (16, "none"));
    }

    #[test]
    fn governors_are_those_of_the_workers_each_once() {
        let root = small();
        for (cpu, governor) in [(0, "powersave"), (1, "performance"), (2, "performance"), (3, "userspace")] {
            let file = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
            put(root.path(), &file, &format!("{governor}\n"));
        }
        assert_eq!(provenance(root.path(), &[1, 2, 9], "").governor, "performance");
        assert_eq!(provenance(root.path(), &[], "").governor, "performance,powersave", "all it may use: 0-1");
    }

    #[test]
    fn the_host_is_the_same_in_each_run_and_another_with_another_id_or_cpu() {
        let root = small();
        let id = || provenance(root.path(), &[], "").host_id;
        let first = id();
        assert_eq!(first, id());
        put(root.path(), "etc/machine-id", "\n");
        put(root.path(), "proc/sys/kernel/hostname", "box\n");
        let nameless = id();
        put(root.path(), "proc/sys/kernel/hostname", "crate\n");
        let other_name = id();
        put(root.path(), "proc/cpuinfo", "model name : Xeon 10\n");
        let all = BTreeSet::from([first, nameless, other_name, id()]);
        assert_eq!(all.len(), 4, "{all:?}");
    }

    #[test]
    fn the_hash_is_that_of_its_authors() {
        // Vectors of draft-eastlake-fnv, appendix C: "", "a", "foobar".
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_digest_is_read_from_either_place_and_must_look_like_one() {
        let root = small();
        let digest = || provenance(root.path(), &[], "").tuning_digest;
        put(root.path(), TUNING_DIGESTS[1], "sha256:2\n");
        assert_eq!(digest().as_deref(), Some("sha256:2"));
        put(root.path(), TUNING_DIGESTS[0], "sha256:1\n");
        assert_eq!(digest().as_deref(), Some("sha256:1"));
        put(root.path(), TUNING_DIGESTS[0], &"a".repeat(DIGEST_LEN_MAX));
        assert_eq!(digest().map(|text| text.len()), Some(DIGEST_LEN_MAX));
        for bad in ["a\nb".to_owned(), "a".repeat(DIGEST_LEN_MAX + 1), "\n".to_owned()] {
            put(root.path(), TUNING_DIGESTS[0], &bad);
            assert_eq!(digest().as_deref(), Some("sha256:2"), "the next place is looked at");
        }
    }

    #[test]
    fn a_hypervisor_that_sets_no_flag_is_known_by_the_firmware() {
        let arm = "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd0c\n";
        let root = machine(&[("proc/cpuinfo", arm), ("sys/class/dmi/id/sys_vendor", "Dell Inc.\n")]);
        let found = provenance(root.path(), &[], "");
        assert_eq!((found.cpu_model.as_str(), found.virtualised), ("implementer 0x41 part 0xd0c", false));
        put(root.path(), "sys/class/dmi/id/product_name", "QEMU Virtual Machine\n");
        assert!(provenance(root.path(), &[], "").virtualised);
        let xen = machine(&[("sys/hypervisor/type", "xen\n")]);
        assert!(provenance(xen.path(), &[], "").virtualised);
    }

    #[test]
    fn long_texts_of_files_are_cut() {
        let root = machine(&[("proc/cpuinfo", &format!("model name : {}\n", "m".repeat(TEXT_LEN_MAX + 1)))]);
        assert_eq!(provenance(root.path(), &[], "").cpu_model.len(), TEXT_LEN_MAX);
    }

    #[test]
    fn this_machine_says_something_of_itself() {
        let found = provenance(Path::new("/"), &[], "");
        assert!(found.memory_bytes > 0);
        assert!(found.cpus > 0);
        assert_ne!(found.kernel, "unknown");
    }
}
