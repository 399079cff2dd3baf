//! Hypercalls: the guest's ring and its direct requests, and where each is routed.
//!
//! Ring entries come first, in order, at most one turn of the ring at a time; then the call in the registers. A
//! notification stops the ring until it is delivered to the launcher, and every few entries the ring stops for a check
//! whether the host has something else to do. Requests that concern page tables go to the guest's
//! [`PagingStrategy`](crate::strategy::PagingStrategy) untouched.
//!
//! Source: lguest's `hypercalls.c`.

use crate::event::{Event, Events, ExitKind, Flush};
use crate::guest::Guest;
use crate::host::{BadAddress, Capability, DoneInSwitcher, Exit, Host, OutOfMemory};
use crate::in_switcher::Fills;
use crate::kill::{End, Kill};
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::hypercall::{Hypercall, HypercallArgs, SHUTDOWN_MESSAGE, SHUTDOWN_RESTART};
use arch_i386::lguest_data::{self, RING_DONE, RING_SIZE, offset, ring_status};
use arch_i386::paging::{Entry, Paging};
use arch_i386::segment::{Descriptor, GUEST_PL, index};
use arch_i386::trap;
use core::num::NonZeroU32;
use fallible::boxed;

/// How many ring entries are done before a check whether the host has something else to do. The longest calls
/// check within; of the others, a SET_PTE in the kernel's half of 1024 shadow page directories is the longest.
pub const RING_ENTRIES_AT_ONCE: u32 = 8;

const _: () = assert!((RING_SIZE as u32).is_multiple_of(RING_ENTRIES_AT_ONCE));

/// Whether the ring has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    /// Empty, or once round: the call in the registers is next.
    Done,
    /// Stopped on its way; the rest of it is next.
    Stopped,
}

impl Guest {
    /// Does what the guest came back for.
    pub(crate) fn do_hypercalls<H: Host>(&mut self, host: &mut H) -> Result<(), End> {
        let Some(data) = self.data else {
            self.pending_hypercall = false;
            let first = in_registers(host);
            return Ok(self.initialise(host, first)?);
        };
        if self.do_ring(host, data)? == Ring::Done && self.notify.is_none() {
            self.pending_hypercall = false;
            self.counters.hypercalls += 1;
            let call = in_registers(host);
            self.do_hypercall(host, call)?;
        }
        Ok(())
    }

    /// Does the calls that wait in the ring.
    #[inline]
    fn do_ring<H: Host>(&mut self, host: &mut H, data: GuestPhys) -> Result<Ring, End> {
        match host.ring_entry(data, self.ring_next).map_err(Kill::from)? {
            Some(first) => self.do_ring_from(host, data, first),
            None => Ok(Ring::Done),
        }
    }

    /// Does the next call of the ring, and those that wait behind it.
    #[inline(never)] // The ring is empty as a rule.
    fn do_ring_from<H: Host>(
        &mut self,
        host: &mut H,
        data: GuestPhys,
        mut call: HypercallArgs,
    ) -> Result<Ring, End> {
        for _ in 0..RING_SIZE {
            let status = GuestPhys(data.0 + ring_status(self.ring_next));
            self.ring_next = (self.ring_next + 1) % RING_SIZE as u32;
            host.set_ring_next(self.ring_next);
            self.counters.ring_hypercalls += 1;
            if host.observes(Events::HYPERCALL) {
                host.observe(Event::Hypercall { call, ring: true });
            }
            self.do_hypercall(host, call)?;
            host.write(status, &[RING_DONE]).map_err(Kill::from)?;
            if self.notify.is_some() {
                break;
            }
            let asks = self.ring_next.is_multiple_of(RING_ENTRIES_AT_ONCE);
            if asks && !cfg!(feature = "plant-endless-ring") && host.interrupted() {
                // Checked once more on the way out, which returns to the launcher.
                self.host_work_pending = true;
                return Ok(Ring::Stopped);
            }
            let Some(next) = host.ring_entry(data, self.ring_next).map_err(Kill::from)? else { break };
            call = next;
        }
        Ok(Ring::Done)
    }

    /// Routes one call.
    fn do_hypercall<H: Host>(&mut self, host: &mut H, call: HypercallArgs) -> Result<(), End> {
        let [a, b, c, d] = call.args;
        match Hypercall::from_number(call.number).ok_or(Kill::Hypercall(call.number))? {
            Hypercall::FlushAsync | Hypercall::SendInterrupts => {}
            Hypercall::LguestInit => return Err(Kill::AlreadyInitialised.into()),
            Hypercall::Shutdown => {
                // A guest that restarts has no last words, and passes any address for them.
                if b == SHUTDOWN_RESTART {
                    return Err(End::Restart);
                }
                let mut message =
                    boxed([0; SHUTDOWN_MESSAGE]).map_err(|OutOfMemory| Kill::NoMemory("its last words"))?;
                host.read(GuestPhys(a), &mut *message).map_err(Kill::from)?;
                return Err(End::Shutdown(message));
            }
            Hypercall::NewPgtable => self.load_page_directory(host, GuestPhys(a))?,
            Hypercall::SwitchTo => {
                self.load_page_directory(host, GuestPhys(a))?;
                if d != 0 {
                    self.flush_user(host);
                }
                self.set_stack(host, self.ss1, GuestVirt(b), c)?;
            }
            Hypercall::FlushTlb if a == 0 => self.flush_user(host),
            Hypercall::FlushUserOf => {
                for directory in call.args.into_iter().filter(|&directory| directory != 0) {
                    self.observe_flush(host, Flush::User);
                    self.paging
                        .call(host, |strategy, host| strategy.flush_user_of(host, GuestPhys(directory)));
                }
                self.flush_user(host);
            }
            Hypercall::FlushTlb => {
                self.observe_flush(host, Flush::All);
                self.paging.call(host, |strategy, host| strategy.flush_all(host))?;
            }
            Hypercall::SetPte => {
                let high = match self.format {
                    Paging::Pae => u64::from(d) << 32,
                    Paging::TwoLevel => 0,
                };
                let entry = Entry(high | u64::from(c));
                self.paging
                    .call(host, |strategy, host| strategy.set_pte(host, GuestPhys(a), GuestVirt(b), entry))?;
            }
            Hypercall::SetPgd => {
                self.paging.call(host, |strategy, host| strategy.set_pgd(host, GuestPhys(a), b))?
            }
            Hypercall::SetPmd => {
                self.paging.call(host, |strategy, host| strategy.set_pmd(host, GuestPhys(a), b))?
            }
            Hypercall::SetStack => self.set_stack(host, a, GuestVirt(b), c)?,
            Hypercall::LoadGdtEntry => self.segments.load_gdt_entry(a, Descriptor { low: b, high: c })?,
            Hypercall::LoadIdtEntry => {
                self.segments.load_idt_entry(a, Descriptor { low: b, high: c })?;
                if a == u32::from(trap::PAGE_FAULT) {
                    self.prepare_switcher(host);
                }
            }
            Hypercall::LoadTls => self.load_tls(host, GuestPhys(a))?,
            Hypercall::Ts => self.ts = a != 0,
            Hypercall::SetClockevent => host.set_timer(NonZeroU32::new(a)),
            Hypercall::Halt => self.halted = true,
            Hypercall::Notify => self.notify = Some(GuestPhys(a)),
        }
        Ok(())
    }

    fn load_page_directory<H: Host>(&mut self, host: &mut H, directory: GuestPhys) -> Result<(), Kill> {
        if host.observes(Events::LOAD) {
            return self.observed_load(host, directory);
        }
        self.paging.request(host, |strategy, host| strategy.load_page_directory(host, directory))
    }

    fn flush_user<H: Host>(&mut self, host: &mut H) {
        self.observe_flush(host, Flush::User);
        self.paging.call(host, |strategy, host| strategy.flush_user(host));
    }

    fn observe_flush<H: Host>(&self, host: &mut H, flush: Flush) {
        if host.observes(Events::FLUSH) {
            host.observe(Event::Flush(flush));
        }
    }

    fn set_stack<H: Host>(
        &mut self,
        host: &mut H,
        ss1: u32,
        esp1: GuestVirt,
        pages: u32,
    ) -> Result<(), Kill> {
        if ss1 & 3 != GUEST_PL {
            return Err(Kill::StackSegment(ss1));
        }
        if pages > 2 {
            return Err(Kill::StackPages(pages));
        }
        (self.ss1, self.esp1, self.stack_pages) = (ss1 & 0xffff, esp1, pages);
        host.set_kernel_stack(self.ss1, esp1, pages);
        self.paging.call(host, |strategy, host| strategy.set_stack(host, esp1, pages))
    }

    /// Catches up with what the Switcher has done by itself: does the same, but for what is in place already.
    #[inline(never)] // Not on every exit.
    pub(crate) fn catch_up<H: Host>(&mut self, host: &mut H, done: DoneInSwitcher) -> Result<(), Kill> {
        let mut calls = done.calls;
        let mut fills = 0;
        if done.fill_words + done.idle_set_ptes > 0 {
            // Before anything can release the tables that they are in.
            let all = Fills::new(done.fill_words, done.idle_set_ptes);
            let noted = self.paging.call(host, |strategy, host| strategy.filled(host, all));
            (calls, fills) = (calls + noted.set_ptes(), noted.faults());
            self.counters.switcher_fills += u64::from(fills);
        }
        self.counters.hypercalls += u64::from(calls);
        self.counters.ring_hypercalls += u64::from(done.ring_calls);
        self.counters.switcher_hypercalls += u64::from(calls + done.ring_calls);
        if host.observes(Events::IN_SWITCHER) {
            host.observe(Event::InSwitcher { calls, ring_calls: done.ring_calls, reflected: 0, fills });
        }
        if done.calls == 0 {
            return Ok(());
        }
        self.ring_next = done.ring_next;
        if let Some(tls) = done.tls {
            self.segments.load_tls(tls);
        }
        let (esp1, pages) = (done.esp1, done.stack_pages);
        (self.esp1, self.stack_pages) = (esp1, pages);
        if !host.observes(Events::LOAD) {
            return self
                .paging
                .call(host, |strategy, host| strategy.switched_in_switcher(host, done.loads, esp1, pages));
        }
        for number in 0..done.loads as usize {
            let directory = host.loaded_in_switcher(Capability::new())[number];
            self.observed_load(host, directory)?;
        }
        self.paging.call(host, |strategy, host| strategy.set_stack(host, esp1, pages))
    }

    /// The guest loads a page directory while somebody watches: whether that was shadowed is what the counters say.
    #[cold]
    #[inline(never)]
    fn observed_load<H: Host>(&mut self, host: &mut H, directory: GuestPhys) -> Result<(), Kill> {
        let (loaded, hit) = self.paging.call(host, |strategy, host| {
            let before = strategy.counters().page_directory_hits;
            let loaded = strategy.load_page_directory(host, directory);
            (loaded, strategy.counters().page_directory_hits > before)
        });
        host.observe(Event::Load { directory, hit });
        loaded
    }

    /// Passes on that the guest was left, and with which hypercall.
    #[cold]
    #[inline(never)]
    pub(crate) fn observe_exit<H: Host>(host: &mut H, exit: Exit) {
        let (kind, eip) = (ExitKind::of(exit.vector), GuestVirt(host.regs().eip));
        host.observe(Event::Exit { kind, vector: exit.vector, eip });
        if kind == ExitKind::Hypercall {
            let call = in_registers(host);
            host.observe(Event::Hypercall { call, ring: false });
        }
    }

    fn load_tls<H: Host>(&mut self, host: &mut H, array: GuestPhys) -> Result<(), Kill> {
        let mut bytes = [0; index::TLS_ENTRIES * size_of::<Descriptor>()];
        host.read(array, &mut bytes)?;
        let [a, b, c, d, e, f] = words(&bytes);
        self.segments.load_tls([(a, b), (c, d), (e, f)].map(|(low, high)| Descriptor { low, high }));
        Ok(())
    }

    /// The first hypercall, which must be LGUEST_INIT.
    fn initialise<H: Host>(&mut self, host: &mut H, call: HypercallArgs) -> Result<(), Kill> {
        if Hypercall::from_number(call.number) != Some(Hypercall::LguestInit) {
            return Err(Kill::NotInitialised(call.number));
        }
        let data = GuestPhys(call.args[0]);
        let end = u64::from(data.0) + u64::from(lguest_data::SIZE);
        if end > u64::from(host.page_limit()) * u64::from(PAGE_SIZE) {
            return Err(Kill::LguestData(data));
        }
        self.initialise_data(host, data).map_err(|BadAddress(_)| Kill::LguestData(data))?;
        let mut last = [0; 16];
        host.read(GuestPhys(data.0 + offset::NOIRQ_START), &mut last)?;
        let [first, second, third, fourth] = words(&last);
        // From Linux 4.1 on a guest names the one instruction that must not be interrupted, its `iret`, and all that follows
        // comes a word earlier. No kernel is at 0x80.
        let (noirq, kernel_address, vector) = if third == u32::from(trap::SYSCALL) {
            (first..first.wrapping_add(1), second, third)
        } else {
            (first..second, third, fourth)
        };
        if vector != u32::from(trap::SYSCALL) {
            return Err(Kill::SyscallVector(vector));
        }
        let kernel_address = GuestVirt(kernel_address);
        self.noirq = noirq;
        (self.data, self.kernel_address) = (Some(data), kernel_address);
        self.prepare_switcher(host);
        self.paging.call(host, |strategy, host| strategy.guest_initialised(host, kernel_address))
    }

    /// Fills in the host's part of the shared page.
    fn initialise_data<H: Host>(&mut self, host: &mut H, data: GuestPhys) -> Result<(), BadAddress> {
        let tsc_khz = host.tsc_khz();
        host.write_u32(GuestPhys(data.0 + offset::TSC_KHZ), tsc_khz)?;
        // The bytes from the window's start to 4 GiB.
        let reserve = self.window.start().0.wrapping_neg();
        host.write_u32(GuestPhys(data.0 + offset::RESERVE_MEM), reserve)?;
        self.write_time(host, data)
    }
}

/// The call that the guest came back with.
fn in_registers<H: Host>(host: &mut H) -> HypercallArgs {
    let regs = host.regs();
    HypercallArgs { number: regs.eax, args: [regs.ebx, regs.ecx, regs.edx, regs.esi] }
}

/// Little-endian words of a byte string that holds exactly `N` of them.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let (words, _) = bytes.as_chunks::<4>();
    core::array::from_fn(|i| u32::from_le_bytes(words[i]))
}
