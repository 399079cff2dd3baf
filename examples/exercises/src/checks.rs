//! The checks of the exercises. Each takes the reader's answer and returns why it is wrong.
//!
//! None knows a solution. What is right comes from the processor's manual, from a model of the guest, from a sequence worked
//! by hand, or from what the simulated host counts.

use std::collections::HashMap;

use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Flags, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use framework::counters::PagingCounters;
use framework::host::PagingHost;
use framework::policy::EvictionPolicy;
use framework::registry::Choice;
use framework::tables::{RootId, ShadowEntry, Tables};
use framework::trace::TEXT_END;
use framework::walk::{Origin, WalkResult};
use sim::SimHost;
use sim::replay::Replay;
use sim::trace::Reader;
use strategies as _;

/// Why an answer is wrong, in words for the reader.
pub type Verdict = Result<(), String>;

/// Fails with the words that `why` makes unless `holds`.
fn require(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(why()) }
}

/// Part 1: what the shadow gets after a fault, for every combination of rights. The rule is Intel's (SDM vol. 3A, 4.6.1, with
/// CR0.WP set), and invariant 6 of ARCHITECTURE.md.
pub fn part_1(answer: fn(&WalkResult, PageFaultErrorCode) -> Option<Entry>) -> Verdict {
    let bits = [Flags::PRESENT, Flags::WRITABLE, Flags::USER_ACCESSIBLE, Flags::ACCESSED, Flags::DIRTY];
    let chosen = |mask: u32| -> Flags {
        (0..).zip(bits).filter(|(bit, _)| mask & 1 << bit != 0).map(|(_, flag)| flag).collect()
    };
    for (leaf, above) in (0..32).flat_map(|leaf| (0..4).map(move |above| (chosen(leaf), above << 1 | 1))) {
        let table_flags = chosen(above);
        for (write, user) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut error = PageFaultErrorCode::empty();
            error.set(PageFaultErrorCode::CAUSED_BY_WRITE, write);
            error.set(PageFaultErrorCode::USER_MODE, user);
            let found = WalkResult {
                table_flags,
                middle: None,
                entry: Entry::new(0x123, leaf),
                at: GuestPhys(0x5000),
            };
            let every = |flag| leaf.contains(flag) && table_flags.contains(flag);
            let allowed = leaf.contains(Flags::PRESENT)
                && (!user || every(Flags::USER_ACCESSIBLE))
                && (!write || every(Flags::WRITABLE));
            let ring = if user { 3 } else { 1 };
            let what = if write { "write" } else { "read" };
            let access = format!(
                "A {what} in ring {ring}, where the entry has {leaf:?} and its table {table_flags:?}"
            );
            match answer(&found, error) {
                None => require(!allowed, || {
                    format!("{access}: the guest's tables allow it, so the guest has to get an entry.")
                })?,
                Some(entry) => {
                    require(allowed, || {
                        format!("{access}: this is a fault of the guest's own, and gets no entry.")
                    })?;
                    require(entry.frame() == 0x123, || format!("{access}: the entry maps another frame."))?;
                    require(entry.present(), || format!("{access}: the entry is not present."))?;
                    require(
                        entry.has(Flags::USER_ACCESSIBLE) == leaf.contains(Flags::USER_ACCESSIBLE),
                        || {
                            format!(
                                "{access}: ring 3 may use the page if and only if the guest's entry lets it."
                            )
                        },
                    )?;
                    let dirty = write || leaf.contains(Flags::DIRTY);
                    require(entry.has(Flags::WRITABLE) == (leaf.contains(Flags::WRITABLE) && dirty), || {
                        format!(
                            "{access}: the shadow entry is writable if and only if the guest's is, and is dirty by then."
                        )
                    })?;
                }
            }
        }
    }
    Ok(())
}

/// Part 2: a stack of so many pages, wherever it ends.
pub fn part_2(answer: fn(GuestVirt, u32) -> Vec<GuestVirt>) -> Verdict {
    for esp1 in [0xc010_0000_u32, 0xc010_0004, 0xc010_0800, 0xc010_0fff, 0xc010_1000] {
        for pages in 1..=2 {
            let got = answer(GuestVirt(esp1), pages);
            let stack = format!("A stack of {pages} pages below {esp1:#x}");
            require(got.len() == pages as usize, || format!("{stack} is named as {} pages.", got.len()))?;
            // Every byte from the one below `esp1` down to the first of the last page must be in one of them, in this order.
            let mut below = esp1;
            for page in &got {
                require(page.0.is_multiple_of(4096), || {
                    format!("{stack}: {page:?} is not the start of a page.")
                })?;
                let last_byte = u64::from(page.0) + 4095;
                require(page.0 < below && last_byte + 1 >= u64::from(below), || {
                    format!(
                        "{stack}: the processor pushes to {:#x}, which is not in the page {page:?}.",
                        below - 1
                    )
                })?;
                below = page.0;
            }
        }
    }
    Ok(())
}

/// What [`part_3`] tries: the changed directory, the address, the kernel's address, the directories of the slots.
type SlotsWithTheEntry = fn(GuestPhys, GuestVirt, GuestVirt, &[Option<GuestPhys>]) -> Vec<usize>;

/// A guest with three page directories, as far as part 3 goes: frames by directory and page, those of the kernel's half by page.
#[derive(Clone)]
struct Model {
    user: HashMap<(u32, u32), u32>,
    kernel: HashMap<u32, u32>,
}

impl Model {
    const KERNEL: u32 = 0xc000_0000;
    const PAGES: [u32; 4] = [0x0804_8000, 0xbfff_f000, Self::KERNEL, 0xc010_0000];
    const DIRECTORIES: [u32; 3] = [0x1000, 0x2000, 0x3000];

    fn new() -> Self {
        let (mut user, mut kernel) = (HashMap::new(), HashMap::new());
        for (number, page) in (0..).zip(Self::PAGES) {
            for directory in Self::DIRECTORIES {
                user.insert((directory, page), 100 + directory + number);
            }
            kernel.insert(page, 50 + number);
        }
        Self { user, kernel }
    }

    /// Where a directory has a page.
    fn walk(&self, directory: u32, page: u32) -> u32 {
        if page >= Self::KERNEL { self.kernel[&page] } else { self.user[&(directory, page)] }
    }

    fn change(&mut self, directory: u32, page: u32) {
        let frame = if page >= Self::KERNEL {
            self.kernel.get_mut(&page)
        } else {
            self.user.get_mut(&(directory, page))
        };
        *frame.expect("the guest has this page") += 1000;
    }
}

/// Part 3: no shadow contradicts the guest's tables after the request, and none has lost what was right.
pub fn part_3(answer: SlotsWithTheEntry) -> Verdict {
    let [a, b, c] = Model::DIRECTORIES;
    for slots in
        [[Some(a), Some(b), None, Some(c)], [None, Some(b), Some(a), None], [Some(c), None, None, None]]
    {
        for (directory, page) in Model::DIRECTORIES.iter().flat_map(|d| Model::PAGES.map(|page| (*d, page))) {
            let before = Model::new();
            let mut after = before.clone();
            after.change(directory, page);
            let held = slots.map(|slot| slot.map(GuestPhys));
            let named = answer(GuestPhys(directory), GuestVirt(page), GuestVirt(Model::KERNEL), &held);
            let request = format!("SET_PTE in {directory:#x} for {page:#x}, with the slots {slots:x?}");
            for (number, slot) in slots.iter().enumerate() {
                let is_stale = slot.is_some_and(|held| before.walk(held, page) != after.walk(held, page));
                let is_named = named.contains(&number);
                require(is_named || !is_stale, || {
                    format!("{request}: slot {number} still has the old entry.")
                })?;
                require(is_stale || !is_named, || {
                    format!("{request}: slot {number} has no such entry, or a right one.")
                })?;
            }
        }
    }
    Ok(())
}

/// The slots that a policy evicts, when these page directories are loaded one after the other.
fn evicted(mut policy: impl EvictionPolicy, slots: usize, loads: &str) -> Result<Vec<usize>, String> {
    let mut held: Vec<char> = Vec::new();
    let mut evicted = Vec::new();
    for load in loads.chars() {
        let directory = GuestPhys(u32::from(load) * 4096);
        if let Some(slot) = held.iter().position(|&held| held == load) {
            policy.used(slot, directory);
        } else if held.len() < slots {
            policy.filled(held.len(), directory);
            held.push(load);
        } else {
            let slot = policy.victim(directory);
            require(slot < slots, || format!("Slot {slot} is evicted, of {slots}."))?;
            held[slot] = load;
            policy.filled(slot, directory);
            evicted.push(slot);
        }
    }
    Ok(evicted)
}

/// Part 4: second chances, worked by hand.
pub fn part_4<P: EvictionPolicy>(answer: fn(usize) -> P) -> Verdict {
    let worked = [
        // Nobody was used: in turn.
        ("abcdef", &[0, 1][..]),
        // `a` was used, so `b` goes; `a` counts as unused then, and goes when the turn comes to it again.
        ("abcdaefgh", &[1, 2, 3, 0]),
        // `a` is used again before its turn.
        ("abcdaeafgh", &[1, 2, 3, 1]),
        // All were used: all are passed over, and it is the turn of the first again.
        ("abcdabcde", &[0]),
    ];
    for (loads, expected) in worked {
        let got = evicted(answer(4), 4, loads)?;
        require(got == expected, || {
            format!("On 4 slots, the loads {loads} evict the slots {got:?}; worked by hand, {expected:?}.")
        })?;
    }
    for slots in 1..=64 {
        let loads: String = (0..2000_u32).map(|n| char::from(b'A' + (n * n % 97 % 57) as u8)).collect();
        evicted(answer(slots), slots, &loads)?;
    }
    Ok(())
}

/// What a strategy counts on a trace without its header.
fn replayed(strategy: &str, operations: &str) -> Result<PagingCounters, String> {
    let trace = format!(
        "lgtrace 1\npaging 2\npages 1024\nseed 1\ncpus 1\nswitcher 0xffc00000\n{operations}{TEXT_END}"
    );
    let choice = Choice::parse(strategy).map_err(|error| format!("`{strategy}`: {error}."))?;
    let reader = Reader::new(trace.as_bytes()).expect("the header is right");
    let mut replay =
        Replay::new(&reader.header(), &choice).map_err(|error| format!("`{strategy}`: {error}."))?;
    for operation in reader {
        replay.step(&operation.expect("the trace is right"));
    }
    let report = replay.finish(&choice, false);
    require(report.killed.is_none(), || format!("`{strategy}` killed the guest: {:?}.", report.killed))?;
    Ok(report.counters)
}

/// The guest of part 5: a page directory at 0x1000 with one table at 0x2000, which maps 64 pages for ring 3.
fn guest_of_part_5() -> String {
    let mut trace = String::from("init 0xc0000000\nw 0x1080 0x2007\n");
    for page in 0..64 {
        trace += &format!("w {:#x} {:#x}\n", 0x2000 + page * 4, (0x100 + page) << 12 | 0x67);
    }
    trace + "cr3 0x1000\n"
}

/// Part 5: after the first touches, flushes cost hardly any fault; and the first touches cost as many as under `lguest`, so that
/// it is what happens at a flush that saves them.
pub fn part_5(strategy: &str) -> Verdict {
    let touch: String = (0..64).map(|page| format!("acc {:#x} u r\n", 0x0800_0000 + page * 4096)).collect();
    let once = guest_of_part_5() + &touch;
    let often = once.clone() + &format!("flush user\n{touch}").repeat(50);
    let faults =
        |strategy: &str, trace: &str| replayed(strategy, trace).map(|counters| counters.demand_faults);
    let (first, all) = (faults(strategy, &once)?, faults(strategy, &often)?);
    let (first_there, all_there) = (faults("lguest", &once)?, faults("lguest", &often)?);
    require(first == first_there, || {
        format!(
            "The first touches of 64 pages are {first} faults under `{strategy}` and {first_there} under `lguest`: neighbours are filled, too."
        )
    })?;
    require((all - first) * 10 <= all_there - first_there, || {
        format!(
            "50 flushes are {} faults under `{strategy}` and {} under `lguest`; at most a tenth are allowed.",
            all - first,
            all_there - first_there
        )
    })
}

/// Part 6: every byte, with numbers that do not wrap.
pub fn part_6(answer: fn(GuestVirt, GuestVirt, u32) -> bool) -> Verdict {
    const WINDOW: u32 = 0xffc0_0000;
    let edges =
        [0, 1, 0x1000, 0xc000_0000, WINDOW - 4096, WINDOW - 1, WINDOW, WINDOW + 1, u32::MAX - 1, u32::MAX];
    for (va, bytes) in edges.iter().flat_map(|va| edges.map(|bytes| (*va, bytes))) {
        let reaches = bytes > 0 && u64::from(va) + u64::from(bytes) > u64::from(WINDOW);
        require(answer(GuestVirt(WINDOW), GuestVirt(va), bytes) == reaches, || {
            let does = if reaches { "reach" } else { "do not reach" };
            format!("{bytes:#x} bytes from {va:#x} {does} the window at {WINDOW:#x}.")
        })?;
    }
    Ok(())
}

/// What [`part_7`] tries.
type TearDown = fn(&mut Tables<TwoLevel, TwoLevel>, RootId, &mut dyn PagingHost);

/// Part 7: nothing is left of a guest with three page directories and a shared kernel's half.
pub fn part_7(answer: TearDown) -> Verdict {
    let mut host = SimHost::new(64);
    let window = host.window(GuestVirt(0xffc0_0000));
    let before = host.tables();
    let mut tables = Tables::<TwoLevel, TwoLevel>::new(window, true);
    let made = "a new host has memory";
    tables.share_from(&mut host, GuestVirt(0xc000_0000)).expect(made);
    let mut current = None;
    for _ in 0..3 {
        let root = tables.add_root(&mut host).expect(made);
        for va in [0x0804_8000, 0xc010_0000].map(GuestVirt) {
            let flags = Flags::PRESENT | Flags::WRITABLE | Flags::USER_ACCESSIBLE;
            let origin = Origin { table: GuestFrame(2), flags, middle: None };
            let leaf = tables.find_or_add(&mut host, root, va, origin).expect(made);
            let entry = ShadowEntry::new(&mut host, Entry::new(5, flags)).expect(made);
            tables.replace(leaf, va, entry);
        }
        tables.make_current(root);
        current = Some(root);
    }
    answer(&mut tables, current.expect("three roots were made"), &mut host);
    let (pages, entries) = (host.tables() - before, host.entries());
    // The host takes back what was forgotten, as the module does.
    drop(tables);
    let _ = host.reclaim();
    require(pages == 0 && entries == 0, || {
        format!("{pages} table pages and {entries} entries are left of the guest.")
    })
}
