//! The list of all tests, in the order in which `all` runs them.

use anyhow::Result;

use crate::{
    Settings, clock, disk, ending, entropy, faults, fpu, memory, modules, network, processes, segments,
    signals, timers, trace,
};

/// One test.
pub struct Test {
    /// The name that selects it.
    pub name: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    /// Whether it is one of `short`.
    pub short: bool,
    /// Whether it runs only when requested by name, because the machine does not outlive it.
    pub alone: bool,
    /// The test itself, run in a process of its own.
    pub run: fn(&Settings) -> Result<()>,
}

type Run = fn(&Settings) -> Result<()>;

/// A quick one.
const fn short(name: &'static str, help: &'static str, run: Run) -> Test {
    Test { name, help, short: true, alone: false, run }
}

/// One that takes its time.
const fn long(name: &'static str, help: &'static str, run: Run) -> Test {
    Test { name, help, short: false, alone: false, run }
}

/// One that the machine does not outlive.
const fn alone(name: &'static str, help: &'static str, run: Run) -> Test {
    Test { name, help, short: false, alone: true, run }
}

/// All tests.
pub const TESTS: &[Test] = &[
    short(
        "memory",
        "memory of several processes against a model: map, protect, drop, move, fork",
        memory::test,
    ),
    short("deep-stack", "a stack that grows to its limit", processes::deep_stack),
    short("exceptions", "divide errors, invalid opcodes, breakpoints, ... as signals", faults::exceptions),
    short("privileged", "a kernel's instructions and ports in user mode", faults::privileged_instructions),
    short("interrupt-vectors", "int with every vector", faults::interrupt_vectors),
    short("allowed", "instructions that user mode may execute", faults::allowed_instructions),
    short("kernel-memory", "the kernel's half of the address space", faults::kernel_memory),
    short("trap-flag", "single steps by the trap flag", faults::trap_flag),
    short("bad-selectors", "selectors of all kinds in every segment register", segments::bad_selectors),
    short("local-table", "segments of all kinds in the LDT", segments::local_table),
    short("small-stack", "system calls on a stack of 16 bits", segments::small_stack),
    short("local-table-switches", "LDTs of several processes", segments::local_table_switches),
    short("thread-areas", "TLS entries of several processes", segments::thread_areas),
    short("fpu-switches", "x87 and SSE registers of several processes", fpu::switches),
    short("fpu-signals", "x87 and SSE registers when signals come", fpu::signals),
    short("interval-timers", "setitimer by three clocks", timers::interval_timers),
    short("posix-timers", "timer_create, values and overruns", timers::posix_timers),
    short("interrupted-sleep", "what is left of a sleep", timers::interrupted_sleep),
    short("signal-queue", "order, values and senders of queued signals", signals::queued),
    short("signal-stack", "nested handlers on a stack of their own", signals::alternate_stack),
    short("signal-ping-pong", "two processes that send each other signals", signals::ping_pong),
    short("stop-and-continue", "a process that is stopped and continued", signals::stop_and_continue),
    short("trace-steps", "ptrace: every step of a function", trace::single_steps),
    long("trace-long-steps", "ptrace: thousands of steps", trace::long_steps),
    short("trace-memory", "ptrace: breakpoints, memory, registers", trace::memory_and_registers),
    short("trace-system-calls", "ptrace: stops at system calls", trace::system_calls),
    short("trace-watchpoint", "ptrace: a debug register", trace::watchpoint),
    short("many-processes", "hundreds of processes", processes::many_processes),
    short("programs", "programs with few and many arguments", processes::programs),
    short("pipes", "streams through pipes", processes::pipes),
    short("sockets", "streams through a pair of sockets", processes::sockets),
    short("futexes", "a lock in memory that processes share", processes::futexes),
    short("threads", "threads, their variables, a lock", processes::threads),
    short("clock-order", "clocks never go back", clock::never_back),
    short("sleeps", "sleeps take as long as asked for", clock::sleeps),
    short("modules", "a kernel module, loaded and unloaded", modules::load_and_unload),
    short("block-device", "a disk past the page cache and through it", disk::block_device),
    short("ext4-on-loop", "an ext4 file system on a loop device", disk::ext4_on_loop),
    short("hwrng", "random numbers from /dev/hwrng", entropy::hwrng),
    short("ping", "echo requests to the peer", network::ping),
    short("transfer", "transfers to the peer and back", network::transfer),
    short("clock-drift", "this machine's clocks against the peer's", clock::drift),
    alone("poweroff", "powers the machine off", ending::power_off),
    alone("reboot", "restarts the machine", ending::restart),
    alone("halt", "halts the machine", ending::halt),
    alone("panic", "makes the kernel panic", ending::crash),
];
