//! Files: what can be opened, read, written and synced, and what a crash leaves.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::CString;

use common::{Driver, token};
use corelane_base::{Op, Payload, Sock};
use corelane_sim::{Disk, Fault, Faults, SimConfig, seeds};
use libc::{
    EALREADY, EEXIST, EIO, EISDIR, ENFILE, ENOENT, ENOSPC, ENOTDIR, O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL,
    O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY,
};

fn open(d: &mut Driver, path: &str, flags: i32) -> i32 {
    let t = token(1, 0);
    d.run(Op::Open { path: CString::new(path).unwrap(), flags, mode: 0o600, token: t }, t).result
}

fn opened(d: &mut Driver, path: &str, flags: i32) -> Sock {
    Sock(u32::try_from(open(d, path, flags)).unwrap())
}

fn read(d: &mut Driver, file: Sock, offset: u64, len: usize) -> Result<Vec<u8>, i32> {
    let t = token(2, 0);
    let done = d.run(Op::Read { file, offset, data: vec![0xaa; len], token: t }, t);
    let Payload::Bytes(mut data) = done.payload else { panic!("no bytes given back") };
    assert_eq!(data.len(), len);
    data.truncate(usize::try_from(done.result).map_err(|_| done.result)?);
    Ok(data)
}

fn write(d: &mut Driver, file: Sock, offset: u64, bytes: &[u8]) -> i32 {
    let t = token(3, 0);
    let done = d.run(Op::Write { file, offset, data: bytes.to_vec(), from: 0, token: t }, t);
    assert!(matches!(done.payload, Payload::Bytes(data) if data == bytes));
    done.result
}

fn sync(d: &mut Driver, file: Sock) -> i32 {
    let t = token(4, 0);
    d.run(Op::Sync { file, data_only: true, token: t }, t).result
}

#[test]
fn what_is_written_is_read_back_and_a_hole_is_zeros() {
    let mut d = Driver::new(SimConfig::default());
    let file = opened(&mut d, "f", O_CREAT | O_RDWR);
    assert_eq!(write(&mut d, file, 2, b"cde"), 3);
    assert_eq!(read(&mut d, file, 0, 9), Ok(b"\0\0cde".to_vec()));
    assert_eq!(read(&mut d, file, 5, 9), Ok(Vec::new()));
    let t = token(3, 0);
    d.run(Op::Write { file, offset: 0, data: b"xxab".to_vec(), from: 2, token: t }, t);
    assert_eq!(d.world.file("f"), Some(b"abcde".to_vec()));
    d.close(file);
    d.world.check_quiet();
}

#[test]
fn an_open_obeys_its_flags() {
    let mut d = Driver::new(SimConfig { descriptors: 8, ..SimConfig::default() });
    assert_eq!(open(&mut d, "f", O_RDONLY), -ENOENT);
    d.world.put_file("f", b"old");
    assert_eq!(open(&mut d, "f", O_CREAT | O_EXCL | O_RDWR), -EEXIST);
    assert_eq!(open(&mut d, "f", O_DIRECTORY), -ENOTDIR);
    let appending = opened(&mut d, "f", O_WRONLY | O_APPEND);
    assert_eq!(write(&mut d, appending, 0, b"er"), 2);
    assert_eq!(d.world.file("f"), Some(b"older".to_vec()));
    assert_eq!(read(&mut d, appending, 0, 1), Err(-libc::EBADF));
    let reading = opened(&mut d, "f", O_RDONLY);
    assert_eq!(write(&mut d, reading, 0, b"x"), -libc::EBADF);
    opened(&mut d, "f", O_WRONLY | O_TRUNC);
    assert_eq!(d.world.file("f"), Some(Vec::new()));
    let directory = opened(&mut d, ".", O_DIRECTORY);
    assert_eq!(read(&mut d, directory, 0, 1), Err(-EISDIR));
    assert_eq!(sync(&mut d, directory), 0);
}

#[test]
fn a_full_table_opens_and_creates_nothing() {
    let mut d = Driver::new(SimConfig { descriptors: 1, ..SimConfig::default() });
    opened(&mut d, "f", O_CREAT | O_RDWR);
    assert_eq!(open(&mut d, "g", O_CREAT | O_RDWR), -ENFILE);
    assert_eq!(d.world.file("g"), None);
}

#[test]
fn a_removed_file_lives_on_where_it_is_open() {
    let mut d = Driver::new(SimConfig::default());
    d.world.put_file("f", b"here");
    let file = opened(&mut d, "f", O_RDONLY);
    assert!(d.world.remove_file("f"));
    assert_eq!(read(&mut d, file, 0, 4), Ok(b"here".to_vec()));
    assert_eq!(open(&mut d, "f", O_RDONLY), -ENOENT);
}

#[test]
fn a_write_up_to_the_end_of_the_disk_fits_in_part_and_the_next_not_at_all() {
    let mut d = Driver::new(SimConfig { disk_bytes_max: 4, ..SimConfig::default() });
    let file = opened(&mut d, "f", O_CREAT | O_RDWR);
    assert_eq!(write(&mut d, file, 0, b"abc"), 3);
    assert_eq!(write(&mut d, file, 3, b"de"), 1);
    assert_eq!(write(&mut d, file, 4, b"e"), -ENOSPC);
    assert_eq!(write(&mut d, file, 0, b"ABCD"), 4, "what is there can be written over");
    d.world.set_disk_bytes_max(5);
    assert_eq!(write(&mut d, file, 4, b"e"), 1);
}

#[test]
fn injected_errors_are_told_and_change_nothing() {
    let mut d = Driver::new(SimConfig::default());
    d.world.put_file("f", b"old");
    let file = opened(&mut d, "f", O_RDWR);
    d.world.set_faults(Faults::none().with(Fault::DiskError, 1.0));
    assert_eq!(open(&mut d, "f", O_RDWR), -EIO);
    assert_eq!(read(&mut d, file, 0, 3), Err(-EIO));
    assert_eq!(write(&mut d, file, 0, b"new"), -EIO);
    assert_eq!(sync(&mut d, file), -EIO);
    d.world.set_faults(Faults::none().with(Fault::DiskFull, 1.0));
    assert_eq!(write(&mut d, file, 0, b"new"), -ENOSPC);
    assert_eq!(open(&mut d, "g", O_CREAT | O_RDWR), -ENOSPC);
    assert_eq!(d.world.disk().iter().collect::<Vec<_>>(), [(&b"f"[..], &b"old"[..])]);
}

#[test]
fn a_short_read_or_write_moves_some_bytes_and_not_all() {
    let mut d = Driver::new(SimConfig::seeded(1, Faults::none().with(Fault::ShortFile, 1.0)));
    d.world.put_file("f", b"0123456789");
    let file = opened(&mut d, "f", O_RDWR);
    let read = read(&mut d, file, 0, 10).unwrap();
    assert!((1..10).contains(&read.len()), "{read:?}");
    let count = write(&mut d, file, 0, b"abcdefghij");
    assert!((1..10).contains(&count), "{count}");
    let count = usize::try_from(count).unwrap();
    let expected = [&b"abcdefghij"[..count], &b"0123456789"[count..]].concat();
    assert_eq!(d.world.file("f"), Some(expected));
}

#[test]
fn a_file_operation_under_way_cannot_be_cancelled() {
    let mut d = Driver::new(SimConfig::default());
    let file = opened(&mut d, "f", O_CREAT | O_RDWR);
    d.push(Op::Sync { file, data_only: false, token: token(4, 0) });
    let t = token(5, 0);
    assert_eq!(d.run(Op::Cancel { target: token(4, 0), token: t }, t).result, -EALREADY);
    assert_eq!(d.wait_for(token(4, 0)).result, 0);
}

/// A log of records of 16 equal bytes, numbered from 1: appends, syncs, and says how many are safe.
fn append_records(d: &mut Driver, file: Sock, count: u8, sync_every: u8) -> u8 {
    let mut safe = 0;
    for n in 1..=count {
        let mut done = 0;
        while done < 16 {
            let at = u64::from(n - 1) * 16 + done as u64;
            done += usize::try_from(write(d, file, at, &[n; 16][done..])).unwrap();
        }
        if n % sync_every == 0 && sync(d, file) == 0 {
            safe = n;
        }
    }
    safe
}

#[test]
fn what_was_synced_is_found_after_a_crash_and_a_new_run_starts_from_it() {
    let mut torn = 0;
    for seed in seeds(200) {
        let faults = Faults::none().with(Fault::ShortFile, 0.3).with(Fault::Delay, 0.3);
        let mut d = Driver::new(SimConfig::seeded(seed, faults.clone()));
        let file = opened(&mut d, "log", O_CREAT | O_RDWR);
        let safe = append_records(&mut d, file, 10, 4);
        assert_eq!(safe, 8);
        let disk: Disk = d.world.disk_after_crash();

        let mut after = Driver::new(SimConfig { disk, ..SimConfig::seeded(seed, faults) });
        let file = opened(&mut after, "log", O_RDONLY);
        let mut bytes = Vec::new();
        loop {
            let more = read(&mut after, file, bytes.len() as u64, 1_000).unwrap();
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        for n in 1..=safe {
            assert_eq!(bytes[usize::from(n - 1) * 16..usize::from(n) * 16], [n; 16]);
        }
        let tail = &bytes[usize::from(safe) * 16..];
        torn += u32::from(!tail.is_empty() && tail != [[9; 16], [10; 16]].concat());
    }
    assert!(torn > 20 || std::env::var(corelane_sim::SEED_VARIABLE).is_ok(), "{torn}");
}
