//! A guest's life on a machine whose processor does what the bytes encode: the run loop, hypercalls, ring, interrupts,
//! traps, segments and paging together, under audit.

use crate::bytes::Bytes;
use crate::count;
use crate::paging::{STRATEGIES, WINDOW, blames_host, entry, virtual_address};
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::hypercall::Hypercall;
use arch_i386::lguest_data::{IRQS, RING_DONE, RING_PENDING, RING_SIZE, Timespec, offset};
use arch_i386::paging::Paging;
use arch_i386::regs::Regs;
use arch_i386::segment::{Descriptor, GDT_ENTRIES, GUEST_CS, GUEST_DS, IDT_ENTRIES, LGUEST_CS, index};
use arch_i386::table::{TablePage, TrustedHost};
use arch_i386::trap::{self, IN_SWITCHER};
use framework::audit::Audited;
use framework::guest::{Guest, Outcome};
use framework::host::{
    BadAddress, Capability, Exit, GuestEntry, Host, KnownFrame, NoFrame, OutOfMemory, PagingHost, Purpose,
};
use framework::kill::{End, Panicked};
use framework::ledger::{Forgotten, TableKind};
use framework::pager::Pager;
use framework::registry::{BuildContext, Choice};
use framework::strategy::Formats;
use sim::SimHost;
use std::num::NonZeroU32;

const PAGES: u32 = 64;
const DATA: u32 = 0x3000;
/// The guest may be entered, or the loop go round, that often.
const ROUNDS_MAX: u32 = 4096;

/// A simulated host with a processor that plays the guest's part.
struct Machine<'a> {
    sim: SimHost,
    regs: Regs,
    input: Bytes<'a>,
    paging: Paging,
    pending: u32,
    rounds: u32,
    initialised: bool,
    /// A signal is pending, as when the bytes are used up.
    over: bool,
    gdt: [Descriptor; GDT_ENTRIES],
    idt: [Descriptor; IDT_ENTRIES],
}

fn exit(vector: u8) -> Exit {
    Exit { vector: vector.into(), cr2: GuestVirt(0) }
}

impl Machine<'_> {
    fn set_word(&mut self, field: u32, value: u32) {
        self.sim.write_u32(GuestPhys(DATA + field), value).expect("the shared page is in memory");
    }

    fn call(&mut self) -> [u32; 5] {
        let input = &mut self.input;
        let choice = input.byte();
        let number = if choice == 0xff { input.word() } else { u32::from(choice) % Hypercall::END };
        let page = |input: &mut Bytes<'_>| (u32::from(input.byte()) % (PAGES + 1)) << 12;
        let args = match Hypercall::from_number(number) {
            Some(Hypercall::NewPgtable | Hypercall::LoadTls | Hypercall::Notify) => [page(input), 0, 0, 0],
            Some(Hypercall::SetPgd | Hypercall::SetPmd) => [page(input), input.short().into(), 0, 0],
            Some(Hypercall::SetPte) => {
                let value = entry(input, self.paging, false);
                [page(input), virtual_address(input).0, value as u32, (value >> 32) as u32]
            }
            Some(Hypercall::SetStack) => [
                input.pick(&[GUEST_DS, GUEST_DS, 0x7b, 0]),
                virtual_address(input).0,
                u32::from(choice >> 5) % 4,
                0,
            ],
            Some(Hypercall::SwitchTo) => {
                [page(input), virtual_address(input).0, u32::from(choice >> 5) % 4, (choice >> 7).into()]
            }
            Some(Hypercall::FlushUserOf) => [page(input), page(input), 0, input.word()],
            Some(Hypercall::LoadIdtEntry | Hypercall::LoadGdtEntry) => {
                let high = input.word();
                [u32::from(input.short()) % 0x110, u32::from(input.short()) | GUEST_CS << 16, high, 0]
            }
            Some(Hypercall::LguestInit) => [DATA + u32::from(choice >> 6), 0, 0, 0],
            Some(Hypercall::Shutdown) => [input.word(), input.byte().into(), 0, 0],
            _ => [u32::from(input.byte()), 0, 0, 0],
        };
        [number, args[0], args[1], args[2], args[3]]
    }

    fn hypercall(&mut self, call: [u32; 5]) -> Exit {
        let regs = &mut self.regs;
        [regs.eax, regs.ebx, regs.ecx, regs.edx, regs.esi] = call;
        exit(trap::HYPERCALL)
    }

    /// Queues a call in the ring.
    fn queue(&mut self, n: u32, call: [u32; 5]) {
        for (i, word) in (0..).zip(call) {
            self.set_word(offset::HCALLS + n * 20 + i * 4, word);
        }
        let status = GuestPhys(DATA + offset::HCALL_STATUS + n);
        self.sim.write(status, &[RING_PENDING]).expect("the shared page is in memory");
    }

    /// The guest's own stores: of an entry, of anything.
    fn store(&mut self) {
        let at = u32::from(self.input.short()) << 2;
        if self.input.byte().is_multiple_of(4) {
            // Past the end of memory there is nothing to change.
            let _ = self.sim.write_u32(GuestPhys(at), self.input.word());
        } else {
            let value = entry(&mut self.input, self.paging, false);
            self.sim.store(self.paging, (at & !7).into(), value);
        }
    }

    /// What must hold of the tables that the processor reads, after any request of the guest.
    fn check_segments(&self) {
        for (number, descriptor) in self.gdt.iter().enumerate() {
            let reserved =
                [index::LGUEST_CS, index::LGUEST_DS, index::TSS, index::DOUBLE_FAULT_TSS].contains(&number);
            assert!(
                !reserved || *descriptor == Descriptor::default(),
                "the guest has set descriptor {number}"
            );
            if descriptor.present() {
                assert!(
                    descriptor.is_code_or_data(),
                    "descriptor {number} is a system segment: {descriptor:?}"
                );
                assert!(descriptor.dpl() > 0, "descriptor {number} is of ring 0: {descriptor:?}");
            }
        }
        for (vector, gate) in self.idt.iter().enumerate() {
            let selector = gate.low >> 16;
            assert!(selector == GUEST_CS || selector == LGUEST_CS, "gate {vector} leads to {selector:#x}");
            if selector == LGUEST_CS {
                assert_eq!(
                    gate.gate_offset(),
                    stub(vector as u8),
                    "gate {vector} leads elsewhere in the Switcher"
                );
            }
        }
    }
}

fn stub(vector: u8) -> u32 {
    0xffc0_0000 + u32::from(vector) * 16
}

// SAFETY: it hands on what the simulated host does.
unsafe impl TrustedHost for Machine<'_> {}

impl PagingHost for Machine<'_> {
    fn page_limit(&self) -> u32 {
        self.sim.page_limit()
    }
    fn no_execute(&self) -> bool {
        self.sim.no_execute()
    }
    fn read(&mut self, at: GuestPhys, into: &mut [u8]) -> Result<(), BadAddress> {
        self.sim.read(at, into)
    }
    fn write(&mut self, at: GuestPhys, from: &[u8]) -> Result<(), BadAddress> {
        self.sim.write(at, from)
    }
    fn frame(
        &mut self,
        page: GuestFrame,
        purpose: Purpose,
        capability: Capability,
    ) -> Result<KnownFrame, NoFrame> {
        self.sim.frame(page, purpose, capability)
    }
    fn known(&self, page: GuestFrame) -> Option<KnownFrame> {
        self.sim.known(page)
    }
    fn has_stale(&self) -> bool {
        self.sim.has_stale()
    }
    fn alloc_table(&mut self, kind: TableKind, capability: Capability) -> Result<TablePage, OutOfMemory> {
        self.sim.alloc_table(kind, capability)
    }
    fn free_table(&mut self, table: TablePage, capability: Capability) {
        self.sim.free_table(table, capability);
    }
    fn reschedule_point(&mut self) -> bool {
        self.sim.reschedule_point()
    }
}

impl Host for Machine<'_> {
    /// A panic of the project's own strategies is what is looked for.
    fn guard<R>(&mut self, call: impl FnOnce(&mut Self) -> R) -> Result<R, Panicked> {
        Ok(call(self))
    }

    fn plug_in<R>(&mut self, call: impl FnOnce(&mut dyn PagingHost) -> R) -> R {
        call(self)
    }

    fn reclaim(&mut self, _: Capability) -> Forgotten {
        self.sim.reclaim()
    }

    fn drop_stale(&mut self) -> Option<u64> {
        self.sim.drop_stale()
    }

    fn regs(&mut self) -> &mut Regs {
        &mut self.regs
    }

    fn set_kernel_stack(&mut self, _ss1: u32, _esp1: GuestVirt, _pages: u32) {}

    fn enter(&mut self, entry: GuestEntry<'_>) -> Exit {
        self.rounds += 1;
        count(1);
        entry.segments.sync(&mut self.gdt, &mut self.idt, stub);
        self.check_segments();
        // What the processor would do with the registers is another matter; that the frame is of ring 1 or 3 at least
        // is the module's to see to, before it enters.
        if self.input.is_empty() || self.rounds > ROUNDS_MAX {
            self.over = true;
            return exit(0x30);
        }
        if !self.initialised {
            self.initialised = true;
            return self.hypercall([Hypercall::LguestInit as u32, DATA, 0, 0, 0]);
        }
        let choice = self.input.byte();
        match choice % 16 {
            0..5 => {
                let call = self.call();
                self.hypercall(call)
            }
            5 => {
                for _ in 0..1 + choice / 32 {
                    let n = u32::from(self.input.byte()) % RING_SIZE as u32;
                    let call = self.call();
                    self.queue(n, call);
                }
                self.hypercall([Hypercall::FlushAsync as u32, 0, 0, 0, 0])
            }
            6..9 => {
                self.store();
                exit(0x30)
            }
            9..12 => {
                let cr2 = virtual_address(&mut self.input);
                self.regs.errcode = u32::from(choice >> 4) & 0x17;
                Exit { vector: trap::PAGE_FAULT.into(), cr2 }
            }
            12 => {
                self.regs.errcode = self.input.word();
                Exit { vector: self.input.byte().into(), cr2: virtual_address(&mut self.input) }
            }
            13 => {
                let value = self.input.word();
                let regs = &mut self.regs;
                match choice >> 4 {
                    0..4 => regs.eip = value,
                    4..7 => regs.esp = value,
                    7 => regs.eflags = value,
                    8..10 => (regs.cs, regs.ss) = (0x73, 0x7b),
                    10..12 => (regs.cs, regs.ss) = (GUEST_CS, GUEST_DS),
                    12 => regs.cs = value,
                    13 => regs.ss = value,
                    _ => regs.errcode = value,
                }
                exit(0x30)
            }
            14 => {
                self.pending |= self.input.word();
                self.set_word(offset::IRQ_ENABLED, self.regs.eflags & 0x200);
                exit(0x30)
            }
            _ if choice == 0xff => Exit { vector: IN_SWITCHER | 13, cr2: GuestVirt(0) },
            _ => exit(trap::GENERAL_PROTECTION),
        }
    }

    fn interrupted(&mut self) -> bool {
        self.over || self.rounds > ROUNDS_MAX
    }

    fn pending_interrupts(&self) -> u32 {
        self.pending
    }

    fn clear_interrupt(&mut self, irq: u32) {
        assert!(irq < IRQS && self.pending & 1 << irq != 0, "interrupt {irq} is not pending");
        self.pending &= !(1 << irq);
    }

    fn wait(&mut self, _: u32) {
        self.rounds += 1;
        self.pending |= 1;
        self.over |= self.input.is_empty();
        // Whoever waits for nothing waits until a signal comes.
        self.over |= self.input.byte() == 0;
    }

    fn set_timer(&mut self, _: Option<NonZeroU32>) {}

    fn wall_clock(&mut self) -> Timespec {
        Timespec { seconds: 1_700_000_000, nanoseconds: 5 }
    }

    fn tsc_khz(&self) -> u32 {
        1_000_000
    }

    fn notify(&mut self, address: GuestPhys) -> bool {
        address.0 & PAGE_SIZE != 0
    }
}

/// A life by the bytes.
pub fn guests(bytes: &[u8]) {
    let mut input = Bytes::new(bytes);
    let strategy = input.pick(&STRATEGIES);
    let formats = input.pick(&Formats::SERVED);
    let every = 1 + u64::from(input.byte() % 8);
    let tables = input.byte();
    let mut machine = Machine {
        sim: SimHost::new(PAGES),
        regs: Regs::default(),
        input,
        paging: formats.guest,
        pending: 0,
        rounds: 0,
        initialised: false,
        over: false,
        gdt: [Descriptor::default(); GDT_ENTRIES],
        idt: [Descriptor::default(); IDT_ENTRIES],
    };
    let window = machine.sim.window(WINDOW);
    let choice = Choice::parse(strategy).expect("a strategy of the project's");
    let context = BuildContext { formats, window, seed: 1, switcher_fills: false };
    if choice.check_formats(formats).is_err() {
        machine.sim.remove_window();
        return;
    }
    if tables >= 0x80 {
        machine.sim.limit_tables(Some(usize::from(tables & 0x1f)));
    }
    let mut guest = Guest::new(&context, &mut machine.regs, 0x1000);
    machine.set_word(offset::SYSCALL_VEC, 0x80);
    machine.set_word(offset::KERNEL_ADDRESS, 0xc000_0000);
    machine.sim.write(GuestPhys(DATA + offset::HCALL_STATUS), &[RING_DONE; RING_SIZE]).expect("in memory");
    let build = || Ok(Box::new(Audited::new(choice.build(&context)?, every)) as Box<dyn Pager>);
    if guest.set_up(&mut machine, build).is_ok() {
        let mut runs = 0;
        loop {
            machine.over = machine.input.is_empty();
            match guest.run(&mut machine) {
                Outcome::Ended => break,
                Outcome::Interrupted if machine.input.is_empty() || machine.rounds > ROUNDS_MAX => break,
                Outcome::Interrupted | Outcome::Notify(_) | Outcome::Trap(_) | Outcome::Emulate(_) => {}
            }
            runs += 1;
            assert!(runs <= 4 * ROUNDS_MAX, "the launcher is told things for ever");
        }
    }
    let kill = match guest.end() {
        Some(End::Killed(kill)) => Some(*kill),
        _ => None,
    };
    assert!(!blames_host(kill.as_ref()), "{kill:?} under {strategy}, {formats}");
    let forgotten = guest.tear_down(&mut machine);
    assert!(forgotten.is_nothing(), "{forgotten} are left under {strategy}, {formats}");
    machine.sim.limit_tables(None);
    machine.sim.remove_window();
    assert_eq!(
        (machine.sim.entries(), machine.sim.tables()),
        (0, 0),
        "the host has not taken back what it should have under {strategy}, {formats}"
    );
}
