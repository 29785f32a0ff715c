//! No file makes the reader allocate much more than the file itself is long.
//!
//! A binary of its own, because it counts every allocation of the process.

#![cfg(feature = "generate")]
#![allow(unsafe_code)] // a global allocator can't be written without

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::Cursor,
    sync::atomic::{AtomicUsize, Ordering},
};

use sunfleck::model::Gguf;

/// Counts live bytes and their peak.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `alloc` above with the same layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes the reader had at once, beyond what was there before.
fn peak_of_reading(bytes: &[u8]) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let _ = Gguf::read(&mut Cursor::new(bytes));
    PEAK.load(Ordering::Relaxed) - before
}

/// The read buffer, and the growth of lists whose items are larger in memory than in the file.
fn most(bytes: &[u8]) -> usize {
    (256 << 10) + 16 * bytes.len()
}

#[test]
fn every_damaged_length_stays_within_the_size_of_the_file() {
    let seed = include_bytes!("../fuzz/seeds/tiny.gguf");
    assert!(peak_of_reading(seed) <= most(seed));
    // Every position of the header may be a length: write large ones over each.
    let lengths = [u64::MAX, 1 << 40, 1 << 31, 1 << 24, seed.len() as u64];
    let header = 7_000.min(seed.len() - 8);
    let mut bytes = seed.to_vec();
    for at in 4..header {
        for length in lengths {
            bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
            let peak = peak_of_reading(&bytes);
            assert!(peak <= most(&bytes), "{length} at {at}: {peak} bytes");
        }
        bytes[at..at + 8].copy_from_slice(&seed[at..at + 8]);
    }
}
