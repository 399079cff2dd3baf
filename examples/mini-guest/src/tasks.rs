//! Processes with their memory and registers: fork, exec, exit, the switch from one to the next.
//!
//! A process that does not run is suspended inside [`schedule`], on its own kernel stack. The switch is
//! Linux's: new page tables, kernel stack and thread-local storage go into the hypercall ring, and one
//! `FLUSH_ASYNC` has the host do all three.

use crate::descriptors::{USER_CS, USER_DS, tls_descriptor};
use crate::fpu::Registers;
use crate::ram::Ram;
use crate::state::{Kernel, kernel};
use crate::traps::TrapFrame;
use crate::{forged, host, image};
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::hypercall::Hypercall;
use arch_i386::lguest_data::IRQ_ENABLED;
use arch_i386::paging::Entry;
use arch_i386::segment::{Descriptor, GUEST_DS, index};
use core::arch::{asm, global_asm};
use mini_guest::frames::OutOfFrames;
use mini_guest::page_tables::AnyPageTables;
use mini_guest::processes::{IDLE, Pid, Waited};
use mini_guest::regions::Regions;
use mini_programs::abi::{MAX_PROCESSES, STACK_SIZE as USER_STACK_SIZE, STACK_TOP, WaitStatus};

/// Bytes of a kernel stack: two pages, as in Linux.
pub const STACK_SIZE: u32 = 2 * PAGE_SIZE;

/// Bytes left free above a process's trap frame, as Linux leaves them: the host has translated the
/// stack's end as an address of its own at times, and here it is one.
const STACK_RESERVE: u32 = 8;

/// A kernel stack.
#[repr(C, align(4096))]
pub struct Stack([u32; STACK_SIZE as usize / 4]);

/// One for each process; the first is the kernel's own, from boot on.
pub static mut STACKS: [Stack; MAX_PROCESSES] =
    [const { Stack([0; STACK_SIZE as usize / 4]) }; MAX_PROCESSES];

/// Memory and registers of a process.
#[derive(Debug)]
pub struct Task {
    /// Its page tables; the kernel's own process uses the kernel's.
    pub tables: Option<AnyPageTables>,
    /// Its regions.
    pub regions: Regions,
    /// Its FPU registers, if it has used the FPU and does not own it now.
    pub fpu: Option<Registers>,
    /// Its thread-local-storage segments.
    tls: [Descriptor; index::TLS_ENTRIES],
    /// Its %gs and %fs, which the kernel leaves alone while it works for it.
    gs: u32,
    fs: u32,
    /// Where it is suspended.
    stack_pointer: u32,
}

impl Task {
    /// No process.
    pub const EMPTY: Self = Self {
        tables: None,
        regions: Regions::new(),
        fpu: None,
        tls: [Descriptor { low: 0, high: 0 }; index::TLS_ENTRIES],
        gs: 0,
        fs: 0,
        stack_pointer: 0,
    };
}

global_asm!(
    r#"
    // switch_stacks(suspend, resume): stores where this process is suspended, and resumes another.
switch_stacks:
    movl    4(%esp), %eax
    movl    8(%esp), %edx
    pushl   %ebp
    pushl   %ebx
    pushl   %esi
    pushl   %edi
    movl    %esp, (%eax)
    movl    %edx, %esp
    popl    %edi
    popl    %esi
    popl    %ebx
    popl    %ebp
    ret
    "#,
    options(att_syntax),
);

unsafe extern "C" {
    fn switch_stacks(suspend: *mut u32, resume: u32);
    static trap_return: u8;
}

/// What `switch_stacks` pops, for a process that has not run yet: it resumes on its way back from a trap.
#[repr(C)]
struct FirstResume {
    callee_saved: [u32; 4],
    resume_at: u32,
    frame: TrapFrame,
}

/// The end of a process's kernel stack, as reported to the host.
pub fn stack_end(pid: Pid) -> u32 {
    let stacks = (&raw mut STACKS).expose_provenance() as u32;
    stacks + (pid as u32 + 1) * STACK_SIZE - STACK_RESERVE
}

/// Lets the next process run, and returns when it is the caller's turn again.
pub fn schedule() {
    let switch = kernel().prepare_switch();
    if let Some((suspend, resume)) = switch {
        // SAFETY: both lie in the table of tasks and are this code's only; `resume` is where the next
        // process was suspended or prepared, on its own stack, and everything else is the next one's.
        unsafe { switch_stacks(suspend, resume) };
    }
}

/// The kernel's own process: hands the processor to any process that is ready, and sleeps while none is.
pub fn idle() -> ! {
    loop {
        if kernel().processes.anyone_waits() {
            schedule();
        } else {
            // Interrupts are let in by the host when one comes; its handler has run when this returns.
            host::call(Hypercall::Halt, [0; 3]);
            host::disable_interrupts();
        }
    }
}

/// Ends the current process.
pub fn exit(status: WaitStatus) -> ! {
    forged::undo();
    {
        let mut kernel = kernel();
        let current = kernel.processes.current();
        assert!(current != INIT, "init has ended: {status:?}");
        kernel.clear_user_half(current);
        kernel.fpu_forget(current);
        kernel.processes.end(status);
    }
    schedule();
    unreachable!("a process that has ended runs")
}

/// The id of the first process.
const INIT: Pid = 1;

impl Kernel {
    /// Chooses the next process and has the host switch to it. Returns where to store the stack pointer of
    /// the last one, and the stack pointer of the next; `None` when it is the same.
    fn prepare_switch(&mut self) -> Option<(*mut u32, u32)> {
        while let Some(orphan) = self.processes.take_ended_orphan() {
            self.free_task(orphan);
        }
        let last = self.processes.current();
        let next = self.processes.switch();
        if last == next {
            return None;
        }
        self.switches = self.switches.wrapping_add(1);

        // The host must not find a selector of the last process's segments in use when it replaces them.
        (self.tasks[last].gs, self.tasks[last].fs) = (read_gs(), read_fs());
        load_segments(0, 0);

        let kernel_root = self.memory().tables.root();
        let task = &self.tasks[next];
        let root = task.tables.as_ref().map_or(kernel_root, AnyPageTables::root);
        host::queue(Hypercall::NewPgtable, [root.0, 0, 0, 0]);
        // The lower page of a kernel stack may fault in, so it may be left out: half of the processes do.
        let pages = 1 + next as u32 % 2;
        host::queue(Hypercall::SetStack, [GUEST_DS, stack_end(next), pages, 0]);
        host::queue(Hypercall::LoadTls, [host::physical(&raw const task.tls).0, 0, 0, 0]);
        self.fpu_switch(next);
        host::flush_queue();

        let task = &self.tasks[next];
        load_segments(task.gs, task.fs);
        let resume = task.stack_pointer;
        Some((&raw mut self.tasks[last].stack_pointer, resume))
    }

    /// A process with a fresh program, which has not run yet.
    pub fn create_init(&mut self) {
        let pid = INIT;
        let memory = self.memory();
        let tables = memory.tables.beside(&mut Ram, &mut memory.frames);
        self.tasks[pid].tables = Some(tables.unwrap_or_else(|error| panic!("init's page tables: {error}")));
        self.tasks[pid].regions = image::regions();
        self.suspend_at_return(pid, &fresh_frame(0, 0));
        self.processes.create(pid);
    }

    /// A copy of the current process, whose registers are in `frame`.
    pub fn fork(&mut self, frame: &TrapFrame) -> Option<Pid> {
        let current = self.processes.current();
        let child = self.processes.free_pid()?;
        self.tasks[child].tables = Some(self.copy_memory(current).ok()?);
        self.tasks[child].regions = self.tasks[current].regions.clone();
        self.tasks[child].tls = self.tasks[current].tls;
        (self.tasks[child].gs, self.tasks[child].fs) = (read_gs(), read_fs());
        self.fpu_fork(current, child);
        self.suspend_at_return(child, &TrapFrame { eax: 0, ..*frame });
        self.processes.create(child);
        Some(child)
    }

    /// Page tables that share every page of process `pid`.
    fn copy_memory(&mut self, pid: Pid) -> Result<AnyPageTables, OutOfFrames> {
        let memory = self.memory.as_mut().expect("memory is there before the first process");
        let parent = self.tasks[pid].tables.as_ref().expect("only processes with memory fork");
        let regions = &self.tasks[pid].regions;
        host::batch(|| {
            let mut child = memory.tables.beside(&mut Ram, &mut memory.frames)?;
            match parent.share_with(&mut child, regions.ranges(), &mut Ram, &mut memory.frames) {
                Ok(()) => Ok(child),
                Err(out) => {
                    child.clear_user(regions.ranges(), &mut Ram, &mut memory.frames);
                    child.free(&mut Ram, &mut memory.frames);
                    Err(out)
                }
            }
        })
    }

    /// The page directory of the current process, which is not the kernel's own.
    pub fn root(&self) -> GuestPhys {
        let tables = self.tasks[self.processes.current()].tables.as_ref();
        tables.expect("a process has page tables").root()
    }

    /// Where the thread-local-storage descriptors of the current process are, as LOAD_TLS takes them.
    pub fn tls(&self) -> GuestPhys {
        host::physical(&raw const self.tasks[self.processes.current()].tls)
    }

    /// Replaces the current process's memory and registers by those of a fresh program.
    pub fn exec(&mut self, frame: &mut TrapFrame, program: u32, argument: u32) {
        let current = self.processes.current();
        self.clear_user_half(current);
        self.fpu_forget(current);
        load_segments(0, 0);
        self.set_tls(0);
        self.tasks[current].regions = image::regions();
        *frame = fresh_frame(program, argument);
    }

    /// Makes the current process's first thread-local-storage segment start at `base`; takes it away for 0.
    pub fn set_tls(&mut self, base: u32) {
        let task = &mut self.tasks[self.processes.current()];
        task.tls[0] = if base == 0 { Descriptor::default() } else { tls_descriptor(base) };
        host::call(Hypercall::LoadTls, [host::physical(&raw const task.tls).0, 0, 0]);
    }

    /// The current process waits for a child; what has ended is given back.
    pub fn wait(&mut self) -> Waited {
        let waited = self.processes.wait();
        if let Waited::Child(pid, _) = waited {
            self.free_task(pid);
        }
        waited
    }

    /// Fresh memory for the current process, and where it is.
    pub fn mmap(&mut self, length: u32) -> Option<u32> {
        let regions = &mut self.tasks[self.processes.current()].regions;
        regions.add_anywhere(length, STACK_TOP - USER_STACK_SIZE).ok()
    }

    /// Takes memory away from the current process; whether it was a range of whole pages.
    pub fn munmap(&mut self, address: u32, length: u32) -> bool {
        /// From this many pages on, one flush is cheaper than notifying the host of each.
        const FLUSH_ABOVE: u32 = 32;
        let current = self.processes.current();
        let Some(end) = length.checked_next_multiple_of(PAGE_SIZE).and_then(|l| address.checked_add(l))
        else {
            return false;
        };
        if self.tasks[current].regions.remove(address..end).is_err() {
            return false;
        }
        let memory = self.memory.as_mut().expect("memory is there before the first process");
        let tables = self.tasks[current].tables.as_ref().expect("only processes with memory call");
        let flush = (end - address) / PAGE_SIZE > FLUSH_ABOVE;
        host::batch(|| {
            for page in (address..end).step_by(PAGE_SIZE as usize).map(GuestVirt) {
                let entry = tables.replace(&mut Ram, page, Entry::EMPTY);
                if entry.present() {
                    memory.frames.release(GuestFrame(entry.frame() as u32));
                    if !flush {
                        let args = host::set_pte_args(tables.root(), page.0, Entry::EMPTY);
                        host::page_table_call(Hypercall::SetPte, args);
                    }
                }
            }
            if flush {
                host::queue(Hypercall::FlushTlb, [0; 4]);
            }
        });
        true
    }

    /// Takes all memory from the current process. The host forgets it too.
    fn clear_user_half(&mut self, current: Pid) {
        let memory = self.memory.as_mut().expect("memory is there before the first process");
        let Task { tables, regions, .. } = &mut self.tasks[current];
        let tables = tables.as_mut().expect("only processes with memory end");
        tables.clear_user(regions.ranges(), &mut Ram, &mut memory.frames);
        host::call(Hypercall::FlushTlb, [0; 3]);
    }

    /// Gives back what is left of a process that has ended.
    fn free_task(&mut self, pid: Pid) {
        let task = core::mem::replace(&mut self.tasks[pid], Task::EMPTY);
        let memory = self.memory();
        task.tables.expect("every process has page tables").free(&mut Ram, &mut memory.frames);
    }

    /// Has a process resume by returning from a trap with these registers.
    fn suspend_at_return(&mut self, pid: Pid, frame: &TrapFrame) {
        let at = stack_end(pid) - size_of::<FirstResume>() as u32;
        let first = FirstResume {
            callee_saved: [0; 4],
            resume_at: (&raw const trap_return).addr() as u32,
            frame: *frame,
        };
        // SAFETY: inside the stack of a process that does not run, and aligned as its end is.
        unsafe { core::ptr::with_exposed_provenance_mut::<FirstResume>(at as usize).write(first) };
        self.tasks[pid].stack_pointer = at;
    }
}

/// The registers of a program that was just started.
fn fresh_frame(program: u32, argument: u32) -> TrapFrame {
    TrapFrame {
        ebx: argument,
        ecx: 0,
        edx: 0,
        esi: 0,
        edi: 0,
        ebp: 0,
        eax: program,
        ds: USER_DS,
        es: USER_DS,
        vector: 0,
        error: 0,
        eip: image::entry(),
        cs: USER_CS,
        eflags: IRQ_ENABLED | 2,
        esp: STACK_TOP,
        ss: USER_DS,
    }
}

fn read_gs() -> u32 {
    let gs;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, gs", out(reg) gs, options(nomem, nostack, preserves_flags)) };
    gs
}

fn read_fs() -> u32 {
    let fs;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, fs", out(reg) fs, options(nomem, nostack, preserves_flags)) };
    fs
}

/// Loads %gs and %fs with selectors that are 0 or that the current process has had there.
fn load_segments(gs: u32, fs: u32) {
    // SAFETY: the kernel uses neither.
    unsafe {
        asm!("mov gs, {0}", "mov fs, {1}", in(reg) gs, in(reg) fs, options(nomem, nostack, preserves_flags));
    }
}

// The kernel's own stack is the first, where `boot` has put its stack pointer.
const _: () = assert!(IDLE == 0);
