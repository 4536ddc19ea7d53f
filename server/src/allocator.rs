//! The allocator: mimalloc, asked for no more alignment than is needed.
//!
//! Rust names an alignment with each allocation, and the usual glue passes all of them on as special wishes. Then
//! whatever does not come from the front of a free list takes a long way round that allocates more and aligns by
//! hand: 12 of 100 allocations of a durable INSERT did, when nearly all of them ask for what every block has anyway.

#![allow(unsafe_code, reason = "an allocator is made of raw memory")]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_int, c_long};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

// The glue crate declares these only together with everything else that mimalloc knows.
unsafe extern "C" {
    /// Gives back what is free: of the calling thread to the process, and of the process to the system if `force` says
    /// so or its time has come.
    fn mi_collect(force: bool);

    fn mi_option_set(option: c_int, value: c_long);
    #[cfg(test)]
    fn mi_option_get(option: c_int) -> c_long;
}

/// The place of `mi_option_purge_delay` among mimalloc's options: how long memory of the process that is free waits before
/// it is given back to the system, in milliseconds.
const PURGE_DELAY: c_int = 15;

/// Memory goes back to the system when [`purge`] is called, which happens within seconds of whatever leaves much. Left to
/// itself, mimalloc lets the thread that happens to free something give back all that has been free for a second: a thread
/// that serves clients would unmap some hundred megabytes in one call, and answer nobody for 20 ms and more. It still does
/// so with what has been free for very long, such as what the replay of the log left.
pub fn give_back_when_told() {
    const LONG_MILLIS: c_long = 20_000;
    // SAFETY: the call takes integers, and sets an option that is read when memory is freed.
    unsafe { mi_option_set(PURGE_DELAY, LONG_MILLIS) }
}

/// Hands what the calling thread has freed to the process. It walks the pages of the thread that are not full.
pub fn collect() {
    // SAFETY: the call takes no memory of ours, and is made for any thread at any time.
    unsafe { mi_collect(false) }
}

/// Gives memory that is free back to the system, of all threads as far as they have handed it on. It takes its time: call
/// it where nobody waits.
pub fn purge() {
    // SAFETY: as in `collect`.
    unsafe { mi_collect(true) }
}

/// See the module's text.
#[derive(Debug)]
pub struct Allocator;

/// Every block of more than eight bytes has this alignment: `MI_MAX_ALIGN_SIZE`.
const ALIGN_ALWAYS: usize = 16;

/// Smaller blocks have this one.
const ALIGN_SMALL: usize = 8;

/// Whether any block of so many bytes is aligned as wished.
const fn is_ordinary(size: usize, align: usize) -> bool {
    align <= ALIGN_SMALL || (align <= ALIGN_ALWAYS && size > ALIGN_SMALL)
}

// SAFETY: all memory comes from mimalloc, which keeps what `GlobalAlloc` demands: blocks of at least the size asked
// for, aligned as `is_ordinary` knows or as asked for, null when there is none. `mi_free` and both `mi_realloc` take
// blocks from any of its functions.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size is allowed, and a layout's alignment is a power of two.
        unsafe {
            if is_ordinary(size, align) {
                mi_malloc(size).cast()
            } else {
                mi_malloc_aligned(size, align).cast()
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as in `alloc`.
        unsafe {
            if is_ordinary(size, align) {
                mi_zalloc(size).cast()
            } else {
                mi_zalloc_aligned(size, align).cast()
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller hands back a block of ours.
        unsafe { mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller hands in a block of ours; the rest as in `alloc`.
        unsafe {
            if is_ordinary(size, layout.align()) {
                mi_realloc(block.cast(), size).cast()
            } else {
                mi_realloc_aligned(block.cast(), size, layout.align()).cast()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_of_purges_is_where_the_options_of_this_mimalloc_have_it() {
        // SAFETY: the call takes and gives integers.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "mimalloc's own choice");
        give_back_when_told();
        assert!(delay() > 10_000);
    }

    /// Many of each, because the first blocks of a page are better aligned than they must be.
    #[test]
    fn blocks_are_aligned_as_wished() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in [1, 7, 8, 9, 15, 16, 17, 24, 40, 72, 104, 144, 1000, 1040, 5000, 70_000] {
                let layout = Layout::from_size_align(size, align).expect("small");
                let larger = size * 2 + 1;
                // SAFETY: the layouts have a size, and each block is freed once, with the layout it has.
                let blocks: Vec<*mut u8> =
                    (0..64).map(|_| unsafe { Allocator.alloc(layout) }).collect();
                for block in blocks {
                    assert!(
                        !block.is_null() && block.addr().is_multiple_of(align),
                        "{size} {align}"
                    );
                    // SAFETY: as above; the block has at least `size` bytes.
                    let grown = unsafe {
                        block.write_bytes(7, size);
                        Allocator.realloc(block, layout, larger)
                    };
                    assert!(
                        !grown.is_null() && grown.addr().is_multiple_of(align),
                        "{larger} {align}"
                    );
                    // SAFETY: as above.
                    unsafe {
                        assert_eq!((grown.read(), grown.add(size - 1).read()), (7, 7));
                        Allocator.dealloc(grown, Layout::from_size_align_unchecked(larger, align));
                    }
                }
                // SAFETY: as above.
                unsafe {
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert!(zeroed.addr().is_multiple_of(align) && zeroed.read() == 0);
                    Allocator.dealloc(zeroed, layout);
                }
            }
        }
    }
}
