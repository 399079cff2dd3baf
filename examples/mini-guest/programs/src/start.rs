//! The programs' entry, `init`, and the way to fail.

use crate::{faults, hostile, machine, memory, workloads};
use core::arch::global_asm;
use core::panic::PanicInfo;
use mini_programs::abi::{Effort, FAILED, HostileAct, KernelTest, Ring, RunOptions, Workload};
use mini_programs::println;
use mini_programs::user::{self, Forked};

// The kernel starts every program with its number in eax, the argument in ebx and a fresh stack.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "push ebx",
    "push eax",
    "call {main}",
    "ud2",
    main = sym main,
);

/// The program that [`init`] is.
const INIT: u32 = 0;

extern "C" fn main(program: u32, argument: u32) -> ! {
    match program {
        INIT => init(),
        memory::EXEC_TARGET => memory::exec_target(argument),
        workloads::COMPILER => workloads::compile(argument),
        _ => fail(format_args!("there is no program {program}")),
    }
}

/// Prints what went wrong and ends the guest with result 1.
pub fn fail(what: core::fmt::Arguments<'_>) -> ! {
    println!("mini: FAILED in process {}: {what}", user::getpid());
    user::shutdown(1)
}

/// Fails with a formatted message unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            $crate::start::fail(format_args!($($message)*));
        }
    };
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"))
}

/// Runs `child` in a new process and returns its id.
pub fn spawn(child: impl FnOnce() -> u32) -> u32 {
    match user::fork() {
        Some(Forked::Child) => user::exit(child()),
        Some(Forked::Parent(pid)) => pid,
        None => fail(format_args!("fork failed: no memory or no process left")),
    }
}

/// Waits for `count` children, all of which have to exit with code 0.
pub fn reap(count: u32) {
    for _ in 0..count {
        match user::wait() {
            Some((_, status)) if status.killed == 0 && status.code == 0 => {}
            Some((pid, status)) => fail(format_args!("process {pid} ended with {status:?}")),
            None => fail(format_args!("a child is missing")),
        }
    }
}

/// A small generator (xorshift32, Marsaglia 2003), good enough to choose pages.
pub struct Random(u32);

impl Random {
    /// Starts from any seed.
    pub fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % bound
    }
}

/// A test's name and what it does; it returns only when it passed.
type Test = (&'static str, fn(&RunOptions));

const TESTS: &[Test] = &[
    ("demand-zero", memory::demand_zero),
    ("fork", memory::fork_isolates),
    ("nested-forks", memory::nested_forks),
    ("mmap-reuse", memory::mmap_reuse),
    ("exec", memory::exec_replaces),
    ("kernel-writes-user", memory::kernel_writes_copy_on_write),
    ("page-faults", faults::page_faults),
    ("fault-registers", faults::registers),
    ("fault-handlers", faults::handlers),
    ("fault-stacks", faults::stacks),
    ("exceptions", faults::exceptions),
    ("fpu", machine::fpu),
    ("tls", machine::thread_local_storage),
    ("semaphores", machine::semaphores),
    ("preemption", machine::preemption),
    ("clock", machine::clock),
    ("port-io", |_| kernel(KernelTest::PortIo)),
    ("pci-console", |_| kernel(KernelTest::PciConsole)),
    ("privileged-instructions", |_| kernel(KernelTest::PrivilegedInstructions)),
    ("ring-overflow", |_| kernel(KernelTest::RingOverflow)),
    ("accessed-dirty", |_| kernel(KernelTest::AccessedDirty)),
    ("read-only-kernel", |_| kernel(KernelTest::ReadOnlyKernel)),
    ("unmapped-kernel", |_| kernel(KernelTest::UnmappedKernel)),
    ("moved-tables", |_| kernel(KernelTest::MovedTables)),
    ("user-entries", |_| kernel(KernelTest::UserEntries)),
    ("switch-to", |_| kernel(KernelTest::SwitchTo)),
    ("flush-user-of", |_| kernel(KernelTest::FlushUserOf)),
    ("interrupt-flag", |_| kernel(KernelTest::InterruptFlag)),
    ("halt", |_| kernel(KernelTest::HaltWakes)),
    ("processes", memory::many_processes),
];

/// A test that the kernel runs; it has printed the reason when it failed.
fn kernel(test: KernelTest) {
    ensure!(user::kernel_test(test), "the kernel's test {test:?}");
}

fn init() -> ! {
    let options = user::options();
    if options.hostile != FAILED {
        let Some(act) = HostileAct::from_number(options.hostile) else {
            fail(format_args!("there is no hostile act {}", options.hostile))
        };
        println!("mini: hostile {}", act.name());
        match act.ring() {
            Ring::Kernel => user::hostile(act),
            Ring::User => hostile::commit(act),
        }
        println!("mini: survived {}", act.name());
    }
    if options.effort != Effort::None {
        for (name, run) in TESTS {
            run(&options);
            println!("mini: ok {name}");
        }
    }
    if options.measure {
        workloads::measure_some(&options);
    }
    if let Some(workload) = Workload::from_number(options.workload) {
        workloads::measure(workload, &options);
    }
    if options.spin {
        memory::spin(&options);
    }
    if options.crash {
        user::crash();
    }
    println!("mini: {} context switches, {} clock interrupts", user::switches(), user::ticks());
    user::shutdown(options.result)
}
