//! Who runs, who waits for what, who is whose child.
//!
//! This is the life of processes without their memory and registers: a table of states, a queue of those
//! that could run, and semaphores. Process 0 is the kernel's own: it runs when nobody else can.

use heapless::Deque;
use mini_programs::abi::{MAX_PROCESSES, SEMAPHORES, WaitStatus};

/// A process id: an index into all tables of processes.
pub type Pid = usize;

/// The kernel's own process, which has no program and is never in the queue.
pub const IDLE: Pid = 0;

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// It runs, or waits in the queue for its turn.
    Runnable,
    /// Until a child has ended.
    WaitsForChild,
    /// Until it comes first among those who wait for a semaphore.
    WaitsForSemaphore,
    /// Until that many clock interrupts have happened.
    Sleeps(u32),
    /// It has ended and its parent has not waited for it yet.
    Ended(WaitStatus),
}

#[derive(Clone, Copy, Debug)]
struct Process {
    state: State,
    parent: Pid,
}

/// What a process that waits for its children finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// One had ended; its id is free again.
    Child(Pid, WaitStatus),
    /// They all run; the caller has been taken off the processor until one ends.
    Blocked,
    /// There are none.
    NoChildren,
}

/// Processes in the order in which they came.
type Queue = Deque<Pid, MAX_PROCESSES>;

#[derive(Debug)]
struct Semaphore {
    count: u32,
    /// Invariant: empty while `count` is above 0.
    waiting: Queue,
}

/// The table of processes.
#[derive(Debug)]
pub struct Processes {
    table: [Process; MAX_PROCESSES],
    /// Those that could run but do not.
    /// Invariant: each is `Runnable` and here once; neither `current` nor [`IDLE`] is here.
    queue: Queue,
    semaphores: [Semaphore; SEMAPHORES],
    /// How many processes [`Processes::take_ended_orphan`] would find, the current one included.
    ended_orphans: u32,
    current: Pid,
    ticks: u32,
}

impl Default for Processes {
    fn default() -> Self {
        Self::new()
    }
}

impl Processes {
    /// The idle process, and nobody else.
    #[must_use]
    pub const fn new() -> Self {
        let mut table = [Process { state: State::Free, parent: IDLE }; MAX_PROCESSES];
        table[IDLE].state = State::Runnable;
        Self {
            table,
            queue: Queue::new(),
            semaphores: [const { Semaphore { count: 0, waiting: Queue::new() } }; SEMAPHORES],
            ended_orphans: 0,
            current: IDLE,
            ticks: 0,
        }
    }

    /// Who runs.
    #[must_use]
    pub fn current(&self) -> Pid {
        self.current
    }

    /// How many clock interrupts there have been.
    #[must_use]
    pub fn ticks(&self) -> u32 {
        self.ticks
    }

    /// An id for a new process; `None` when all are taken.
    #[must_use]
    pub fn free_pid(&self) -> Option<Pid> {
        self.table.iter().position(|process| process.state == State::Free)
    }

    /// A new child of the current process, which takes its turn after all others. `pid` is free.
    pub fn create(&mut self, pid: Pid) {
        debug_assert!(self.table[pid].state == State::Free);
        self.table[pid].parent = self.current;
        self.make_runnable(pid);
    }

    /// The current process has ended. It runs no more, but its id stays taken until its parent waits for
    /// it; its children become the kernel's, which takes them by [`Processes::take_ended_orphan`].
    pub fn end(&mut self, status: WaitStatus) {
        let ended = self.current;
        assert!(ended != IDLE, "the idle process cannot end");
        self.table[ended].state = State::Ended(status);
        for process in self.table.iter_mut().filter(|process| process.parent == ended) {
            process.parent = IDLE;
            self.ended_orphans += u32::from(matches!(process.state, State::Ended(_)));
        }
        let parent = self.table[ended].parent;
        self.ended_orphans += u32::from(parent == IDLE);
        if self.table[parent].state == State::WaitsForChild {
            self.make_runnable(parent);
        }
    }

    /// A process that has ended, is not current any more, and has no parent left to wait for it; its id is
    /// free again.
    pub fn take_ended_orphan(&mut self) -> Option<Pid> {
        if self.ended_orphans == 0 {
            return None;
        }
        let pid = (1..MAX_PROCESSES).find(|&pid| {
            matches!(self.table[pid], Process { state: State::Ended(_), parent: IDLE }) && pid != self.current
        })?;
        self.table[pid].state = State::Free;
        self.ended_orphans -= 1;
        Some(pid)
    }

    /// The current process waits for a child.
    pub fn wait(&mut self) -> Waited {
        let mut any = false;
        for pid in 0..MAX_PROCESSES {
            let Process { state, parent } = self.table[pid];
            if pid == IDLE || state == State::Free || parent != self.current {
                continue;
            }
            any = true;
            if let State::Ended(status) = state {
                self.table[pid].state = State::Free;
                return Waited::Child(pid, status);
            }
        }
        if any {
            self.block(State::WaitsForChild);
            Waited::Blocked
        } else {
            Waited::NoChildren
        }
    }

    /// The current process takes one from a semaphore; when there is none, it is taken off the processor
    /// and `false` returned: it has one when it runs again.
    pub fn sem_wait(&mut self, semaphore: usize) -> bool {
        let semaphore = &mut self.semaphores[semaphore];
        if let Some(rest) = semaphore.count.checked_sub(1) {
            semaphore.count = rest;
            return true;
        }
        append(&mut semaphore.waiting, self.current);
        self.block(State::WaitsForSemaphore);
        false
    }

    /// Gives one to a semaphore, or straight to whoever has waited for it longest.
    pub fn sem_post(&mut self, semaphore: usize) {
        let semaphore = &mut self.semaphores[semaphore];
        match semaphore.waiting.pop_front() {
            Some(pid) => self.make_runnable(pid),
            None => semaphore.count += 1,
        }
    }

    /// The current process sleeps for at least `ticks` clock interrupts.
    pub fn sleep(&mut self, ticks: u32) {
        self.block(State::Sleeps(self.ticks.wrapping_add(ticks)));
    }

    /// A clock interrupt: whose time has come is woken.
    pub fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        for pid in 0..MAX_PROCESSES {
            if let State::Sleeps(until) = self.table[pid].state
                && until.wrapping_sub(self.ticks) as i32 <= 0
            {
                self.make_runnable(pid);
            }
        }
    }

    /// Makes another process the current one, and returns which: the next in the queue; with an empty queue
    /// the current one goes on if it can, otherwise [`IDLE`] runs.
    pub fn switch(&mut self) -> Pid {
        let can_go_on = self.current != IDLE && self.table[self.current].state == State::Runnable;
        if let Some(next) = self.queue.pop_front() {
            if can_go_on {
                append(&mut self.queue, self.current);
            }
            self.current = next;
        } else if !can_go_on {
            self.current = IDLE;
        }
        self.current
    }

    /// Whether somebody waits for the processor.
    #[must_use]
    pub fn anyone_waits(&self) -> bool {
        !self.queue.is_empty()
    }

    fn block(&mut self, state: State) {
        assert!(self.current != IDLE, "the idle process cannot wait");
        self.table[self.current].state = state;
    }

    fn make_runnable(&mut self, pid: Pid) {
        self.table[pid].state = State::Runnable;
        if pid != self.current {
            append(&mut self.queue, pid);
        }
    }
}

/// Adds a process that is in no queue.
fn append(queue: &mut Queue, pid: Pid) {
    queue.push_back(pid).expect("a queue has room for every process");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table in which process 1 runs.
    fn running() -> Processes {
        let mut processes = Processes::default();
        assert_eq!(create(&mut processes), Some(1));
        assert_eq!(processes.switch(), 1);
        processes
    }

    fn create(processes: &mut Processes) -> Option<Pid> {
        let pid = processes.free_pid()?;
        processes.create(pid);
        Some(pid)
    }

    const DONE: WaitStatus = WaitStatus { killed: 0, code: 7, error: 0, address: 0 };

    #[test]
    fn turns_are_taken_in_order() {
        let mut processes = running();
        assert_eq!([create(&mut processes), create(&mut processes)], [Some(2), Some(3)]);
        let turns: Vec<_> = (0..7).map(|_| processes.switch()).collect();
        assert_eq!(turns, [2, 3, 1, 2, 3, 1, 2]);
    }

    #[test]
    fn a_parent_that_waits_runs_when_its_child_ends() {
        let mut processes = running();
        assert_eq!(processes.wait(), Waited::NoChildren);
        create(&mut processes);
        assert_eq!(processes.wait(), Waited::Blocked);
        assert_eq!(processes.switch(), 2);
        assert_eq!(processes.switch(), 2, "the parent must not run");
        processes.end(DONE);
        assert_eq!(processes.switch(), 1);
        assert_eq!(processes.wait(), Waited::Child(2, DONE));
        assert_eq!(processes.wait(), Waited::NoChildren);
        assert_eq!(create(&mut processes), Some(2), "the id is free again");
    }

    #[test]
    fn nobody_left_means_idle() {
        let mut processes = running();
        processes.sleep(2);
        assert_eq!(processes.switch(), IDLE);
        processes.tick();
        assert_eq!(processes.switch(), IDLE);
        processes.tick();
        assert_eq!(processes.switch(), 1);
    }

    #[test]
    fn sleeping_works_across_the_end_of_the_count() {
        let mut processes = running();
        processes.ticks = u32::MAX - 1;
        processes.sleep(3);
        assert_eq!(processes.switch(), IDLE);
        processes.tick();
        processes.tick();
        assert_eq!(processes.switch(), IDLE);
        processes.tick();
        assert_eq!(processes.switch(), 1);
    }

    #[test]
    fn no_semaphore_count_is_lost_or_made() {
        let mut processes = running();
        processes.sem_post(5);
        processes.sem_post(5);
        assert!(processes.sem_wait(5));
        assert!(processes.sem_wait(5));
        create(&mut processes);
        assert!(!processes.sem_wait(5));
        assert_eq!(processes.switch(), 2);
        processes.sem_post(4);
        assert_eq!(processes.switch(), 2, "that was another semaphore");
        processes.sem_post(5);
        assert_eq!(processes.switch(), 1, "it has got the one that was posted");
        assert!(!processes.sem_wait(5));
    }

    #[test]
    fn orphans_are_the_kernels() {
        let mut processes = running();
        create(&mut processes);
        assert_eq!(processes.switch(), 2);
        assert_eq!(create(&mut processes), Some(3));
        processes.end(DONE);
        assert_eq!(processes.switch(), 1);
        assert_eq!(processes.wait(), Waited::Child(2, DONE));
        assert_eq!(processes.switch(), 3);
        processes.end(DONE);
        assert_eq!(processes.take_ended_orphan(), None, "it is on the processor still");
        assert_eq!(processes.switch(), 1);
        assert_eq!(processes.take_ended_orphan(), Some(3));
        assert_eq!(processes.take_ended_orphan(), None);
        assert_eq!(processes.wait(), Waited::NoChildren);
    }

    #[test]
    fn a_full_table_refuses() {
        let mut processes = running();
        while create(&mut processes).is_some() {}
        let turns: Vec<_> = (0..MAX_PROCESSES - 1).map(|_| processes.switch()).collect();
        assert!(turns.into_iter().eq((2..MAX_PROCESSES).chain([1])), "each has one turn");
    }
}
