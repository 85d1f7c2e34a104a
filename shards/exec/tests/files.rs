//! Files on the ring: what comes back, what is written, what fails, and when a file is closed.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::pin;
use std::task::Poll;

use common::Bench;
use corelane_base::Limits;
use corelane_exec::fs::{FILE_IO_MAX, File, OpenOptions};
use corelane_exec::{current, spawn};
use corelane_sim::{Fault, Faults, SimConfig, seeds};

fn with(faults: Faults, seed: u64) -> Bench {
    let limits = Limits::default();
    Bench::on(SimConfig { seed, faults, ..SimConfig::of(&limits) }, limits)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250u8).cycle().take(len).collect()
}

/// Nothing is left: every file was closed.
fn quiet(mut b: Bench) {
    b.settle();
    b.world.check_quiet();
}

#[test]
fn a_file_that_is_not_there_is_not_found() {
    let mut b = Bench::new();
    let error = b.run(async { File::open("/missing").await.unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::NotFound);
    quiet(b);
}

#[test]
fn a_path_with_a_nul_byte_is_refused_before_the_kernel_sees_it() {
    let mut b = Bench::new();
    let error = b.run(async { File::open("/a\0b").await.unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(b.rt.kernel_stats().submitted, 0);
}

#[test]
fn what_is_written_is_read_back_at_its_place() {
    let mut b = Bench::new();
    b.run(async {
        let file = File::create("/f").await.unwrap();
        file.write_at(3, b"middle".to_vec()).await.unwrap();
        file.write_at(0, b"at ".to_vec()).await.unwrap();
        assert_eq!(file.read_at(0, 100).await.unwrap(), b"at middle");
        assert_eq!(file.read_at(3, 3).await.unwrap(), b"mid");
        assert_eq!(file.read_at(9, 10).await.unwrap(), b"", "at the end");
        assert_eq!(file.read_at(1_000, 10).await.unwrap(), b"", "past the end");
        assert_eq!(file.read_at(0, 0).await.unwrap(), b"");
        for (offset, len, wanted) in
            [(0, 100, "at middle"), (3, 3, "mid"), (9, 10, ""), (1_000, 10, ""), (0, 0, "")]
        {
            let chunk = file.read_chunk(offset, len).await.unwrap();
            assert_eq!(chunk.as_slice(), wanted.as_bytes(), "{len} bytes at {offset}");
        }
        file.write_at(0, Vec::new()).await.unwrap();
    });
    assert_eq!(b.world.file("/f").unwrap(), b"at middle");
    quiet(b);
}

#[test]
fn open_options_are_those_of_the_system() {
    let mut b = Bench::new();
    b.world.put_file("/f", b"12345");
    b.run(async {
        let read = OpenOptions::new().read(true).open("/f").await.unwrap();
        assert!(read.write_at(0, vec![0]).await.is_err(), "for reading");
        let write = OpenOptions::new().write(true).open("/f").await.unwrap();
        assert!(write.read_at(0, 1).await.is_err(), "for writing");
        write.write_at(0, b"a".to_vec()).await.unwrap();
        let both = OpenOptions::new().read(true).write(true).open("/f").await.unwrap();
        assert_eq!(both.read_at(0, 9).await.unwrap(), b"a2345", "not emptied");
        let append = OpenOptions::new().append(true).open("/f").await.unwrap();
        append.write_at(0, b"6".to_vec()).await.unwrap();
        assert_eq!(both.read_at(0, 9).await.unwrap(), b"a23456");
        let absent = OpenOptions::new().write(true).open("/new").await;
        assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
        OpenOptions::new().write(true).create(true).open("/new").await.unwrap();
        OpenOptions::new().write(true).truncate(true).open("/f").await.unwrap();
        assert_eq!(both.read_at(0, 9).await.unwrap(), b"");
    });
    assert_eq!(b.world.file("/new").unwrap(), b"");
    quiet(b);
}

#[test]
fn more_than_one_operation_holds_is_done_in_pieces() {
    let bytes = pattern(2 * FILE_IO_MAX + 17);
    let mut b = Bench::new();
    b.world.put_file("/f", &bytes);
    let read = b.run(async {
        let file = File::open("/f").await.unwrap();
        file.read_at(5, 4 * FILE_IO_MAX).await.unwrap()
    });
    assert!(read == bytes[5..]);
    quiet(b);
}

#[test]
fn an_operation_that_moves_less_than_asked_is_gone_on_with() {
    let mut short = 0;
    for seed in seeds(50) {
        let bytes = pattern(5_000);
        let mut b = with(Faults::none().with(Fault::ShortFile, 0.8), seed);
        let written = bytes.clone();
        let (some, all) = b.run(async move {
            let file = File::create("/f").await.unwrap();
            file.write_at(0, written).await.unwrap();
            (file.read_at(1_000, 2_000).await.unwrap(), file.read_at(0, 10_000).await.unwrap())
        });
        assert!(b.world.file("/f").unwrap() == bytes);
        assert!(some == bytes[1_000..3_000], "{} bytes of 2000", some.len());
        assert!(all == bytes, "{} bytes of 5000", all.len());
        short += b.world.injected(Fault::ShortFile);
        quiet(b);
    }
    assert!(short > 0, "nothing was tested");
}

#[test]
fn a_full_disk_is_an_error_and_what_fitted_is_written() {
    let limits = Limits::default();
    let mut b = Bench::on(SimConfig { disk_bytes_max: 1_000, ..SimConfig::of(&limits) }, limits);
    let error = b.run(async {
        let file = File::create("/f").await.unwrap();
        file.write_at(0, vec![7; 1_000]).await.unwrap();
        file.write_at(900, vec![8; 200]).await.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let file = b.world.file("/f").unwrap();
    assert_eq!((file.len(), file[899], file[900]), (1_000, 7, 8));
    quiet(b);
}

#[test]
fn a_disk_that_fails_says_so_in_every_call() {
    let mut b = Bench::new();
    b.world.put_file("/f", b"bytes");
    let world = b.world.clone();
    let kinds = b.run(async move {
        let file = OpenOptions::new().read(true).write(true).open("/f").await.unwrap();
        world.set_faults(Faults::none().with(Fault::DiskError, 1.0));
        [
            file.read_at(0, 5).await.err(),
            file.write_at(0, vec![1]).await.err(),
            file.sync_all().await.err(),
            file.sync_data().await.err(),
            File::open("/f").await.err(),
        ]
    });
    const EIO: i32 = 5;
    for error in kinds {
        assert_eq!(error.and_then(|e| e.raw_os_error()), Some(EIO));
    }
    quiet(b);
}

#[test]
fn what_was_synced_survives_a_power_cut() {
    for seed in seeds(30) {
        let mut b = with(Faults::none(), seed);
        b.run(async {
            let file = File::create("/f").await.unwrap();
            file.write_at(0, b"kept".to_vec()).await.unwrap();
            file.sync_all().await.unwrap();
            file.write_at(0, b"lost".to_vec()).await.unwrap();
            let other = File::create("/g").await.unwrap();
            other.write_at(0, b"data".to_vec()).await.unwrap();
            other.sync_data().await.unwrap();
        });
        let disk = b.world.disk_after_crash();
        assert_eq!(disk.get("/f").map(<[u8]>::len), Some(4));
        assert_eq!(disk.get("/g"), Some(&b"data"[..]));
        quiet(b);
    }
}

#[test]
fn clones_are_one_file_that_is_closed_with_the_last() {
    let mut b = Bench::new();
    b.world.put_file("/f", b"bytes");
    let first = b.run(async { File::open("/f").await.unwrap() });
    let second = first.clone();
    drop(first);
    b.settle();
    assert_eq!(b.world.descriptors_open(), 1);
    let reader = second.clone();
    assert_eq!(b.run(async move { reader.read_at(0, 5).await.unwrap() }), b"bytes");
    assert_eq!(b.world.descriptors_open(), 1);
    drop(second);
    b.settle();
    assert_eq!(b.world.descriptors_open(), 0);
    quiet(b);
}

#[test]
fn a_file_dropped_with_operations_under_way_is_closed_after_the_last() {
    for seed in seeds(50) {
        let mut b = with(Faults::benign(0.2), seed);
        b.world.put_file("/f", &pattern(1_000));
        b.run(async {
            let file = OpenOptions::new().read(true).write(true).open("/f").await.unwrap();
            {
                let (mut read, mut write) =
                    (pin!(file.read_at(0, 1_000)), pin!(file.write_at(0, vec![1; 1_000])));
                let mut sync = pin!(file.sync_all());
                poll_fn(|cx| {
                    assert!(read.as_mut().poll(cx).is_pending());
                    assert!(write.as_mut().poll(cx).is_pending());
                    assert!(sync.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            drop(file);
        });
        assert_eq!(b.world.descriptors_open(), 1, "the simulator would have caught an earlier close");
        b.settle();
        let left = b.world.file("/f").unwrap();
        assert!(left.starts_with(&[1]), "the write was carried out although nobody waited");
        quiet(b);
    }
}

#[test]
fn a_file_is_not_opened_for_somebody_who_left() {
    let mut b = Bench::new();
    b.world.put_file("/f", b"bytes");
    b.run(async {
        let task = spawn(async { File::open("/f").await.map(drop) }).unwrap();
        corelane_exec::task::yield_now().await;
        task.cancel();
    });
    quiet(b);
}

#[test]
fn many_tasks_use_many_files_under_every_fault_that_loses_nothing() {
    for seed in seeds(30) {
        let mut b = with(Faults::benign(0.15), seed);
        b.run(async {
            let mut tasks = Vec::new();
            for task in 0..10u8 {
                tasks.push(
                    spawn(async move {
                        let path = format!("/{task}");
                        let file = File::create(&path).await.unwrap();
                        for part in 0..5 {
                            file.write_at(part * 100, vec![task; 100]).await.unwrap();
                        }
                        file.sync_all().await.unwrap();
                        drop(file);
                        let file = File::open(&path).await.unwrap();
                        assert_eq!(file.read_at(0, 1_000).await.unwrap(), vec![task; 500]);
                        current().id()
                    })
                    .unwrap(),
                );
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
        quiet(b);
    }
}

#[test]
fn a_chunk_is_as_long_as_one_operation_may_be_and_no_longer() {
    let mut b = Bench::new();
    let bytes = pattern(FILE_IO_MAX + 1);
    let written = bytes.clone();
    let chunks = b.run(async move {
        let file = File::create("/f").await.unwrap();
        file.write_at(0, written).await.unwrap();
        [file.read_chunk(0, FILE_IO_MAX).await.unwrap(), file.read_chunk(0, FILE_IO_MAX + 1).await.unwrap()]
    });
    for chunk in &chunks {
        assert!(chunk.as_slice() == &bytes[..FILE_IO_MAX], "{} bytes", chunk.len());
    }
    quiet(b);
}

#[test]
fn a_chunk_that_the_pools_have_no_room_for_is_an_error_and_no_operation() {
    let mut b = Bench::new();
    let pools = b.rt.shard().pools().clone();
    b.run(async move {
        let file = File::create("/f").await.unwrap();
        file.write_at(0, b"text".to_vec()).await.unwrap();
        let mut all = Vec::new();
        while let Ok(taken) = pools.get(FILE_IO_MAX) {
            all.push(taken);
        }
        assert_eq!(file.read_chunk(0, FILE_IO_MAX).await.unwrap_err().kind(), ErrorKind::OutOfMemory);
        all.pop();
        assert_eq!(file.read_chunk(0, FILE_IO_MAX).await.unwrap().as_slice(), b"text");
    });
    quiet(b);
}

#[test]
fn a_chunk_whose_reading_fails_or_is_given_up_goes_back_to_the_pools() {
    let mut b = Bench::new();
    let lent = b.rt.shard().pools().stats().lent();
    b.run(async move {
        let file = OpenOptions::new().write(true).create(true).open("/f").await.unwrap();
        assert!(file.read_chunk(0, 100).await.is_err(), "for writing");
        let file = File::open("/f").await.unwrap();
        let mut read = pin!(file.read_chunk(0, 100));
        poll_fn(|cx| {
            assert!(read.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(current().pools().stats().lent(), lent + 1, "the operation holds it");
    });
    b.settle();
    assert_eq!(b.rt.shard().pools().stats().lent(), lent);
    quiet(b);
}
