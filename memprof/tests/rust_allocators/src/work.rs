// Allocates by each method of `GlobalAlloc`, and leaks what it says.
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};

#[inline(never)]
fn leak() -> [*mut u8; 4] {
    let layout = |size, align| Layout::from_size_align(size, align).unwrap();
    // SAFETY: no size is zero, and a block is resized by the layout that it was made with.
    std::hint::black_box(unsafe {
        let resized = alloc(layout(500, 8));
        [
            alloc(layout(1001, 8)),
            alloc(layout(1024, 128)),
            alloc_zeroed(layout(1003, 8)),
            realloc(resized, layout(500, 8), 1004),
        ]
    })
}

#[inline(never)]
fn churn() {
    for size in 1..=100 {
        let mut numbers: Vec<u8> = Vec::with_capacity(size);
        numbers.push(1);
        numbers.reserve_exact(size * 2);
        std::hint::black_box(numbers);
        let layout = Layout::from_size_align(64 * size, 64).unwrap();
        // SAFETY: the size is not zero, and it is freed by the layout that it was made with.
        unsafe { dealloc(std::hint::black_box(alloc(layout)), layout) };
    }
}

fn main() {
    if std::env::args_os().len() > 1 {
        std::hint::black_box(leak());
        churn();
    }
}
