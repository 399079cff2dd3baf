//! An act of a thread that changes what the Switcher looks at while it looks.
//!
//! The guest does what the Switcher handles by itself: it misses pages, has page faults of its own in ring 3, changes page directories
//! with calls in the ring, and changes entries. On another processor a thread of its launcher changes, as fast as it can, the
//! guest's page tables, the ring, the descriptors that a call of the ring names, the kernel's stack and the shared page: mostly from
//! one thing that a guest may have there to another, and now and then, for a moment, to what would take the host beyond the guest's
//! memory. What the Switcher has checked, it must not read again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arch_i386::addr::PAGE_SIZE;
use arch_i386::hypercall::Hypercall;
use arch_i386::launcher::Request;
use arch_i386::lguest_data::{IRQ_ENABLED, RING_DONE, RING_PENDING, RING_SIZE, offset};
use arch_i386::segment::{GUEST_DS, index};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro128PlusPlus;

use crate::Failure;
use crate::guest::{
    DATA, Device, FRAMES, KERNEL, LOW_TABLE, MEMORY, Memory, TABLE, beginning, directory, each_its_own,
};
use crate::program::{Step, fault_handler};

/// How long on each strategy.
const TIME: Duration = Duration::from_secs(4);
/// The page that the kernel's stack for traps from ring 3 has, below its end.
const STACK: u32 = 0x9_0000;
/// Where the descriptors are that calls of the ring name.
const DESCRIPTORS: u32 = 0x5000;
/// How many entries of the table change.
const PAGES: u32 = 32;
/// An address that is never mapped, and those that follow: the table's last entries.
const MISSING: u32 = FRAMES + 1000 * PAGE_SIZE;
/// What entries lead to that no guest may have: a page of nobody's, and one of the guest's with a flag that the host refuses.
const BEYOND: u32 = 0xffff_f000;
const LARGE: u32 = 0x80;
const RIGHTS: u32 = 7;
/// Accessed and dirty.
const USED: u32 = 0x60;
/// The first step of the guest's round.
const ROUND: u32 = 6;

/// Random choices, the same each time.
struct Random(Xoshiro128PlusPlus);

impl Random {
    fn next(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }

    /// True once in so many times.
    fn once_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u32) as usize]
    }
}

/// What a guest does, without end.
fn program() -> Vec<Step> {
    let [first, second] = beginning();
    let handler = fault_handler();
    let gate = [14, 0x61 << 16 | handler & 0xffff, handler & 0xffff_0000 | 0x8e00, 0];
    let end = FRAMES + PAGES * PAGE_SIZE;
    let touch = Step::Touch { start: FRAMES, end, stride: PAGE_SIZE };
    let in_ring_3 = |n| Step::InRing3 { first: FRAMES + n * PAGE_SIZE, second: MISSING + n * PAGE_SIZE };
    let load = |n| Step::Call(Hypercall::NewPgtable, [directory(n), 0, 0, 0]);
    let switch_to = |n| Step::Call(Hypercall::SwitchTo, [directory(n), KERNEL + STACK, 1, 0]);
    let entry = [directory(1), FRAMES, each_its_own(1) | RIGHTS | USED, 0];
    // The Switcher sees only what the guest's kernel has mapped and used: its tables, the shared page, its stack, the descriptors.
    let kernel =
        [LOW_TABLE, TABLE, directory(0), directory(1), DATA, STACK - PAGE_SIZE, DESCRIPTORS].map(|page| {
            let start = KERNEL + page;
            Step::Touch { start, end: start + PAGE_SIZE, stride: PAGE_SIZE }
        });
    let mut program = vec![
        first,
        second,
        Step::Call(Hypercall::LoadIdtEntry, gate),
        Step::Call(Hypercall::LoadGdtEntry, [index::USER_CS as u32, 0xffff, 0x00cf_fb00, 0]),
        Step::Call(Hypercall::LoadGdtEntry, [index::USER_DS as u32, 0xffff, 0x00cf_f300, 0]),
        Step::Call(Hypercall::SetStack, [GUEST_DS, KERNEL + STACK, 1, 0]),
    ];
    assert_eq!(program.len() as u32, ROUND, "the round begins here");
    program.extend(kernel);
    program.extend([touch, in_ring_3(0), load(1)]);
    program.extend(kernel);
    program.extend([
        in_ring_3(1),
        Step::Call(Hypercall::SetPte, entry),
        Step::Fill { start: FRAMES, end, key: 0 },
        in_ring_3(2),
        load(0),
        load(1),
        switch_to(0),
        switch_to(1),
        Step::Call(Hypercall::FlushTlb, [0; 4]),
        touch,
        load(0),
        Step::Count,
        Step::Jump(ROUND),
    ]);
    program
}

fn load(memory: &Memory) {
    memory.load(&program(), 2, each_its_own);
    for n in 0..2 {
        // The first 4 MiB, with all the tables, are what the kernel's half has.
        memory.set_word(directory(n) + 4 * (KERNEL >> 22), LOW_TABLE | RIGHTS | USED);
    }
    for i in 1000..1024 {
        memory.set_word(TABLE + 4 * i, 0);
    }
}

/// Changes one thing.
fn change(memory: &Memory, random: &mut Random) {
    let for_a_moment = |at, wrong| {
        let right = memory.word(at).swap(wrong, Ordering::Relaxed);
        memory.set_word(at, right);
    };
    match random.below(16) {
        0..10 => {
            let at = TABLE + 4 * random.below(PAGES);
            if random.once_in(64) {
                let page = random.pick(&[BEYOND, MEMORY, each_its_own(0) | LARGE]);
                for_a_moment(at, page | RIGHTS | USED);
            } else {
                let rights = random.pick(&[RIGHTS, 5, 1, 0]);
                memory.set_word(at, each_its_own(random.below(64)) | rights | random.next() & USED);
            }
        }
        10 => {
            let at = directory(random.below(2)) + 4;
            let entries = [0, TABLE | 5, TABLE | RIGHTS | LARGE, BEYOND | RIGHTS, MEMORY | RIGHTS];
            let some = if random.once_in(64) { &entries[..] } else { &entries[..2] };
            for_a_moment(at, random.pick(some));
        }
        11 => {
            let at = LOW_TABLE + 4 * ((STACK - 1) / PAGE_SIZE);
            if random.once_in(256) {
                for_a_moment(at, random.pick(&[0, 5]));
            }
        }
        12 => {
            let enabled = if random.once_in(2) { IRQ_ENABLED } else { random.next() };
            memory.set_word(DATA + offset::IRQ_ENABLED, enabled);
        }
        13 => {
            let high = random.pick(&[0, 0x00cf_f300, 0x00cf_fb00, 0x00cf_9300, 0x0000_8900]);
            memory.set_word(DESCRIPTORS + 4 * random.below(6), high);
        }
        _ => ring(memory, random),
    }
}

/// Changes the ring: an entry, or whether it waits.
fn ring(memory: &Memory, random: &mut Random) {
    let wild = random.once_in(64);
    let (call, arguments) = match random.below(4) {
        0 => (Hypercall::NewPgtable, [if wild { BEYOND } else { directory(random.below(2)) }, 0, 0]),
        1 => {
            let stack = if wild { random.next() } else { KERNEL + STACK - 4 * random.below(64) };
            (Hypercall::SetStack, [GUEST_DS, stack, 1 + random.below(2)])
        }
        2 => (Hypercall::LoadTls, [if wild { random.next() } else { DESCRIPTORS }, 0, 0]),
        _ => (Hypercall::FlushAsync, [0; 3]),
    };
    let [a, b, c] = arguments;
    memory.set_ring_entry(random.below(RING_SIZE as u32), call, [a, b, c, 0]);
    let status = [(); 4].map(|()| if random.once_in(4) { RING_PENDING } else { RING_DONE });
    let at = DATA + offset::HCALL_STATUS + 4 * random.below(RING_SIZE as u32 / 4);
    memory.set_word(at, u32::from_ne_bytes(status));
}

/// What the host has counted of a guest that stands still.
fn counter(device: &Device, name: &str) -> Result<u32, Failure> {
    let mut text = [0_u8; 8192];
    let address = text.as_mut_ptr() as usize as u32;
    let length = device.request(Request::Counters, &[address, text.len() as u32])?;
    let text = std::str::from_utf8(&text[..length])?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.ok_or_else(|| format!("no counter {name}"))?.trim().parse()?)
}

/// See above.
pub fn race() -> Result<(), Failure> {
    const COUNTERS: [&str; 3] = ["switcher_reflections", "switcher_fills", "switcher_hypercalls"];
    for strategy in ["lguest", "shared", "audit:every=8,switcher=on,of=lguest"] {
        let mut random = Random(Xoshiro128PlusPlus::seed_from_u64(1));
        let (mut lives, mut rounds, mut done, mut ends) = (0, 0, [0; 3], Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < TIME {
            let memory = Memory::new()?;
            load(&memory);
            let device = Device::open()?;
            device.strategy(strategy)?;
            device.initialize(&memory)?;
            let (end, raced) = device.run_beside(|ended| {
                while !ended.load(Ordering::Relaxed) && begun.elapsed() < TIME {
                    // Its first round is the guest's own.
                    if memory.count() > 0 {
                        (0..64).for_each(|_| change(&memory, &mut random));
                    }
                }
                // Its program has no other way out.
                memory.set_step(ROUND, Step::OFF);
                Ok(())
            });
            raced?;
            let end = end?;
            lives += 1;
            rounds += memory.count();
            for (sum, name) in done.iter_mut().zip(COUNTERS) {
                *sum += counter(&device, name)?;
            }
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        println!(
            "on {strategy}: {lives} lives, {rounds} rounds; the Switcher has done {done:?}; their ends: {ends:#?}"
        );
        if ends.iter().any(|end| end.contains("audit")) {
            return Err("the host is blamed for what the launcher has done".into());
        }
        if done.contains(&0) {
            return Err(format!("the Switcher was to do all of {COUNTERS:?}").into());
        }
    }
    Ok(())
}
