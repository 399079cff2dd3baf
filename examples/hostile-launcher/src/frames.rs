//! Acts on the pages of a guest's memory while the guest has them mapped: they are moved, swapped out and copied, and it
//! must find what it has written; or they are taken away, and it must end.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use arch_i386::addr::PAGE_SIZE;

use crate::Failure;
use crate::guest::{Device, FRAMES, Kind, MEMORY, Memory, beginning, each_its_own};
use crate::process::{copy, until};
use crate::program::{MISMATCHES, SCRATCH, Step};

/// The pages that are filled and compared: 1 MiB, which each guest has at the same guest-virtual addresses.
pub const PAGES: u32 = 256;
pub const END: u32 = FRAMES + PAGES * PAGE_SIZE;
/// What is in them: the address of each, and one of these.
const FIRST: u32 = 0x111;
const SECOND: u32 = 0x222;
/// Where a guest waits for its launcher.
const GO: u32 = SCRATCH + 0x800;
/// How often the pages of one kind of memory are disturbed,
const TURNS: u32 = 48;
/// and for how long at the most.
const LONGEST: Duration = Duration::from_secs(60);

fn fill(key: u32) -> Step {
    Step::Fill { start: FRAMES, end: END, key }
}

pub fn compare(key: u32) -> Step {
    Step::Compare { start: FRAMES, end: END, key }
}

/// How often the guest has found another value than it should, where the last time, and which.
pub fn mismatches(memory: &Memory) -> [u32; 3] {
    [0, 4, 8].map(|at| memory.word(MISMATCHES + at).load(Ordering::Relaxed))
}

fn check(what: &str, done: i32) -> Result<(), Failure> {
    if done == 0 { Ok(()) } else { Err(format!("{what}: {}", io::Error::last_os_error()).into()) }
}

/// Whether the last system call that failed did so with this error.
pub fn is_errno(error: i32) -> bool {
    io::Error::last_os_error().raw_os_error() == Some(error)
}

/// Advice on pages from guest-physical address `at` on.
pub fn advise(memory: &Memory, at: u32, pages: u32, advice: i32) -> Result<(), Failure> {
    // SAFETY: the range is within the guest's memory, which nothing in Rust has references to.
    let done = unsafe { libc::madvise(memory.address(at).cast(), (pages * PAGE_SIZE) as usize, advice) };
    check(&format!("advice {advice}"), done)
}

fn protect(memory: &Memory, at: u32, pages: u32, rights: i32) -> Result<(), Failure> {
    // SAFETY: as above.
    let done = unsafe { libc::mprotect(memory.address(at).cast(), (pages * PAGE_SIZE) as usize, rights) };
    check(&format!("rights {rights}"), done)
}

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// One of the things after which memory still holds the same, a number from 0 on. Some are not for every kind.
fn disturb(memory: &Memory, kind: Kind, turn: u32) -> Result<(), Failure> {
    // Other pages each time, in a few of which the program and the tables are.
    let (at, pages) = if turn.is_multiple_of(7) {
        (0, MEMORY / PAGE_SIZE)
    } else {
        (FRAMES + turn * 37 % (PAGES - 32) * PAGE_SIZE, 32)
    };
    // Huge pages come as a whole, and are not swapped.
    let (at, pages) = if kind == Kind::Huge { (0, MEMORY / PAGE_SIZE) } else { (at, pages) };
    let private = matches!(kind, Kind::Private | Kind::PrivateFile);
    match turn % 6 {
        0 | 1 if kind != Kind::Huge => advise(memory, at, pages, libc::MADV_PAGEOUT)?,
        // (A disk's node may be where nothing can be executed.)
        2 if kind != Kind::Block => {
            protect(memory, at, pages, READ_WRITE | libc::PROT_EXEC)?;
            protect(memory, at, pages, READ_WRITE)?;
        }
        // What others have as well is there again at the next access.
        3 if !private => match advise(memory, at, pages, libc::MADV_DONTNEED) {
            // Linux before 5.18 takes no huge pages back.
            Err(_) if kind == Kind::Huge && is_errno(libc::EINVAL) => {}
            done => done?,
        },
        4 if kind == Kind::Block => {
            // SAFETY: the whole mapping.
            let done = unsafe { libc::msync(memory.address(0).cast(), MEMORY as usize, libc::MS_SYNC) };
            check("msync", done)?;
        }
        4 => std::fs::write("/proc/sys/vm/compact_memory", "1")?,
        // A process with a copy of everything, which is gone at once.
        _ => drop(copy(|| 0)?),
    }
    Ok(())
}

/// Memory of every kind keeps what a guest has written, whatever is done with its pages.
pub fn kept_pages() -> Result<(), Failure> {
    for kind in Kind::ALL {
        let memory = Memory::of(kind)?;
        let [first, second] = beginning();
        let program = [
            first,
            second,
            fill(FIRST),
            compare(FIRST),
            fill(SECOND),
            compare(SECOND),
            Step::Count,
            Step::Jump(2),
        ];
        memory.load(&program, 1, each_its_own);
        let device = Device::open()?;
        device.initialize(&memory)?;
        let memory = &memory;
        let (end, turns) = device.run_beside(|ended| {
            let (begun, mut turns) = (Instant::now(), 0);
            let mut result = Ok(());
            while turns < TURNS
                && begun.elapsed() < LONGEST
                && result.is_ok()
                && !ended.load(Ordering::Relaxed)
            {
                result = disturb(memory, kind, turns);
                turns += 1;
                sleep(Duration::from_millis(2));
            }
            memory.set_step(7, Step::OFF);
            result.map(|()| turns)
        });
        let turns = turns?;
        let [count, at, value] = mismatches(memory);
        println!("{kind:?}: {} rounds, {turns} disturbances, the guest: {end:?}", memory.count());
        if count != 0 {
            return Err(format!("{kind:?}: {count} words were others, {value:#x} at {at:#x}").into());
        }
        if !end?.starts_with("CRASH: ") || memory.count() < 3 || turns < TURNS / 2 {
            return Err(format!("{kind:?}: it has not run for long").into());
        }
        if kind == Kind::Block {
            check_disk(memory)?;
        }
    }
    Ok(())
}

/// What the guest wrote last is on the disk that its memory is of.
fn check_disk(memory: &Memory) -> Result<(), Failure> {
    use std::os::unix::fs::FileExt;
    let file = memory.file().ok_or("memory without a file")?;
    file.sync_all()?;
    std::fs::write("/proc/sys/vm/drop_caches", "1")?;
    for at in (FRAMES..END).step_by(PAGE_SIZE as usize) {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, at.into())?;
        if u32::from_ne_bytes(word) != at + SECOND {
            return Err(format!("{at:#x} on the disk is {:#x}", u32::from_ne_bytes(word)).into());
        }
    }
    Ok(())
}

/// What is done to [`PAGES`] pages of a guest's while it waits, and what it must come to.
struct Taking {
    what: &'static str,
    kind: Kind,
    take: fn(&Memory) -> Result<(), Failure>,
    then: Then,
}

#[derive(PartialEq)]
enum Then {
    /// The guest finds zeros, and goes on.
    Zeros,
    /// It is killed.
    Killed,
}

const TAKINGS: [Taking; 7] = [
    Taking {
        what: "MADV_DONTNEED",
        kind: Kind::Private,
        take: |memory| advise(memory, FRAMES, PAGES, libc::MADV_DONTNEED),
        then: Then::Zeros,
    },
    Taking { what: "a hole in a file", kind: Kind::Memfd, take: punch, then: Then::Zeros },
    Taking {
        what: "other memory there",
        kind: Kind::Private,
        take: |memory| map_over(memory, READ_WRITE),
        then: Then::Zeros,
    },
    Taking { what: "munmap", kind: Kind::Private, take: unmap, then: Then::Killed },
    Taking {
        what: "PROT_NONE",
        kind: Kind::Private,
        take: |memory| protect(memory, FRAMES, PAGES, libc::PROT_NONE),
        then: Then::Killed,
    },
    Taking { what: "truncation", kind: Kind::Memfd, take: truncate, then: Then::Killed },
    // The guest has written to these pages already, so that it would be given the right to do it again when it reads.
    Taking {
        what: "PROT_READ",
        kind: Kind::Shared,
        take: |memory| protect(memory, FRAMES, PAGES, libc::PROT_READ),
        then: Then::Killed,
    },
];

fn punch(memory: &Memory) -> Result<(), Failure> {
    let file = memory.file().ok_or("memory without a file")?;
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (at, len) = (FRAMES as libc::off_t, (PAGES * PAGE_SIZE) as libc::off_t);
    // SAFETY: no memory of Rust's is concerned.
    check("fallocate", unsafe { libc::fallocate(file.as_raw_fd(), mode, at, len) })
}

fn truncate(memory: &Memory) -> Result<(), Failure> {
    Ok(memory.file().ok_or("memory without a file")?.set_len(FRAMES.into())?)
}

fn unmap(memory: &Memory) -> Result<(), Failure> {
    // SAFETY: nothing in Rust has references to these pages, and nobody looks at them from now on.
    check("munmap", unsafe { libc::munmap(memory.address(FRAMES).cast(), (PAGES * PAGE_SIZE) as usize) })
}

fn map_over(memory: &Memory, rights: i32) -> Result<(), Failure> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let (at, len) = (memory.address(FRAMES).cast(), (PAGES * PAGE_SIZE) as usize);
    // SAFETY: over pages of our own mapping, to which nothing in Rust has references.
    let mapped = unsafe { libc::mmap(at, len, rights, flags, -1, 0) };
    check("mmap", if mapped == libc::MAP_FAILED { -1 } else { 0 })
}

/// Runs a guest that waits at [`GO`] for the steps of another thread, and waits no longer when they are done or have failed.
fn run_and_let_go(
    device: &Device,
    memory: &Memory,
    steps: impl FnOnce() -> Result<(), Failure> + Send,
) -> (Result<String, Failure>, Result<(), Failure>) {
    device.run_beside(|_| {
        let result = steps();
        memory.set_word(GO, u32::MAX);
        result
    })
}

/// Pages whose contents go: the guest finds what is there now, or is killed with a reason.
pub fn taken_pages() -> Result<(), Failure> {
    for Taking { what, kind, take, then } in &TAKINGS {
        let memory = Memory::of(*kind)?;
        let [first, second] = beginning();
        let program = [
            first,
            second,
            fill(FIRST),
            Step::Count,
            Step::Wait { at: GO, value: 1 },
            compare(FIRST),
            Step::Count,
            Step::Wait { at: GO, value: 2 },
            fill(SECOND),
            compare(SECOND),
            Step::Count,
            Step::Wait { at: GO, value: 3 },
            Step::OFF,
        ];
        memory.load(&program, 1, each_its_own);
        let device = Device::open()?;
        device.initialize(&memory)?;
        let memory = &memory;
        let steps = || {
            until("the guest has filled its pages", || memory.count() == 1)?;
            take(memory)?;
            memory.set_word(GO, 1);
            if *then == Then::Killed {
                return Ok(());
            }
            until("the guest has read", || memory.count() == 2)?;
            let [count, at, value] = mismatches(memory);
            println!("{what}: {count} words are others, {value:#x} at {at:#x}");
            if count != PAGES || value != 0 {
                return Err(format!("{what}: {PAGES} zeros were expected").into());
            }
            memory.set_word(GO, 2);
            until("the guest has written", || memory.count() == 3)?;
            if mismatches(memory)[0] != PAGES {
                return Err(format!("{what}: what was written afterwards is not there").into());
            }
            Ok(())
        };
        let (end, taken) = run_and_let_go(&device, memory, steps);
        let end = end?;
        println!("{what}: the guest: {end}");
        taken?;
        if *then == Then::Killed && !end.starts_with("failed to get a page") {
            return Err(format!("{what}: that is no reason: {end}").into());
        }
    }
    Ok(())
}

/// MADV_FREE, then the guest writes, then memory is short: what was written since is there.
pub fn freed_pages() -> Result<(), Failure> {
    let memory = Memory::of(Kind::Private)?;
    let [first, second] = beginning();
    let program = [
        first,
        second,
        fill(FIRST),
        Step::Count,
        Step::Wait { at: GO, value: 1 },
        fill(SECOND),
        Step::Count,
        Step::Wait { at: GO, value: 2 },
        compare(SECOND),
        Step::Count,
        Step::OFF,
    ];
    memory.load(&program, 1, each_its_own);
    let device = Device::open()?;
    device.initialize(&memory)?;
    let memory = &memory;
    let steps = || {
        until("the guest has filled its pages", || memory.count() == 1)?;
        advise(memory, FRAMES, PAGES, libc::MADV_FREE)?;
        memory.set_word(GO, 1);
        until("the guest has filled them again", || memory.count() == 2)?;
        for _ in 0..4 {
            advise(memory, FRAMES, PAGES, libc::MADV_PAGEOUT)?;
        }
        memory.set_word(GO, 2);
        Ok(())
    };
    let (end, freed) = run_and_let_go(&device, memory, steps);
    freed?;
    let ([count, at, value], end) = (mismatches(memory), end?);
    println!("the guest: {end}; {count} words were others, {value:#x} at {at:#x}");
    if count != 0 || memory.count() != 3 { Err("what was written is lost".into()) } else { Ok(()) }
}
