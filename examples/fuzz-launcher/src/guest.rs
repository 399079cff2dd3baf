//! The hostile guest: a random program of a few dozen steps, as machine code, with the tables it may load.
//!
//! The guest is its own kernel, in ring 1 at the addresses of its memory. Each step lies in a slot of its own, whose
//! first instructions note where the next one is and give the guest a stack; one handler, to which all vectors lead,
//! goes on there. So a step may fault, or come back in another ring with other segments, and the guest still does the
//! next one. After the last step comes the first.

use arch_i386::hypercall::Hypercall;
use arch_i386::lguest_data::{RING_SIZE, offset};
use arch_i386::segment::{GUEST_CS, GUEST_DS};

use crate::dice::Dice;

/// The fewest pages that the layout below fits.
pub const PAGES_MIN: u32 = 256;

/// Where the address of the next step is.
const NEXT: u32 = 0x1000;
/// The counter of a step's own loop.
const LOOP: u32 = 0x1004;
/// Counts steps, to show that the guest lives.
pub const STEPS: u32 = 0x1008;
/// The shared structure.
pub const DATA: u32 = 0x2000;
const STACK_TOP: u32 = 0x5ff0;
const HANDLER: u32 = 0x6000;
/// Where the guest begins.
pub const START: u32 = 0x7000;
const PROGRAM: u32 = 0x1_0000;
const SLOT: u32 = 128;
/// Page directories.
pub const DIRECTORIES: u32 = 0x4_0000;
/// How many.
pub const DIRECTORY_COUNT: u32 = 16;
/// Page tables; the first maps the guest itself.
pub const TABLES: u32 = 0x5_0000;
/// How many.
pub const TABLE_COUNT: u32 = 32;
/// From here on the guest's memory holds nothing in particular.
const FREE: u32 = 0x8_0000;
const _: () = assert!(FREE <= PAGES_MIN << 12);

/// Bits of a page-table entry that are usually there: present, writable, user, accessed, dirty.
const USUAL: u32 = 0x67;

/// What a guest is like, beside its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Random steps.
    Mixed,
    /// Maps few frames at many addresses, and touches them all.
    Aliases,
    /// Makes one hypercall after the other, while other processes fill its ring again.
    Refilled,
}

/// A guest that can be loaded.
#[derive(Debug)]
pub struct Guest {
    /// What it is like.
    pub kind: Kind,
    /// Its first pages.
    pub memory: Vec<u8>,
    /// Addresses that it notifies.
    pub notified: Vec<u32>,
}

impl Guest {
    /// Makes a guest for `pages` pages of memory; `reserved` bytes at the top of the address space are the host's.
    pub fn random(dice: &mut Dice, pages: u32, kind: Kind) -> Guest {
        let notified = (0..4).map(|_| FREE + dice.below(64) * 0x1000).collect();
        let mut guest = Guest { kind, memory: vec![0; (FREE) as usize], notified };
        guest.tables(dice, pages);
        guest.data(dice);
        guest.handler();
        guest.start(dice);
        let steps = if kind == Kind::Mixed { 8 + dice.below(88) } else { 16 };
        for step in 0..steps {
            let next = PROGRAM + (step + 1) % steps * SLOT;
            let code = guest.step(dice, pages, step, next);
            guest.put(PROGRAM + step * SLOT, &code);
        }
        guest
    }

    fn put(&mut self, at: u32, bytes: &[u8]) {
        self.memory[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn put_word(&mut self, at: u32, word: u32) {
        self.put(at, &word.to_le_bytes());
    }

    /// The first table maps the guest to itself; the first entry of most directories is that table.
    fn tables(&mut self, dice: &mut Dice, pages: u32) {
        for page in 0..pages.min(1024) {
            self.put_word(TABLES + page * 4, page << 12 | USUAL);
        }
        let alias = FREE >> 12;
        for table in 1..TABLE_COUNT {
            let density = dice.below(4);
            for index in 0..1024 {
                let entry = match self.kind {
                    Kind::Aliases => alias << 12 | USUAL,
                    Kind::Mixed if dice.below(4) <= density => random_entry(dice, pages),
                    Kind::Mixed | Kind::Refilled => 0,
                };
                self.put_word(TABLES + table * 0x1000 + index * 4, entry);
            }
        }
        for directory in 0..DIRECTORY_COUNT {
            let at = DIRECTORIES + directory * 0x1000;
            for index in 1..1024 {
                let table = TABLES + (1 + dice.below(TABLE_COUNT - 1)) * 0x1000;
                let entry = match self.kind {
                    Kind::Aliases => table | USUAL,
                    Kind::Mixed if dice.one_in(64) => random_entry(dice, pages),
                    Kind::Mixed if dice.one_in(2) => table | USUAL,
                    Kind::Mixed | Kind::Refilled => 0,
                };
                self.put_word(at + index * 4, entry);
            }
            self.put_word(at, TABLES | USUAL);
        }
    }

    fn data(&mut self, dice: &mut Dice) {
        self.put(DATA + offset::HCALL_STATUS, &[0xff; RING_SIZE]);
        // The host reads a ring entry only once its status marks it, which any step may do later.
        for entry in 0..RING_SIZE as u32 {
            let notified = dice.pick(&self.notified);
            let call = match dice.below(4) {
                0 => [Hypercall::Notify as u32, notified, 0, 0, 0],
                // Long ones, so that whoever fills the ring again is never late.
                _ if self.kind == Kind::Refilled => [Hypercall::SetStack as u32, GUEST_DS, STACK_TOP, 2, 0],
                _ => quiet_call(dice),
            };
            for (number, word) in (0..).zip(call) {
                self.put_word(DATA + offset::HCALLS + entry * 20 + number * 4, word);
            }
        }
        self.put_word(DATA + offset::IRQ_ENABLED, dice.pick(&[0, 0x200]));
        self.put_word(DATA + offset::BLOCKED_INTERRUPTS, dice.pick(&[0, !0, 1]));
        self.put_word(
            DATA + offset::KERNEL_ADDRESS,
            dice.pick(&[0xc000_0000, 0xc000_0000, 0x8000_0000, 0x40_0000]),
        );
        self.put_word(DATA + offset::SYSCALL_VEC, 0x80);
    }

    /// Data segments as they should be, the stack, and on with the next step.
    fn handler(&mut self) {
        let mut code = Code::default();
        code.segments().bytes(&[0xff, 0x25]).word(NEXT);
        self.put(HANDLER, &code.0);
    }

    /// The first hypercall, gates, stack, tables.
    fn start(&mut self, dice: &mut Dice) {
        let mut code = Code::default();
        code.bytes(&[0xbc]).word(STACK_TOP).store(NEXT, PROGRAM);
        code.hypercall([Hypercall::LguestInit as u32, DATA, 0, 0, 0]);
        for vector in (0..48).chain([0x80]) {
            // Interrupt or trap gate, with any ring.
            let high = HANDLER & 0xffff_0000 | 0x8e00 | dice.pick(&[0, 0x100]) | dice.below(4) << 13;
            code.hypercall([
                Hypercall::LoadIdtEntry as u32,
                vector,
                GUEST_CS << 16 | HANDLER & 0xffff,
                high,
                0,
            ]);
        }
        code.hypercall([Hypercall::SetStack as u32, GUEST_DS, STACK_TOP, 1, 0]);
        // Code and data for ring 3, as Linux has them.
        code.hypercall([Hypercall::LoadGdtEntry as u32, 14, 0xffff, 0x00cf_fb00, 0]);
        code.hypercall([Hypercall::LoadGdtEntry as u32, 15, 0xffff, 0x00cf_f300, 0]);
        code.hypercall([Hypercall::NewPgtable as u32, DIRECTORIES, 0, 0, 0]);
        code.bytes(&[0xff, 0x25]).word(NEXT);
        self.put(START, &code.0);
    }

    /// One step's code.
    fn step(&mut self, dice: &mut Dice, pages: u32, number: u32, next: u32) -> Vec<u8> {
        let mut code = Code::default();
        code.bytes(&[0xbc]).word(STACK_TOP).store(NEXT, next).bytes(&[0xff, 0x05]).word(STEPS);
        match self.kind {
            Kind::Aliases if number.is_multiple_of(2) => {
                let directory = DIRECTORIES + number / 2 % DIRECTORY_COUNT * 0x1000;
                code.hypercall([Hypercall::NewPgtable as u32, directory, 0, 0, 0]);
            }
            // Everything above the first 4 MiB, up to where the host may be.
            Kind::Aliases => {
                code.sweep(0x40_0000, (0xfe40_0000 - 0x40_0000) / 0x1000, 0x1000, false);
            }
            Kind::Refilled => {
                code.repeat(1 << dice.below(12), |code| code.hypercall(quiet_call(dice)));
            }
            Kind::Mixed => self.mixed_step(dice, pages, &mut code),
        }
        code.bytes(&[0xff, 0x25]).word(NEXT);
        assert!(code.0.len() <= SLOT as usize, "a step has {} bytes", code.0.len());
        code.0
    }

    fn mixed_step(&mut self, dice: &mut Dice, pages: u32, code: &mut Code) {
        match dice.below(32) {
            0..8 => {
                let call = self.hypercall(dice, pages);
                code.hypercall(call);
            }
            8..11 => {
                code.repeat(1 << dice.below(12), |code| code.hypercall(quiet_call(dice)));
            }
            11 => {
                let first = dice.below(RING_SIZE as u32);
                for entry in first..(first + 8).min(RING_SIZE as u32) {
                    code.bytes(&[0xc6, 0x05]).word(DATA + offset::HCALL_STATUS + entry).bytes(&[0]);
                }
            }
            12 => {
                let call = self.hypercall(dice, pages);
                let at = DATA + offset::HCALLS + dice.below(RING_SIZE as u32) * 20;
                for (number, word) in (0..).zip(call) {
                    code.store(at + number * 4, word);
                }
            }
            13..16 => {
                // An entry of a table or a directory, reported to the host or not.
                let (index, entry) = (dice.below(1024), random_entry(dice, pages));
                let table = TABLES + (1 + dice.below(TABLE_COUNT - 1)) * 0x1000;
                let directory = DIRECTORIES + dice.below(DIRECTORY_COUNT) * 0x1000;
                let slot = dice.below(1024);
                match dice.below(3) {
                    0 => code.store(table + index * 4, entry),
                    1 => code
                        .store(directory + slot.max(1) * 4, table | USUAL)
                        .store(table + index * 4, entry)
                        .hypercall([Hypercall::SetPte as u32, directory, slot << 22 | index << 12, entry, 0]),
                    _ => code.store(directory + slot.max(1) * 4, table | dice.word() & 0xfff).hypercall([
                        Hypercall::SetPgd as u32,
                        directory,
                        slot,
                        0,
                        0,
                    ]),
                };
            }
            16..20 => {
                let stride = dice.pick(&[0x1000, 0x1000, 0x40_0000, 0x40_1000, 4]);
                code.sweep(dice.wild() & !3, 1 << dice.below(10), stride, dice.one_in(2));
            }
            20 => {
                code.bytes(&[0xb8]).word(dice.wild() & 0xffff).bytes(&[0x8e, dice.pick(&SEGMENTS)]);
            }
            21 => {
                let flags =
                    dice.pick(&[0x100, 0x4000, 0x4_0000, 0x2_0000, 0x3000, 0x1_0000, 0x20_0000, 0x400]);
                code.bytes(&[0x9c, 0x81, 0x0c, 0x24]).word(flags).bytes(&[0x9d, 0x90, 0x90]);
            }
            22 => {
                code.bytes(&[
                    0xcd,
                    dice.pick(&[0, 1, 2, 3, 4, 6, 8, 13, 14, 15, 18, 0x1f, 0x20, 0x30, 0x80, 0xff]),
                ]);
            }
            23 | 24 => {
                code.bytes(dice.pick(&INSTRUCTIONS));
            }
            25 => {
                // Anywhere, in any ring, with any flags; most often into ring 3.
                let ring_3 = !dice.one_in(4);
                let (cs, ss) =
                    if ring_3 { (0x73, 0x7b) } else { (dice.wild() & 0xffff, dice.wild() & 0xffff) };
                let eip = if ring_3 { self.code_address(dice) } else { dice.wild() };
                let flags = if dice.one_in(4) { dice.word() } else { 0x202 };
                for word in [ss, STACK_TOP, flags, cs, eip] {
                    code.bytes(&[0x68]).word(word);
                }
                code.bytes(&[0xcf]);
            }
            26 => {
                // Descriptors: any, at any number that is not the kernel's own too often.
                let number = if dice.one_in(16) {
                    dice.below(33)
                } else {
                    dice.pick(&[0, 1, 6, 7, 8, 14, 15, 17, 20, 30])
                };
                let high = dice.word() & 0x00ff_ffff | dice.pick(&[0, 0x8000, 0x9000, 0x9000]);
                code.hypercall([Hypercall::LoadGdtEntry as u32, number, dice.word(), high, 0]);
            }
            27 => {
                // A frame on a stack that is somewhere else.
                code.bytes(&[0xbc]).word(dice.wild()).bytes(dice.pick(&[
                    &[0x50][..],
                    &[0xc3],
                    &[0xcf],
                    &[0x9d],
                    &[0xcc],
                ]));
            }
            28 => {
                // Its own code, and the host's structures in its memory.
                let at = match dice.below(4) {
                    0 => PROGRAM + dice.below(96 * SLOT),
                    1 => HANDLER + dice.below(32),
                    2 => DATA + dice.below(1392),
                    _ => STACK_TOP - dice.below(4096),
                };
                code.bytes(&[0xc6, 0x05]).word(at).bytes(&[dice.word() as u8]);
            }
            29 => {
                let directory = DIRECTORIES + dice.below(DIRECTORY_COUNT) * 0x1000;
                code.hypercall([Hypercall::NewPgtable as u32, directory, 0, 0, 0]);
            }
            30 => {
                code.hypercall([
                    Hypercall::SetClockevent as u32,
                    dice.pick(&[0, 1, 1000, 1_000_000, !0]),
                    0,
                    0,
                    0,
                ]);
            }
            _ => {
                code.hypercall([Hypercall::Notify as u32, dice.pick(&self.notified), 0, 0, 0]);
            }
        };
    }

    fn code_address(&self, dice: &mut Dice) -> u32 {
        PROGRAM + dice.below(32) * SLOT
    }

    /// A call whose arguments make sense, most of the time.
    fn hypercall(&self, dice: &mut Dice, pages: u32) -> [u32; 5] {
        let number = match dice.below(64) {
            0 => return [dice.wild(), dice.wild(), dice.wild(), dice.wild(), dice.wild()],
            1 => Hypercall::Halt,
            2 => Hypercall::LoadTls,
            _ => dice.pick(&USUAL_CALLS),
        };
        let directory = DIRECTORIES + dice.below(DIRECTORY_COUNT) * 0x1000;
        let args = match number {
            Hypercall::NewPgtable => [directory, 0, 0, 0],
            Hypercall::FlushTlb | Hypercall::Ts => [dice.below(2), 0, 0, 0],
            Hypercall::LoadIdtEntry => {
                let high = HANDLER & 0xffff_0000 | 0x8e00 | dice.pick(&[0, 0x100]) | dice.below(4) << 13;
                [dice.below(256), GUEST_CS << 16 | HANDLER & 0xffff, high, 0]
            }
            Hypercall::SetStack => {
                [GUEST_DS, dice.pick(&[STACK_TOP, STACK_TOP, FREE, 0x40_0ff0]), dice.below(3), 0]
            }
            Hypercall::SwitchTo => {
                let stack = dice.pick(&[STACK_TOP, STACK_TOP, FREE, 0x40_0ff0]);
                [directory, stack, dice.below(3), dice.one_in(4).into()]
            }
            Hypercall::FlushUserOf => {
                [directory, dice.pick(&[0, DIRECTORIES]), 0, dice.below(2) * dice.wild()]
            }
            Hypercall::SetPmd => [directory, dice.below(512), 0, 0],
            Hypercall::SetPte => [directory, dice.wild() & !0xfff | 0x40_0000, random_entry(dice, pages), 0],
            Hypercall::SetPgd => [directory, dice.below(1024), 0, 0],
            Hypercall::LoadTls => [FREE + dice.below(64) * 0x1000, 0, 0, 0],
            Hypercall::Notify => [dice.pick(&self.notified), 0, 0, 0],
            _ => [dice.below(3), 0, 0, 0],
        };
        let mut call = [number as u32, args[0], args[1], args[2], args[3]];
        if dice.one_in(64) {
            call[1 + dice.below(4) as usize] = dice.wild();
        }
        call
    }
}

/// Calls that change little, for many in a row.
const QUIET: [Hypercall; 5] = [
    Hypercall::FlushAsync,
    Hypercall::SendInterrupts,
    Hypercall::Ts,
    Hypercall::FlushTlb,
    Hypercall::FlushAsync,
];

fn quiet_call(dice: &mut Dice) -> [u32; 5] {
    [dice.pick(&QUIET) as u32, dice.below(2), 0, 0, 0]
}

const USUAL_CALLS: [Hypercall; 14] = [
    Hypercall::FlushAsync,
    Hypercall::NewPgtable,
    Hypercall::SwitchTo,
    Hypercall::FlushTlb,
    Hypercall::FlushUserOf,
    Hypercall::LoadIdtEntry,
    Hypercall::SetStack,
    Hypercall::Ts,
    Hypercall::SetPte,
    Hypercall::SetPte,
    Hypercall::SetPgd,
    Hypercall::SetPmd,
    Hypercall::Notify,
    Hypercall::SendInterrupts,
];

/// The last byte of `mov %ax, SEGMENT`: ds, es, ss, fs, gs.
const SEGMENTS: [u8; 5] = [0xd8, 0xc0, 0xd0, 0xe0, 0xe8];

/// Instructions that only a kernel should execute, or that reveal or change the processor's state.
const INSTRUCTIONS: [&[u8]; 40] = [
    &[0xf4],                                                       // hlt
    &[0xfa],                                                       // cli
    &[0xfb],                                                       // sti
    &[0xec],                                                       // in %dx, %al
    &[0xee],                                                       // out %al, %dx
    &[0x0f, 0x34],                                                 // sysenter
    &[0x0f, 0x35],                                                 // sysexit
    &[0x0f, 0x05],                                                 // syscall
    &[0x0f, 0x0b],                                                 // ud2
    &[0x0f, 0x06],                                                 // clts
    &[0x0f, 0x08],                                                 // invd
    &[0x0f, 0x09],                                                 // wbinvd
    &[0x0f, 0x20, 0xc0],                                           // mov %cr0, %eax
    &[0x0f, 0x22, 0xc0],                                           // mov %eax, %cr0
    &[0x0f, 0x22, 0xd8],                                           // mov %eax, %cr3
    &[0x0f, 0x22, 0xe0],                                           // mov %eax, %cr4
    &[0x0f, 0x23, 0xf8],                                           // mov %eax, %dr7
    &[0x0f, 0x21, 0xf0],                                           // mov %dr6, %eax
    &[0x0f, 0x30],                                                 // wrmsr
    &[0x0f, 0x32],                                                 // rdmsr
    &[0x0f, 0x31],                                                 // rdtsc
    &[0x0f, 0x33],                                                 // rdpmc
    &[0x0f, 0xa2],                                                 // cpuid
    &[0x0f, 0x01, 0x38],                                           // invlpg (%eax)
    &[0x0f, 0x01, 0xf0],                                           // lmsw %ax
    &[0x0f, 0x01, 0x54, 0x24, 0x04],                               // lgdt 4(%esp)
    &[0x0f, 0x01, 0x5c, 0x24, 0x04],                               // lidt 4(%esp)
    &[0xb8, 0x80, 0, 0, 0, 0x0f, 0x00, 0xd8],                      // mov $0x80, %eax; ltr %ax
    &[0xb8, 0x58, 0, 0, 0, 0x0f, 0x00, 0xd0],                      // mov $0x58, %eax; lldt %ax
    &[0x0f, 0x00, 0xc8],                                           // str %ax
    &[0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0x1d, 0x00, 0x00, 0x08, 0x00], // fninit; fld1; fstps 0x80000
    &[0x0f, 0x28, 0xc1],                                           // movaps %xmm1, %xmm0
    &[0x0f, 0xae, 0x15, 0x00, 0x00, 0x08, 0x00],                   // ldmxcsr 0x80000
    &[0x0f, 0x01, 0xd1],                                           // xsetbv
    &[0x0f, 0x01, 0xca],                                           // clac
    &[0x0f, 0x01, 0xc1],                                           // vmcall
    &[0xea, 0, 0, 0, 0, 0x50, 0],                                  // ljmp $0x50, $0
    &[0x9a, 0, 0, 0, 0, 0x80, 0],                                  // lcall $0x80, $0
    &[0x62, 0x05, 0x00, 0x00, 0x08, 0x00],                         // bound %eax, 0x80000
    &[0xf0, 0x0f, 0xc7, 0xc8],                                     // lock cmpxchg8b %eax
];

/// An entry that maps something, most of the time.
fn random_entry(dice: &mut Dice, pages: u32) -> u32 {
    match dice.below(16) {
        0 => dice.wild(),
        1 => dice.word(),
        2 => dice.below(pages) << 12 | dice.word() & 0xfff,
        3 => dice.below(pages) << 12 | USUAL | 1 << dice.below(12),
        // The guest's own tables, writable.
        4 => (TABLES + dice.below(TABLE_COUNT) * 0x1000) | USUAL,
        5 => pages << 12 | USUAL,
        _ => dice.below(pages) << 12 | USUAL & !(dice.word() & 0x66),
    }
}

/// Machine code being put together.
#[derive(Debug, Default)]
struct Code(Vec<u8>);

impl Code {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Code {
        self.0.extend_from_slice(bytes);
        self
    }

    fn word(&mut self, word: u32) -> &mut Code {
        self.bytes(&word.to_le_bytes())
    }

    /// `movl $value, address`
    fn store(&mut self, address: u32, value: u32) -> &mut Code {
        self.bytes(&[0xc7, 0x05]).word(address).word(value)
    }

    /// A hypercall by its registers: eax, ebx, ecx, edx, esi.
    fn hypercall(&mut self, call: [u32; 5]) -> &mut Code {
        for (register, word) in [0, 3, 1, 2, 6].into_iter().zip(call) {
            self.bytes(&[0xb8 + register]).word(word);
        }
        self.bytes(&[0xcd, 0x1f])
    }

    /// Data segments and stack of a guest's kernel.
    fn segments(&mut self) -> &mut Code {
        self.bytes(&[0xb8]).word(GUEST_DS).bytes(&[0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc]).word(STACK_TOP)
    }

    /// `body` so many times, counted in memory, as a hypercall may change any register.
    fn repeat(&mut self, times: u32, body: impl FnOnce(&mut Code) -> &mut Code) -> &mut Code {
        self.store(LOOP, times);
        let start = self.0.len();
        body(self);
        self.bytes(&[0xff, 0x0d]).word(LOOP).bytes(&[0x0f, 0x85]);
        let distance = start as i32 - (self.0.len() as i32 + 4);
        self.word(distance as u32)
    }

    /// Touches `times` addresses from `address` on.
    fn sweep(&mut self, address: u32, times: u32, stride: u32, write: bool) -> &mut Code {
        self.bytes(&[0xbf]).word(address).bytes(&[0xb9]).word(times);
        // mov (%edi), %al or %al, (%edi); add $stride, %edi; dec %ecx; jnz
        self.bytes(&[if write { 0x88 } else { 0x8a }, 0x07, 0x81, 0xc7])
            .word(stride)
            .bytes(&[0x49, 0x75, 0xf5])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_fits_its_layout() {
        for life in 0..300 {
            let mut dice = Dice::of(1, life);
            let kind = [Kind::Aliases, Kind::Refilled, Kind::Mixed, Kind::Mixed][life as usize % 4];
            let guest = Guest::random(&mut dice, PAGES_MIN, kind);
            assert_eq!(guest.memory.len(), FREE as usize);
        }
    }

    #[test]
    fn the_jump_of_a_sweep_goes_back_to_its_access() {
        let mut code = Code::default();
        code.sweep(0, 1, 0x1000, false);
        let after = code.0.len() as i32;
        let access = 10;
        assert_eq!(after + i32::from(code.0[after as usize - 1] as i8), access);
    }
}
