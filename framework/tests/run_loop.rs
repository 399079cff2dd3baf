//! The guest's life on a scripted machine: each entry into the guest is a closure that plays the
//! guest's part for as long as it runs, and returns why it stopped.

use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, HostFrame};
use arch_i386::debug::{LEVELS_NONE, Registers};
use arch_i386::hypercall::{Hypercall, HypercallArgs, SHUTDOWN_POWEROFF, SHUTDOWN_RESTART};
use arch_i386::kernel_view::KernelView;
use arch_i386::launcher::{DEVICE_MEMORY, Emulation, IO_PORT};
use arch_i386::lguest_data::{IRQ_ENABLED, RING_DONE, RING_PENDING, Timespec, offset};
use arch_i386::regs::Regs;
use arch_i386::segment::{Descriptor, GDT_ENTRIES, GUEST_CS, GUEST_DS, IDT_ENTRIES, index};
use arch_i386::table::{TablePage, TrustedHost};
use arch_i386::{paging::Paging, trap};
use framework::counters::PagingCounters;
use framework::device_access::{BadRegister, NoHandler};
use framework::event::{Event, Events, ExitKind, FaultOutcome, Flush};
use framework::guest::{Counters, Guest, Outcome, SetUpError};
use framework::host::{
    BadAddress, Capability, DoneInSwitcher, Exit, FilledInSwitcher, GuestEntry, Host, KnownFrame, NoFrame,
    OutOfMemory, PagingHost, Purpose,
};
use framework::in_switcher::InSwitcher;
use framework::kill::{End, Kill, Panicked};
use framework::ledger::{Forgotten, TableKind};
use framework::policy::{Costs, EvictionPolicy};
use framework::registry::{BuildContext, Choice, POLICIES, PolicyEntry};
use framework::strategy::Formats;
use framework::views::View;
use rogue_plugin as _;
use sim::SimHost;
use sim::panics;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::rc::Rc;
use strategies as _;

const PAGES: u32 = 64;
const DATA: GuestPhys = GuestPhys(0x3000);
const WINDOW: GuestVirt = GuestVirt(0xffc0_0000);
const NOIRQ: u32 = 0x7000;

/// What the guest does in one run.
type Run = Box<dyn FnMut(&mut Machine) -> Exit>;

/// A simulated host with a scripted processor.
struct Machine {
    sim: SimHost,
    formats: Formats,
    regs: Regs,
    script: VecDeque<Run>,
    pending: u32,
    timer: Option<NonZeroU32>,
    listened_to: Option<GuestPhys>,
    waited_for: Vec<u32>,
    ts: bool,
    kernel_stack: (u32, GuestVirt, u32),
    /// What the Switcher knows of the guest, and what it may do by itself in this run, on which root.
    view: Option<KernelView>,
    by_itself: InSwitcher,
    root: HostFrame,
    /// What it has done in this run by itself, what it has loaded, and what it has filled.
    done: Option<DoneInSwitcher>,
    loaded: Vec<GuestPhys>,
    filled: Vec<FilledInSwitcher>,
    /// What it has missed when it looked at a page fault.
    missed: Option<GuestVirt>,
    /// What it may load by itself.
    published: BTreeMap<GuestPhys, HostFrame>,
    /// The page directory that the guest's kernel has loaded.
    cr3: GuestPhys,
    /// The processor's descriptors.
    gdt: [Descriptor; GDT_ENTRIES],
    /// The ring entry that comes next, as the Switcher knows it.
    ring_next: u32,
    /// How many it has reflected since it was last asked.
    reflected: u32,
    /// Ring entries that somebody else fills again whenever one of them has been done.
    refilled: u32,
    /// Calls since the loop has last checked for an interruption, the most of them, and how often it has checked.
    calls: u32,
    most_calls: u32,
    questions: u32,
    /// The question to which the answer is yes, whatever the script has left.
    interrupted_at: Option<u32>,
    /// Whether somebody watches, and what happened then.
    watched: bool,
    events: Vec<Event>,
}

/// More calls than the loop may do in one go.
const ENDLESS: u32 = 10_000;

fn exit(vector: u8) -> Exit {
    Exit { vector: vector.into(), cr2: GuestVirt(0) }
}

impl Machine {
    fn word(&mut self, field: u32) -> u32 {
        self.sim.read_u32(GuestPhys(DATA.0 + field)).unwrap()
    }

    fn set_word(&mut self, field: u32, value: u32) {
        self.sim.write_u32(GuestPhys(DATA.0 + field), value).unwrap();
    }

    fn hypercall(&mut self, call: Hypercall, args: [u32; 4]) -> Exit {
        let regs = &mut self.regs;
        [regs.eax, regs.ebx, regs.ecx, regs.edx, regs.esi] =
            [call as u32, args[0], args[1], args[2], args[3]];
        exit(trap::HYPERCALL)
    }

    /// The guest's kernel comes to this code, at which the processor traps as ring 1 may not execute it.
    fn forbidden(&mut self, at: u32, code: &[u8]) -> Exit {
        self.sim.write(GuestPhys(at), code).unwrap();
        (self.regs.eip, self.regs.errcode) = (at, 0);
        exit(trap::GENERAL_PROTECTION)
    }

    /// Queues a call in the ring.
    fn queue(&mut self, n: u32, call: Hypercall, args: [u32; 4]) {
        let words = [call as u32, args[0], args[1], args[2], args[3]];
        for (i, word) in (0..).zip(words) {
            self.set_word(offset::HCALLS + n * size_of::<HypercallArgs>() as u32 + i * 4, word);
        }
        let status = GuestPhys(DATA.0 + offset::HCALL_STATUS + n);
        self.sim.write(status, &[RING_PENDING]).unwrap();
    }

    /// A call that the host sees has been done: counts it, and has the ring filled again.
    fn call_done(&mut self) {
        self.calls += 1;
        self.most_calls = self.most_calls.max(self.calls);
        assert!(self.calls < ENDLESS, "the loop goes on without looking up");
        for n in 0..self.refilled {
            self.sim.write(GuestPhys(DATA.0 + offset::HCALL_STATUS + n), &[RING_PENDING]).unwrap();
        }
    }

    /// Stores a word of the guest's memory.
    fn set_absolute(&mut self, at: u32, value: u32) {
        self.sim.write_u32(GuestPhys(at), value).unwrap();
    }

    /// Has the page table at 0x9000 map so many pages as they follow each other, and these entries of page directories lead to it.
    fn map_linearly(&mut self, pages: u32, entries: &[u32]) {
        (0..pages).for_each(|page| self.set_absolute(0x9000 + 4 * page, page << 12 | 0x67));
        entries.iter().for_each(|&entry| self.set_absolute(entry, 0x9067));
    }

    /// The Switcher loads a page directory by itself, for a call in registers.
    fn load_in_switcher(&mut self, directory: GuestPhys) {
        self.root = self.published[&directory];
        self.by_itself.directory = Some(directory);
        let done = self.done();
        (done.calls, done.loads) = (done.calls + 1, done.loads + 1);
        self.loaded.push(directory);
    }

    /// The account of what the Switcher does in this run.
    fn done(&mut self) -> &mut DoneInSwitcher {
        if self.done.is_none() {
            self.loaded.clear();
            self.filled.clear();
        }
        let (ring_next, (_, esp1, stack_pages)) = (self.ring_next, self.kernel_stack);
        let nothing = DoneInSwitcher {
            fill_words: 0,
            idle_set_ptes: 0,
            calls: 0,
            ring_calls: 0,
            ring_next,
            esp1,
            stack_pages,
            loads: 0,
            tls: None,
        };
        self.done.get_or_insert(nothing)
    }

    /// The words on the guest's stack, which is mapped linearly.
    fn stack<const N: usize>(&mut self, esp: u32) -> [u32; N] {
        std::array::from_fn(|i| self.sim.read_u32(GuestPhys(esp + 4 * i as u32)).unwrap())
    }
}

// SAFETY: it hands on what the simulated host does.
unsafe impl TrustedHost for Machine {}

impl PagingHost for Machine {
    fn page_limit(&self) -> u32 {
        self.sim.page_limit()
    }
    fn device_limit(&self) -> u32 {
        self.sim.device_limit()
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
    fn filled_in_switcher(&self, _: Capability) -> &[FilledInSwitcher] {
        &self.filled
    }
    fn loaded_in_switcher(&self, _: Capability) -> &[GuestPhys] {
        &self.loaded
    }
    fn retract(&mut self, directory: GuestPhys) {
        self.published.remove(&directory);
    }
    fn reschedule_point(&mut self) -> bool {
        self.sim.reschedule_point()
    }
    fn observes(&self, _: Events) -> bool {
        self.watched
    }
    fn observe(&mut self, event: Event) {
        if self.watched {
            self.events.push(event);
        }
    }
}

impl Host for Machine {
    fn take_reflected(&mut self) -> u32 {
        core::mem::take(&mut self.reflected)
    }
    fn guard<R>(&mut self, call: impl FnOnce(&mut Self) -> R) -> Result<R, Panicked> {
        panics::guard(|| call(self))
    }
    fn plug_in<R>(&mut self, call: impl FnOnce(&mut dyn PagingHost) -> R) -> R {
        panics::plug_in(self, call)
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
    fn set_kernel_stack(&mut self, ss1: u32, esp1: GuestVirt, pages: u32) {
        self.kernel_stack = (ss1, esp1, pages);
    }
    fn set_kernel_view(&mut self, view: Option<KernelView>) {
        self.view = view;
    }
    fn set_ring_next(&mut self, next: u32) {
        self.ring_next = next;
    }
    fn take_done_in_switcher(&mut self) -> Option<DoneInSwitcher> {
        self.done.take()
    }
    fn missed_by_switcher(&self) -> Option<GuestVirt> {
        self.missed
    }
    fn enter(&mut self, entry: GuestEntry<'_>) -> Exit {
        (self.ts, self.root, self.by_itself) = (entry.ts, entry.root.frame(), entry.by_itself);
        let published = self.by_itself.directory.filter(|_| self.by_itself.publish);
        self.published.extend(published.map(|directory| (directory, self.root)));
        entry.segments.sync(&mut self.gdt, &mut [Descriptor::default(); IDT_ENTRIES], |_| 0);
        // At the script's end somebody presses ^C, which ends the run like a hardware interrupt.
        self.script.pop_front().map_or(exit(0x30), |mut run| run(self))
    }
    fn interrupted(&mut self) -> bool {
        self.calls = 0;
        self.questions += 1;
        self.script.is_empty() || self.interrupted_at.is_some_and(|at| self.questions >= at)
    }
    fn pending_interrupts(&self) -> u32 {
        self.pending
    }
    fn clear_interrupt(&mut self, irq: u32) {
        self.pending &= !(1 << irq);
    }
    fn wait(&mut self, mask: u32) {
        self.waited_for.push(mask);
        // The clock is what everybody waits for.
        self.pending |= 1;
    }
    fn set_timer(&mut self, delay: Option<NonZeroU32>) {
        self.timer = delay;
        self.call_done();
    }
    fn wall_clock(&mut self) -> Timespec {
        Timespec { seconds: 1_700_000_000, nanoseconds: 5 }
    }
    fn tsc_khz(&self) -> u32 {
        1_000_000
    }
    fn notify(&mut self, address: GuestPhys) -> bool {
        self.call_done();
        self.listened_to == Some(address)
    }
}

/// A guest and its machine, before the first instruction.
fn new() -> (Guest, Machine) {
    let (guest, machine, made) = on("lguest");
    made.unwrap();
    (guest, machine)
}

/// The same on a strategy which may not let itself be made.
fn on(strategy: &str) -> (Guest, Machine, Result<(), SetUpError>) {
    with_formats(strategy, Formats::both(Paging::TwoLevel))
}

/// The same with page tables of other formats.
fn with_formats(strategy: &str, formats: Formats) -> (Guest, Machine, Result<(), SetUpError>) {
    with_switcher(strategy, formats, false)
}

/// The same on a host whose Switcher fills entries, or does not.
fn with_switcher(
    strategy: &str,
    formats: Formats,
    switcher_fills: bool,
) -> (Guest, Machine, Result<(), SetUpError>) {
    let mut machine = Machine {
        sim: SimHost::new(PAGES),
        formats,
        regs: Regs::default(),
        script: VecDeque::new(),
        pending: 0,
        timer: None,
        listened_to: None,
        waited_for: Vec::new(),
        ts: false,
        kernel_stack: (0, GuestVirt(0), 0),
        view: None,
        by_itself: InSwitcher::NOTHING,
        missed: None,
        root: HostFrame(0),
        done: None,
        loaded: Vec::new(),
        filled: Vec::new(),
        published: BTreeMap::new(),
        cr3: GuestPhys(0),
        gdt: [Descriptor::default(); GDT_ENTRIES],
        ring_next: 0,
        reflected: 0,
        refilled: 0,
        calls: 0,
        most_calls: 0,
        questions: 0,
        interrupted_at: None,
        watched: false,
        events: Vec::new(),
    };
    let window = machine.sim.window(WINDOW);
    let context = BuildContext { formats, window, seed: 1, switcher_fills };
    let mut guest = Guest::new(&context, &mut machine.regs, 0x1000);
    let made = guest.set_up(&mut machine, || Choice::parse(strategy).unwrap().build(&context));
    machine.set_word(offset::SYSCALL_VEC, 0x80);
    machine.set_word(offset::KERNEL_ADDRESS, 0xc000_0000);
    machine.set_word(offset::NOIRQ_START, NOIRQ);
    machine.set_word(offset::NOIRQ_END, NOIRQ + 0x10);
    machine.sim.write(GuestPhys(DATA.0 + offset::HCALL_STATUS), &[RING_DONE; 64]).unwrap();
    (guest, machine, made)
}

fn then(machine: &mut Machine, run: impl FnMut(&mut Machine) -> Exit + 'static) {
    machine.script.push_back(Box::new(run));
}

/// A guest that has made its first hypercall and has a handler at 0x5000 + 16 * vector for everything.
fn initialised() -> (Guest, Machine) {
    let (guest, mut machine) = new();
    then(&mut machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
    for vector in (0..48).chain([0x80]) {
        then(&mut machine, move |m| {
            let handler = 0x5000 + 16 * vector;
            m.hypercall(Hypercall::LoadIdtEntry, [vector, GUEST_CS << 16 | handler, 0x8e00, 0])
        });
    }
    (guest, machine)
}

/// Runs to the script's end and takes everything back, for every kind of end.
fn run(mut guest: Guest, mut machine: Machine) -> (Option<End>, Machine) {
    let outcome = guest.run(&mut machine);
    let end = guest.end().cloned();
    assert_eq!(outcome, if end.is_some() { Outcome::Ended } else { Outcome::Interrupted });
    assert!(guest.tear_down(&mut machine).is_nothing());
    machine.sim.remove_window();
    assert_eq!((machine.sim.entries(), machine.sim.tables()), (0, 0));
    (end, machine)
}

fn killed(guest: Guest, machine: Machine) -> Kill {
    match run(guest, machine).0 {
        Some(End::Killed(kill)) => kill,
        other => panic!("not killed: {other:?}"),
    }
}

#[test]
fn a_guest_starts_in_ring_1_at_its_entry() {
    let (_, machine) = new();
    let Regs { eip, cs, ss, eflags, .. } = machine.regs;
    assert_eq!((eip, cs, ss, eflags), (0x1000, 0x61, 0x69, 0x202));
}

#[test]
fn initialisation_fills_the_shared_page() {
    let (guest, machine) = initialised();
    let (end, mut machine) = run(guest, machine);
    assert_eq!(end, None);
    assert_eq!(machine.word(offset::TSC_KHZ), 1_000_000);
    assert_eq!(machine.word(offset::RESERVE_MEM), 0x0040_0000);
    assert_eq!(machine.word(offset::TIME), 1_700_000_000);
}

#[test]
fn initialisation_comes_first_and_once() {
    let (guest, mut machine) = new();
    then(&mut machine, |m| m.hypercall(Hypercall::Halt, [0; 4]));
    assert_eq!(killed(guest, machine), Kill::NotInitialised(10));

    let (guest, mut machine) = initialised();
    then(&mut machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
    assert_eq!(killed(guest, machine), Kill::AlreadyInitialised);
}

#[test]
fn a_shared_page_outside_memory_is_refused() {
    for address in [PAGES * 4096 - 8, PAGES * 4096, 0xffff_fff0] {
        let (guest, mut machine) = new();
        then(&mut machine, move |m| m.hypercall(Hypercall::LguestInit, [address, 0, 0, 0]));
        assert_eq!(killed(guest, machine), Kill::LguestData(GuestPhys(address)));
    }
}

#[test]
fn what_the_shared_page_asks_for_is_checked() {
    for (field, value, kill) in [
        (offset::SYSCALL_VEC, 0x30, Kill::SyscallVector(0x30)),
        (offset::KERNEL_ADDRESS, WINDOW.0, Kill::KernelAddress(WINDOW)),
    ] {
        let (guest, mut machine) = new();
        machine.set_word(field, value);
        then(&mut machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
        assert_eq!(killed(guest, machine), kill);
    }
}

#[test]
fn the_ring_is_done_in_order_before_the_call_itself() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| {
        m.queue(0, Hypercall::Ts, [1, 0, 0, 0]);
        m.queue(1, Hypercall::SetClockevent, [77, 0, 0, 0]);
        m.queue(2, Hypercall::Ts, [0, 0, 0, 0]);
        m.hypercall(Hypercall::Ts, [1, 0, 0, 0])
    });
    then(&mut machine, |m| {
        assert!(m.ts, "the call came after the ring");
        assert_eq!(m.timer, NonZeroU32::new(77));
        let status = m.sim.read_u32(GuestPhys(DATA.0 + offset::HCALL_STATUS)).unwrap();
        assert_eq!(status, 0xffff_ffff, "all done");
        m.hypercall(Hypercall::Ts, [0; 4])
    });
    then(&mut machine, |m| {
        assert!(!m.ts);
        exit(0x20)
    });
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn a_notification_in_the_ring_stops_it_until_the_launcher_has_heard() {
    let (mut guest, mut machine) = initialised();
    then(&mut machine, |m| {
        m.queue(0, Hypercall::Notify, [0x4000, 0, 0, 0]);
        m.queue(1, Hypercall::SetClockevent, [9, 0, 0, 0]);
        m.hypercall(Hypercall::FlushAsync, [0; 4])
    });
    then(&mut machine, |m| {
        assert_eq!(m.timer, NonZeroU32::new(9));
        m.hypercall(Hypercall::Notify, [0x8000, 0, 0, 0])
    });
    then(&mut machine, |_| exit(0x20));
    machine.listened_to = Some(GuestPhys(0x8000));
    assert_eq!(guest.run(&mut machine), Outcome::Notify(GuestPhys(0x4000)));
    assert_eq!(machine.timer, None, "the rest of the ring waits");
    assert_eq!(run(guest, machine).0, None, "0x8000 has a listener of its own");
}

/// A guest whose ring is full of `call`, and is filled again by another process whenever one of them is done; from
/// the 100th question on a signal waits.
fn with_a_ring_that_is_refilled(call: Hypercall) -> (Guest, Machine) {
    let (guest, mut machine) = initialised();
    then(&mut machine, move |m| {
        for n in 0..64 {
            m.queue(n, call, [0x8000, 0, 0, 0]);
        }
        (m.refilled, m.interrupted_at) = (64, Some(m.questions + 100));
        m.hypercall(Hypercall::FlushAsync, [0; 4])
    });
    for _ in 0..ENDLESS {
        then(&mut machine, |m| m.hypercall(Hypercall::FlushAsync, [0; 4]));
    }
    machine.listened_to = Some(GuestPhys(0x8000));
    (guest, machine)
}

#[test]
fn a_signal_is_seen_however_often_the_ring_is_refilled() {
    for call in [Hypercall::Notify, Hypercall::SetClockevent] {
        let (mut guest, mut machine) = with_a_ring_that_is_refilled(call);
        assert_eq!(guest.run(&mut machine), Outcome::Interrupted, "{call:?}");
        assert!(machine.questions >= 100, "{call:?}: nobody has sent a signal yet");
        assert!(machine.most_calls <= 16, "{call:?}: {} calls in one go", machine.most_calls);
        assert!(guest.tear_down(&mut machine).is_nothing());
    }
}

#[test]
fn after_a_signal_the_ring_goes_on_where_it_stopped() {
    let (mut guest, mut machine) = initialised();
    then(&mut machine, |m| {
        for n in 0..64 {
            m.queue(n, Hypercall::SetClockevent, [n + 1, 0, 0, 0]);
        }
        m.interrupted_at = Some(m.questions + 2);
        m.hypercall(Hypercall::SetClockevent, [100, 0, 0, 0])
    });
    then(&mut machine, |m| {
        assert_eq!(m.timer, NonZeroU32::new(100), "the call in the registers came last");
        exit(0x30)
    });
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted);
    let stopped_at = machine.timer.unwrap().get();
    assert!(stopped_at < 64, "the signal was not looked for before {stopped_at}");
    machine.interrupted_at = None;
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn an_interrupt_is_delivered_like_the_processor_would() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| {
        m.set_word(offset::IRQ_ENABLED, IRQ_ENABLED);
        m.set_word(offset::IRQ_PENDING, IRQ_ENABLED);
        m.pending = 1 << 3;
        (m.regs.eip, m.regs.esp, m.regs.ss, m.regs.eflags) = (0x1234, 0x6000, GUEST_DS, 0x346);
        exit(0x30)
    });
    then(&mut machine, |m| {
        assert_eq!((m.regs.eip, m.regs.cs, m.regs.esp), (0x5000 + 16 * 35, GUEST_CS, 0x6000 - 12));
        assert_eq!(m.stack(0x6000 - 12), [0x1234, GUEST_CS, 0x346]);
        assert_eq!(m.regs.eflags & 0x100, 0, "the handler is not single-stepped");
        assert_eq!(m.word(offset::IRQ_ENABLED), 0, "an interrupt gate");
        assert_eq!(m.word(offset::IRQ_PENDING), 0, "nothing is left");
        assert_eq!(m.pending, 0);
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn from_ring_3_the_frame_goes_on_the_kernel_stack_across_a_page_boundary() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| m.hypercall(Hypercall::SetStack, [GUEST_DS, 0x9008, 1, 0]));
    then(&mut machine, |m| {
        m.set_word(offset::IRQ_ENABLED, IRQ_ENABLED);
        m.pending = 1;
        (m.regs.cs, m.regs.eip, m.regs.ss, m.regs.esp) = (0x73, 0x0804_8000, 0x7b, 0xbfff_0000);
        m.regs.eflags = 0x202;
        exit(0x30)
    });
    then(&mut machine, |m| {
        assert_eq!(m.kernel_stack, (GUEST_DS, GuestVirt(0x9008), 1));
        assert_eq!((m.regs.ss, m.regs.esp), (GUEST_DS, 0x9008 - 20));
        assert_eq!(m.stack(0x9008 - 20), [0x0804_8000, 0x73, 0x202, 0xbfff_0000, 0x7b]);
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn no_interrupt_where_the_guest_wants_none() {
    let (guest, mut machine) = initialised();
    // Disabled: notified that one waits.
    then(&mut machine, |m| {
        m.set_word(offset::IRQ_ENABLED, 0);
        m.pending = 1;
        m.regs.eip = 0x1111;
        exit(0x30)
    });
    // Enabled, but about to return from an interrupt.
    then(&mut machine, |m| {
        assert_eq!((m.regs.eip, m.word(offset::IRQ_PENDING)), (0x1111, IRQ_ENABLED));
        m.set_word(offset::IRQ_ENABLED, IRQ_ENABLED);
        m.regs.eip = NOIRQ + 4;
        exit(0x30)
    });
    // Masked.
    then(&mut machine, |m| {
        assert_eq!(m.regs.eip, NOIRQ + 4);
        m.regs.eip = 0x2222;
        m.set_word(offset::BLOCKED_INTERRUPTS, 1);
        exit(0x30)
    });
    then(&mut machine, |m| {
        assert_eq!((m.regs.eip, m.pending), (0x2222, 1));
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn a_halted_guest_sleeps_until_an_interrupt_that_it_handles() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| {
        m.set_word(offset::BLOCKED_INTERRUPTS, 0xffff_0000);
        m.set_word(offset::IRQ_ENABLED, 0);
        m.regs.esp = 0x6000;
        m.hypercall(Hypercall::Halt, [0; 4])
    });
    then(&mut machine, |m| {
        assert_eq!(m.waited_for, [0xffff], "what is masked, or has no handler, wakes nobody");
        assert_eq!(m.regs.eip, 0x5000 + 16 * 32);
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn a_page_fault_is_fixed_or_reflected_with_its_address() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| {
        m.regs.esp = 0x6000;
        m.regs.errcode = 2;
        Exit { vector: 14, cr2: GuestVirt(0x2_0000) }
    });
    then(&mut machine, |m| {
        assert_ne!(m.regs.eip, 0x5000 + 16 * 14, "memory is mapped linearly");
        m.regs.errcode = 2;
        Exit { vector: 14, cr2: GuestVirt(0xfff0_0000) }
    });
    then(&mut machine, |m| {
        assert_eq!(m.regs.eip, 0x5000 + 16 * 14);
        assert_eq!(m.word(offset::CR2), 0xfff0_0000);
        assert_eq!(m.stack::<1>(m.regs.esp), [2], "the error code is on top");
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn the_switcher_reflects_to_the_handler_that_was_loaded_last() {
    let (mut guest, mut machine) = initialised();
    let gate = |m: &mut Machine, handler: u32, kind: u32| {
        m.hypercall(Hypercall::LoadIdtEntry, [14, GUEST_CS << 16 | handler, kind, 0])
    };
    then(&mut machine, move |m| {
        let KernelView { fault_handler, data, kernel_address, low_memory, .. } = m.view.unwrap();
        assert_eq!((fault_handler.0, data.0), (0x5000 + 16 * 14, 0xc000_0000 + DATA.0));
        assert_eq!((kernel_address.0, low_memory), (0xc000_0000, PAGES * 4096));
        assert_eq!(m.by_itself.directory, None, "memory is mapped linearly");
        gate(m, 0x6000, 0x8e00)
    });
    then(&mut machine, move |m| {
        assert_eq!(m.view.unwrap().fault_handler.0, 0x6000);
        // A handler that leaves interrupts on.
        gate(m, 0x6000, 0x8f00)
    });
    then(&mut machine, move |m| {
        assert_eq!(m.view.unwrap().fault_handler.0, 0);
        gate(m, 0x6000, 0x8e00)
    });
    then(&mut machine, move |m| {
        assert_eq!(m.view.unwrap().fault_handler.0, 0x6000);
        gate(m, 0x6000, 0)
    });
    then(&mut machine, |m| {
        assert_eq!(m.view.unwrap().fault_handler.0, 0, "there is no handler");
        m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0])
    });
    then(&mut machine, |m| {
        assert_eq!(m.by_itself.directory, Some(GuestPhys(0x8000)));
        m.reflected += 3;
        exit(0x30)
    });
    then(&mut machine, |m| {
        m.reflected += 4;
        exit(0x30)
    });
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted);
    let counters = guest.counters(&mut machine);
    assert_eq!((counters.run.switcher_reflections, counters.paging.reflected_faults), (7, 7));
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn the_switcher_reflects_nothing_while_an_interrupt_is_held_back() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0]));
    then(&mut machine, |m| {
        m.set_word(offset::IRQ_ENABLED, IRQ_ENABLED);
        (m.pending, m.regs.eip) = (1, NOIRQ + 4);
        exit(0x30)
    });
    then(&mut machine, |m| {
        assert_eq!(
            (m.regs.eip, m.by_itself.directory),
            (NOIRQ + 4, None),
            "the interrupt waits for the next exit"
        );
        m.pending = 0;
        exit(0x30)
    });
    then(&mut machine, |m| {
        assert_eq!(m.by_itself.directory, Some(GuestPhys(0x8000)));
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn the_switcher_does_nothing_by_itself_while_an_interrupt_is_masked() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0]));
    then(&mut machine, |m| {
        m.set_word(offset::IRQ_ENABLED, IRQ_ENABLED);
        m.set_word(offset::BLOCKED_INTERRUPTS, 1);
        m.pending = 1;
        exit(0x30)
    });
    then(&mut machine, |m| {
        assert_eq!(
            m.by_itself.directory, None,
            "the guest may unmask it at any time, and no exit would follow"
        );
        // Unmasked, with interrupts off: the guest will ask for it.
        m.set_word(offset::BLOCKED_INTERRUPTS, 0);
        m.set_word(offset::IRQ_ENABLED, 0);
        m.hypercall(Hypercall::FlushAsync, [0; 4])
    });
    then(&mut machine, |m| {
        assert_eq!(
            (m.word(offset::IRQ_PENDING), m.by_itself.directory),
            (IRQ_ENABLED, Some(GuestPhys(0x8000)))
        );
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn a_strategy_that_must_see_each_fault_is_called_for_it() {
    for strategy in ["record:of=lguest", "audit:of=lguest"] {
        let (guest, mut machine, made) = on(strategy);
        made.unwrap();
        then(&mut machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
        then(&mut machine, |m| m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0]));
        then(&mut machine, move |m| {
            assert_eq!(m.by_itself, InSwitcher::NOTHING, "{strategy}");
            exit(0x30)
        });
        assert_eq!(run(guest, machine).0, None);
    }
}

/// The page directories that a guest with processes of different use loads, from a seed.
fn loads(seed: u32, number: usize) -> Vec<u32> {
    let mut state = seed;
    let mut next = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    (0..number).map(|_| 0x1_0000 + 0x1000 * next(7).min(next(7))).collect()
}

/// Lets a guest on this strategy load the page directories; with a Switcher that loads by itself what is published. Returns
/// the guest's counters, and how many loads cost an exit.
fn load_all(strategy: &str, in_switcher: bool) -> (Counters, usize) {
    let (mut guest, mut machine, made) = on(strategy);
    made.unwrap();
    then(&mut machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
    let loads = loads(7, 4000);
    let at = Rc::new(Cell::new(0));
    for _ in 0..=loads.len() {
        let (loads, at) = (loads.clone(), at.clone());
        then(&mut machine, move |m| {
            while let Some(&directory) = loads.get(at.get()) {
                at.set(at.get() + 1);
                if !in_switcher || !m.published.contains_key(&GuestPhys(directory)) {
                    return m.hypercall(Hypercall::NewPgtable, [directory, 0, 0, 0]);
                }
                m.load_in_switcher(GuestPhys(directory));
            }
            exit(0x30)
        });
    }
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted, "{strategy}: {:?}", guest.end());
    let counters = guest.counters(&mut machine);
    let in_switcher = counters.run.switcher_hypercalls as usize;
    assert_eq!(run(guest, machine).0, None);
    (counters, loads.len() - in_switcher)
}

#[test]
fn a_load_by_the_switcher_is_one_to_every_policy() {
    // All but the one whose victims panic.
    for policy in POLICIES.iter().filter(|policy| policy.name != "rogue-policy") {
        for strategy in [policy.name.to_owned(), format!("shared:policy={},budget=64", policy.name)] {
            let ((exits, all), (switcher, some)) = (load_all(&strategy, false), load_all(&strategy, true));
            assert_eq!(switcher.paging, exits.paging, "{strategy}");
            assert_eq!(switcher.run.hypercalls, exits.run.hypercalls, "{strategy}");
            let evictions = exits.paging.evictions > 20 || strategy.starts_with("shared");
            assert!(exits.paging.page_directory_hits > 50 && evictions, "{strategy}: {exits}");
            assert!(all == 4000 && some < 3500, "{strategy}: {some} of {all} loads cost an exit");
        }
    }
}

#[test]
fn what_the_switcher_has_done_is_caught_up_with_before_anything_else() {
    let (mut guest, mut machine) = initialised();
    let data_segment = Descriptor { low: 0x0000_ffff, high: 0x00cf_f300 };
    machine.map_linearly(PAGES, &[0x8000, 0xa000]);
    for directory in [0x8000, 0xa000] {
        then(&mut machine, move |m| m.hypercall(Hypercall::NewPgtable, [directory, 0, 0, 0]));
    }
    then(&mut machine, |m| m.hypercall(Hypercall::SetStack, [GUEST_DS, 0x6000, 1, 0]));
    then(&mut machine, |m| {
        m.queue(0, Hypercall::FlushAsync, [0; 4]);
        m.hypercall(Hypercall::FlushAsync, [0; 4])
    });
    then(&mut machine, move |m| {
        assert_eq!((m.ring_next, m.kernel_stack), (1, (GUEST_DS, GuestVirt(0x6000), 1)));
        m.load_in_switcher(GuestPhys(0x8000));
        let done = m.done.as_mut().unwrap();
        (done.ring_calls, done.ring_next, done.esp1) = (2, 3, GuestVirt(0x7000));
        done.tls = Some([data_segment, Descriptor::default(), Descriptor::default()]);
        // The ring goes on where the Switcher has left it.
        m.queue(3, Hypercall::FlushAsync, [0; 4]);
        m.regs.errcode = 4;
        Exit { vector: trap::PAGE_FAULT.into(), cr2: GuestVirt(0x1_0000) }
    });
    then(&mut machine, move |m| {
        assert_eq!(m.by_itself.directory, Some(GuestPhys(0x8000)));
        // All descriptors are copied for another one that changes.
        m.hypercall(Hypercall::LoadGdtEntry, [14, data_segment.low, data_segment.high, 0])
    });
    then(&mut machine, move |m| {
        assert_eq!((m.ring_next, m.gdt[index::TLS_MIN]), (4, data_segment));
        // The exit of a Switcher that was interrupted by an NMI.
        Exit { vector: trap::EVENTS_ONLY, cr2: GuestVirt(0) }
    });
    then(&mut machine, |m| {
        // The processor pushes a frame on the new stack, which is mapped.
        (m.regs.cs, m.regs.ss, m.regs.esp, m.regs.errcode) = (0x73, 0x7b, 0xbfff_0000, 0);
        exit(0)
    });
    then(&mut machine, |m| {
        assert_eq!((m.regs.ss, m.regs.esp), (GUEST_DS, 0x7000 - 20));
        exit(0x30)
    });
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted);
    let Counters { run: counters, paging, .. } = guest.counters(&mut machine);
    // 50 to begin with, three, one of the Switcher's, one.
    assert_eq!((counters.hypercalls, counters.ring_hypercalls, counters.switcher_hypercalls), (55, 4, 3));
    assert_eq!((paging.page_directory_loads, paging.page_directory_hits, paging.demand_faults), (3, 1, 1));
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn switch_to_loads_a_page_directory_and_sets_the_stack_in_the_segment_there_is() {
    let (mut guest, mut machine) = initialised();
    machine.map_linearly(PAGES, &[0x8000]);
    then(&mut machine, |m| m.hypercall(Hypercall::SetStack, [GUEST_DS, 0x6000, 1, 0]));
    then(&mut machine, |m| m.hypercall(Hypercall::SwitchTo, [0x8000, 0x1_8000, 2, 0]));
    then(&mut machine, |m| {
        assert_eq!(m.kernel_stack, (GUEST_DS, GuestVirt(0x1_8000), 2));
        assert_eq!(m.by_itself.directory, Some(GuestPhys(0x8000)));
        for page in [0x1_6000, 0x1_7000] {
            assert_eq!(m.shadow_entry(GuestVirt(page)) & 3, 3, "{page:#x} is mapped, and writable");
        }
        exit(0x30)
    });
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted);
    assert_eq!(guest.counters(&mut machine).paging.page_directory_loads, 1);
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn switch_to_flushes_the_directory_that_it_loads() {
    let (mut guest, mut machine) = initialised();
    const HERE: GuestVirt = GuestVirt(0x1_0000);
    // The kernel's half maps the same table.
    machine.map_linearly(PAGES, &[0x8000, 0x8c00, 0xa000, 0xac00]);
    let stack = 0xc000_6000;
    then(&mut machine, move |m| m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0]));
    then(&mut machine, move |m| m.hypercall(Hypercall::SetStack, [GUEST_DS, stack, 1, 0]));
    for directory in [0x8000, 0xa000] {
        then(&mut machine, move |m| m.hypercall(Hypercall::SwitchTo, [directory, stack, 1, 0]));
        then(&mut machine, |m| {
            m.regs.errcode = 4;
            Exit { vector: trap::PAGE_FAULT.into(), cr2: HERE }
        });
    }
    // The other one, then this one, both without a flush; the other one with one.
    for (directory, flush, present) in [(0x8000, 0, 1), (0xa000, 0, 1), (0x8000, 1, 0), (0xa000, 0, 1)] {
        then(&mut machine, move |m| m.hypercall(Hypercall::SwitchTo, [directory, stack, 1, flush]));
        then(&mut machine, move |m| {
            assert_eq!(m.shadow_entry(HERE) & 1, present, "{directory:#x}, flush {flush}");
            assert_eq!(m.shadow_entry(GuestVirt(0xc000_5000)) & 3, 3, "the stack is mapped");
            exit(0x30)
        });
    }
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted);
    assert_eq!(guest.counters(&mut machine).paging.flush_user, 1);
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn switch_to_is_refused_without_a_segment_and_with_a_stack_that_is_none() {
    for (segment, args, kill) in [
        (None, [0x8000, 0x6000, 1, 0], Kill::StackSegment(0)),
        (Some(GUEST_DS), [0x8000, 0x6000, 3, 0], Kill::StackPages(3)),
        (Some(GUEST_DS), [0x8000, 0x40_0000, 1, 0], Kill::StackPage(GuestVirt(0x3f_ffff))),
        (Some(GUEST_DS), [0xffff_f000, 0x6000, 1, 0], Kill::Memory(BadAddress(GuestPhys(0xffff_f000)))),
    ] {
        let (guest, mut machine) = initialised();
        machine.map_linearly(8, &[0x8000]);
        if let Some(segment) = segment {
            then(&mut machine, move |m| m.hypercall(Hypercall::SetStack, [segment, 0x6000, 1, 0]));
        }
        then(&mut machine, move |m| m.hypercall(Hypercall::SwitchTo, args));
        assert_eq!(killed(guest, machine), kill, "{args:x?}");
    }
}

#[test]
fn what_the_switcher_has_missed_is_mapped_for_the_next_time() {
    let (mut guest, mut machine) = initialised();
    // The kernel's half maps the same table, and nothing above.
    machine.map_linearly(PAGES, &[0x8000, 0x8c00]);
    then(&mut machine, |m| m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0]));
    // Its table; what the guest has not mapped; what is the Switcher's own.
    for (number, missed) in [0xc000_9000, 0xc050_0000, 0xfff0_0000].into_iter().enumerate() {
        let va = GuestVirt(0x1_0000 + 0x1000 * number as u32);
        then(&mut machine, move |m| {
            (m.missed, m.regs.errcode, m.regs.eip) = (Some(GuestVirt(missed)), 4, 0x1234);
            assert_eq!(m.shadow_entry(va), 0);
            Exit { vector: trap::PAGE_FAULT.into(), cr2: va }
        });
        then(&mut machine, move |m| {
            m.missed = None;
            assert_eq!(m.shadow_entry(va) & 1, 1, "the fault itself is handled");
            assert_ne!(m.shadow_entry(GuestVirt(0xc000_9000)) & 1, 0, "so is the next one, by the Switcher");
            assert_eq!(m.regs.eip, 0x1234, "the guest knows of nothing");
            exit(0x30)
        });
    }
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted);
    let paging = guest.counters(&mut machine).paging;
    assert_eq!((paging.demand_faults, paging.filled_ahead, paging.reflected_faults), (3, 1, 0));
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn what_the_switcher_has_missed_for_a_hypercall_is_mapped_and_the_call_is_made() {
    const TLS: GuestVirt = GuestVirt(0xc000_9000);
    let (mut guest, mut machine) = initialised();
    machine.map_linearly(PAGES, &[0x8000, 0x8c00]);
    then(&mut machine, |m| m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0]));
    then(&mut machine, |m| {
        assert_eq!(m.shadow_entry(TLS), 0);
        m.missed = Some(TLS);
        let Exit { cr2, .. } = m.hypercall(Hypercall::SetStack, [0x69, 0xc000_6000, 1, 0]);
        Exit { vector: trap::HYPERCALL_MISSED, cr2 }
    });
    then(&mut machine, |m| {
        assert_ne!(m.shadow_entry(TLS) & 1, 0, "the next one is the Switcher's");
        assert_eq!(m.kernel_stack, (0x69, GuestVirt(0xc000_6000), 1));
        exit(0x30)
    });
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted);
    assert_eq!(guest.counters(&mut machine).paging.demand_faults, 0, "that was none of the guest's");
    assert_eq!(run(guest, machine).0, None);
}

/// What a guest's processes do, one after another.
#[derive(Clone, Copy)]
enum Step {
    Load(GuestPhys),
    /// A program reads a page, or with `true` writes to it.
    Touch(GuestVirt, bool),
    /// The kernel gives a page this entry, and says so.
    SetPte(GuestVirt, u32),
    /// The kernel takes the rights of writing from all of a process, or gives them back, and flushes.
    Protect(bool),
}

/// Five processes that touch 24 pages each, from a seed.
fn steps() -> Vec<Step> {
    let chosen = loads(11, 400).into_iter().zip(loads(12, 400)).enumerate();
    let step = |(number, (first, second)): (usize, (u32, u32))| {
        let page = (first - 0x1_0000) * 3 + (second & 0x1000);
        let (va, at) = (GuestVirt(0x40_0000 + page), 0x2_0000 + page);
        match number % 16 {
            0 | 8 => Step::Load(GuestPhys(first.min(0x1_4000))),
            // Dirty and writable, clean, not there, and writable before it is dirty.
            3 | 12 => Step::SetPte(va, [at | 0x67, at | 0x25, 0, at | 0x27][(second >> 13) as usize % 4]),
            5 if number % 48 == 5 => Step::Protect(true),
            10 => Step::Protect(false),
            _ => Step::Touch(va, second & 0x2000 != 0),
        }
    };
    chosen.map(step).collect()
}

/// The flag of an entry with a high half that forbids to execute.
const NO_EXECUTE: u64 = 1 << 63;

/// The index of an address in the table of a level, of which the lowest is 1 (Intel SDM vol. 3A, 4.3 and 4.4).
fn index(format: Paging, va: GuestVirt, level: u32) -> u32 {
    match format {
        Paging::TwoLevel => va.0 >> (2 + 10 * level) & 0x3ff,
        Paging::Pae => va.0 >> (3 + 9 * level) & 0x1ff,
    }
}

/// The frame that an entry names.
fn frame_of(entry: u64) -> u32 {
    ((entry & !NO_EXECUTE) >> 12) as u32
}

impl Machine {
    /// The entry of a shadow table.
    fn load_shadow(&self, table: u32, index: u32) -> u64 {
        let entry = |table: &TablePage| match self.formats.shadow {
            Paging::TwoLevel => table.words()[index as usize].into(),
            Paging::Pae => table.longs()[index as usize],
        };
        self.sim.inspect_table(HostFrame(table), entry)
    }

    fn store_shadow(&mut self, table: u32, index: u32, entry: u64) {
        let shadow = self.formats.shadow;
        self.sim.damage_table(HostFrame(table), |table| match shadow {
            Paging::TwoLevel => table.words_mut()[index as usize] = entry as u32,
            Paging::Pae => table.longs_mut()[index as usize] = entry,
        });
    }

    /// The table that has the link to the level-1 table for an address, in the shadow root, as the processor sees it.
    fn linking(&self, va: GuestVirt) -> Option<u32> {
        let root = self.root.0;
        match self.formats.shadow {
            Paging::TwoLevel => Some(root),
            Paging::Pae => {
                Some(self.load_shadow(root, va.0 >> 30)).filter(|entry| entry & 1 != 0).map(frame_of)
            }
        }
    }

    fn link(&self, va: GuestVirt) -> u64 {
        let index = index(self.formats.shadow, va, 2);
        self.linking(va).map_or(0, |table| self.load_shadow(table, index))
    }

    fn shadow_entry(&self, va: GuestVirt) -> u64 {
        let link = self.link(va);
        if link & 1 == 0 { 0 } else { self.load_shadow(frame_of(link), index(self.formats.shadow, va, 1)) }
    }

    fn guest_entry(&mut self, at: u32) -> u64 {
        match self.formats.guest {
            Paging::TwoLevel => self.sim.read_u32(GuestPhys(at)).unwrap().into(),
            Paging::Pae => self.sim.read_u64(GuestPhys(at)).unwrap(),
        }
    }

    /// Where the page directory in use has its entry for a table, and that table the entry for the page. With PAE the first is in
    /// a middle table, whose entry in the page directory comes last.
    fn guest_entries(&mut self, va: GuestVirt) -> (u32, u32, u64) {
        let format = self.formats.guest;
        let (table, first) = match format {
            Paging::TwoLevel => (self.cr3.0, 0),
            Paging::Pae => {
                let first = self.guest_entry(self.cr3.0 + (va.0 >> 30) * 8);
                (first as u32 & !0xfff, first)
            }
        };
        let upper = table + index(format, va, 2) * format.entry_size();
        let table = self.guest_entry(upper) as u32 & !0xfff;
        (upper, table + index(format, va, 1) * format.entry_size(), first)
    }

    /// A program's access, unless the guest's tables forbid it; with a Switcher that fills by itself where it may. Returns the
    /// exit if the host has to.
    fn touch(&mut self, va: GuestVirt, write: bool, in_switcher: bool) -> Option<Exit> {
        let needed = 5 | u64::from(write) << 1;
        let (upper, at, first) = self.guest_entries(va);
        let [above, entry] = [upper, at].map(|at| self.guest_entry(at));
        if above & entry & needed != needed || self.shadow_entry(va) & self.link(va) & needed == needed {
            return None;
        }
        let fills = in_switcher && self.by_itself.fill && self.filled.len() < 64;
        if fills && self.fill_in_switcher(va, needed, (above, at, first)) {
            return None;
        }
        self.regs.errcode = needed as u32 & 6;
        Some(Exit { vector: trap::PAGE_FAULT.into(), cr2: va })
    }

    fn fill_in_switcher(&mut self, va: GuestVirt, needed: u64, (above, at, first): (u64, u32, u64)) -> bool {
        // Accessed, and after a write dirty (Intel SDM vol. 3A, 4.8); writable when it is dirty.
        let entry = self.guest_entry(at) | 0x20 | (needed & 2) << 5;
        let shadow = if entry & 0x40 != 0 { entry } else { entry & !2 };
        let kept = self.link(va) & 0x200 != 0;
        // Behind the four entries of a root is what the middle tables stand for; 2 is for the first that comes.
        let (root, word) = (self.root, 8 + (va.0 >> 30) as usize);
        let mut stands_for = match self.formats.shadow {
            Paging::TwoLevel => 0,
            Paging::Pae => self.sim.inspect_table(root, |root| root.words()[word]).into(),
        };
        if stands_for == 2 {
            stands_for = first;
            self.sim.damage_table(root, |root| root.words_mut()[word] = first as u32);
        }
        if stands_for != first
            || kept && (self.link(va) ^ above) & 6 != 0
            || !self.put_in_switcher(va, shadow, false)
        {
            return false;
        }
        self.sim.store(self.formats.guest, at.into(), entry);
        let (table, link) = (self.linking(va).unwrap(), self.link(va));
        self.store_shadow(table, index(self.formats.shadow, va, 2), link & !0x200);
        true
    }

    /// SET_PTE of the page directory in use. Returns whether the Switcher has done it.
    fn set_pte_in_switcher(&mut self, va: GuestVirt, entry: u64) -> bool {
        let kept = self.link(va) & 0x200 != 0;
        let early = entry & 0x42 == 2;
        let entry = if entry & 1 != 0 && entry & 0x60 != 0 { entry } else { 0 };
        if !self.by_itself.fill || self.filled.len() >= 64 || early {
            return false;
        }
        if kept && self.formats.guest == self.formats.shadow {
            self.done().idle_set_ptes += 1;
            return true;
        }
        !kept && self.put_in_switcher(va, entry, true)
    }

    /// Puts the shadow of an entry into its table, if there is one and the host knows the frame, and writes that down.
    fn put_in_switcher(&mut self, va: GuestVirt, entry: u64, by_call: bool) -> bool {
        let (link, replaced) = (self.link(va), self.shadow_entry(va) & 1 != 0);
        let known = self.sim.known(GuestFrame(frame_of(entry)));
        if link & 1 == 0 || entry != 0 && known.is_none() {
            return false;
        }
        let frame = known.map_or(0, |known| u64::from(known.frame.0) << 12);
        let shadow = if entry == 0 { 0 } else { frame | entry & (0xfff | NO_EXECUTE) };
        self.store_shadow(frame_of(link), index(self.formats.shadow, va, 1), shadow);
        self.done();
        let last = self.filled.iter().rev().find_map(|filled| filled.root());
        if last != Some(self.root) {
            self.filled.push(FilledInSwitcher::of_root(self.root));
        }
        let bit = |applies: bool, bit: u32| if applies { bit } else { 0 };
        let bits = bit(replaced, FilledInSwitcher::REPLACED)
            | bit(by_call, FilledInSwitcher::BY_CALL)
            | bit(entry == 0, FilledInSwitcher::CLEARED);
        self.filled.push(FilledInSwitcher::new(va, bits));
        self.done().fill_words = self.filled.len() as u32;
        true
    }

    /// Takes a step, and returns the exit that it costs.
    fn step(&mut self, step: Step, in_switcher: bool) -> Option<Exit> {
        if let Step::Load(directory) = step {
            self.cr3 = directory;
        }
        match step {
            Step::Touch(va, write) => return self.touch(va, write, in_switcher),
            Step::Load(directory) if in_switcher && self.published.contains_key(&directory) => {
                self.load_in_switcher(directory);
            }
            Step::Load(directory) => {
                return Some(self.hypercall(Hypercall::NewPgtable, [directory.0, 0, 0, 0]));
            }
            Step::SetPte(va, entry) => {
                let at = self.guest_entries(va).1;
                // With PAE, what is written to is not executed.
                let no_execute = self.formats.guest == Paging::Pae && entry & 0x42 == 0x42;
                let entry = u64::from(entry) | if no_execute { NO_EXECUTE } else { 0 };
                self.sim.store(self.formats.guest, at.into(), entry);
                if !in_switcher || !self.set_pte_in_switcher(va, entry) {
                    let [low, high] = [entry as u32, (entry >> 32) as u32];
                    return Some(self.hypercall(Hypercall::SetPte, [self.cr3.0, va.0, low, high]));
                }
            }
            Step::Protect(protect) => {
                let upper = self.guest_entries(GuestVirt(0x40_0000)).0;
                let entry = self.guest_entry(upper);
                let entry = if protect { entry & !2 } else { entry | 2 };
                self.sim.store(self.formats.guest, upper.into(), entry);
                return Some(self.hypercall(Hypercall::FlushTlb, [0; 4]));
            }
        }
        None
    }
}

/// Lets a guest on this strategy take all the steps; with a Switcher that does by itself what it may. Returns the guest's counters.
fn take_steps(strategy: &str, formats: Formats, in_switcher: bool) -> Counters {
    let (mut guest, mut machine, made) = with_formats(strategy, formats);
    made.unwrap();
    then(&mut machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
    // A page directory and a page table of its own for each process: 24 pages from 4 MiB on.
    for process in (0..5).map(|process| process << 12) {
        let mut set = |at: u32, entry: u32| machine.sim.store(formats.guest, at.into(), entry.into());
        let size = formats.guest.entry_size();
        match formats.guest {
            Paging::TwoLevel => set(0x1_0004 + process, 0x1_8067 + process),
            Paging::Pae => {
                set(0x1_0000 + process, 0x3_8001 + process);
                set(0x3_8010 + process, 0x1_8067 + process);
            }
        }
        (0..24).for_each(|page| set(0x1_8000 + process + size * page, (0x20 + page) << 12 | 7));
    }
    let (steps, at) = (steps(), Rc::new(Cell::new(0)));
    for _ in 0..=3 * steps.len() {
        let (steps, at) = (steps.clone(), at.clone());
        then(&mut machine, move |m| {
            while let Some(&step) = steps.get(at.get()) {
                let exit = m.step(step, in_switcher);
                // An access that faults is made again.
                if exit.is_none_or(|exit| exit.vector != trap::PAGE_FAULT.into()) {
                    at.set(at.get() + 1);
                }
                if let Some(exit) = exit {
                    return exit;
                }
            }
            exit(0x30)
        });
    }
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted, "{strategy}: {:?}", guest.end());
    let counters = guest.counters(&mut machine);
    // No table comes back with an entry that nobody has noted.
    assert_eq!(run(guest, machine).0, None);
    counters
}

/// Evicts the slot that was refilled most often, so that a refill that is not counted shows in everything that comes after.
struct ByRefills {
    slots: usize,
}

impl EvictionPolicy for ByRefills {
    fn filled(&mut self, _: usize, _: GuestPhys) {}
    fn used(&mut self, _: usize, _: GuestPhys) {}
    fn victim(&mut self, _: GuestPhys) -> usize {
        0
    }
    fn victim_by_cost(&mut self, _: GuestPhys, costs: &dyn Costs) -> usize {
        (0..self.slots).max_by_key(|&slot| costs.refills(slot)).unwrap()
    }
}

#[linkme::distributed_slice(POLICIES)]
static BY_REFILLS: PolicyEntry = PolicyEntry {
    name: "test-by-refills",
    help: "the slot that was refilled most often is evicted",
    parameters: &[],
    build: |config| Ok(Box::new(ByRefills { slots: config.slots })),
};

#[test]
fn an_entry_filled_by_the_switcher_is_a_demand_fault_to_every_strategy() {
    let policies = POLICIES.iter().filter(|policy| policy.name != "rogue-policy").map(|policy| policy.name);
    let others = ["lguest", "shared:fault-around=0,refill-after-flush=off", "audit:switcher=on,of=lguest"];
    let strategies = policies.chain(others);
    for (strategy, formats) in
        strategies.flat_map(|strategy| Formats::SERVED.map(|formats| (strategy, formats)))
    {
        let (exits, switcher) = (take_steps(strategy, formats, false), take_steps(strategy, formats, true));
        let strategy = format!("{strategy}, {formats}");
        // When the audit comes, and what is stale then, is not the same.
        let as_exits = PagingCounters {
            audits: exits.paging.audits,
            stale_entries: exits.paging.stale_entries,
            ..switcher.paging
        };
        assert_eq!(as_exits, exits.paging, "{strategy}");
        assert_eq!(switcher.run.hypercalls, exits.run.hypercalls, "{strategy}");
        let (faults, fills) = (exits.paging.demand_faults, switcher.run.switcher_fills);
        assert!(fills * 3 > faults && fills < faults, "{strategy}: {fills} of {faults}");
        assert!(switcher.run.switcher_hypercalls > 40 && exits.paging.set_pte > 40, "{strategy}: {switcher}");
        assert_eq!((exits.run.switcher_fills, exits.run.switcher_hypercalls), (0, 0), "{strategy}");
    }
}

/// Of page directories that are not loaded, too, whatever is in their pages now.
#[test]
fn flush_user_of_flushes_those_that_are_named_and_the_current_one() {
    for strategy in ["lru", "shared", "tlb"] {
        let (mut guest, mut machine, made) = with_switcher(strategy, Formats::both(Paging::TwoLevel), false);
        made.unwrap();
        const HERE: GuestVirt = GuestVirt(0x1_0000);
        const ABOVE: GuestVirt = GuestVirt(0xc000_9000);
        let directories = [0x8000, 0xa000, 0xb000];
        machine.map_linearly(PAGES, &directories.map(|directory| [directory, directory + 0xc00]).concat());
        then(&mut machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
        let touch = |machine: &mut Machine, va| {
            then(machine, move |m| {
                m.regs.errcode = if va == HERE { 4 } else { 0 };
                Exit { vector: trap::PAGE_FAULT.into(), cr2: va }
            });
        };
        for directory in directories {
            then(&mut machine, move |m| m.hypercall(Hypercall::NewPgtable, [directory, 0, 0, 0]));
            touch(&mut machine, HERE);
            touch(&mut machine, ABOVE);
        }
        // One that is shadowed, whose page is anything now; one that never was; the current one goes along.
        then(&mut machine, |m| {
            (0x8000..0x8c00).step_by(4).for_each(|at| m.set_absolute(at, 0xdead_b063));
            m.hypercall(Hypercall::FlushUserOf, [0, 0x8000, 0, 0xffff_f000])
        });
        then(&mut machine, move |m| {
            assert_eq!(m.shadow_entry(HERE) & 1, 0, "{strategy}: the current one");
            (0x8000..0x8c00).step_by(4).for_each(|at| m.set_absolute(at, 0));
            m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0])
        });
        then(&mut machine, move |m| {
            assert_eq!(m.shadow_entry(HERE) & 1, 0, "{strategy}: the one that was named");
            m.hypercall(Hypercall::NewPgtable, [0xa000, 0, 0, 0])
        });
        then(&mut machine, move |m| {
            let kept = u64::from(strategy != "tlb");
            assert_eq!(m.shadow_entry(HERE) & 1, kept, "{strategy}: another one");
            exit(0x30)
        });
        assert_eq!(guest.run(&mut machine), Outcome::Interrupted, "{strategy}: {:?}", guest.end());
        assert_eq!(guest.counters(&mut machine).paging.flush_user, 3, "{strategy}");
        assert_eq!(run(guest, machine).0, None);
    }
}

/// A page directory that lies where an ended process's was has other middle tables.
#[test]
fn after_a_flush_the_switcher_fills_under_other_middle_tables() {
    const PAGE: GuestVirt = GuestVirt(0x40_0000);
    let calls = [(Hypercall::FlushTlb, [0; 4]), (Hypercall::FlushUserOf, [0x1_0000, 0, 0, 0])];
    for (strategy, (call, args)) in
        ["lguest", "shared"].into_iter().flat_map(|name| calls.map(|call| (name, call)))
    {
        let (mut guest, mut machine, made) = with_switcher(strategy, Formats::both(Paging::Pae), true);
        made.unwrap();
        for (at, entry) in
            [(0x1_0000, 0x3_8001), (0x3_8010, 0x1_8067), (0x3_9010, 0x1_8067), (0x1_8000, 0x2_0007)]
        {
            machine.sim.store(Paging::Pae, at, entry);
        }
        then(&mut machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
        then(&mut machine, |m| m.step(Step::Load(GuestPhys(0x1_0000)), true).unwrap());
        then(&mut machine, |m| m.step(Step::Touch(PAGE, false), true).expect("there is no table yet"));
        then(&mut machine, move |m| {
            m.sim.store(Paging::Pae, 0x1_0000, 0x3_9001);
            m.hypercall(call, args)
        });
        then(&mut machine, move |m| {
            assert!(m.step(Step::Touch(PAGE, false), true).is_none(), "{strategy}, {call:?}");
            // SET_PMD names the table by its frame: the entry that leads to its level-1 table is the third.
            m.hypercall(Hypercall::SetPmd, [0x3_9000, 2, 0, 0])
        });
        then(&mut machine, move |m| {
            assert_eq!(m.shadow_entry(PAGE), 0, "{strategy}: the table is the new one's");
            exit(0x30)
        });
        assert_eq!(guest.run(&mut machine), Outcome::Interrupted, "{strategy}: {:?}", guest.end());
        assert_eq!(guest.counters(&mut machine).run.switcher_fills, 1, "{strategy}");
        assert_eq!(run(guest, machine).0, None);
    }
}

#[test]
fn a_strategy_whose_prefetching_begins_at_faults_fills_itself() {
    for strategy in ["shared", "tlb", "record:of=lguest", "audit:of=lguest"] {
        for formats in Formats::SERVED {
            assert_eq!(take_steps(strategy, formats, true).run.switcher_fills, 0, "{strategy}, {formats}");
        }
    }
}

#[test]
fn a_trap_without_a_handler_is_the_end() {
    let (guest, mut machine) = new();
    then(&mut machine, |m| {
        (m.regs.eip, m.regs.errcode) = (0x1010, 0x18);
        exit(11)
    });
    let expected = Kill::UnhandledTrap { vector: 11, eip: GuestVirt(0x1010), info: 0x18 };
    assert_eq!(killed(guest, machine), expected);

    // Nobody handles a double fault.
    let (guest, mut machine) = initialised();
    then(&mut machine, |_| exit(8));
    assert!(matches!(killed(guest, machine), Kill::UnhandledTrap { vector: 8, .. }));
}

#[test]
fn a_fault_in_the_switcher_is_the_end() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| {
        m.regs.eip = 0x44;
        Exit { vector: trap::IN_SWITCHER | 13, cr2: GuestVirt(0) }
    });
    assert_eq!(killed(guest, machine), Kill::SwitcherFault { vector: 13, eip: GuestVirt(0x44) });
}

#[test]
fn port_reads_give_ones_and_other_instructions_are_the_guests_own() {
    for (code, eax, length) in [
        (&[0xec][..], 0x12_34ff, 1),
        (&[0xed], 0xffff_ffff, 1),
        (&[0x66, 0xed], 0x12_ffff, 2),
        (&[0xe4, 0x60], 0x12_34ff, 2),
        (&[0x66, 0xe5, 0x60], 0x12_ffff, 3),
        (&[0xee], 0x12_3456, 1),
        (&[0xe7, 0x80], 0x12_3456, 2),
        (&[0xfa], 0x12_3456, 1),
        // Prefixes: of size, in any order with a segment's; of a repetition that has nothing to repeat.
        (&[0x2e, 0x66, 0xed], 0x12_ffff, 3),
        (&[0xf3, 0xec], 0x12_34ff, 2),
    ] {
        let (guest, mut machine) = initialised();
        then(&mut machine, move |m| {
            m.regs.eax = 0x12_3456;
            m.forbidden(0x2ffe, code)
        });
        then(&mut machine, move |m| {
            assert_eq!((m.regs.eax, m.regs.eip), (eax, 0x2ffe + length), "{code:x?}");
            // rdmsr, for which a kernel has a handler; and the same port read from ring 3.
            m.regs.esp = 0x6000;
            m.forbidden(0x2000, &[0x0f, 0x32])
        });
        then(&mut machine, move |m| {
            assert_eq!(m.regs.eip, 0x5000 + 16 * 13);
            m.regs.cs = 0x73;
            m.forbidden(0x2000, &[0xec])
        });
        then(&mut machine, move |m| {
            assert_eq!(m.regs.eip, 0x5000 + 16 * 13);
            exit(0x30)
        });
        assert_eq!(run(guest, machine).0, None);
    }
}

/// What a kernel of the old lguest's days executes here and there. Expected values are a processor's without a host.
#[test]
fn privileged_instructions_have_the_effect_of_a_processor_without_a_host() {
    // The code, all registers before (numbered from 0x10 on), and what is different after it.
    type After = fn(&mut Regs);
    let cases: [(&[u8], After); 14] = [
        (&[0x0f, 0x20, 0xc0], |r| r.eax = 0x8005_0033), // mov %cr0, %eax
        (&[0x0f, 0x20, 0xe2], |r| r.edx = 0),           // mov %cr4, %edx
        (&[0x0f, 0x20, 0xd1], |r| r.ecx = 0xdead_b000), // mov %cr2, %ecx
        (&[0x0f, 0x21, 0xc3], |r| r.ebx = 0),           // mov %db0, %ebx
        (&[0x0f, 0x21, 0xdf], |r| r.edi = 0),           // mov %db3, %edi
        (&[0x0f, 0x21, 0xf6], |r| r.esi = 0xffff_0ff0), // mov %db6, %esi
        (&[0x0f, 0x21, 0xe5], |r| r.ebp = 0xffff_0ff0), // mov %db4, %ebp
        (&[0x0f, 0x21, 0xf8], |r| r.eax = 0x400),       // mov %db7, %eax
        (&[0x0f, 0x23, 0xf8], |_| ()),                  // mov %eax, %db7
        (&[0x0f, 0x09], |_| ()),                        // wbinvd
        (&[0xfb], |_| ()),                              // sti
        (&[0x6f], |r| r.esi += 4),                      // outsl
        (&[0xf3, 0x66, 0x6f], |r| (r.esi, r.ecx) = (r.esi + 0x22, 0)), // rep outsw
        (&[0xf3, 0x6e], |r| (r.esi, r.ecx) = (r.esi + 0x11, 0)), // rep outsb
    ];
    for (code, after) in cases {
        let (guest, mut machine) = initialised();
        then(&mut machine, move |m| {
            m.sim.write_u32(GuestPhys(DATA.0 + offset::CR2), 0xdead_b000).unwrap();
            (m.regs.eax, m.regs.ecx, m.regs.edx, m.regs.ebx) = (0x10, 0x11, 0x12, 0x13);
            (m.regs.esp, m.regs.ebp, m.regs.esi, m.regs.edi) = (0x14, 0x15, 0x16, 0x17);
            m.forbidden(0x2ffe, code)
        });
        then(&mut machine, move |m| {
            let mut expected =
                Regs { eax: 0x10, ecx: 0x11, edx: 0x12, ebx: 0x13, esp: 0x14, ebp: 0x15, ..m.regs };
            (expected.esi, expected.edi) = (0x16, 0x17);
            expected.eip = 0x2ffe + code.len() as u32;
            after(&mut expected);
            assert_eq!(m.regs, expected, "{code:x?}");
            exit(0x30)
        });
        assert_eq!(run(guest, machine).0, None, "{code:x?}");
    }
}

#[test]
fn instructions_without_an_end_are_the_guests_own() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| {
        // Longer than any instruction may be; and below, one that goes beyond the guest's memory.
        m.regs.esp = 0x6000;
        m.forbidden(0x2000, &[0x66; 16])
    });
    then(&mut machine, |m| {
        assert_eq!(m.regs.eip, 0x5000 + 16 * 13);
        let end = m.sim.page_limit() * 4096;
        m.regs.esp = 0x6000;
        m.forbidden(end - 1, &[0x66])
    });
    then(&mut machine, |m| {
        assert_eq!(m.regs.eip, 0x5000 + 16 * 13);
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn hlt_sleeps_and_clts_clears_ts() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| m.hypercall(Hypercall::Ts, [1, 0, 0, 0]));
    then(&mut machine, |m| {
        assert!(m.ts);
        m.forbidden(0x2000, &[0x0f, 0x06, 0xf4])
    });
    then(&mut machine, |m| {
        assert!(!m.ts);
        assert_eq!((m.regs.eip, &m.waited_for[..]), (0x2002, &[][..]));
        m.regs.esp = 0x6000;
        exit(trap::GENERAL_PROTECTION)
    });
    then(&mut machine, |m| {
        assert_eq!(m.waited_for.len(), 1, "hlt has not slept");
        // In the clock's handler, which returns to behind it.
        assert_eq!(m.regs.eip, 0x5000 + 16 * 32);
        assert_eq!(m.sim.read_u32(GuestPhys(m.regs.esp)).unwrap(), 0x2003);
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}

/// A debugger in the guest learns from DR6 that its step is why it is there, until it has written to it.
#[test]
fn dr6_tells_of_a_single_step() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| {
        (m.regs.eip, m.regs.esp) = (0x2100, 0x6000);
        exit(trap::DEBUG)
    });
    for (code, dr6) in
        [([0x0f, 0x21, 0xf0], 0xffff_4ff0), ([0x0f, 0x23, 0xf3], 0), ([0x0f, 0x21, 0xf0], 0xffff_0ff0)]
    {
        then(&mut machine, move |m| {
            (m.regs.eax, m.regs.ebx) = (0, 0);
            m.forbidden(0x2000, &code)
        });
        then(&mut machine, move |m| {
            assert_eq!((m.regs.eip, m.regs.eax), (0x2003, dr6), "{code:x?}");
            exit(0x30)
        });
    }
    assert_eq!(run(guest, machine).0, None);
}

/// Has the kernel trap 130 times at one instruction, each time so much deeper in its stack.
fn trap_in_the_handler(vector: u8, deeper: u32) -> (Guest, Machine) {
    let (guest, mut machine) = initialised();
    for n in 0..130 {
        then(&mut machine, move |m| {
            (m.regs.eip, m.regs.cs, m.regs.esp) = (0x2000, GUEST_CS, 0x3_f000 - deeper * n);
            // A page fault's address, which no strategy maps.
            Exit { vector: vector.into(), cr2: GuestVirt(0xfff0_0000) }
        });
    }
    (guest, machine)
}

/// An oops in the oops: the handler comes to an instruction that traps, and so on without end.
#[test]
fn a_handler_that_traps_within_itself_ends_the_guest() {
    // Of page faults the Switcher may have reflected two more for each that comes here.
    for (vector, times) in [(trap::INVALID_OPCODE, 128), (trap::PAGE_FAULT, 42)] {
        let (guest, machine) = trap_in_the_handler(vector, 16);
        let expected = Kill::NestedTraps { vector, eip: GuestVirt(0x2000), times };
        assert_eq!(killed(guest, machine), expected);
    }
}

/// The same instruction traps as often as it likes when its handler returns; and in ring 3.
#[test]
fn traps_that_are_handled_are_no_end() {
    for (cs, deeper) in [(GUEST_CS, 0), (0x73, 16)] {
        let (guest, mut machine) = initialised();
        then(&mut machine, |m| m.hypercall(Hypercall::SetStack, [GUEST_DS, 0x7000, 1, 0]));
        for n in 0..200 {
            then(&mut machine, move |m| {
                (m.regs.eip, m.regs.cs, m.regs.esp) = (0x2000, cs, 0x6000 - deeper * n);
                exit(trap::INVALID_OPCODE)
            });
        }
        assert_eq!(run(guest, machine).0, None);
    }
}

#[test]
fn last_words_and_restart() {
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| {
        m.sim.write(GuestPhys(0xa000), b"Power down\0rubbish").unwrap();
        m.hypercall(Hypercall::Shutdown, [0xa000, SHUTDOWN_POWEROFF, 0, 0])
    });
    assert_eq!(run(guest, machine).0.unwrap().to_string(), "CRASH: Power down");

    // Linux passes no words then, and the address of that with its kernel's offset taken off (`lguest_restart`).
    for words in [0xa000, 0x4000_0000] {
        let (guest, mut machine) = initialised();
        then(&mut machine, move |m| m.hypercall(Hypercall::Shutdown, [words, SHUTDOWN_RESTART, 0, 0]));
        assert_eq!(run(guest, machine).0, Some(End::Restart));
    }
}

#[test]
fn a_bad_request_is_the_end() {
    let bad: [(Hypercall, [u32; 4], Kill); 6] = [
        (Hypercall::SetStack, [0x68, 0x6000, 1, 0], Kill::StackSegment(0x68)),
        (Hypercall::SetStack, [0x69, 0x6000, 3, 0], Kill::StackPages(3)),
        (Hypercall::LoadGdtEntry, [99, 0, 0, 0], Kill::DescriptorIndex(99)),
        (Hypercall::LoadIdtEntry, [3, 0, 0x8500, 0], Kill::GateType(5, 3)),
        (Hypercall::SetPte, [0, WINDOW.0, 0, 0], Kill::SwitcherEntry(WINDOW)),
        (Hypercall::LoadTls, [0xffff_fffc, 0, 0, 0], Kill::Memory(BadAddress(GuestPhys(0xffff_fffc)))),
    ];
    for (call, args, kill) in bad {
        let (guest, mut machine) = initialised();
        then(&mut machine, move |m| m.hypercall(call, args));
        assert_eq!(killed(guest, machine), kill);
    }
    let (guest, mut machine) = initialised();
    then(&mut machine, |m| {
        m.regs.eax = 3;
        exit(trap::HYPERCALL)
    });
    assert_eq!(killed(guest, machine), Kill::Hypercall(3));
}

/// The end of a guest that uses all that a strategy can do, on one that may do wrong. Whatever that is, nothing is left of
/// the guest.
fn end_of_a_busy_guest(strategy: &str) -> Option<End> {
    let (mut guest, mut machine, made) = on(strategy);
    let end = match made {
        Ok(()) => {
            busy(&mut machine);
            guest.run(&mut machine);
            let _counters = guest.counters(&mut machine);
            guest.end().cloned()
        }
        Err(SetUpError::Panicked(panicked)) => Some(panicked.into()),
        Err(SetUpError::Killed(kill)) => Some(kill.into()),
        Err(SetUpError::Config(error)) => panic!("{error}"),
    };
    let _whatever_it_was = guest.tear_down(&mut machine);
    machine.sim.remove_window();
    assert_eq!((machine.sim.entries(), machine.sim.tables()), (0, 0), "{strategy}");
    end
}

/// Has the guest make every request, with a page directory at 0x8000 that maps a table at 0x9000, and another at 0xa000.
fn busy(machine: &mut Machine) {
    const TABLE: u32 = 0x9067;
    machine.map_linearly(PAGES, &[0x8000, 0xa000]);
    then(machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
    then(machine, |m| m.hypercall(Hypercall::SetStack, [GUEST_DS, 0x6000, 1, 0]));
    for directory in [0x8000, 0xa000, 0x8000, 0xb000, 0xc000, 0xd000, 0xe000, 0x8000] {
        // Those that map nothing are for what they push out.
        then(machine, move |m| {
            m.set_absolute(directory, TABLE);
            m.hypercall(Hypercall::NewPgtable, [directory, 0, 0, 0])
        });
        then(machine, |m| {
            m.regs.errcode = 2;
            Exit { vector: trap::PAGE_FAULT.into(), cr2: GuestVirt(0x10_000) }
        });
    }
    then(machine, |m| m.hypercall(Hypercall::SetPte, [0x8000, 0x10_000, 0x11_067, 0]));
    then(machine, |m| m.hypercall(Hypercall::SetPgd, [0x8000, 0, 0, 0]));
    then(machine, |m| m.hypercall(Hypercall::FlushTlb, [0, 0, 0, 0]));
    then(machine, |m| m.hypercall(Hypercall::FlushTlb, [1, 0, 0, 0]));
    // The host takes the frame of the kernel stack.
    then(machine, |m| {
        m.sim.take_frame(GuestFrame(5));
        exit(0x30)
    });
    // An instruction that is emulated is translated first.
    then(machine, |m| {
        m.regs.cs = GUEST_CS;
        m.forbidden(0x12_000, &[0xec])
    });
}

/// Nobody runs on an entry of a frame that has gone, and the kernel stack is never missing.
#[test]
fn entries_of_frames_that_have_gone_are_dropped_and_the_stack_is_mapped_again() {
    let (mut guest, mut machine) = initialised();
    then(&mut machine, |m| m.hypercall(Hypercall::SetStack, [GUEST_DS, 0x6000, 1, 0]));
    then(&mut machine, |_| Exit { vector: trap::PAGE_FAULT.into(), cr2: GuestVirt(0x10_000) });
    then(&mut machine, |m| {
        assert_eq!(m.sim.entries(), 2, "the stack and what was missed");
        m.sim.take_frame(GuestFrame(0x5));
        m.sim.take_frame(GuestFrame(0x10));
        exit(0x30)
    });
    then(&mut machine, |m| {
        assert!(!m.sim.has_stale());
        assert_eq!(m.sim.entries(), 1, "the stack");
        assert_eq!(m.sim.known(GuestFrame(0x10)), None);
        exit(0x30)
    });
    guest.run(&mut machine);
    assert_eq!(guest.end(), None);
    assert_eq!(guest.counters(&mut machine).run.dropped_entries, 2);
    let _nothing = guest.tear_down(&mut machine);
}

/// The counters of a busy guest, and what those saw who watched it.
fn watched(strategy: &str, watched: bool) -> (Counters, Vec<Event>) {
    let (mut guest, mut machine, made) = on(strategy);
    made.unwrap();
    machine.watched = watched;
    busy(&mut machine);
    then(&mut machine, |m| {
        m.queue(0, Hypercall::NewPgtable, [0x8000, 0, 0, 0]);
        m.queue(1, Hypercall::FlushAsync, [0; 4]);
        m.hypercall(Hypercall::FlushAsync, [0; 4])
    });
    then(&mut machine, |m| {
        // The Switcher may know a page directory by now, and has reflected faults.
        if m.published.contains_key(&GuestPhys(0x8000)) {
            m.load_in_switcher(GuestPhys(0x8000));
        }
        m.reflected = 3;
        m.regs.errcode = 6;
        Exit { vector: trap::PAGE_FAULT.into(), cr2: GuestVirt(0xfff0_0000) }
    });
    guest.run(&mut machine);
    let counters = guest.counters(&mut machine);
    let events = std::mem::take(&mut machine.events);
    let _nothing = guest.tear_down(&mut machine);
    (counters, events)
}

#[test]
fn whoever_watches_sees_what_is_counted_and_changes_nothing() {
    let mut evictions = 0;
    for strategy in
        ["lguest", "lru:slots=2", "shared:budget=64", "arc", "tlb", "audit:of=fifo", "record:of=lru"]
    {
        let (counters, events) = watched(strategy, true);
        let unwatched = watched(strategy, false);
        assert_eq!(unwatched, (counters, Vec::new()), "{strategy}");
        let Counters { run, paging, .. } = counters;
        let count = |of: fn(&Event) -> bool| events.iter().filter(|event| of(event)).count() as u64;
        let sum = |of: fn(&Event) -> u32| events.iter().map(|event| u64::from(of(event))).sum::<u64>();

        assert_eq!(count(|event| matches!(event, Event::Exit { .. })), run.world_switches, "{strategy}");
        let calls = count(|event| matches!(event, Event::Hypercall { ring: false, .. }));
        let exits = count(|event| matches!(event, Event::Exit { kind: ExitKind::Hypercall, .. }));
        let in_switcher = sum(|event| match event {
            Event::InSwitcher { calls, .. } => *calls,
            _ => 0,
        });
        // The first one, LGUEST_INIT, is not counted.
        assert_eq!((calls, calls + in_switcher), (exits, run.hypercalls + 1), "{strategy}");
        assert_eq!(in_switcher, run.switcher_hypercalls, "{strategy}");
        assert_eq!(count(|event| matches!(event, Event::Hypercall { ring: true, .. })), 2, "{strategy}");
        assert_eq!(run.ring_hypercalls, 2, "{strategy}");

        let fixed = count(|event| matches!(event, Event::Fault { outcome: FaultOutcome::Fixed, .. }));
        let reflected = count(|event| matches!(event, Event::Fault { outcome: FaultOutcome::Reflected, .. }));
        let by_switcher = sum(|event| match event {
            Event::InSwitcher { reflected, .. } => *reflected,
            _ => 0,
        });
        assert_eq!(
            (fixed, reflected + by_switcher),
            (paging.demand_faults, paging.reflected_faults),
            "{strategy}"
        );
        assert_eq!((by_switcher, run.switcher_reflections), (3, 3), "{strategy}");
        assert!(fixed > 3 && reflected > 0, "{strategy}");

        assert_eq!(
            count(|event| matches!(event, Event::Load { .. })),
            paging.page_directory_loads,
            "{strategy}"
        );
        let hits = count(|event| matches!(event, Event::Load { hit: true, .. }));
        assert_eq!(hits, paging.page_directory_hits, "{strategy}");
        assert_eq!(count(|event| matches!(event, Event::Eviction { .. })), paging.evictions, "{strategy}");
        assert_eq!(
            count(|event| matches!(event, Event::Flush(Flush::User))),
            paging.flush_user,
            "{strategy}"
        );
        assert_eq!(count(|event| matches!(event, Event::Flush(Flush::All))), 1, "{strategy}");
        evictions += paging.evictions;
    }
    assert!(evictions > 10, "{evictions}");
}

#[test]
fn a_fault_that_is_the_guests_end_is_seen() {
    let (mut guest, mut machine) = initialised();
    machine.watched = true;
    then(&mut machine, |m| m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0]));
    then(&mut machine, |m| {
        // A table outside of memory.
        m.set_absolute(0x8000, 0xf000_0067);
        Exit { vector: trap::PAGE_FAULT.into(), cr2: GuestVirt(0x1234) }
    });
    assert_eq!(guest.run(&mut machine), Outcome::Ended);
    let last = machine.events.last();
    let killed = |outcome: &FaultOutcome| *outcome == FaultOutcome::Killed;
    assert!(
        matches!(last, Some(Event::Fault { va: GuestVirt(0x1234), outcome, .. }) if killed(outcome)),
        "{last:?}"
    );
    let _nothing = guest.tear_down(&mut machine);
}

/// The rows of a view, each word by word, without the heading.
fn view(guest: &mut Guest, machine: &mut Machine, view: View) -> Vec<Vec<String>> {
    let mut text = String::new();
    guest.show(machine, view, &mut text).unwrap();
    let (heading, rows) = text.split_once('\n').unwrap();
    let columns = heading.split(' ').count();
    let rows: Vec<Vec<_>> =
        rows.lines().map(|line| line.split(' ').map(ToOwned::to_owned).collect()).collect();
    assert!(rows.iter().all(|row| row.len() == columns), "{text}");
    rows
}

#[test]
fn a_view_shows_every_directory_and_every_entry_there_is() {
    for strategy in ["lguest", "lru:slots=3", "shared", "tlb", "audit:of=clock"] {
        let (mut guest, mut machine, made) = on(strategy);
        made.unwrap();
        busy(&mut machine);
        // Without what drops everything: until the last of the loads, and the fault after it.
        machine.script.truncate(18);
        // The stack is below the kernel's half here, and was dropped with the rest of a slot.
        then(&mut machine, |m| m.hypercall(Hypercall::SetStack, [GUEST_DS, 0x6000, 1, 0]));
        then(&mut machine, |_| exit(0x30));
        assert_eq!(guest.run(&mut machine), Outcome::Interrupted, "{strategy}");
        let directories = view(&mut guest, &mut machine, View::Directories);
        let current: Vec<_> = directories.iter().filter(|row| row[1] == "yes").collect();
        assert_eq!(current.len(), 1, "{strategy}: {directories:?}");
        assert_eq!((current[0][0].as_str(), current[0][2].as_str()), ("0x00008000", "yes"), "{strategy}");
        let sum = |rows: &[Vec<String>], column: usize| -> u64 {
            rows.iter().map(|row| row[column].parse::<u64>().unwrap()).sum()
        };
        let shared: u64 = directories[0][5].parse().unwrap();
        let entries = sum(&directories, 4) + shared;
        assert_eq!(entries, machine.sim.entries(), "{strategy}: {directories:?}");
        assert!(entries >= 2 && sum(&directories, 3) >= 1, "{strategy}: {directories:?}");
        let tables = view(&mut guest, &mut machine, View::Tables);
        assert_eq!(tables.len() as u64, entries, "{strategy}: {tables:?}");
        // The kernel stack, page 5 of memory, which is the host's frame of the same number here.
        let stack = tables.iter().find(|row| row[0] == "0x00008000" && row[1] == "0x00005000");
        let stack: Vec<_> = stack.unwrap().iter().map(String::as_str).collect();
        assert_eq!(stack[2..], ["0x5", "rwxu", "1", "1"], "{strategy}");
        let mut counters = String::new();
        guest.show(&mut machine, View::Counters, &mut counters).unwrap();
        assert_eq!(counters, guest.counters(&mut machine).to_string());
        let _nothing = guest.tear_down(&mut machine);
    }
}

#[test]
fn a_view_of_a_guest_whose_strategy_has_panicked_is_empty() {
    let (mut guest, mut machine, made) = on("rogue-policy:does=panic,in=victim,slots=2");
    if made.is_ok() {
        busy(&mut machine);
        guest.run(&mut machine);
    }
    let mut text = String::new();
    guest.show(&mut machine, View::Tables, &mut text).unwrap();
    assert!(matches!(guest.end(), Some(End::Panicked(_))) && text.is_empty(), "{text}");
    let _whatever_it_was = guest.tear_down(&mut machine);
}

#[test]
fn a_busy_guest_lives() {
    assert_eq!(end_of_a_busy_guest("lguest"), None);
}

#[test]
fn a_panic_in_any_method_ends_the_guest_with_its_words_and_place() {
    // The guest has page tables of two levels, and makes no SET_PMD.
    let methods = [
        "demand-fault",
        "set-pte",
        "set-pgd",
        "load-page-directory",
        "flush-user",
        "flush-all",
        "set-stack",
        "keep-stack",
        "guest-initialised",
        "translate",
        "set-up",
        "root",
        "build",
    ];
    for method in methods {
        let end = end_of_a_busy_guest(&format!("rogue:does=panic,in={method}"));
        let told = end.map_or_else(String::new, |end| end.to_string());
        let begin = format!("strategy panicked: rogue in {method} at ");
        assert!(told.starts_with(&begin), "{method}: {told}");
        let (file, line) = told[begin.len()..].rsplit_once(':').unwrap();
        assert!(file.ends_with("misdeed.rs") && line.parse::<u32>().is_ok(), "{method}: {told}");
    }
    for method in ["victim", "filled", "used", "takes-free-slots-first", "build"] {
        let end = end_of_a_busy_guest(&format!("rogue-policy:does=panic,in={method},slots=2"));
        let told = end.map_or_else(String::new, |end| end.to_string());
        assert!(told.starts_with(&format!("strategy panicked: rogue in {method} at ")), "{method}: {told}");
    }
}

#[test]
fn a_panic_at_the_guests_end_or_in_its_counters_leaves_nothing() {
    let end = end_of_a_busy_guest("rogue:does=panic,in=counters");
    assert!(matches!(end, Some(End::Panicked(_))), "{end:?}");
    for method in ["tear-down", "drop"] {
        assert_eq!(end_of_a_busy_guest(&format!("rogue:does=panic,in={method}")), None, "{method}");
    }
    for method in ["drop", "emptied"] {
        end_of_a_busy_guest(&format!("rogue-policy:does=panic,in={method}"));
    }
}

#[test]
fn what_a_strategy_forgets_is_taken_back() {
    assert_eq!(end_of_a_busy_guest("rogue:does=nonsense,in=tear-down"), None);
}

#[test]
#[should_panic(expected = "outside of the plug-in")]
fn a_panic_of_the_framework_or_the_host_is_not_caught() {
    let (guest, mut machine) = new();
    then(&mut machine, |_| panic!("outside of the plug-in"));
    run(guest, machine);
}

#[test]
fn intercepted_traps_stop_a_guest_and_may_be_passed_on() {
    let (mut guest, mut machine) = initialised();
    guest.intercept(1 << trap::BREAKPOINT | 1 << trap::DEBUG);
    then(&mut machine, |m| {
        (m.regs.eip, m.regs.esp, m.regs.gs) = (0x2101, 0x6000, 0xabcd_007b);
        exit(trap::BREAKPOINT)
    });
    then(&mut machine, |m| {
        assert_eq!((m.regs.eip, m.regs.eax, m.regs.esp), (0x2100, 7, 0x6000), "as the debugger has set it");
        m.regs.eip = 0x2200;
        exit(trap::DEBUG)
    });
    then(&mut machine, |m| {
        assert_eq!(m.regs.eip, 0x5000 + 16 * u32::from(trap::DEBUG));
        assert_eq!(m.stack::<2>(0x6000 - 12), [0x2200, GUEST_CS]);
        m.regs.eip = 0x2300;
        exit(trap::BREAKPOINT)
    });
    then(&mut machine, |m| {
        assert_eq!(m.regs.eip, 0x5000 + 16 * u32::from(trap::BREAKPOINT), "nothing is intercepted any more");
        exit(0x30)
    });
    assert_eq!(guest.run(&mut machine), Outcome::Trap(3));
    let registers = guest.registers(&mut machine);
    let Registers { eip, cs, gs, levels, .. } = registers;
    assert_eq!((eip, cs, gs, levels), (0x2101, GUEST_CS, 0x7b, LEVELS_NONE));
    guest.set_registers(&mut machine, Registers { eip: 0x2100, eax: 7, ..registers });
    assert_eq!(guest.run(&mut machine), Outcome::Trap(1));
    guest.pass_trap_on();
    guest.intercept(0);
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn a_debugger_learns_where_the_page_tables_are() {
    let (mut guest, mut machine) = initialised();
    guest.intercept(1 << trap::DEBUG);
    then(&mut machine, |m| m.hypercall(Hypercall::NewPgtable, [0x8000, 0, 0, 0]));
    then(&mut machine, |_| exit(trap::DEBUG));
    then(&mut machine, |_| exit(0x30));
    assert_eq!(guest.run(&mut machine), Outcome::Trap(1));
    let Registers { directory, levels, .. } = guest.registers(&mut machine);
    assert_eq!((directory, levels), (0x8000, 2));
    assert_eq!(run(guest, machine).0, None);
}

/// What the launcher is to emulate first.
fn passed_on(guest: &mut Guest, machine: &mut Machine) -> Emulation {
    match guest.run(machine) {
        Outcome::Emulate(emulation) => emulation,
        other => panic!("not passed on: {other:?}, {:?}", guest.end()),
    }
}

/// A guest with two pages of device memory, from physical 0x40000 on.
fn with_devices() -> (Guest, Machine) {
    let (guest, mut machine) = initialised();
    machine.sim.set_device_pages(2);
    (guest, machine)
}

/// The same with a page directory at 0xa000 that maps this page at 0x400000 with these flags, and memory from 0 on linearly.
fn with_mapping(page: u32, flags: u32) -> (Guest, Machine) {
    let (guest, mut machine) = with_devices();
    for (at, entry) in [(0xa000, 0xb067), (0xa004, 0xc067), (0xc000, page << 12 | flags)] {
        machine.set_absolute(at, entry);
    }
    for page in 0..PAGES {
        machine.set_absolute(0xb000 + 4 * page, page << 12 | 0x67);
    }
    then(&mut machine, |m| m.hypercall(Hypercall::NewPgtable, [0xa000, 0, 0, 0]));
    (guest, machine)
}

/// The guest stands at this code, and reads or writes at `va`.
fn faults(m: &mut Machine, code: &[u8], va: u32, error: u32) -> Exit {
    m.sim.write(GuestPhys(0x2000), code).unwrap();
    (m.regs.eip, m.regs.errcode, m.regs.esp) = (0x2000, error, 0x6000);
    Exit { vector: 14, cr2: GuestVirt(va) }
}

#[test]
fn the_launcher_gets_the_cycles_of_pci_if_it_has_devices() {
    // Those whose last byte is the first of the ports, or whose first byte is their last.
    for (code, port) in [(&[0xef][..], 0xcf8), (&[0xed], 0xcf5), (&[0x66, 0xed], 0xcff), (&[0xec], 0xcfe)] {
        let (mut guest, mut machine) = with_devices();
        then(&mut machine, move |m| {
            (m.regs.eax, m.regs.ecx, m.regs.edx, m.regs.ebx) = (0x8000_0000, 1, 0x7777_0000 | port, 3);
            (m.regs.esp, m.regs.ebp, m.regs.esi, m.regs.edi) = (0x6004, 5, 6, 7);
            m.forbidden(0x2ffe, code)
        });
        then(&mut machine, |m| {
            assert_eq!((m.regs.eax, m.regs.eip), (5, 0x3000), "what the launcher has set");
            exit(0x30)
        });
        let passed = passed_on(&mut guest, &mut machine);
        let mut instruction = [0; 15];
        instruction[..code.len()].copy_from_slice(code);
        let registers = [0x8000_0000, 1, 0x7777_0000 | port, 3, 0x6004, 5, 6, 7, 0x2ffe];
        assert_eq!(passed, Emulation { trap: IO_PORT, instruction, address: GuestPhys(0), registers });
        Guest::set_register(&mut machine, 24, 5).unwrap();
        Guest::set_register(&mut machine, 48, 0x3000).unwrap();
        assert_eq!(run(guest, machine).0, None);
    }
    // Neighbours of these ports, and a launcher without devices.
    for (code, port, devices) in [(&[0xec][..], 0xcf7, 2), (&[0xed], 0xd00, 2), (&[0xed], 0xcf8, 0)] {
        let (guest, mut machine) = with_devices();
        machine.sim.set_device_pages(devices);
        then(&mut machine, move |m| {
            m.regs.edx = port;
            m.forbidden(0x2000, code)
        });
        then(&mut machine, |m| {
            assert_eq!((m.regs.eax & 0xff, m.regs.eip), (0xff, 0x2001));
            exit(0x30)
        });
        assert_eq!(run(guest, machine).0, None);
    }
}

#[test]
fn the_launcher_gets_accesses_to_device_memory() {
    let (mut guest, mut machine) = with_mapping(PAGES + 1, 0x3);
    // SET_PTE of device memory is as good as any.
    then(&mut machine, |m| m.hypercall(Hypercall::SetPte, [0xa000, 0x40_0000, (PAGES + 1) << 12 | 0x63, 0]));
    then(&mut machine, |m| faults(m, &[0x89, 0x02], 0x40_0010, 2));
    // Again as long as the launcher does nothing, and a read.
    then(&mut machine, |m| faults(m, &[0x8b, 0x02], 0x40_0014, 0));
    then(&mut machine, |_| exit(0x30));
    let written = passed_on(&mut guest, &mut machine);
    assert_eq!((written.trap, written.address), (DEVICE_MEMORY, GuestPhys(((PAGES + 1) << 12) + 0x10)));
    assert_eq!(written.instruction[..3], [0x89, 0x02, 0]);
    assert_eq!(written.registers[8], 0x2000);
    let read = passed_on(&mut guest, &mut machine);
    assert_eq!((read.instruction[0], read.address), (0x8b, GuestPhys(((PAGES + 1) << 12) + 0x14)));
    let counters = guest.counters(&mut machine);
    assert_eq!((counters.run.launcher_emulations, counters.paging.demand_faults), (2, 0));
    assert_eq!(run(guest, machine).0, None);
}

#[test]
fn the_rights_of_the_guests_tables_come_first() {
    // A write to a page that is read-only, and a program's access to one of the kernel's: the guest's own faults.
    for (flags, error) in [(0x1, 2), (0x3, 4)] {
        let (guest, mut machine) = with_mapping(PAGES, flags);
        then(&mut machine, move |m| faults(m, &[0x89, 0x02], 0x40_0000, error));
        then(&mut machine, |m| {
            assert_eq!(m.regs.eip, 0x5000 + 16 * 14);
            exit(0x30)
        });
        assert_eq!(run(guest, machine).0, None);
    }
}

#[test]
fn device_memory_is_no_memory() {
    // Beyond the device memory; in it, and there is none.
    for (page, devices) in [(PAGES + 2, 2), (PAGES, 0)] {
        let (guest, mut machine) = with_mapping(page, 0x3);
        machine.sim.set_device_pages(devices);
        then(&mut machine, |m| faults(m, &[0x89, 0x02], 0x40_0000, 2));
        assert!(matches!(killed(guest, machine), Kill::PageTableEntry(_)));
    }
    // Code.
    let (guest, mut machine) = with_mapping(PAGES, 0x3);
    then(&mut machine, |m| {
        m.regs.eip = 0x40_0020;
        Exit { vector: 14, cr2: GuestVirt(0x40_0020) }
    });
    let (at, eip) = (GuestPhys((PAGES << 12) + 0x20), GuestVirt(0x40_0020));
    assert_eq!(killed(guest, machine), Kill::DeviceAccess { at, eip });
    // The kernel's stack.
    let (guest, mut machine) = with_mapping(PAGES, 0x3);
    then(&mut machine, |m| m.hypercall(Hypercall::SetStack, [GUEST_DS, 0x40_1000, 1, 0]));
    assert_eq!(killed(guest, machine), Kill::DeviceMemory(GuestFrame(PAGES)));
    // A page directory.
    let (guest, mut machine) = with_mapping(PAGES, 0x3);
    then(&mut machine, |m| m.hypercall(Hypercall::NewPgtable, [PAGES << 12, 0, 0, 0]));
    then(&mut machine, |m| faults(m, &[0x89, 0x02], 0, 2));
    assert!(matches!(killed(guest, machine), Kill::Memory(_)));
}

#[test]
fn the_launcher_sets_general_registers_only() {
    let (guest, mut machine) = initialised();
    for (offset, may_set) in
        [(0, true), (24, true), (48, true), (60, true), (28, false), (52, false), (56, false)]
    {
        let set = Guest::set_register(&mut machine, offset, 0x1230 + offset);
        assert_eq!(set, if may_set { Ok(()) } else { Err(BadRegister(offset)) });
        let value = Guest::register(&mut machine, offset).unwrap();
        assert_eq!(value == 0x1230 + offset, may_set, "{offset}");
    }
    for offset in [1, 44, 68, u32::MAX] {
        assert_eq!(Guest::register(&mut machine, offset), Err(BadRegister(offset)));
        assert_eq!(Guest::set_register(&mut machine, offset, 0), Err(BadRegister(offset)));
    }
    assert_eq!((machine.regs.ebx, machine.regs.esp, machine.regs.cs), (0x1230, 0x1230 + 60, GUEST_CS));
    drop(run(guest, machine));
}

#[test]
fn what_the_launcher_cannot_emulate_is_a_trap_of_the_guests() {
    let (mut guest, mut machine) = with_devices();
    then(&mut machine, |m| {
        (m.regs.edx, m.regs.esp) = (0xcf8, 0x6000);
        m.forbidden(0x2000, &[0xed])
    });
    then(&mut machine, |m| {
        assert_eq!(m.regs.eip, 0x5000 + 16 * 13);
        assert_eq!(m.stack::<3>(m.regs.esp), [0, 0x2000, GUEST_CS]);
        exit(0x30)
    });
    passed_on(&mut guest, &mut machine);
    for vector in [48, 0x100, u32::MAX] {
        assert_eq!(guest.trap(&mut machine, vector), Err(NoHandler(vector)));
    }
    guest.trap(&mut machine, 13).unwrap();
    assert_eq!(run(guest, machine).0, None);
    // A stack outside of memory is the guest's end.
    let (mut guest, mut machine) = with_devices();
    assert_eq!(guest.run(&mut machine), Outcome::Interrupted);
    machine.regs.esp = 0x8000_0000;
    guest.trap(&mut machine, 13).unwrap();
    assert!(matches!(killed(guest, machine), Kill::Memory(_)));
}

#[test]
fn a_guest_of_linux_4_1_names_one_instruction_that_is_not_interrupted() {
    // Its structure has a word less: the instruction, the kernel's address, the system calls' vector.
    let (guest, mut machine) = new();
    machine.set_word(offset::NOIRQ_START, NOIRQ);
    machine.set_word(offset::NOIRQ_START + 4, 0xc000_0000);
    machine.set_word(offset::NOIRQ_START + 8, 0x80);
    machine.set_word(offset::NOIRQ_START + 12, 0x1234_5678);
    then(&mut machine, |m| m.hypercall(Hypercall::LguestInit, [DATA.0, 0, 0, 0]));
    then(&mut machine, |m| m.hypercall(Hypercall::LoadIdtEntry, [32, GUEST_CS << 16 | 0x5200, 0x8e00, 0]));
    then(&mut machine, |m| {
        m.set_word(offset::IRQ_ENABLED, IRQ_ENABLED);
        (m.pending, m.regs.eip, m.regs.esp) = (1, NOIRQ, 0x6000);
        exit(0x30)
    });
    then(&mut machine, |m| {
        assert_eq!(m.regs.eip, NOIRQ, "not at its iret");
        m.regs.eip = NOIRQ + 1;
        exit(0x30)
    });
    then(&mut machine, |m| {
        assert_eq!(m.regs.eip, 0x5200, "the instruction after it is like any other");
        exit(0x30)
    });
    assert_eq!(run(guest, machine).0, None);
}
