//! One machine under the debugger: brings it to an instruction, injects, and sees what becomes of it.
//!
//! The host's handlers of NMIs and machine checks have breakpoints, so each time that one is called is counted, by
//! the processor or by the module on the processor's behalf. So has the function that ends a virtual CPU, and the
//! address that a processor starts at when it is reset, as it is after a triple fault. The state of the machine at
//! the beginning is kept, and the machine goes back there when it has come to harm.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use arch_i386::addr::PAGE_SIZE;
use arch_i386::regs::{REGS_SIZE, Regs};
use arch_i386::segment::{self, Descriptor};
use arch_i386::trap;
use iced_x86::{Mnemonic, OpKind, Register as Operand};

use super::event::{Event, Fault, Tss};
use super::gdb::{Gdb, Register, Registers};
use super::monitor::{Monitor, Tables};
use super::text::{Kind, Source, Text};

/// Where a processor starts after a reset.
const RESET: u32 = 0xffff_fff0;

/// The machine's name while it is kept.
const BEGINNING: &str = "beginning";

/// After this long without a stop the processor is taken to be lost. What is waited for comes within microseconds of
/// the machine's own time, but the build machine may be busy.
const LOST: Duration = Duration::from_secs(45);

/// The same where a guest's start is waited for.
const START: Duration = Duration::from_secs(180);

/// The same where the rarer acts of a guest are waited for.
const SLOW: Duration = Duration::from_secs(600);

/// Indices in the guest's GDT that guests of ours leave free.
const ABSENT_INDEX: u32 = 20;
const MOVED_INDEX: u32 = 21;

/// The byte with the type of a present TSS's descriptor (SDM vol. 3A, 7.2.2).
const TSS_AVAILABLE: u8 = 0x89;
const TSS_BUSY: u8 = 0x8b;

/// What [`SCRIPT`] prints before its lines for this program.
const MARK: &str = "@ ";

/// What the machine does: guests one after the other, until one cannot be started.
pub const SCRIPT: &str = "load seed=42
for name in lg_vcpu_create lg_vcpu_destroy; do
    echo \"@ symbol $(grep -w $name /proc/kallsyms)\"
done
echo \"@ switcher $(parameter switcher)\"
# Between two stops of the debugger's there may be a second of the machine's time.
echo 0 >/proc/sys/kernel/soft_watchdog
echo '@ ready'
status=0
while [ $status != 125 ]; do
    hostile='error-code-gates error-code-gates-user single-step system-instructions switching changing-rights'
    # The last but one is, on a host with three levels, a guest with two.
    for work in $(printf 'hostile=%s ' $hostile) lguest.paging=2 test=quick; do
        [ $work != lguest.paging=2 ] || work=\"$work hostile=changing-rights\"
        lguest /guests/mini-guest $work >/tmp/out 2>&1
        status=$?
        echo \"@ ended $status $work $(tail -n 1 /tmp/out)\"
        [ $status != 125 ] || break
        # Until that line has left the machine.
        usleep 100000
    done
done
unload
sed -n 's/^ *\\(NMI\\|MCE\\): *\\([0-9]*\\) .*/@ interrupts \\1 \\2/p' /proc/interrupts";

/// How many guests the script starts before the one that runs longest, and shows nothing that they do not.
pub const GUESTS: usize = 7;

/// Where an event is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// Before the instruction at this offset of the text.
    Text(u32),
    /// Before the first instruction of the guest after an entry.
    Guest,
}

/// What became of the machine after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The guest was entered again.
    GuestWentOn,
    /// The guest is no more: the launcher's status and last word.
    GuestEnded(String),
    /// The processor was reset, and the kernel had not requested it.
    TripleFault,
    /// The host's kernel gave up.
    HostPanic(String),
    /// The processor is busy with nothing that anyone waits for.
    Lost(String),
}

/// All that was seen after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What became of the machine.
    pub fate: Fate,
    /// How often the host's handler of NMIs was called since the last [`Session::begin`].
    pub nmis: u32,
    /// The same of machine checks.
    pub machine_checks: u32,
    /// What had changed when the interrupted instruction's turn came, and what was left otherwise than it should.
    pub changed: Option<String>,
}

/// A stop.
enum Stop {
    At(u32, Registers),
    Reset,
    Nowhere(u32),
}

/// A machine under the debugger.
pub struct Session<'a> {
    gdb: Gdb,
    monitor: Monitor,
    text: &'a Text,
    lines: Receiver<String>,
    kernel_log: PathBuf,
    /// What was done and seen, in the order of time.
    log: File,
    /// Where the text runs.
    base: u32,
    vcpu_create: u32,
    vcpu_destroy: u32,
    nmi_handler: u32,
    machine_check_handler: u32,
    host: Tables,
    guest: Tables,
    /// Physical addresses of the bytes with the types of the host's and the guest's TSS.
    tss: [u32; 2],
    breakpoints: BTreeSet<u32>,
    /// Where the processor stands.
    at: u32,
    registers: Registers,
    /// Whether something was injected that the processor has not taken yet.
    injected: bool,
    nmis: u32,
    machine_checks: u32,
    /// The calls of both handlers since the machine was last where it began.
    pub calls: [u32; 2],
    /// How many guests have ended.
    pub ended: usize,
    /// The launcher's status and last word of each guest that has ended, as far as the console has shown.
    last_words: Vec<String>,
    /// Those of guests that found something wrong with their memory or registers.
    pub broken: Vec<String>,
    log_seen: usize,
}

impl<'a> Session<'a> {
    /// Takes over a machine that runs [`SCRIPT`], once that reports `ready`, and goes to an entry into the guest.
    pub fn attach(
        gdb: &Path,
        monitor: &Path,
        logs: &Path,
        lines: Receiver<String>,
        text: &'a Text,
    ) -> Result<Session<'a>> {
        let log = logs.join("inject.log");
        let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let (mut symbols, mut base) = (Vec::new(), None);
        loop {
            let line = lines.recv_timeout(SLOW).context("the machine does not come to the point")?;
            let Some(word) = line.strip_prefix(MARK) else { continue };
            let mut words = word.split_whitespace();
            match words.next() {
                Some("symbol") => symbols.extend(words.next().and_then(hex)),
                Some("switcher") => base = words.next().and_then(hex),
                Some("ready") => break,
                _ => {}
            }
        }
        let (&[vcpu_create, vcpu_destroy], Some(base)) = (&symbols[..], base) else {
            bail!("the machine does not say where the Switcher and the module's functions are");
        };
        let nowhere = Tables { gdt: 0, idt: 0 };
        let mut session = Session {
            gdb: Gdb::connect(gdb)?,
            monitor: Monitor::connect(monitor)?,
            text,
            lines,
            kernel_log: logs.join("kernel.log"),
            log,
            base,
            vcpu_create,
            vcpu_destroy,
            nmi_handler: 0,
            machine_check_handler: 0,
            host: nowhere,
            guest: nowhere,
            tss: [0; 2],
            breakpoints: BTreeSet::new(),
            at: 0,
            registers: Registers::default(),
            injected: false,
            nmis: 0,
            machine_checks: 0,
            calls: [0; 2],
            ended: 0,
            last_words: Vec::new(),
            broken: Vec::new(),
            log_seen: 0,
        };
        session.look_around()?;
        Ok(session)
    }

    /// Finds tables and handlers, and keeps the machine.
    fn look_around(&mut self) -> Result<()> {
        self.gdb.insert(RESET)?;
        self.breakpoints.insert(RESET);
        let enter = self.enter();
        self.expect(enter)?;
        self.host = self.monitor.tables()?;
        if self.gdb.read(self.base, self.text.bytes.len())? != self.text.bytes {
            bail!("at {:#x} there is not the text of this module", self.base);
        }
        self.nmi_handler = self.handler(trap::NMI)?;
        self.machine_check_handler = self.handler(trap::MACHINE_CHECK)?;
        let last = self.base + self.text.last_inwards()?;
        self.expect(last)?;
        self.guest = self.monitor.tables()?;
        if self.guest.gdt == self.host.gdt || self.guest.idt == self.host.idt {
            bail!("the guest is entered with the host's tables");
        }
        for handler in [self.nmi_handler, self.machine_check_handler, self.vcpu_destroy] {
            self.gdb.insert(handler)?;
            self.breakpoints.insert(handler);
        }
        self.expect(enter)?;
        // The guest's is mapped for the host as well.
        for (at, table) in self.tss.iter_mut().zip([self.host.gdt, self.guest.gdt]) {
            *at = self.monitor.physical(table + segment::TSS + 5)?;
        }
        self.monitor.save(BEGINNING)?;
        self.say(&format!(
            "text at {:#x}; host: {:x?}, handlers {:#x} and {:#x}; guest: {:x?}",
            self.base, self.host, self.nmi_handler, self.machine_check_handler, self.guest
        ));
        self.log_seen = self.log_length();
        Ok(())
    }

    fn enter(&self) -> u32 {
        self.base + self.text.enter
    }

    /// The address that the host's gate for a vector leads to.
    fn handler(&mut self, vector: u8) -> Result<u32> {
        let at = self.host.idt + u32::from(vector) * size_of::<Descriptor>() as u32;
        let gate = Descriptor { low: self.gdb.read_word(at)?, high: self.gdb.read_word(at + 4)? };
        Ok(gate.gate_offset())
    }

    fn log_length(&self) -> usize {
        fs::metadata(&self.kernel_log).map_or(0, |meta| meta.len() as usize)
    }

    /// Lets the machine run until it comes to one of `wanted`, or to one of the breakpoints that are always set.
    fn go(&mut self, wanted: &[u32], limit: Duration) -> Result<Stop> {
        let always = [RESET, self.nmi_handler, self.machine_check_handler, self.vcpu_destroy];
        let set: BTreeSet<u32> =
            wanted.iter().chain(&always).copied().filter(|&address| address != 0).collect();
        for &old in self.breakpoints.difference(&set) {
            self.gdb.remove(old)?;
        }
        for &new in set.difference(&self.breakpoints) {
            self.gdb.insert(new)?;
        }
        self.breakpoints = set;
        // The stub would stop at once where it stands. What was injected comes before that, and must not wait for the
        // instruction.
        let injected = std::mem::take(&mut self.injected);
        if self.breakpoints.contains(&self.at) && !injected {
            self.gdb.remove(self.at)?;
            self.gdb.step_from(self.at)?;
            self.gdb.insert(self.at)?;
        }
        let stopped = self.gdb.run(limit)?;
        self.registers = self.gdb.registers()?;
        self.at = self.registers.get(Register::Eip);
        if self.registers.get(Register::Cs) == 0xf000 && self.at == RESET & 0xffff {
            self.at = RESET;
        }
        Ok(match self.at {
            RESET => Stop::Reset,
            at if !stopped => Stop::Nowhere(at),
            at => {
                if at == self.nmi_handler {
                    self.nmis += 1;
                    self.calls[0] += 1;
                } else if at == self.machine_check_handler {
                    self.machine_checks += 1;
                    self.calls[1] += 1;
                } else if at == self.vcpu_destroy {
                    self.ended += 1;
                }
                Stop::At(at, self.registers)
            }
        })
    }

    /// Goes to an address, however many guests it takes.
    fn expect(&mut self, address: u32) -> Result<()> {
        let until = Instant::now() + SLOW;
        while Instant::now() < until {
            match self.go(&[address], SLOW)? {
                Stop::At(at, _) if at == address => return Ok(()),
                Stop::At(..) => {}
                Stop::Reset => bail!("the machine was reset though nothing had been done to it"),
                Stop::Nowhere(at) => bail!("the machine never comes to {address:#x}; it is at {at:#x}"),
            }
        }
        bail!("the machine does not come to {address:#x}")
    }

    /// Writes to the session's log.
    pub fn say(&mut self, line: &str) {
        // Without it only its reader misses something.
        let _ = writeln!(self.log, "{line}");
    }

    /// Begins a new observation.
    pub fn begin(&mut self) {
        (self.nmis, self.machine_checks) = (0, 0);
        self.log_seen = self.log_length();
        self.hear();
    }

    /// Goes to a spot. With `directly` only as long as the guest has not been entered again; returns whether it came
    /// there.
    pub fn reach(&mut self, spot: Spot, directly: bool) -> Result<bool> {
        match spot {
            Spot::Text(offset) => self.reach_text(self.base + offset, directly),
            Spot::Guest => self.reach_guest().map(|()| true),
        }
    }

    fn reach_text(&mut self, address: u32, directly: bool) -> Result<bool> {
        if !directly {
            return self.expect(address).map(|()| true);
        }
        let enter = self.enter();
        loop {
            match self.go(&[address, enter], LOST)? {
                Stop::At(at, _) if at == address => return Ok(true),
                Stop::At(at, _) if at == enter => return Ok(false),
                Stop::At(..) => {}
                Stop::Reset | Stop::Nowhere(_) => return Ok(false),
            }
        }
    }

    /// Goes to where the Switcher has done its work and the guest has another data segment loaded than its frame has, which keeps what
    /// it was left with the last time.
    pub fn reach_work_done(&mut self) -> Result<()> {
        let done = self.base + self.text.work_done()?;
        for _ in 0..10_000 {
            self.expect(done)?;
            let frame = self.registers.get(Register::Ebp) + 2 * PAGE_SIZE - REGS_SIZE;
            let stored = self.gdb.read_word(frame + offset_of!(Regs, ds) as u32)?;
            if (stored ^ self.registers.get(Register::Ds)) & 0xffff != 0 {
                return Ok(());
            }
        }
        bail!("the Switcher does no work with another data segment than the guest was left with")
    }

    /// The data segments that are loaded: ds, es, fs, gs.
    pub fn segments(&self) -> [u32; 4] {
        [Register::Ds, Register::Es, Register::Fs, Register::Gs]
            .map(|segment| self.registers.get(segment) & 0xffff)
    }

    /// The same when the guest is about to be entered next.
    pub fn segments_at_entry(&mut self) -> Result<[u32; 4]> {
        let last = self.base + self.text.last_inwards()?;
        self.expect(last)?;
        Ok(self.segments())
    }

    /// Goes to where a guest is about to execute an instruction.
    fn reach_guest(&mut self) -> Result<()> {
        let last = self.base + self.text.last_inwards()?;
        for _ in 0..1000 {
            self.expect(last)?;
            let target = self.gdb.read_word(self.registers.get(Register::Esp))?;
            // Where that instruction faults at once the host sees that first.
            let enter = self.enter();
            if let Stop::At(at, registers) = self.go(&[target, enter], LOST)?
                && at == target
                && registers.get(Register::Cs) & 3 != 0
            {
                return Ok(());
            }
        }
        bail!("no guest comes to execute an instruction")
    }

    /// Injects where the machine stands.
    pub fn inject(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Nmi => {
                self.injected = true;
                self.monitor.nmi()
            }
            Event::MachineCheck => {
                self.injected = true;
                self.monitor.machine_check()
            }
            Event::Fault(fault) => self.spoil(fault),
            Event::MissingPage => self.miss(),
            Event::Tss(tss) => self.mark(tss),
            Event::Segments => self.move_segments(),
            Event::ClearBuffers => self.clear_buffers(),
        }
    }

    /// Has the Switcher clear the processor's buffers: on the way in by a register, behind a fill by a word of the state page, with
    /// which the instruction compares.
    fn clear_buffers(&mut self) -> Result<()> {
        let instruction = self.text.instructions[&(self.at - self.base)];
        match general(instruction.memory_base()) {
            Some(base) if instruction.mnemonic() == Mnemonic::Cmp => {
                let at = self.registers.get(base).wrapping_add(instruction.memory_displacement32());
                self.gdb.write(at, &1_u32.to_le_bytes())
            }
            _ => self.gdb.set(Register::Esi, 1),
        }
    }

    /// Has the instruction touch the guest's first pages, of which none is mapped.
    fn miss(&mut self) -> Result<()> {
        let offset = self.at - self.base;
        let base = general(self.text.instructions[&offset].memory_base());
        let base = base.with_context(|| format!("`{}` touches no memory", self.text.assembly(offset)))?;
        self.gdb.set(base, 0)
    }

    /// Sets the busy bit of a TSS, or clears it.
    fn mark(&mut self, tss: Tss) -> Result<()> {
        let at = self.tss[usize::from(!tss.is_hosts())];
        let kind = self.gdb.read_physical(at)?;
        if kind != TSS_BUSY && kind != TSS_AVAILABLE {
            bail!("there is no TSS at {at:#x}, but a descriptor of type {kind:#x}");
        }
        self.gdb.write_physical(at, if tss.is_busy() { TSS_BUSY } else { TSS_AVAILABLE })
    }

    /// Loads the data segments with one that begins elsewhere than at 0, as a guest may.
    fn move_segments(&mut self) -> Result<()> {
        self.describe(MOVED_INDEX, Descriptor { low: 0x3000_ffff, high: 0x00cf_f312 })?;
        for segment in [Register::Ds, Register::Es, Register::Fs, Register::Gs] {
            self.gdb.set(segment, (MOVED_INDEX * 8) | 3)?;
        }
        Ok(())
    }

    /// Makes what the instruction is about to load something that cannot be loaded.
    fn spoil(&mut self, fault: Fault) -> Result<()> {
        let esp = self.registers.get(Register::Esp);
        // EIP, CS, EFLAGS, ESP, SS.
        let (code, stack) = (esp + 4, esp + 16);
        match fault {
            Fault::SegmentBeyond => self.replace_segment(0xfffb),
            Fault::SegmentSystem => self.replace_segment(segment::TSS | 3),
            Fault::SegmentAbsent => {
                self.describe(ABSENT_INDEX, Descriptor { low: 0xffff, high: 0x00cf_7300 })?;
                self.replace_segment((ABSENT_INDEX * 8) | 3)
            }
            Fault::CodeBeyond | Fault::StackBeyond | Fault::CodeNull | Fault::StackNull => {
                let of_code = matches!(fault, Fault::CodeBeyond | Fault::CodeNull);
                let beyond = matches!(fault, Fault::CodeBeyond | Fault::StackBeyond);
                let at = if of_code { code } else { stack };
                let ring = self.gdb.read_word(code)? & 3;
                self.gdb.write(at, &(if beyond { 0xfff8 | ring } else { ring }).to_le_bytes())
            }
            Fault::CodeAbsent | Fault::StackAbsent => {
                let ring = self.gdb.read_word(code)? & 3;
                let (at, index, descriptor) = match fault {
                    Fault::CodeAbsent => (code, ABSENT_INDEX, Descriptor { low: 0xffff, high: 0x00cf_1b00 }),
                    _ => (stack, ABSENT_INDEX, Descriptor { low: 0xffff, high: 0x00cf_1300 }),
                };
                self.describe(index, descriptor.with_dpl(ring))?;
                self.gdb.write(at, &((index * 8) | ring).to_le_bytes())
            }
        }
    }

    /// Puts a descriptor into the guest's GDT, one that the host accepts from a guest.
    fn describe(&mut self, index: u32, descriptor: Descriptor) -> Result<()> {
        let at = self.monitor.tables()?.gdt + index * 8;
        self.gdb.write(at, &descriptor.low.to_le_bytes())?;
        self.gdb.write(at + 4, &descriptor.high.to_le_bytes())
    }

    /// Replaces the selector that the instruction is about to load into a segment register.
    fn replace_segment(&mut self, selector: u32) -> Result<()> {
        let offset = self.at - self.base;
        let instruction = self.text.instructions[&offset];
        let Kind::Segment(_, source) = self.text.kind(offset) else {
            bail!("`{}` loads no segment", self.text.assembly(offset))
        };
        match source {
            Source::Stack => {
                let esp = self.registers.get(Register::Esp);
                self.gdb.write(esp, &selector.to_le_bytes())
            }
            Source::Memory => {
                let operand = instruction.op_kinds().position(|kind| kind == OpKind::Memory).unwrap_or(1);
                let registers = self.registers;
                let value =
                    |register: Operand, _, _| Some(general(register).map_or(0, |r| registers.get(r)).into());
                let at = instruction.virtual_address(operand as u32, 0, value);
                let at = at.context("the address of the selector cannot be told")? as u32;
                self.gdb.write(at, &(selector as u16).to_le_bytes())
            }
            Source::Register(register) => {
                let register = general(register).context("the selector is in no general register")?;
                self.gdb.set(register, selector)
            }
            Source::Constant => bail!("`{}` loads a constant", self.text.assembly(offset)),
        }
    }

    /// Lets the machine go on after something was injected, until a guest is about to be entered. What was
    /// interrupted, if anything was, must go on as it was.
    pub fn observe(&mut self, interrupted: bool) -> Result<Observed> {
        let (stood, before) = (self.at, self.registers);
        let enter = self.enter();
        let ended = self.ended;
        let mut changed = None;
        // Where the instruction's turn comes after all, nothing may have changed.
        let mut resumed = !interrupted;
        let fate = loop {
            let wanted = [enter, stood];
            let gone = self.ended > ended;
            let wanted = if resumed || gone { &wanted[..1] } else { &wanted[..] };
            match self.go(wanted, if gone { START } else { LOST })? {
                Stop::At(at, now) if at == stood && !resumed && !gone => {
                    if now.get(Register::Esp) == before.get(Register::Esp) {
                        resumed = true;
                        changed = difference(&before, &now);
                    } else if at == enter {
                        break Fate::GuestWentOn;
                    }
                }
                Stop::At(at, _) if at == enter => {
                    break if gone { Fate::GuestEnded(self.last_word()?) } else { Fate::GuestWentOn };
                }
                Stop::At(..) => {}
                Stop::Reset => break self.reset_reason(),
                Stop::Nowhere(at) => break Fate::Lost(self.describe_place(at)),
            }
        };
        if matches!(fate, Fate::GuestWentOn | Fate::GuestEnded(_)) {
            let expected = [("host", TSS_BUSY), ("guest", TSS_AVAILABLE)];
            for ((name, expected), at) in expected.into_iter().zip(self.tss) {
                let kind = self.gdb.read_physical(at)?;
                if kind != expected {
                    let wrong = format!("the {name}'s TSS is left with type {kind:#x}");
                    changed = Some(changed.map_or(wrong.clone(), |changed| format!("{changed}; {wrong}")));
                }
            }
        }
        Ok(Observed { fate, nmis: self.nmis, machine_checks: self.machine_checks, changed })
    }

    fn describe_place(&self, address: u32) -> String {
        let offset = address.wrapping_sub(self.base);
        if (offset as usize) < self.text.bytes.len() {
            format!("in the Switcher, {}", self.text.place(offset))
        } else {
            format!("at {address:#x}")
        }
    }

    /// Why the machine was reset.
    fn reset_reason(&self) -> Fate {
        let log = fs::read(&self.kernel_log).unwrap_or_default();
        let new = String::from_utf8_lossy(log.get(self.log_seen..).unwrap_or_default()).into_owned();
        match new.lines().find(|line| line.contains("Kernel panic")) {
            Some(line) => Fate::HostPanic(line.trim().to_owned()),
            None => Fate::TripleFault,
        }
    }

    /// Takes in what the console has printed.
    fn hear(&mut self) {
        while let Ok(line) = self.lines.try_recv() {
            self.note(&line);
        }
    }

    fn note(&mut self, line: &str) {
        let Some(word) = line.strip_prefix("@ ended ").map(str::trim) else { return };
        self.last_words.push(word.to_owned());
        // Hostile ones end as they like.
        let mut words = word.split_whitespace();
        let (status, work) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if work.starts_with("test=") && !["0", "120", "125"].contains(&status) {
            self.broken.push(word.to_owned());
        }
    }

    /// The launcher's status and last word of the guest that ended last.
    fn last_word(&mut self) -> Result<String> {
        self.hear();
        loop {
            if let Some(word) = self.last_words.pop() {
                self.last_words.clear();
                return Ok(word);
            }
            match self.lines.recv_timeout(LOST) {
                Ok(line) => self.note(&line),
                Err(RecvTimeoutError::Timeout) => bail!("the console does not say how the guest ended"),
                Err(RecvTimeoutError::Disconnected) => bail!("QEMU has ended"),
            }
        }
    }

    /// The offsets of the text's instructions that the machine comes to, in order of the first time: until it enters
    /// the guest again, or until this many guests have ended.
    ///
    /// With each goes how many guests had ended before.
    pub fn trace(
        &mut self,
        candidates: impl Iterator<Item = u32>,
        guests: usize,
    ) -> Result<Vec<(u32, usize)>> {
        let mut left: BTreeSet<u32> = candidates.map(|offset| self.base + offset).collect();
        let (enter, ended) = (self.enter(), self.ended);
        let mut order = Vec::new();
        // What was injected is not to wait, and the instruction itself may come again.
        loop {
            let wanted: Vec<u32> = left.iter().copied().chain((guests == 0).then_some(enter)).collect();
            let limit = match (guests, self.ended > ended) {
                (0, false) => LOST,
                (0, true) => START,
                _ => SLOW,
            };
            match self.go(&wanted, limit)? {
                Stop::At(at, _) => {
                    if left.remove(&at) {
                        let offset = at - self.base;
                        order.push((offset, self.ended - ended));
                        if self.text.stub(offset).is_some_and(is_external) {
                            // One stands for all, and many breakpoints make the machine slow.
                            let (text, base) = (self.text, self.base);
                            left.retain(|&at| {
                                !text.stub(at - base).is_some_and(is_external)
                                    || text.stub(at - base) == text.stub(offset)
                            });
                        }
                    }
                    if guests == 0 && at == enter || guests > 0 && self.ended >= ended + guests {
                        return Ok(order);
                    }
                }
                Stop::Reset => {
                    self.restore()?;
                    return Ok(order);
                }
                Stop::Nowhere(_) => {
                    self.restore()?;
                    return Ok(order);
                }
            }
        }
    }

    /// Goes back to the beginning.
    pub fn restore(&mut self) -> Result<()> {
        self.monitor.load(BEGINNING)?;
        self.registers = self.gdb.registers()?;
        self.at = self.registers.get(Register::Eip);
        self.injected = false;
        self.calls = [0; 2];
        self.hear();
        self.last_words.clear();
        if self.at != self.enter() {
            bail!("the machine is not where it was kept, but at {:#x}", self.at);
        }
        Ok(())
    }

    /// Has the next guest's start fail, by which the script ends, and leaves the machine alone. Returns how often both
    /// handlers have been called.
    pub fn finish(mut self) -> Result<[u32; 2]> {
        let create = self.vcpu_create;
        self.expect(create)?;
        let esp = self.registers.get(Register::Esp);
        let back = self.gdb.read_word(esp)?;
        self.gdb.set(Register::Eax, 0)?;
        self.gdb.set(Register::Esp, esp + 4)?;
        self.gdb.set(Register::Eip, back)?;
        for address in std::mem::take(&mut self.breakpoints) {
            self.gdb.remove(address)?;
        }
        let calls = self.calls;
        self.gdb.detach()?;
        Ok(calls)
    }
}

/// What differs, in words.
fn difference(before: &Registers, now: &Registers) -> Option<String> {
    const NAMES: [&str; 16] = [
        "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags", "cs", "ss", "ds", "es",
        "fs", "gs",
    ];
    let differing: Vec<String> = NAMES
        .iter()
        .zip(before.0.iter().zip(now.0))
        .filter(|(_, (before, now))| **before != *now)
        .map(|(name, (before, now))| format!("{name} {before:#x} is now {now:#x}"))
        .collect();
    (!differing.is_empty()).then(|| differing.join(", "))
}

/// The debugger's name of a general register.
fn general(register: Operand) -> Option<Register> {
    Some(match register.full_register32() {
        Operand::EAX => Register::Eax,
        Operand::ECX => Register::Ecx,
        Operand::EDX => Register::Edx,
        Operand::EBX => Register::Ebx,
        Operand::ESP => Register::Esp,
        Operand::EBP => Register::Ebp,
        Operand::ESI => Register::Esi,
        Operand::EDI => Register::Edi,
        _ => return None,
    })
}

fn is_external(vector: u8) -> bool {
    vector >= trap::FIRST_EXTERNAL
}

fn hex(word: &str) -> Option<u32> {
    u32::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
}
