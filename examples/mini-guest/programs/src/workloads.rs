//! Workloads, shaped after those of lmbench (McVoy and Staelin, "lmbench: Portable Tools for Performance
//! Analysis", USENIX 1996), and what each of their operations costs.
//!
//! A workload first does an eighth of its operations unmeasured. Then it marks its span on the console by two
//! lines, which the launcher's `--spans` completes with the host's counters of what lies between:
//!
//! ```text
//! span begin ctx16
//! span end ctx16 operations=2048 ticks=21575610 tsc_khz=1000000
//! ```
//!
//! `ticks` are those of the time-stamp counter, read inside the two marks. `cargo xtask profile` finds the span by two
//! instructions beside them.

use crate::ensure;
use crate::memory::EXEC_TARGET;
use crate::start::{Random, fail, reap, spawn};
use core::fmt::{self, Display};
use core::hint::black_box;
use mini_programs::abi::{KernelMapping, RunOptions, Workload};
use mini_programs::println;
use mini_programs::user::{self, Forked, rdtsc};

const PAGE: u32 = 4096;
/// The program that [`Workload::Compile`] starts.
pub const COMPILER: u32 = 2;

/// A workload's name with its numbers, as it was requested.
#[derive(Clone, Copy)]
struct Name {
    workload: Workload,
    ring: u32,
    pages: u32,
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.workload.name())?;
        match (self.workload, self.pages) {
            (Workload::ContextSwitch, 0) => write!(f, "{}", self.ring),
            (Workload::ContextSwitch, pages) => write!(f, "{}p{pages}", self.ring),
            _ => Ok(()),
        }
    }
}

/// What is being measured, from its first mark on.
struct Span {
    name: Name,
    start: u64,
}

impl Span {
    fn begin(name: Name) -> Self {
        println!("span begin {name}");
        user::begin_count();
        Self { name, start: rdtsc() }
    }

    fn end(self, operations: u32) {
        let ticks = rdtsc() - self.start;
        user::end_count();
        let tsc_khz = user::tsc_khz();
        println!("span end {} operations={operations} ticks={ticks} tsc_khz={tsc_khz}", self.name);
    }
}

/// Measures `count` times `operation`.
fn repeat(name: Name, count: u32, mut operation: impl FnMut()) {
    for _ in 0..count.div_ceil(8) {
        operation();
    }
    let span = Span::begin(name);
    for _ in 0..count {
        operation();
    }
    span.end(count);
}

/// Measures one of each kind, and the rings that distinguish strategies.
pub fn measure_some(options: &RunOptions) {
    for &workload in Workload::ALL {
        if workload == Workload::ContextSwitch {
            for ring in [2, 4, 16] {
                measure(workload, &RunOptions { ring, pages: 0, ..*options });
            }
        } else {
            measure(workload, options);
        }
    }
}

/// Measures one workload.
pub fn measure(workload: Workload, options: &RunOptions) {
    let name = Name { workload, ring: options.ring, pages: options.pages };
    let scaled = |count: u32| {
        let count = u64::from(count) * u64::from(options.scale) / 100;
        u32::try_from(count).unwrap_or(u32::MAX).max(1)
    };
    match workload {
        Workload::NullSyscall => repeat(name, scaled(10_000), || {
            let _ = user::getpid();
        }),
        Workload::NullHypercall => {
            // One system call makes them all, so that its own cost does not count.
            let _ = user::null_hypercalls(scaled(1250));
            let span = Span::begin(name);
            let _ = user::null_hypercalls(scaled(10_000));
            span.end(scaled(10_000));
        }
        Workload::ContextSwitch => {
            let memory = (options.pages > 0).then(|| Memory::map(options.pages));
            ring(name, options.ring, scaled(2048), || memory.iter().for_each(Memory::read));
        }
        Workload::Zipf => zipf(name, scaled(1024), options.seed),
        Workload::Fork => repeat(name, scaled(64), || {
            spawn(|| 0);
            reap(1);
        }),
        Workload::Exec => repeat(name, scaled(32), || {
            run_program(EXEC_TARGET, 0);
            reap(1);
        }),
        Workload::CopyOnWrite => {
            let memory = Memory::map(256);
            memory.write();
            repeat(name, scaled(8), || {
                spawn(|| {
                    memory.write();
                    0
                });
                reap(1);
            });
        }
        Workload::Mmap => repeat(name, scaled(4), || {
            let memory = Memory::map(1000);
            memory.write();
            memory.unmap();
        }),
        Workload::PageFault => {
            let count = scaled(1024);
            // The host, too, gives memory only at its first use: these frames have been used once.
            let used = Memory::map(count);
            used.write();
            used.unmap();
            let memory = Memory::map(count);
            let span = Span::begin(name);
            memory.write();
            span.end(count);
        }
        Workload::Kmap => kernel_mappings(name, scaled(512), KernelMapping::One),
        Workload::Vmalloc => kernel_mappings(name, scaled(128), KernelMapping::Many),
        Workload::Compile => make(name, scaled(32), options.seed),
    }
}

/// A stretch of fresh pages.
struct Memory {
    base: *mut u32,
    pages: u32,
}

impl Memory {
    fn map(pages: u32) -> Self {
        let base =
            user::mmap(pages * PAGE).unwrap_or_else(|| fail(format_args!("mmap of {pages} pages failed")));
        Self { base, pages }
    }

    fn word(&self, page: u32) -> *mut u32 {
        assert!(page < self.pages);
        // SAFETY: inside the mapping.
        unsafe { self.base.add((page * PAGE / 4) as usize) }
    }

    fn write_page(&self, page: u32) {
        // SAFETY: a word of the mapping, which only this process writes to.
        unsafe { self.word(page).write_volatile(page) };
    }

    fn write(&self) {
        for page in 0..self.pages {
            self.write_page(page);
        }
    }

    fn read(&self) {
        for page in 0..self.pages {
            // SAFETY: a word of the mapping.
            unsafe { self.word(page).read_volatile() };
        }
    }

    fn unmap(self) {
        user::munmap(self.base, self.pages * PAGE);
    }
}

/// Starts a program in a process of its own.
fn run_program(program: u32, argument: u32) {
    match user::fork() {
        Some(Forked::Child) => {
            user::exec(program, argument);
            fail(format_args!("exec returned"));
        }
        Some(Forked::Parent(_)) => {}
        None => fail(format_args!("fork failed: no memory or no process left")),
    }
}

/// A token goes round `processes`, about `hops` times passed on; whoever has it does `turn`. A hop is one
/// context switch.
fn ring(name: Name, processes: u32, hops: u32, turn: impl Fn()) {
    let rounds = hops.div_ceil(processes);
    let warm_up = rounds.div_ceil(8);
    for station in 0..processes {
        spawn(|| {
            let mut span = None;
            // Once more than is measured: all end after the span's end.
            for round in 0..=warm_up + rounds {
                user::sem_wait(station);
                if station == 0 && round == warm_up {
                    span = Some(Span::begin(name));
                }
                if round < warm_up + rounds {
                    turn();
                } else if let Some(span) = span.take() {
                    span.end(processes * rounds);
                }
                user::sem_post((station + 1) % processes);
            }
            if station == 0 {
                // The token ends here, and leaves the ring as it was.
                user::sem_wait(0);
            }
            0
        });
    }
    user::sem_post(0);
    reap(processes);
}

/// Four processes with a working set each take turns; in each the kernel maps something for itself.
fn kernel_mappings(name: Name, count: u32, how: KernelMapping) {
    let memory = Memory::map(16);
    memory.write();
    ring(name, 4, count, || {
        ensure!(user::map_kernel_pages(how), "the kernel cannot map pages for itself");
        memory.read();
    });
}

/// The processes that serve requests in [`Workload::Zipf`].
const SERVERS: usize = 32;

/// Chooses a server with a probability proportional to 1/rank (Zipf's law).
struct Popularity {
    random: Random,
    /// Server k is chosen by the numbers from the one before it up to this.
    up_to: [u32; SERVERS],
}

impl Popularity {
    fn new(seed: u32) -> Self {
        let mut total = 0;
        let up_to = core::array::from_fn(|rank| {
            total += (1 << 20) / (rank as u32 + 1);
            total
        });
        Self { random: Random::new(seed), up_to }
    }

    fn choose(&mut self) -> usize {
        let number = self.random.below(self.up_to[SERVERS - 1]);
        self.up_to.partition_point(|&up_to| up_to <= number)
    }
}

/// One process hands out requests and waits for the answer to each.
fn zipf(name: Name, requests: u32, seed: u32) {
    const ANSWER: u32 = SERVERS as u32;
    let warm_up = requests.div_ceil(8);
    // Nothing is shared between processes, so each server receives beforehand how much it will have to do.
    let mut work = [0; SERVERS];
    let mut popularity = Popularity::new(seed);
    for _ in 0..warm_up + requests {
        work[popularity.choose()] += 1;
    }
    let memory = Memory::map(4);
    memory.write();
    for (server, &requests) in work.iter().enumerate() {
        spawn(|| {
            for _ in 0..requests {
                user::sem_wait(server as u32);
                memory.read();
                user::sem_post(ANSWER);
            }
            // All end after the span's end.
            user::sem_wait(server as u32);
            0
        });
    }
    let mut popularity = Popularity::new(seed);
    repeat(name, requests, || {
        user::sem_post(popularity.choose() as u32);
        user::sem_wait(ANSWER);
    });
    (0..SERVERS as u32).for_each(user::sem_post);
    reap(SERVERS as u32);
    memory.unmap();
}

/// `jobs` runs of the compiler, four at a time.
fn make(name: Name, jobs: u32, seed: u32) {
    const AT_ONCE: u32 = 4;
    let mut started = 0;
    let mut start = || {
        run_program(COMPILER, seed.wrapping_add(started));
        started += 1;
    };
    for _ in 0..AT_ONCE {
        start();
    }
    repeat(name, jobs, || {
        reap(1);
        start();
    });
    reap(AT_ONCE);
}

/// What stands for a compiler: reads much of what it has, writes some, and lets others run now and then.
pub fn compile(seed: u32) -> ! {
    const PAGES: u32 = 48;
    let mut random = Random::new(seed);
    let source = Memory::map(PAGES);
    source.write();
    for step in 0..1000 {
        let page = random.below(PAGES);
        // SAFETY: a word of the mapping.
        let word = unsafe { source.word(page).read_volatile() };
        ensure!(word == page, "page {page} of the compiler's memory holds {word}");
        if step % 250 == 0 {
            let object = Memory::map(8);
            object.write();
            black_box(&object);
            user::yield_now();
            object.unmap();
        }
    }
    user::exit(0)
}
