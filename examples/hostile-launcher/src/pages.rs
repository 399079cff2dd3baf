//! Acts with many pages, one page many times, and pages that change under the guest.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use arch_i386::hypercall::Hypercall;

use crate::Failure;
use crate::guest::{
    Device, FRAMES, KERNEL, MEMORY, Memory, TABLE, beginning, directory, each_its_own, parameter,
};
use crate::process::{Child, check_death, longest_wait, processors, until};
use crate::program::{PROGRAM, SCRATCH, Step};

/// A strategy that keeps as much as a guest maps, and fills 64 pages at a fault: the quickest way to many entries.
const LARGE: &str = "shared:budget=262144,fault-around=64";
/// Entries of a level-1 table, at the most.
const ENTRIES: u32 = 1024;
/// What one fault brings in on it.
const STRIDE: u32 = 64 * 4096;
/// So many page directories have over 4.2 million entries.
const MANY: u32 = 6;

/// The steps that map all below the kernel in so many page directories.
fn map_all(directories: u32, stride: u32) -> Vec<Step> {
    let touch = Step::Touch { start: 0x40_0000, end: KERNEL, stride };
    (0..directories)
        .flat_map(|n| [Step::Call(Hypercall::NewPgtable, [directory(n), 0, 0, 0]), touch])
        .collect()
}

/// Table pages that the module holds.
fn tables() -> Result<u32, Failure> {
    parameter("tables")
}

/// A guest that has mapped over four million entries, and does `then` from its program's instruction `at` on.
fn giant(memory: &Memory, then: &[Step]) -> Result<Child, Failure> {
    let mut program = beginning().to_vec();
    program.extend(map_all(MANY, STRIDE));
    program.push(Step::Count);
    program.extend(then);
    memory.load(&program, MANY, each_its_own);
    let guest = Child::run(|| {
        let device = Device::open()?;
        device.strategy(LARGE)?;
        device.initialize(memory)?;
        Err(format!("the guest has ended: {}", device.run()?).into())
    })?;
    let begun = Instant::now();
    while memory.count() == 0 {
        if begun.elapsed() > Duration::from_secs(600) {
            return Err("the guest does not come to map all that".into());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(guest)
}

/// Checks that so many entries are mapped, from the number of tables that are there, all but a few of level 1 and full.
fn check_entries(least: u32) -> Result<(), Failure> {
    let tables = tables()?;
    println!("{tables} tables are there");
    if tables < least / ENTRIES { Err("that is not enough".into()) } else { Ok(()) }
}

/// Over four million entries go in one hypercall. Meanwhile others run.
pub fn giant_flush() -> Result<(), Failure> {
    let memory = Memory::new()?;
    let index = 3 + 2 * MANY;
    let wait = Step::Jump(index);
    let guest = giant(&memory, &[wait])?;
    check_entries(4_200_000)?;
    let alone = {
        let begun = Instant::now();
        longest_wait(|| begun.elapsed() < Duration::from_secs(1))
    };
    // The guest goes on: everything is flushed.
    let next = [Step::Call(Hypercall::FlushTlb, [1, 0, 0, 0]), Step::Count, Step::Spin];
    for (n, step) in (index + 1..).zip(next) {
        memory.set_step(n, step);
    }
    let begun = Instant::now();
    memory.set_word(PROGRAM + 20 * index + 4, PROGRAM + 20 * (index + 1));
    let longest = longest_wait(|| memory.count() == 1 && begun.elapsed() < Duration::from_secs(300));
    println!(
        "flushed within {} ms; longest wait of another process {} us, beside the spinning guest {} us",
        begun.elapsed().as_millis(),
        longest.as_micros(),
        alone.as_micros()
    );
    check_death(guest.kill())?;
    until("all is given back", || tables().is_ok_and(|tables| tables == 0))?;
    // The sleep itself is 1 ms and a little.
    let limit = Duration::from_millis(if processors() == 1 { 12 } else { 2000 });
    if longest > limit { Err(format!("nothing else ran for {longest:?}").into()) } else { Ok(()) }
}

/// The guest's process is killed with over four million entries mapped, and in the middle of flushing them.
pub fn giant_kill() -> Result<(), Failure> {
    for then in [&[Step::Spin][..], &[Step::Call(Hypercall::FlushTlb, [1, 0, 0, 0]), Step::Spin]] {
        let memory = Memory::new()?;
        let guest = giant(&memory, then)?;
        check_death(guest.kill())?;
        let begun = Instant::now();
        let longest = longest_wait(|| {
            tables().is_ok_and(|tables| tables != 0) && begun.elapsed() < Duration::from_secs(300)
        });
        println!(
            "all was given back {} ms later; longest wait of another process {} us",
            begun.elapsed().as_millis(),
            longest.as_micros()
        );
        if tables()? != 0 {
            return Err("tables are left".into());
        }
    }
    Ok(())
}

/// One page is mapped three million times, which is nothing to the host.
pub fn one_frame() -> Result<(), Failure> {
    let memory = Memory::new()?;
    let mut program = beginning().to_vec();
    program.extend(map_all(4, STRIDE));
    program.push(Step::OFF);
    memory.load(&program, 4, |_| FRAMES);
    let device = Device::open()?;
    device.strategy(LARGE)?;
    device.initialize(&memory)?;
    let end = device.run()?;
    println!("the guest: {end}");
    check_entries(3_000_000)?;
    // It has switched itself off.
    if end.starts_with("CRASH") { Ok(()) } else { Err("that is another end".into()) }
}

/// A guest maps six times as much as it has room for in page tables. It has to do with what it may have, and goes on.
pub fn limit_of_tables() -> Result<(), Failure> {
    let memory = Memory::new()?;
    let mut program = beginning().to_vec();
    program.extend(map_all(4, STRIDE));
    program.push(Step::OFF);
    memory.load(&program, 4, each_its_own);
    let device = Device::open()?;
    device.strategy(LARGE)?;
    device.initialize(&memory)?;
    let (end, most) = device.run_beside(|ended| {
        let mut most = 0;
        while !ended.load(Ordering::Relaxed) {
            most = tables()?.max(most);
            sleep(Duration::from_millis(1));
        }
        Ok(most)
    });
    let (end, most) = (end?, most?);
    println!("at most {most} tables were there; the guest: {end}");
    // As kmod/lg_plugin.c has it, and one that maps the Switcher.
    let limit = 256 + (MEMORY >> 12) / 16 + 1;
    if most > limit {
        return Err(format!("{limit} tables are the limit").into());
    }
    if most < limit / 2 {
        return Err("so few could not show anything".into());
    }
    // It has switched itself off.
    if end.starts_with("CRASH") { Ok(()) } else { Err("that is another end".into()) }
}

/// Under audit, a launcher changes its guest's memory and page tables while the guest runs. That is its own affair, and
/// no mistake of the host's.
pub fn remap() -> Result<(), Failure> {
    for strategy in ["audit:of=lguest", "audit:of=shared"] {
        let memory = Memory::new()?;
        let [first, second] = beginning();
        let end = 0x40_0000 + 64 * 4096;
        let touch = Step::Touch { start: 0x40_0000, end, stride: 4096 };
        let program = [
            first,
            second,
            touch,
            Step::Write(0x40_0000),
            Step::Call(Hypercall::FlushTlb, [1, 0, 0, 0]),
            touch,
            Step::Call(Hypercall::FlushTlb, [0; 4]),
            Step::Count,
            Step::Jump(2),
        ];
        memory.load(&program, 1, each_its_own);
        memory.set_word(SCRATCH, 0);
        let (memory, begun) = (&memory, Instant::now());
        let device = Device::open()?;
        device.strategy(strategy)?;
        // Whoever makes the guest has to run it: the others are threads of this process.
        device.initialize(memory)?;
        let told = std::thread::scope(|scope| {
            let over = || begun.elapsed() > Duration::from_secs(8);
            scope.spawn(move || {
                while !over() {
                    // A few pages of the guest's are others from now on, all zero.
                    for page in 0..8 {
                        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
                        let at = memory.address(FRAMES + 8 * 4096 * page).cast();
                        // SAFETY: over a page of our own mapping, of which nothing in Rust has a reference.
                        unsafe { libc::mmap(at, 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
                    }
                    sleep(Duration::from_millis(1));
                }
                // The guest ends: its program has no way back.
                memory.set_step(8, Step::OFF);
            });
            scope.spawn(move || {
                let mut turn = 0;
                while !over() {
                    // Entries of the guest's table lead elsewhere, and lose their rights and traces.
                    for i in 16..48 {
                        turn += 1;
                        memory
                            .word(TABLE + 4 * i)
                            .store(each_its_own((i + turn) % 64) | 0x25, Ordering::Relaxed);
                    }
                }
            });
            device.run().map_err(|error| error.to_string())
        });
        let end = told?;
        println!("on {strategy} {} rounds; the guest: {end}", memory.count());
        if end.contains("audit") {
            return Err("the host is blamed for what the launcher has done".into());
        }
        if memory.count() == 0 {
            return Err("the guest has not come round once".into());
        }
    }
    Ok(())
}
