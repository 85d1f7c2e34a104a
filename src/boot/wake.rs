//! Wake: how long a CPU may take to wake, for as long as a node runs.
//!
//! An idle CPU sleeps deeper the longer it expects to sleep, and wakes slower from deeper: tens to hundreds of microseconds
//! that a request then waits for. Who holds `/dev/cpu_dma_latency` open bounds that for the whole host (the kernel's
//! "PM Quality Of Service Interface", pm_qos_interface.rst); the bound goes with the file, so nothing stays behind.
//!
//! Not here: boot flags that do the same for good (`docs/TUNING.md` says why not).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Where the bound is held.
pub(super) const DEVICE: &str = "/dev/cpu_dma_latency";

/// Bounds the time to wake until the file is closed. In whole microseconds, rounded down.
///
/// # Errors
/// Those of opening and writing the device: it is root's, and no container has it.
pub(super) fn hold(device: &Path, time: Duration) -> io::Result<File> {
    let us = i32::try_from(time.as_micros()).unwrap_or(i32::MAX);
    let mut file = OpenOptions::new().write(true).open(device)?;
    file.write_all(&us.to_ne_bytes())?;
    Ok(file)
}

/// Said where it cannot be held: what stays as it is, and what to do.
pub(super) fn refused(error: &io::Error) -> String {
    format!(
        "cpu_wake_time has no effect: {DEVICE}: {error}; run as root, or in the unit `PrivateDevices=no` and \
         `DeviceAllow={DEVICE} rw`, or leave the key out"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_written_in_microseconds_as_the_kernel_reads_it() {
        let place = tempfile::NamedTempFile::new().unwrap();
        for (time, us) in
            [(Duration::from_micros(2), 2), (Duration::from_nanos(1), 0), (Duration::MAX, i32::MAX)]
        {
            drop(hold(place.path(), time).unwrap());
            assert_eq!(std::fs::read(place.path()).unwrap(), i32::to_ne_bytes(us));
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_that_names_the_cure() {
        let error = hold(Path::new("/nowhere/cpu_dma_latency"), Duration::ZERO).unwrap_err();
        let text = refused(&error);
        assert!(text.contains("No such file") && text.contains("DeviceAllow="), "{text}");
    }
}
