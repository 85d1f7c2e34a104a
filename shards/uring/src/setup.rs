//! Asking the kernel for a ring: everything at first, then flag by flag less.
//!
//! A kernel that does not know a flag answers `EINVAL` and does not say which. Flags came one release after
//! another, so the newest is dropped first, and the loop ends after at most one call a flag.
//!
//! Not here: the receive buffers (`buffers.rs`), what a flag is worth ([`Features`]).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::types::Fd;
use io_uring::{IoUring, Probe, opcode};

use crate::enter::Gate;
use crate::error::{SetupError, errno_of};
use crate::features::{Features, Lacking, Why};
use crate::flights::QUIET;
use crate::peer;
use crate::ring::RingConfig;

/// Flags of io_uring_setup(2), newest first.
const SETUP: [Features; 8] = [
    Features::NO_SQARRAY,
    Features::DEFER_TASKRUN,
    Features::SINGLE_ISSUER,
    Features::TASKRUN_FLAG,
    Features::COOP_TASKRUN,
    Features::SUBMIT_ALL,
    Features::CLAMP,
    Features::CQSIZE,
];

/// A ring with its table, and what it has.
pub(crate) struct Made {
    pub(crate) io: IoUring,
    pub(crate) gate: Gate,
    pub(crate) granted: Features,
    pub(crate) can_bind: bool,
    pub(crate) lacking: Vec<Lacking>,
}

impl Made {
    pub(crate) fn lack(&mut self, feature: Features, why: Why) {
        lack(&mut self.granted, &mut self.lacking, feature, why);
    }
}

fn lack(granted: &mut Features, lacking: &mut Vec<Lacking>, feature: Features, why: Why) {
    debug_assert!(granted.contains(feature));
    *granted = granted.without(feature);
    lacking.push(Lacking { feature, why });
}

/// Drops what cannot work without something that is missing.
fn settle(granted: &mut Features, lacking: &mut Vec<Lacking>) {
    let has = |set: Features, one| set.contains(one);
    if has(*granted, Features::DEFER_TASKRUN) && !has(*granted, Features::SINGLE_ISSUER) {
        lack(granted, lacking, Features::DEFER_TASKRUN, Why::Needs(Features::SINGLE_ISSUER));
    }
    if has(*granted, Features::MIN_WAIT) && !has(*granted, Features::EXT_ARG) {
        lack(granted, lacking, Features::MIN_WAIT, Why::Needs(Features::EXT_ARG));
    }
    let flagged = has(*granted, Features::COOP_TASKRUN) || has(*granted, Features::DEFER_TASKRUN);
    if has(*granted, Features::TASKRUN_FLAG) && !flagged {
        lack(granted, lacking, Features::TASKRUN_FLAG, Why::Needs(Features::COOP_TASKRUN));
    }
}

/// Makes the queues and the descriptor table on the calling thread.
///
/// # Errors
/// See [`SetupError`].
pub(crate) fn make(config: &RingConfig) -> Result<Made, SetupError> {
    let mut granted = Features::ALL;
    let mut lacking = Vec::new();
    for (_, feature) in config.without.iter() {
        lack(&mut granted, &mut lacking, feature, Why::Masked);
    }
    settle(&mut granted, &mut lacking);

    let io = loop {
        match build(config, granted) {
            Ok(io) => break io,
            Err(error) => {
                let errno = errno_of(&error);
                let newest = SETUP.into_iter().find(|&flag| granted.contains(flag));
                match (errno, newest) {
                    (libc::EINVAL, Some(flag)) => {
                        lack(&mut granted, &mut lacking, flag, Why::Refused(errno));
                        settle(&mut granted, &mut lacking);
                    }
                    (libc::ENOSYS, _) => return Err(SetupError::Enosys),
                    (libc::EPERM | libc::EACCES, _) => return Err(SetupError::Disabled { errno }),
                    (libc::ENOMEM, _) => return Err(SetupError::Memlock { errno }),
                    _ => return Err(SetupError::Other { errno, step: "io_uring_setup" }),
                }
            }
        }
    };
    let probe = check_floor(&io)?;

    let gate = Gate::new(&io, granted.contains(Features::NO_IOWAIT) && io.params().is_feature_no_iowait());
    let can_bind = probe.is_supported(opcode::Bind::CODE);
    let mut made = Made { io, gate, granted, can_bind, lacking };
    if granted.contains(Features::NO_IOWAIT) && !made.io.params().is_feature_no_iowait() {
        made.lack(Features::NO_IOWAIT, Why::Absent);
    }
    if granted.contains(Features::EXT_ARG) && !made.io.params().is_feature_ext_arg() {
        made.lack(Features::EXT_ARG, Why::Absent);
        settle(&mut made.granted, &mut made.lacking);
    }
    if made.granted.contains(Features::MIN_WAIT) && !made.io.params().is_feature_min_timeout() {
        made.lack(Features::MIN_WAIT, Why::Absent);
    }
    if granted.contains(Features::MSG_RING) && !probe.is_supported(opcode::MsgRingData::CODE) {
        made.lack(Features::MSG_RING, Why::Absent);
    }
    if granted.contains(Features::DIRECT) {
        table(&made.io, config.descriptors)?;
    }
    if granted.contains(Features::RING_FD)
        && let Err(error) = made.gate.register()
    {
        made.lack(Features::RING_FD, Why::Refused(errno_of(&error)));
    }
    if granted.contains(Features::PEER_NAME)
        && let Err(error) = try_peer_name(&mut made)
    {
        made.lack(Features::PEER_NAME, Why::Refused(errno_of(&error)));
    }
    Ok(made)
}

fn build(config: &RingConfig, wanted: Features) -> std::io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork();
    for (_, flag) in wanted.iter() {
        match flag {
            Features::CQSIZE => builder.setup_cqsize(config.completion_entries),
            Features::CLAMP => builder.setup_clamp(),
            Features::SUBMIT_ALL => builder.setup_submit_all(),
            Features::COOP_TASKRUN => builder.setup_coop_taskrun(),
            Features::TASKRUN_FLAG => builder.setup_taskrun_flag(),
            Features::SINGLE_ISSUER => builder.setup_single_issuer(),
            Features::DEFER_TASKRUN => builder.setup_defer_taskrun(),
            Features::NO_SQARRAY => builder.setup_no_sqarray(),
            _ => &mut builder,
        };
    }
    builder.build(config.entries)
}

/// Linux 6.1 is told by the one operation it added, `IORING_OP_SENDMSG_ZC`.
fn check_floor(io: &IoUring) -> Result<Probe, SetupError> {
    let params = io.params();
    for (has, missing) in [
        (params.is_feature_nodrop(), "IORING_FEAT_NODROP"),
        (params.is_feature_submit_stable(), "IORING_FEAT_SUBMIT_STABLE"),
        (params.is_feature_skip_cqe_on_success(), "IORING_FEAT_CQE_SKIP"),
    ] {
        if !has {
            return Err(SetupError::TooOld { missing });
        }
    }
    let mut probe = Probe::new();
    if let Err(error) = io.submitter().register_probe(&mut probe) {
        return Err(SetupError::Other { errno: errno_of(&error), step: "IORING_REGISTER_PROBE" });
    }
    for (code, missing) in
        [(opcode::Socket::CODE, "IORING_OP_SOCKET"), (opcode::SendMsgZc::CODE, "IORING_OP_SENDMSG_ZC")]
    {
        if !probe.is_supported(code) {
            return Err(SetupError::TooOld { missing });
        }
    }
    Ok(probe)
}

fn table(io: &IoUring, descriptors: u32) -> Result<(), SetupError> {
    io.submitter().register_files_sparse(descriptors).map_err(|error| match errno_of(&error) {
        errno @ libc::EMFILE => SetupError::Table { descriptors, errno },
        errno => SetupError::Other { errno, step: "IORING_REGISTER_FILES2" },
    })
}

/// Asks for the peer of a socket that has none. No probe tells which commands of sockets there are.
///
/// # Errors
/// Why it is not to be had: `EOPNOTSUPP` before Linux 6.7.
fn try_peer_name(made: &mut Made) -> io::Result<()> {
    // SAFETY: rule 6: socket(2) takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: rule 6: the call above made it, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // Nothing is written: there is no address.
    let entry = peer::entry(Fd(socket.as_raw_fd()), std::ptr::null_mut(), peer::V4_ROOM);
    // SAFETY: the entry points nowhere.
    let pushed = unsafe { made.io.submission().push(&entry.user_data(QUIET)) };
    assert!(pushed.is_ok(), "the queue is empty");
    loop {
        let left = made.io.submission().len();
        match made.gate.enter(u32::from(left > 0), 1, None, 0) {
            Err(error) if errno_of(&error) != libc::EINTR => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let Some(done) = made.io.completion().next() else { continue };
        return match -done.result() {
            libc::ENOTCONN => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
    }
}
