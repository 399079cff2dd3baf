//! One life: a process with a guest.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use arch_i386::launcher::Request;

use crate::attack::{self, World};
use crate::dice::Dice;
use crate::guest::{self, Guest, Kind};
use crate::memory::Memory;
use crate::shared::Shared;

/// Strategies, and what is none.
const STRATEGIES: [&str; 12] = [
    "lguest",
    "lru:slots=1",
    "lru:slots=8",
    "shared",
    "shared:fault-around=64",
    "shared:populate-on-set-pte=off,refill-after-flush=off",
    "shared:budget=64",
    "arc:slots=3",
    "pae",
    "record:of=lguest",
    "record:touch=all,of=shared",
    "nosuch:slots=1",
];

/// What saves exits, by the module's parameters: what the Switcher does by itself, and the host ahead.
const SAVES_EXITS: [&str; 4] = ["reflect", "switch", "fill", "ahead"];

/// Turns one of them off, or as a rule none, for the guests that are made from now on.
fn choose_what_saves_exits(dice: &mut Dice) {
    let turned_off = dice.below(8) as usize;
    for (number, name) in SAVES_EXITS.into_iter().enumerate() {
        let value = if number == turned_off { "N" } else { "Y" };
        // The module may be on its way out.
        let _ = std::fs::write(format!("/sys/module/lg/parameters/{name}"), value);
    }
}

extern "C" fn noticed(_: i32) {}

/// Makes signals interrupt what the process waits in, and nothing else.
fn take_signals() {
    for signal in [libc::SIGALRM, libc::SIGUSR1, libc::SIGPIPE] {
        // SAFETY: an all-zero sigaction is a valid one, and the handler does nothing at all.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = noticed as extern "C" fn(i32) as usize;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Interrupts this process every so many microseconds.
fn interrupt_every(microseconds: u32) {
    let time = libc::timeval { tv_sec: 0, tv_usec: microseconds as _ };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the timer is read from a variable of its type.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

/// Lives, and exits.
pub fn live(mut dice: Dice, kind: Kind, shared: &'static Shared) -> ! {
    // SAFETY: no pointers. A group of its own, by which all processes of the life can be found.
    unsafe { libc::setpgid(0, 0) };
    take_signals();
    let status = run(&mut dice, kind, shared, 0).map_or(1, |()| 0);
    // SAFETY: no destructor has anything to do in this process.
    unsafe { libc::_exit(status) }
}

/// Makes a guest and runs it under attack; nothing if none could be made.
pub fn run(dice: &mut Dice, kind: Kind, shared: &'static Shared, depth: u32) -> Option<()> {
    let pages = guest::PAGES_MIN << dice.below(4);
    let memory = Memory::new(dice, pages, kind)?;
    let guest = Guest::random(dice, pages, kind);
    memory.load(&guest.memory);
    choose_what_saves_exits(dice);
    let device = File::options().read(true).write(true).open("/dev/lguest").ok()?.into_raw_fd();
    let world = World {
        memory,
        device,
        notified: guest.notified.clone(),
        runner: attack::thread_id(),
        shared,
        remapping: Arc::default(),
    };

    // These are after one thing, which other attacks would bring to an early end.
    let quiet = kind != Kind::Mixed;
    if dice.one_in(8) && !quiet {
        world.random_request(dice);
    }
    if !dice.one_in(4) {
        let strategy = if kind == Kind::Aliases {
            dice.pick(&["lguest:slots=8", "shared:fault-around=64,budget=65536"])
        } else {
            dice.pick(&STRATEGIES)
        };
        let mut request = vec![Request::Strategy as u32, strategy.len() as u32];
        request.extend(strategy.as_bytes().chunks(4).map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word)
        }));
        world.request(&request);
    }
    world.request(&[Request::Paging as u32, 2]);
    // Attackers that are processes of their own are made while this one has a single thread.
    if kind == Kind::Refilled {
        for _ in 0..1 + dice.below(3) {
            // SAFETY: this process has one thread.
            if unsafe { libc::fork() } == 0 {
                attack::refill_for_ever(&world);
            }
        }
    }
    if !quiet {
        for _ in 0..dice.below(3) {
            let mut theirs = dice.split();
            // SAFETY: this process has one thread.
            if unsafe { libc::fork() } == 0 {
                if depth == 0 && theirs.one_in(4) {
                    let _ = run(&mut theirs, kind, shared, depth + 1);
                } else {
                    attack::from_process(&world, &mut theirs);
                }
                // SAFETY: as in `live`.
                unsafe { libc::_exit(0) }
            }
        }
    }
    if world.request(&[Request::Initialize as u32, memory.base as u32, pages, guest::START]) < 0 {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        shared.begun.store(1, Ordering::Relaxed);
        return None;
    }
    for &address in &guest.notified {
        if kind == Kind::Refilled || !dice.one_in(4) {
            // SAFETY: no pointers.
            let eventfd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
            world.request(&[Request::Eventfd as u32, address, eventfd as u32]);
            if kind == Kind::Refilled {
                attack::listen(eventfd);
            }
        }
    }
    if dice.one_in(4) && !quiet {
        attack::let_allocations_fail();
    }
    if !quiet {
        for _ in 0..dice.below(4) {
            let (world, mut theirs) = (world.clone(), dice.split());
            // If there is no room for a thread, there is one attacker less.
            let _ = thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || attack::from_thread(&world, &mut theirs));
        }
    }
    shared.begun.store(1, Ordering::Relaxed);
    interrupt_every(if quiet { 200_000 } else { 1000 << dice.below(6) });
    rounds(dice, &world, quiet);
    // SAFETY: the descriptor is this process's own.
    drop(unsafe { File::from_raw_fd(device) });
    Some(())
}

/// Runs the guest until it has ended.
fn rounds(dice: &mut Dice, world: &World, quiet: bool) {
    let mut counted = Counted::default();
    let mut text = [0_u8; 1024];
    let with_segment = !quiet && dice.one_in(2);
    loop {
        let length = if dice.one_in(64) { dice.below(8) as usize } else { text.len() };
        let answer = if with_segment && dice.one_in(4) {
            attack::read_with_segment(dice, world.device.as_raw_fd(), &mut text[..length])
        } else {
            // SAFETY: the buffer is as long as that.
            unsafe { libc::read(world.device, text.as_mut_ptr().cast(), length) }
        };
        // SAFETY: errno is this thread's.
        let error = unsafe { *libc::__errno_location() };
        if answer < 0 && error != libc::EINTR && error != libc::EINVAL && error != libc::EFAULT {
            break;
        }
        counted.take(world);
        if answer > 4 {
            let reason = CStr::from_bytes_until_nul(&text).unwrap_or_default().to_string_lossy();
            world.shared.ends.fetch_add(1, Ordering::Relaxed);
            if quiet || dice.one_in(32) {
                println!("end: {reason}");
            }
            break;
        }
        if answer == 4 && dice.one_in(2) {
            world.request(&[Request::Irq as u32, dice.below(32)]);
        }
    }
}

/// What of the guest's counters is in the figures already.
#[derive(Default)]
struct Counted([u64; 3]);

impl Counted {
    fn take(&mut self, world: &World) {
        let mut text = [0_u8; 4096];
        let request = [Request::Counters as u32, text.as_mut_ptr() as usize as u32, text.len() as u32];
        let length = world.request(&request);
        let Some(text) = usize::try_from(length).ok().and_then(|length| text.get(..length)) else { return };
        let text = String::from_utf8_lossy(text);
        let value = |name: &str| -> u64 {
            let found =
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
            found.unwrap_or(0)
        };
        let now = [
            value("world_switches"),
            value("hypercalls") + value("ring_hypercalls"),
            value("demand_faults") + value("reflected_faults"),
        ];
        let shared = world.shared;
        for ((figure, now), before) in
            [&shared.entries, &shared.hypercalls, &shared.faults].into_iter().zip(now).zip(self.0)
        {
            figure.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        }
        self.0 = now;
        if value("audit_defects") > 0 && !world.remapped() {
            shared.blamed.store(1, Ordering::Relaxed);
        }
    }
}
