//! Machines that are not this one: trees of `proc` and `sys` as their kernels show them.
//!
//! CPUs are numbered as on x86: the first threads of all cores, then the second ones in the same order.
//! A memory node is a socket.
//!
//! Not here: what follows from them.

use corelane::Limits;
use corelane::placement::{self, Placement, Wish};
use corelane::preflight::Host;
use corelane::{RingFeatures, StartError};
use corelane_sys::cpu::format_cpu_list;
use corelane_sys::limits::Rlimit;

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";

/// A machine, and the process in it.
pub(crate) struct Machine {
    root: tempfile::TempDir,
    cores: usize,
    threads: usize,
    pub(crate) allowed: Vec<usize>,
    pub(crate) limits: Limits,
}

impl Machine {
    /// Without anything in `sys` but `online`: what small virtual machines and some sandboxes show.
    pub(crate) fn bare(cpus: usize) -> Machine {
        let machine = Machine {
            root: tempfile::tempdir().unwrap(),
            cores: cpus,
            threads: 1,
            allowed: (0..cpus).collect(),
            limits: Limits::default(),
        };
        machine.put("proc/sys/kernel/osrelease", "6.18.1\n");
        machine
    }

    /// `sockets` x `caches` x `cores` x `threads` CPUs.
    pub(crate) fn new(sockets: usize, caches: usize, cores: usize, threads: usize) -> Machine {
        let all = sockets * caches * cores;
        let mut machine = Machine::bare(all * threads);
        (machine.cores, machine.threads) = (all, threads);
        // All threads of the cores from `first` on.
        let list = |first: usize, count: usize| {
            let mut cpus: Vec<usize> =
                (0..threads).flat_map(|t| (first..first + count).map(move |c| t * all + c)).collect();
            cpus.sort_unstable();
            format_cpu_list(&cpus)
        };
        for cpu in 0..all * threads {
            let core = cpu % all;
            let cache = core - core % cores;
            let dir = format!("{CPUS}/cpu{cpu}");
            machine.put(&format!("{dir}/topology/core_cpus_list"), &list(core, 1));
            for (index, level, kind, shared) in
                [(0, 1, "Data", list(core, 1)), (1, 3, "Unified", list(cache, cores))]
            {
                let dir = format!("{dir}/cache/index{index}");
                machine.put(&format!("{dir}/level"), &level.to_string());
                machine.put(&format!("{dir}/type"), kind);
                machine.put(&format!("{dir}/shared_cpu_list"), &shared);
            }
        }
        for socket in 0..sockets {
            let text = list(socket * caches * cores, caches * cores);
            machine.put(&format!("{NODES}/node{socket}/cpulist"), &text);
        }
        machine.put(&format!("{NODES}/has_memory"), &format!("0-{}", sockets - 1));
        machine.put(&format!("{CPUS}/online"), &format!("0-{}", all * threads - 1));
        machine
    }

    /// The number of the other thread of the core of `cpu`.
    pub(crate) fn other(&self, cpu: usize) -> usize {
        assert_eq!(self.threads, 2);
        (cpu + self.cores) % (2 * self.cores)
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let (path, text) = (self.root.path().join(path), format!("{}\n", text.trim_end()));
        // Thousands of files: directories are made when one is missing.
        if std::fs::write(&path, &text).is_err() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
    }

    /// Switches CPUs off: the kernel takes topology and caches away, and them out of every list.
    pub(crate) fn offline(mut self, cpus: &[usize]) -> Machine {
        for cpu in cpus {
            for part in ["topology", "cache"] {
                std::fs::remove_dir_all(self.root.path().join(format!("{CPUS}/cpu{cpu}/{part}"))).unwrap();
            }
        }
        let online: Vec<usize> = self.allowed.iter().copied().filter(|cpu| !cpus.contains(cpu)).collect();
        self.put(&format!("{CPUS}/online"), &format_cpu_list(&online));
        for &cpu in &online {
            let core = cpu % self.cores;
            let threads = (0..self.threads).map(|t| t * self.cores + core).filter(|cpu| online.contains(cpu));
            let list = format_cpu_list(&threads.collect::<Vec<_>>());
            self.put(&format!("{CPUS}/cpu{cpu}/topology/core_cpus_list"), &list);
        }
        self.allowed = online;
        self
    }

    /// Leaves the process these CPUs.
    pub(crate) fn allow(mut self, cpus: impl IntoIterator<Item = usize>) -> Machine {
        self.allowed = cpus.into_iter().collect();
        self
    }

    /// Keeps other work away from these.
    pub(crate) fn isolate(self, list: &str) -> Machine {
        self.put(&format!("{CPUS}/isolated"), list);
        self
    }

    /// Puts the process in a group of version 2, and files with limits there, named from the top.
    pub(crate) fn unified(self, group: &str, files: &[(&str, &str)]) -> Machine {
        self.put("proc/self/cgroup", &format!("0::{group}"));
        self.put("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw");
        for (file, text) in files {
            self.put(&format!("sys/fs/cgroup/{file}"), text);
        }
        self
    }

    /// The same with version 1.
    pub(crate) fn divided(self, group: &str, files: &[(&str, &str)]) -> Machine {
        self.put(
            "proc/self/cgroup",
            &format!("5:memory:{group}\n4:cpu,cpuacct:{group}\n1:name=systemd:/\n0::/"),
        );
        self.put(
            "proc/self/mountinfo",
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
        );
        for (file, text) in files {
            self.put(&format!("sys/fs/cgroup/{file}"), text);
        }
        self
    }

    pub(crate) fn host(&self) -> Host {
        let same = |limit| Rlimit { soft: limit, hard: limit };
        Host::below(self.root.path(), same(100_000), same(u64::MAX), self.allowed.clone())
    }

    pub(crate) fn place(&self, wish: Wish<'_>) -> Result<Placement, StartError> {
        let host = self.host();
        let placement = placement::place(&wish, &host, &self.limits)?;
        // The start asks for the same again.
        let demand = corelane::preflight::Demand {
            resp_listen: &[],
            listen: &[],
            admin: None,
            handed: &[],
            limits: &self.limits,
            wish,
            huge_pages: false,
            without: RingFeatures::NONE,
            on: corelane::ShardHost::Native,
        };
        assert_eq!(demand.check(&host).unwrap(), placement);
        Ok(placement)
    }

    /// The CPUs of as many shards.
    #[track_caller]
    pub(crate) fn cpus_of(&self, shards: u16) -> Vec<usize> {
        cpus(&self.place(Wish { shards: Some(shards), ..Wish::default() }).unwrap())
    }

    /// What is said instead of a start.
    #[track_caller]
    pub(crate) fn refusal(&self, wish: Wish<'_>) -> String {
        match self.place(wish) {
            Ok(placement) => panic!("it is placed: {placement:?}"),
            Err(error) => error.to_string(),
        }
    }
}

/// The CPUs of pinned shards, in their order.
#[track_caller]
pub(crate) fn cpus(placement: &Placement) -> Vec<usize> {
    placement.cpus().into_iter().map(Option::unwrap).collect()
}
