//! The listening sockets of a node: for each address one a shard, for each Unix socket one that all share. One that
//! was handed over is shared as well.
//!
//! Not here: accepting (`net`), which addresses (`config`).

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use corelane_base::Limits;
use corelane_sys::socket::{self, SocketFile, UnixOptions};

use crate::config::Listen;
use crate::preflight::{self, StartError};
use crate::supervisor::Handed;

/// Sockets that listen already.
pub(super) struct Listeners {
    /// Where, with the ports the kernel chose.
    pub(super) addrs: Vec<Listen>,
    /// Those of each shard, in the order of `addrs`.
    pub(super) of_shards: Vec<Vec<OwnedFd>>,
    /// Paths that are removed when the node ends.
    pub(super) files: Vec<SocketFile>,
    /// What is not as it was asked for.
    pub(super) notes: Vec<String>,
}

impl Listeners {
    /// Listens everywhere, for `shards` shards; steers connections to `cpus`, those of the shards, where that can
    /// help.
    ///
    /// # Errors
    /// [`StartError::Listen`] with the first place that cannot be had.
    pub(super) fn open(
        places: &[Listen],
        shards: usize,
        limits: &Limits,
        steer_to: Option<&Vec<usize>>,
        handed: &Handed,
    ) -> Result<Listeners, StartError> {
        let mut all = Listeners {
            addrs: Vec::new(),
            of_shards: (0..shards).map(|_| Vec::new()).collect(),
            files: Vec::new(),
            notes: Vec::new(),
        };
        for place in places {
            let failed = |error| StartError::Listen { addr: place.clone(), error };
            if let Some(socket) = handed.find(place) {
                all.share(socket.share(shards, limits.backlog).map_err(failed)?);
                all.addrs.push(place.clone());
                if steer_to.is_some() {
                    all.notes.push(format!(
                        "connections to {place} are not steered: its socket was handed over, and shards share it"
                    ));
                }
                continue;
            }
            match place {
                Listen::Tcp(addr) => {
                    let addr = all.tcp(*addr, limits).map_err(failed)?;
                    if let Some(cpus) = steer_to {
                        all.steer(addr, cpus);
                    }
                    all.addrs.push(Listen::Tcp(addr));
                }
                Listen::Unix(path) => {
                    let options = UnixOptions { backlog: limits.backlog, ..UnixOptions::default() };
                    let listener = socket::listen_unix(path, &options).map_err(failed)?;
                    let (shares, file) = listener.share(shards).map_err(failed)?;
                    all.share(shares);
                    all.files.push(file);
                    all.addrs.push(place.clone());
                }
            }
        }
        Ok(all)
    }

    /// One for each shard.
    fn share(&mut self, shares: Vec<OwnedFd>) {
        for (of_shard, share) in self.of_shards.iter_mut().zip(shares) {
            of_shard.push(share);
        }
    }

    /// A socket of each shard in one `SO_REUSEPORT` group, in the order of the shards.
    fn tcp(&mut self, mut addr: SocketAddr, limits: &Limits) -> std::io::Result<SocketAddr> {
        let options = preflight::listen_options(limits);
        for of_shard in &mut self.of_shards {
            let listener = socket::listen(addr, &options)?;
            addr = listener.local_addr();
            of_shard.push(listener.into());
        }
        Ok(addr)
    }
    /// Steers the group that was made last. It serves without, too.
    fn steer(&mut self, addr: SocketAddr, cpus: &[usize]) {
        let Some(listener) = self.of_shards.first().and_then(|of_shard| of_shard.last()) else { return };
        let shards = self.of_shards.len();
        if !socket::can_steer(addr, shards, cpus) {
            self.notes.push(format!(
                "connections to {addr} are not steered: that takes several shards, each pinned to a CPU of its \
                 own, and an address other than loopback"
            ));
        } else if let Err(error) = socket::steer_by_cpu(listener.as_fd(), cpus) {
            self.notes.push(format!("connections to {addr} are not steered: {error}"));
        }
    }
}
