//! What programs request.
//!
//! System calls come by a trap gate, straight from ring 3. What a program passes is checked against its
//! regions; then the kernel uses the memory as it is, and its own page faults there are fixed like the
//! program's.

use crate::state::kernel;
use crate::traps::TrapFrame;
use crate::{console, host, hostile, scratch, selftest, tasks};
use arch_i386::hypercall::Hypercall;
use core::mem::MaybeUninit;
use mini_guest::processes::Waited;
use mini_programs::abi::{FAILED, HostileAct, KernelMapping, KernelTest, SEMAPHORES, Syscall, WaitStatus};

/// Bytes of text that are copied at a time.
const CHUNK: usize = 128;

/// A system call of the current process.
pub fn handle(frame: &mut TrapFrame) {
    let [a, b] = [frame.ebx, frame.ecx];
    let Some(call) = Syscall::from_number(frame.eax) else {
        frame.eax = FAILED;
        return;
    };
    frame.eax = match call {
        Syscall::GetPid => kernel().processes.current() as u32,
        Syscall::Yield => {
            tasks::schedule();
            0
        }
        Syscall::Write => write(a, b),
        Syscall::Exit => tasks::exit(WaitStatus { killed: 0, code: a, error: 0, address: 0 }),
        Syscall::Fork => kernel().fork(frame).map_or(FAILED, |pid| pid as u32),
        Syscall::Wait => wait(a),
        Syscall::Mmap => kernel().mmap(a).unwrap_or(FAILED),
        Syscall::Munmap => result(kernel().munmap(a, b)),
        Syscall::Exec => {
            kernel().exec(frame, a, b);
            return;
        }
        Syscall::SemWait if (a as usize) < SEMAPHORES => {
            let taken = kernel().processes.sem_wait(a as usize);
            if !taken {
                tasks::schedule();
            }
            0
        }
        Syscall::SemPost if (a as usize) < SEMAPHORES => {
            kernel().processes.sem_post(a as usize);
            0
        }
        Syscall::SemWait | Syscall::SemPost => FAILED,
        Syscall::SetTls => {
            kernel().set_tls(a);
            crate::descriptors::TLS
        }
        Syscall::Sleep => {
            kernel().processes.sleep(a);
            tasks::schedule();
            0
        }
        Syscall::Ticks => kernel().processes.ticks(),
        Syscall::Switches => kernel().switches,
        Syscall::Options => {
            let options = kernel().options();
            result(store(a, options))
        }
        Syscall::KernelPages => result(scratch::verify_and_change()),
        Syscall::KernelTest => KernelTest::from_number(a).map_or(FAILED, |test| result(selftest::run(test))),
        Syscall::NullHypercalls => null_hypercalls(a),
        Syscall::Hostile => HostileAct::from_number(a).map_or(FAILED, |act| {
            hostile::commit(act);
            0
        }),
        Syscall::Shutdown => console::exit(a),
        Syscall::Panic => panic!("a crash was asked for"),
        Syscall::WallClock => host::wall_clock(),
        Syscall::TscKhz => host::tsc_khz(),
        Syscall::MapKernelPages => KernelMapping::from_number(a).map_or(FAILED, |how| {
            scratch::map_for_a_moment(how);
            0
        }),
    };
}

fn result(success: bool) -> u32 {
    if success { 0 } else { FAILED }
}

/// Prints a program's text.
fn write(address: u32, length: u32) -> u32 {
    if !may_use(address, length, false) {
        return FAILED;
    }
    for start in (0..length).step_by(CHUNK) {
        let mut chunk = [0; CHUNK];
        let chunk = &mut chunk[..CHUNK.min((length - start) as usize)];
        for (byte, at) in chunk.iter_mut().zip(address + start..) {
            // SAFETY: the program may read there, and nobody else writes there.
            *byte = unsafe { core::ptr::with_exposed_provenance::<u8>(at as usize).read_volatile() };
        }
        for part in chunk.utf8_chunks() {
            console::print_str(part.valid());
        }
    }
    0
}

/// Waits for a child and stores how it ended.
fn wait(address: u32) -> u32 {
    loop {
        let waited = kernel().wait();
        match waited {
            Waited::Child(pid, status) => {
                return if store(address, status) { pid as u32 } else { FAILED };
            }
            Waited::Blocked => tasks::schedule(),
            Waited::NoChildren => return FAILED,
        }
    }
}

/// Stores a value in a program's memory; whether the program may write there.
fn store<T: Copy>(address: u32, value: T) -> bool {
    let to = core::ptr::with_exposed_provenance_mut::<MaybeUninit<T>>(address as usize);
    if !may_use(address, size_of::<T>() as u32, true) || !to.is_aligned() {
        return false;
    }
    // SAFETY: aligned, and the program may write there; nobody else uses its memory meanwhile.
    unsafe { to.write_volatile(MaybeUninit::new(value)) };
    true
}

/// Whether the current process has these addresses.
fn may_use(address: u32, length: u32, write: bool) -> bool {
    let kernel = kernel();
    kernel.tasks[kernel.processes.current()].regions.allow(address, length, write)
}

/// The time-stamp ticks of `count` empty hypercalls.
fn null_hypercalls(count: u32) -> u32 {
    // Interrupts are off here, and one that waits makes each entry into the guest dearer; when it comes would decide how many.
    host::stop_clock();
    let start = host::rdtsc();
    for _ in 0..count {
        // With no interrupt that waits, the one that does nothing and is never done without the host.
        host::call(Hypercall::SendInterrupts, [0; 3]);
    }
    let taken = host::rdtsc() - start;
    host::arm_clock();
    u32::try_from(taken).unwrap_or(u32::MAX)
}
