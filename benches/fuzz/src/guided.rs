//! libFuzzer on one of the targets, which the environment names: `FUZZ_TARGET=pagers guided [OPTION] [CORPUS]`.
//!
//! `cargo xtask fuzz` builds it with the instrumentation that libFuzzer goes by, and calls it. At its end it prints how
//! many operations it has simulated, and leaves in the file `FUZZ_COVERAGE` which edges of the code were reached.
#![no_main]

use std::fmt::Write;
use std::slice;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use fuzz_targets::{OPERATIONS, target};
use libfuzzer_sys::fuzz_target;

/// What the instrumentation records of an edge: its address, and whether it is a function's first.
#[repr(C)]
struct Edge {
    address: usize,
    flags: usize,
}

// The bounds of what the instrumentation has put together, and of the program, by the linker: by assembly, since the
// instrumentation of this crate declares some of the same names.
std::arch::global_asm!(
    ".pushsection .data.rel.ro.fuzz_bounds, \"aw\"",
    ".globl fuzz_bounds",
    ".balign 8",
    "fuzz_bounds:",
    ".quad __start___sancov_cntrs, __stop___sancov_cntrs, __start___sancov_pcs, __executable_start",
    ".popsection",
);

#[repr(C)]
struct Bounds {
    counters: *const u8,
    counters_end: *const u8,
    edges: *const Edge,
    program: *const u8,
}

unsafe extern "C" {
    #[link_name = "fuzz_bounds"]
    static BOUNDS: Bounds;
    fn atexit(function: extern "C" fn()) -> i32;
}

fn bounds() -> &'static Bounds {
    // SAFETY: written by the linker, and by nobody else.
    unsafe { &*(&raw const BOUNDS) }
}

/// Whether each edge was ever reached; libFuzzer forgets from one input to the next.
static REACHED: Mutex<Vec<[u8; 8]>> = Mutex::new(Vec::new());

fn counters() -> &'static [u8] {
    let Bounds { counters: start, counters_end: end, .. } = *bounds();
    // SAFETY: all between the bounds are the counters, one byte each. This thread alone runs instrumented code, and not
    // while it holds the slice.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

fn keep_coverage() {
    let (counters, rest) = counters().as_chunks::<8>();
    let mut reached = REACHED.lock().expect("nothing panics with it");
    reached.resize(counters.len() + 1, [0; 8]);
    // This is instrumented itself, so eight at a time.
    for (reached, counters) in reached.iter_mut().zip(counters) {
        *reached = (u64::from_ne_bytes(*reached) | u64::from_ne_bytes(*counters)).to_ne_bytes();
    }
    for (reached, counter) in reached[counters.len()].iter_mut().zip(rest) {
        *reached |= counter;
    }
}

/// Prints how many operations were simulated, and leaves the reached edges in the file.
extern "C" fn tell() {
    eprintln!("operations: {}", OPERATIONS.load(Ordering::Relaxed));
    let Some(file) = std::env::var_os("FUZZ_COVERAGE") else { return };
    let reached = REACHED.lock().expect("nothing panics with it");
    // SAFETY: there is an edge for each counter.
    let edges = unsafe { slice::from_raw_parts(bounds().edges, counters().len()) };
    let start = bounds().program.addr();
    let mut text = String::new();
    for (edge, reached) in edges.iter().zip(reached.as_flattened()) {
        let _ = writeln!(text, "{:x} {}", edge.address.wrapping_sub(start), u8::from(*reached != 0));
    }
    // Without it there is no table of coverage.
    let _ = std::fs::write(file, text);
}

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    // SAFETY: the function takes no arguments and does not unwind.
    unsafe { atexit(tell) };
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    target(&name).expect("FUZZ_TARGET names a target")
});

fuzz_target!(|bytes: &[u8]| {
    TARGET(bytes);
    keep_coverage();
});
