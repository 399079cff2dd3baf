//! The workloads: what each repeats, and how often.

use core::ffi::CStr;

use crate::NOTHING;
use crate::output::Line;
use crate::system::{self, Child, End, Errno, Forked, Memory, exec, fork, getppid, now, pipe};

/// The longest ring of processes.
const RING_MAX: usize = 16;
/// This program itself.
const MYSELF: &CStr = c"/proc/self/exe";

/// Something to repeat and to measure.
pub struct Workload {
    /// The name that selects it.
    pub name: &'static str,
    operations: u32,
    repeat: fn(u32) -> Result<(), Failure>,
}

/// Why a workload could not be measured.
enum Failure {
    /// A system call refused.
    Refused(Errno),
    /// A process of it did not end as it should.
    Child(i32),
    /// A pipe did not pass a byte on.
    Pipe,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Refused(errno)
    }
}

/// All of them, in the order in which `all` runs them.
pub const WORKLOADS: &[Workload] = &[
    // The cheapest system call.
    Workload { name: "getpid", operations: 1_000_000, repeat: system_call },
    // A byte that goes round a ring of processes: a hop is a write, a switch and a read.
    Workload { name: "ctx2", operations: 20_000, repeat: ring::<2> },
    Workload { name: "ctx4", operations: 20_000, repeat: ring::<4> },
    Workload { name: "ctx6", operations: 19_998, repeat: ring::<6> },
    Workload { name: "ctx16", operations: 16_000, repeat: ring::<16> },
    // A process is made and ends at once.
    Workload { name: "fork", operations: 1000, repeat: forks },
    // A process is made and writes to each of 256 pages that it shares with its parent.
    Workload { name: "cow256", operations: 100, repeat: copy_on_write },
    // 1000 pages are mapped, written to and unmapped.
    Workload { name: "mmap1000", operations: 40, repeat: map_and_unmap },
    // A process is made and becomes another program: this one, which then ends at once.
    Workload { name: "exec", operations: 300, repeat: execs },
];

impl Workload {
    /// Measures `percent` of the usual number of operations and prints the result; whether that worked. With
    /// `marked`, a tenth as many come before, to warm up, and a line on standard error marks where what is measured
    /// begins, and another where it ends.
    pub fn measure(&self, percent: u32, marked: bool) -> bool {
        let operations = (u64::from(self.operations) * u64::from(percent) / 100).max(1) as u32;
        let result = match marked {
            true => (self.repeat)((operations / 10).max(1)),
            false => Ok(()),
        };
        if marked {
            mark("begin", self.name).mark();
        }
        let begun = now();
        system::begin_count();
        let result = result.and_then(|()| (self.repeat)(operations));
        system::end_count();
        let ended = now();
        let line = Line::new();
        let failed = |line: Line, why| line.text("bench: FAILED ").text(self.name).text(": ").text(why);
        match result.and_then(|()| Ok(ended? - begun?)) {
            Ok(took) => {
                line.text("bench ").text(self.name).number(operations.into()).number(took).print();
                if marked {
                    let end = mark("end", self.name).text(" operations=").digits(operations.into());
                    // The clock's unit is the nanosecond, so it goes at a million kHz.
                    end.text(" ticks=").digits(took).text(" tsc_khz=1000000").mark();
                }
                return true;
            }
            Err(Failure::Refused(errno)) => {
                failed(line, "a system call was refused with errno").number(errno.0.into()).print();
            }
            Err(Failure::Child(status)) => {
                failed(line, "a process ended with wait status").number(status as u64).print();
            }
            Err(Failure::Pipe) => failed(line, "a pipe lost a byte").print(),
        }
        false
    }
}

/// The beginning of a mark. The kernel takes what is before it for the message's level if standard error is its log:
/// one that it prints however quiet it is set to be.
fn mark(which: &str, name: &str) -> Line {
    Line::new().text("<0>span ").text(which).text(" ").text(name)
}

fn system_call(operations: u32) -> Result<(), Failure> {
    for _ in 0..operations {
        getppid();
    }
    Ok(())
}

/// `operations` hops of a byte round `N` processes, as many whole rounds as there are in them.
fn ring<const N: usize>(operations: u32) -> Result<(), Failure> {
    const { assert!(N >= 2 && N <= RING_MAX) }
    let rounds = operations / N as u32;
    let mut pipes = [None; N];
    for place in &mut pipes {
        *place = Some(pipe()?);
    }
    let ends = |index: usize| pipes[index % N].ok_or(Failure::Pipe);
    let mut children: [Option<Child>; N] = [const { None }; N];
    for (index, place) in children.iter_mut().enumerate().skip(1) {
        let ([from, _], [_, to]) = (ends(index)?, ends(index + 1)?);
        match fork()? {
            Forked::Child => system::exit(i32::from(!pass_on(from, to, rounds))),
            Forked::Parent(child) => *place = Some(child),
        }
    }
    let ([from, _], [_, to]) = (ends(0)?, ends(1)?);
    for _ in 0..rounds {
        if !to.put() || !from.take() {
            return Err(Failure::Pipe);
        }
    }
    for child in children.into_iter().flatten() {
        ended_well(child)?;
    }
    for [from, to] in pipes.into_iter().flatten() {
        from.close();
        to.close();
    }
    Ok(())
}

fn pass_on(from: End, to: End, rounds: u32) -> bool {
    (0..rounds).all(|_| from.take() && to.put())
}

fn forks(operations: u32) -> Result<(), Failure> {
    each_in_a_child(operations, || 0)
}

fn copy_on_write(operations: u32) -> Result<(), Failure> {
    let memory = Memory::map(256)?;
    memory.touch(1);
    each_in_a_child(operations, || {
        memory.touch(2);
        0
    })
}

fn map_and_unmap(operations: u32) -> Result<(), Failure> {
    for _ in 0..operations {
        Memory::map(1000)?.touch(1);
    }
    Ok(())
}

fn execs(operations: u32) -> Result<(), Failure> {
    each_in_a_child(operations, || {
        exec(MYSELF, NOTHING);
        127
    })
}

/// Makes a process that does `work` and ends with its result, and waits for it, `operations` times.
fn each_in_a_child(operations: u32, work: impl Fn() -> i32) -> Result<(), Failure> {
    for _ in 0..operations {
        match fork()? {
            Forked::Child => system::exit(work()),
            Forked::Parent(child) => ended_well(child)?,
        }
    }
    Ok(())
}

fn ended_well(child: Child) -> Result<(), Failure> {
    match child.wait()? {
        0 => Ok(()),
        status => Err(Failure::Child(status)),
    }
}
