//! A guest's requests to its pager, in any order, on any strategy: the audit finds no mistake of the host's, and in the
//! end the host has everything back.

use crate::bytes::Bytes;
use crate::count;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::Paging;
use framework::audit::Audited;
use framework::kill::Kill;
use framework::registry::{Choice, ConfigError};
use framework::strategy::Formats;
use framework::trace::{Header, Operation};
use sim::replay::Replay;

/// Strategies that differ in what they do with tables.
pub const STRATEGIES: [&str; 12] = [
    "lguest",
    "lguest:slots=1",
    "lru:slots=2",
    "clock:slots=3",
    "arc:slots=3",
    "s3-fifo:slots=3",
    "shared",
    "shared:fault-around=64,refill=8",
    "shared:shared-kernel=off",
    "shared:populate-on-set-pte=off,refill-after-flush=off,fault-around=2",
    "shared:policy=gdsf,budget=64",
    "pae",
];

/// The guest's memory in pages: few, so that addresses meet.
const PAGES: u32 = 32;
/// The first address of the host's.
pub const WINDOW: GuestVirt = GuestVirt(0xffc0_0000);

/// Operations by the bytes.
pub fn pagers(bytes: &[u8]) {
    let mut input = Bytes::new(bytes);
    let strategy = input.pick(&STRATEGIES);
    let formats = input.pick(&Formats::SERVED);
    let every = 1 + u64::from(input.byte() % 4);
    let header = Header { paging: formats.guest, pages: PAGES, seed: 1, cpus: 1, switcher: WINDOW };
    let choice = Choice::parse(strategy).expect("a strategy of the project's");
    let built = Replay::of(&header, formats.shadow, |context| -> Result<_, ConfigError> {
        Ok(Box::new(Audited::new(choice.build(context)?, every)))
    });
    // `pae` has nothing to do with two levels.
    let Ok(mut replay) = built else { return };
    while !input.is_empty() && !replay.is_over() {
        replay.step(&operation(&mut input, formats.guest));
        count(1);
    }
    let report = replay.finish(strategy, false);
    assert_eq!(report.after_free, (0, 0), "references and tables are left under {strategy}, {formats}");
    assert!(!blames_host(report.killed.as_ref()), "{:?} under {strategy}, {formats}", report.killed);
}

/// Whether the audit has found a mistake.
pub fn blames_host(kill: Option<&Kill>) -> bool {
    matches!(kill, Some(Kill::Audit(_)))
}

/// An address in the guest's memory where its tables are.
fn table(input: &mut Bytes<'_>) -> u32 {
    (u32::from(input.byte()) % PAGES) << 12
}

/// A virtual address; often one of a few.
pub fn virtual_address(input: &mut Bytes<'_>) -> GuestVirt {
    let choice = input.byte();
    GuestVirt(match choice % 8 {
        0..4 => u32::from(choice >> 3) << 12,
        4 => 0xc000_0000 | u32::from(choice >> 3) << 12,
        5 => u32::from(choice >> 3) << 22 | u32::from(input.byte()) << 12,
        6 => 0xc000_0000 | u32::from(input.short()) << 10,
        _ => input.word(),
    })
}

/// An entry of a table; most often one that can be used.
pub fn entry(input: &mut Bytes<'_>, paging: Paging, root: bool) -> u64 {
    let choice = input.byte();
    let frame = (u64::from(choice) % u64::from(PAGES)) << 12;
    let usual = if root && paging == Paging::Pae { 1 } else { 0x67 };
    match choice >> 5 {
        0 => frame | u64::from(input.short()) & 0xfff,
        1 => input.long(),
        2 => frame | usual & !u64::from(input.byte()),
        3 => frame | usual | 1 << (input.byte() % 12),
        4 => frame | usual | 1 << 63,
        _ => frame | usual,
    }
}

fn operation(input: &mut Bytes<'_>, paging: Paging) -> Operation {
    let choice = input.byte();
    match choice % 16 {
        0..4 => {
            let (size, entries) = if paging == Paging::Pae { (8, 512) } else { (4, 1024) };
            let index = match input.byte() {
                index @ 0..32 => u32::from(index),
                index @ 32..48 => u32::from(index) * 16 % entries,
                _ => u32::from(input.short()) % entries,
            };
            let at = u64::from(table(input) + index * size);
            Operation::Write { at, value: entry(input, paging, choice >> 4 < 2) }
        }
        4 => Operation::Init(GuestVirt(input.pick(&[0xc000_0000, 0x8000_0000, 0, 0x40_0000, 0xffc0_0000]))),
        5 | 6 => Operation::LoadPageDirectory(GuestPhys(match choice >> 4 {
            0 => input.word(),
            1 if paging == Paging::Pae => table(input) | u32::from(input.byte()) & 0xfe0,
            _ => table(input),
        })),
        7..10 => {
            Operation::Access { va: virtual_address(input), user: choice & 16 != 0, write: choice & 32 != 0 }
        }
        10 => Operation::PageFault { va: virtual_address(input), error: u32::from(input.byte()) & 0x1f },
        11 | 12 => {
            let directory = GuestPhys(table(input));
            Operation::SetPte { directory, va: virtual_address(input), value: entry(input, paging, false) }
        }
        13 => match choice >> 4 {
            0..8 => Operation::SetPgd(GuestPhys(table(input)), u32::from(input.short())),
            _ => Operation::SetPmd(GuestPhys(table(input)), u32::from(input.short())),
        },
        14 => match choice >> 4 {
            0..4 => Operation::FlushUser,
            4..6 => Operation::FlushUserOf(GuestPhys(table(input))),
            6..12 => Operation::FlushAll,
            _ => Operation::Translate(virtual_address(input)),
        },
        _ => Operation::SetStack(virtual_address(input), u32::from(choice >> 4) % 4),
    }
}
