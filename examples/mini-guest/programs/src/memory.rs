//! Proofs that no page is mixed up with another.
//!
//! Every word of a checked page holds a value made from the process, the address and a generation, so that
//! a page of another process, another address or an earlier time is recognised at the first wrong word.

use crate::ensure;
use crate::start::{Random, fail, reap, spawn};
use core::hint::black_box;
use mini_programs::abi::{Effort, RunOptions, STACK_TOP};
use mini_programs::println;
use mini_programs::user::{self, Forked};

const PAGE: u32 = 4096;
const WORDS: u32 = PAGE / 4;

/// The program that [`exec_replaces`] becomes.
pub const EXEC_TARGET: u32 = 1;

/// What word `index` of the page at `page` holds in process `pid` at `generation`.
fn pattern(pid: u32, page: u32, generation: u32, index: u32) -> u32 {
    (pid << 24 ^ page ^ generation.wrapping_mul(0x9e37_79b9)).wrapping_add(index.wrapping_mul(0x0101_0101))
}

/// A stretch of pages that belongs to one process, with what each page has to hold.
struct Patterned<const PAGES: usize> {
    base: *mut u32,
    generation: [u32; PAGES],
}

impl<const PAGES: usize> Patterned<PAGES> {
    fn new() -> Self {
        let Some(base) = user::mmap(PAGES as u32 * PAGE) else {
            fail(format_args!("mmap of {PAGES} pages failed"))
        };
        Self { base, generation: [0; PAGES] }
    }

    fn word(&self, page: usize, index: u32) -> *mut u32 {
        assert!(page < PAGES && index < WORDS);
        // SAFETY: inside the mapping, by the assertion.
        unsafe { self.base.add(page * WORDS as usize + index as usize) }
    }

    fn expected(&self, page: usize, index: u32) -> u32 {
        let address = self.word(page, 0).addr() as u32;
        pattern(user_id(), address, self.generation[page], index)
    }

    fn fill(&mut self, page: usize, generation: u32) {
        self.generation[page] = generation;
        for index in 0..WORDS {
            // SAFETY: a word of the mapping, which only this process uses.
            unsafe { self.word(page, index).write_volatile(self.expected(page, index)) };
        }
    }

    fn verify_word(&self, page: usize, index: u32) {
        let word = self.word(page, index);
        // SAFETY: a word of the mapping.
        let found = unsafe { word.read_volatile() };
        let expected = self.expected(page, index);
        ensure!(found == expected, "{word:p} holds {found:#x} instead of {expected:#x}");
    }

    fn verify(&self, page: usize) {
        for index in 0..WORDS {
            self.verify_word(page, index);
        }
    }

    /// Looks at a few words of every page: enough to notice another page in its place.
    fn sample(&self, random: &mut Random) {
        for page in 0..PAGES {
            for index in [0, WORDS - 1, random.below(WORDS), random.below(WORDS)] {
                self.verify_word(page, index);
            }
        }
    }
}

/// The process id, queried once and kept where only a correct copy-on-write keeps it right.
static mut OWN_ID: u32 = 0;

fn user_id() -> u32 {
    // SAFETY: a process has one thread; the volatile read goes to memory each time.
    unsafe { (&raw const OWN_ID).read_volatile() }
}

/// Has to be the first thing a new process does before it uses patterns.
fn remember_id() {
    // SAFETY: as above.
    unsafe { (&raw mut OWN_ID).write_volatile(user::getpid()) };
}

/// Fresh memory reads as zero, however it is touched first.
pub fn demand_zero(_: &RunOptions) {
    const PAGES: u32 = 256;
    let Some(base) = user::mmap(PAGES * PAGE) else { fail(format_args!("mmap failed")) };
    for page in 0..PAGES {
        // SAFETY: word `page` of page `page`, inside the mapping.
        let word = unsafe { base.add((page * WORDS + page) as usize) };
        if page % 2 == 0 {
            // SAFETY: as above.
            let found = unsafe { word.read_volatile() };
            ensure!(found == 0, "fresh memory at {word:p} reads {found:#x}");
        }
        // SAFETY: as above.
        unsafe { word.write_volatile(!page) };
    }
    for page in 0..PAGES {
        for index in 0..WORDS {
            let expected = if index == page { !page } else { 0 };
            // SAFETY: inside the mapping.
            let found = unsafe { base.add((page * WORDS + index) as usize).read_volatile() };
            ensure!(found == expected, "page {page} word {index} reads {found:#x}, not {expected:#x}");
        }
    }
    user::munmap(base, PAGES * PAGE);
}

/// What parent and child write after a fork is not seen by the other.
pub fn fork_isolates(_: &RunOptions) {
    const PAGES: usize = 32;
    const CHILD_WROTE: u32 = 0;
    const PARENT_WROTE: u32 = 1;
    remember_id();
    let mut memory = Patterned::<PAGES>::new();
    for page in 0..PAGES {
        memory.fill(page, 1);
    }
    let parent = user_id();
    spawn(|| {
        // The parent's values are all there, and stay while they are not overwritten.
        for page in 0..PAGES {
            memory.verify(page);
        }
        remember_id();
        ensure!(user_id() != parent, "the child has its parent's id");
        for page in (0..PAGES).step_by(2) {
            memory.fill(page, 2);
        }
        user::sem_post(CHILD_WROTE);
        user::sem_wait(PARENT_WROTE);
        for page in (0..PAGES).step_by(2) {
            memory.verify(page);
        }
        for page in (1..PAGES).step_by(2) {
            for index in 0..WORDS {
                let word = memory.word(page, index);
                let expected = pattern(parent, memory.word(page, 0).addr() as u32, 1, index);
                // SAFETY: a word of the mapping.
                let found = unsafe { word.read_volatile() };
                ensure!(found == expected, "the child sees {found:#x} at {word:p}, not {expected:#x}");
            }
        }
        0
    });
    user::sem_wait(CHILD_WROTE);
    for page in 0..PAGES {
        memory.verify(page);
    }
    for page in 0..PAGES {
        memory.fill(page, 3);
    }
    user::sem_post(PARENT_WROTE);
    reap(1);
    for page in 0..PAGES {
        memory.verify(page);
    }
    user::munmap(memory.base, PAGES as u32 * PAGE);
}

/// Copies of copies: every generation writes its own and finds its own after its children are gone.
pub fn nested_forks(_: &RunOptions) {
    fn generation(depth: u32) -> u32 {
        remember_id();
        let mut memory = Patterned::<8>::new();
        for page in 0..8 {
            memory.fill(page, depth);
        }
        if depth > 0 {
            spawn(|| generation(depth - 1));
            spawn(|| generation(depth - 1));
            for page in (0..8).step_by(3) {
                memory.fill(page, 100 + depth);
            }
            reap(2);
        }
        for page in 0..8 {
            memory.verify(page);
        }
        user::munmap(memory.base, 8 * PAGE);
        0
    }
    generation(3);
}

/// Memory that was given back is gone, and comes back empty.
pub fn mmap_reuse(options: &RunOptions) {
    const PAGES: usize = 16;
    let rounds = if options.effort == Effort::Full { 64 } else { 8 };
    let mut base = None;
    for round in 0..rounds {
        remember_id();
        let mut memory = Patterned::<PAGES>::new();
        let first = *base.get_or_insert(memory.base);
        ensure!(memory.base == first, "mmap gave {:p} although {first:p} is free", memory.base);
        for page in 0..PAGES {
            for index in [0, WORDS / 2, WORDS - 1] {
                // SAFETY: a word of the mapping.
                let found = unsafe { memory.word(page, index).read_volatile() };
                ensure!(found == 0, "reused page {page} still holds {found:#x} in round {round}");
            }
            memory.fill(page, round);
        }
        // A hole in the middle: its neighbours stay, it does not.
        user::munmap(memory.word(5, 0), 2 * PAGE);
        for page in [0, 4, 7, PAGES - 1] {
            memory.verify(page);
        }
        expect_gone(memory.word(5 + round as usize % 2, 8));
        user::munmap(memory.base, 5 * PAGE);
        user::munmap(memory.word(7, 0), (PAGES as u32 - 7) * PAGE);
        expect_gone(memory.word(round as usize % PAGES, round));
    }
}

/// A child that touches `word` has to die of a page fault there.
fn expect_gone(word: *mut u32) {
    // SAFETY: the access is meant to fault; when it does not, nothing else uses that memory.
    spawn(|| unsafe { word.read_volatile() } | 1);
    let status = user::wait();
    ensure!(
        matches!(status, Some((_, s)) if s.killed == 1 && s.code == 14 && s.address == word.addr() as u32),
        "an access to unmapped {word:p} ended in {status:?}"
    );
}

static mut INITIALISED: [u32; 4] = [1, 2, 3, 4];
static mut ZEROED: [u32; 2048] = [0; 2048];

/// The memory of a program that was just started is as in its file.
pub fn exec_target(argument: u32) -> ! {
    let (initialised, zeroed) = (&raw mut INITIALISED, &raw mut ZEROED);
    // SAFETY: one thread, and nobody else has references to these.
    let (initialised, zeroed) = unsafe { (&mut *initialised, &mut *zeroed) };
    ensure!(black_box(&*initialised) == &[1, 2, 3, 4], "initialised data is {initialised:?} after exec");
    ensure!(black_box(&*zeroed).iter().all(|&word| word == 0), "zeroed data is not zero after exec");
    initialised.fill(argument);
    zeroed.fill(argument);
    black_box((initialised, zeroed));
    if argument > 100 {
        user::exec(EXEC_TARGET, argument - 1);
        fail(format_args!("exec returned"));
    }
    user::exit(argument)
}

/// A program replaces another, several times over, and nothing of the old one is left.
pub fn exec_replaces(_: &RunOptions) {
    let zeroed = &raw mut ZEROED;
    // SAFETY: one thread, and nobody else has references to it.
    unsafe { (*zeroed).fill(0xdead_beef) };
    match user::fork() {
        Some(Forked::Child) => {
            let heap = user::mmap(8 * PAGE).unwrap_or_else(|| fail(format_args!("mmap failed")));
            // SAFETY: the first word of the mapping.
            unsafe { heap.write_volatile(1) };
            user::exec(EXEC_TARGET, 110);
            fail(format_args!("exec returned"));
        }
        Some(Forked::Parent(child)) => {
            let ended = user::wait();
            ensure!(
                matches!(ended, Some((pid, s)) if pid == child && s.killed == 0 && s.code == 100),
                "the program that exec started ended with {ended:?}"
            );
        }
        None => fail(format_args!("fork failed")),
    }
    // SAFETY: as above.
    let untouched = unsafe { (*zeroed).iter().all(|&word| word == 0xdead_beef) };
    ensure!(untouched, "a child's exec changed its parent");
}

/// The kernel's own stores into a program's memory make copies too.
pub fn kernel_writes_copy_on_write(_: &RunOptions) {
    let Some(base) = user::mmap(PAGE) else { fail(format_args!("mmap failed")) };
    // SAFETY: the mapping's first word.
    unsafe { base.write_volatile(77) };
    for _ in 0..4 {
        spawn(|| {
            spawn(|| 55);
            // The kernel stores the grandchild's status over the shared page.
            // SAFETY: the mapping is large enough for a status.
            let child = unsafe { user::wait_into(base.cast()) };
            ensure!(child.is_some(), "wait failed");
            // SAFETY: as above; word 1 is the exit code.
            let code = unsafe { base.add(1).read_volatile() };
            ensure!(code == 55, "the kernel stored exit code {code}, not 55");
            0
        });
        reap(1);
        // SAFETY: the mapping's first word.
        let found = unsafe { base.read_volatile() };
        ensure!(found == 77, "a child's system call changed its parent's memory to {found}");
    }
    user::munmap(base, PAGE);
}

/// What one of [`many_processes`] does: fill, verify, change a little, let others run, again and again.
/// `tell` is called for each round that has begun.
fn hammer(options: &RunOptions, rounds: Option<u32>, tell: impl Fn(u32)) -> u32 {
    const PAGES: usize = 48;
    remember_id();
    let mut random = Random::new(options.seed ^ user_id() << 16);
    let mut memory = Patterned::<PAGES>::new();
    let mut on_stack = [0; 64];
    for (index, word) in on_stack.iter_mut().enumerate() {
        *word = pattern(user_id(), STACK_TOP, 0, index as u32);
    }
    for page in 0..PAGES {
        memory.fill(page, 0);
    }
    let mut round = 0;
    while rounds.is_none_or(|rounds| round < rounds) {
        round += 1;
        tell(round);
        memory.sample(&mut random);
        memory.fill(random.below(PAGES as u32) as usize, round);
        for (index, &word) in black_box(&on_stack).iter().enumerate() {
            let expected = pattern(user_id(), STACK_TOP, 0, index as u32);
            ensure!(word == expected, "word {index} on the stack is {word:#x}, not {expected:#x}");
        }
        if round % 8 == 0 {
            ensure!(user::kernel_pages(), "the kernel's pages are wrong in this process");
        }
        if random.below(32) == 0 {
            spawn(|| {
                // A child that comes and goes disturbs the tables of everybody else.
                memory.verify(random.below(PAGES as u32) as usize);
                0
            });
            reap(1);
        }
        user::yield_now();
    }
    for page in 0..PAGES {
        memory.verify(page);
    }
    0
}

/// Many processes, thousands of switches: each page stays its owner's, in the user and the kernel half.
pub fn many_processes(options: &RunOptions) {
    let rounds = if options.effort == Effort::Full { 400 } else { 40 };
    let before = user::switches();
    for number in 0..options.processes {
        spawn(|| {
            // One of them reports how far they are; they take turns, so the others are as far.
            let announce = number == 0;
            hammer(options, Some(rounds), |round| {
                if announce && round % (rounds / 4) == 0 {
                    println!("mini: {} processes are in round {round} of {rounds}", options.processes);
                }
            })
        });
    }
    reap(options.processes);
    let switches = user::switches().wrapping_sub(before);
    let least = options.processes * rounds / 2;
    ensure!(switches >= least, "only {switches} context switches where at least {least} were due");
}

/// The same for ever, for tests that end the launcher from outside.
pub fn spin(options: &RunOptions) -> ! {
    println!("mini: spinning with {} processes", options.processes);
    for _ in 0..options.processes {
        spawn(|| hammer(options, None, |_| {}));
    }
    reap(options.processes);
    fail(format_args!("processes that run for ever have ended"))
}
