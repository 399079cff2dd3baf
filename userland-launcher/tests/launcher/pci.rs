//! The PCI bus: what a guest finds on it, and its devices in use, without a host that runs anything.
//!
//! The numbers are those of the PCI Local Bus Specification 3.0 (chapters 3 and 6) and of virtio 1.x (4.1 and 5.3).

use crate::support::driver::Driver;
use crate::support::host::ScriptedHost;
use crate::support::{Screen, piped_terminal};
use arch_i386::addr::{GuestFrame, GuestPhys, PAGE_SIZE};
use arch_i386::launcher::{DEVICE_MEMORY, Emulation, IO_PORT};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use userland_launcher::devices::AnyDevice;
use userland_launcher::devices::bus::{Bus, Layout};
use userland_launcher::devices::console::Console;
use userland_launcher::devices::entropy::Entropy;
use userland_launcher::devices::worker::Context;
use userland_launcher::guest_memory::GuestMemory;
use userland_launcher::host::Host;
use userland_launcher::outcome::Outcome;

const ADDRESS: u32 = 0xcf8;
const DATA: u32 = 0xcfc;
const EIP: u32 = 0x10_0000;
/// The console, which is the first device after the bridge, and the entropy source.
const CONSOLE: u32 = 1;
const ENTROPY: u32 = 2;
/// Registers of the common configuration.
const FEATURE_SELECT: u32 = 0;
const FEATURES: u32 = 4;
const ACCEPTED_SELECT: u32 = 8;
const ACCEPTED: u32 = 12;
const QUEUES: u32 = 18;
const STATUS: u32 = 20;
const QUEUE: u32 = 22;
const SIZE: u32 = 24;
const ENABLE: u32 = 28;
/// Acknowledge, driver; and what comes after that.
const DRIVER: u32 = 3;
const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;

/// A guest with a console and an entropy source.
struct Guest {
    bus: Bus,
    host: Arc<ScriptedHost>,
    memory: Arc<GuestMemory>,
    screen: Screen,
    ended: Arc<Mutex<Option<Outcome>>>,
    _keyboard: OwnedFd,
}

impl Guest {
    fn new() -> Self {
        let screen = Screen::default();
        let (terminal, keyboard) = piped_terminal();
        let devices: Vec<AnyDevice> =
            vec![Console::new(terminal, screen.output()).into(), Entropy::open().unwrap().into()];
        let layout = Layout::new(&devices, GuestFrame(0x20)).unwrap();
        let memory = Arc::new(GuestMemory::map(layout.page_limit as usize * PAGE_SIZE as usize).unwrap());
        let host = ScriptedHost::new([]);
        host.initialize(memory.clone(), 0, layout.device_limit()).unwrap();
        let ended = Arc::new(Mutex::new(None));
        let end = ended.clone();
        let context = Context {
            host: host.clone(),
            memory: memory.clone(),
            ended: Arc::new(move |outcome| drop(end.lock().unwrap().replace(outcome))),
        };
        let bus = Bus::new(context, devices, &layout).unwrap();
        Self { bus, host, memory, screen, ended, _keyboard: keyboard }
    }

    /// Executes an instruction with these in EAX and EDX; returns what is in EAX then.
    fn execute(&mut self, trap: u8, code: &[u8], address: u32, eax: u32, edx: u32) -> Result<u32, Outcome> {
        let mut instruction = [0; 15];
        instruction[..code.len()].copy_from_slice(code);
        let registers = [eax, 0, edx, 0, 0, 0, 0, 0, EIP];
        self.host.stored.lock().unwrap().clear();
        self.bus.emulate(&Emulation { trap, instruction, address: GuestPhys(address), registers })?;
        let registers = self.host.stored.lock().unwrap();
        assert_eq!(registers[&48], EIP + code.len() as u32, "the next instruction");
        Ok(registers.get(&24).copied().unwrap_or(eax))
    }

    fn output(&mut self, port: u32, value: u32) {
        self.execute(IO_PORT, &[0xef], 0, value, port).unwrap();
    }

    fn input(&mut self, port: u32) -> u32 {
        self.execute(IO_PORT, &[0xed], 0, 0x1234_5678, port).unwrap()
    }

    fn select(&mut self, device: u32, register: u32) {
        self.output(ADDRESS, 1 << 31 | device << 11 | register & !3);
    }

    /// A word of a device's configuration space.
    fn config(&mut self, device: u32, register: u32) -> u32 {
        self.select(device, register);
        self.input(DATA)
    }

    fn set_config(&mut self, device: u32, register: u32, value: u32) {
        self.select(device, register);
        self.output(DATA, value);
    }

    /// Where a device's registers are, which answer from now on.
    fn bar(&mut self, device: u32) -> u32 {
        self.set_config(device, 4, 2);
        self.config(device, 0x10)
    }

    fn try_store(&mut self, at: u32, size: u32, value: u32) -> Result<(), Outcome> {
        let code: &[u8] = match size {
            1 => &[0x88, 0x02],
            2 => &[0x66, 0x89, 0x02],
            _ => &[0x89, 0x02],
        };
        self.execute(DEVICE_MEMORY, code, at, value, 0).map(drop)
    }

    fn store(&mut self, at: u32, size: u32, value: u32) {
        self.try_store(at, size, value).unwrap();
    }

    fn try_load(&mut self, at: u32, size: u32) -> Result<u32, Outcome> {
        // movzbl, movzwl, movl.
        let code: &[u8] = match size {
            1 => &[0x0f, 0xb6, 0x02],
            2 => &[0x0f, 0xb7, 0x02],
            _ => &[0x8b, 0x02],
        };
        self.execute(DEVICE_MEMORY, code, at, 0xffff_ffff, 0)
    }

    fn load(&mut self, at: u32, size: u32) -> u32 {
        self.try_load(at, size).unwrap()
    }

    /// The capability of a device with this type: BAR, offset and length, and where it is.
    fn capability(&mut self, device: u32, kind: u32) -> Option<(u32, u32, u32, u32)> {
        let mut at = self.config(device, 0x34) & 0xff;
        for _ in 0..48 {
            if at == 0 {
                return None;
            }
            let header = self.config(device, at);
            assert_eq!(header & 0xff, 9, "a capability of the vendor's");
            if header >> 24 == kind {
                let (bar, offset) = (self.config(device, at + 4) & 0xff, self.config(device, at + 8));
                return Some((bar, offset, self.config(device, at + 12), at));
            }
            at = header >> 8 & 0xff;
        }
        panic!("the list of capabilities does not end");
    }

    /// Accepts these features of a device, up to the device's answer; returns the registers' address and the status.
    fn accept(&mut self, device: u32, features: u64) -> (u32, u32) {
        let bar = self.bar(device);
        self.store(bar + STATUS, 1, DRIVER);
        for word in 0..2 {
            self.store(bar + ACCEPTED_SELECT, 4, word);
            self.store(bar + ACCEPTED, 4, (features >> (32 * word)) as u32);
        }
        self.store(bar + STATUS, 1, DRIVER | FEATURES_OK);
        (bar, self.load(bar + STATUS, 1))
    }

    /// Places and enables a queue.
    fn place(&mut self, bar: u32, queue: u32, size: u32, parts: [u64; 3]) {
        self.store(bar + QUEUE, 2, queue);
        self.store(bar + SIZE, 2, size);
        for (at, part) in [32, 40, 48].into_iter().zip(parts) {
            self.store(bar + at, 4, part as u32);
            self.store(bar + at + 4, 4, (part >> 32) as u32);
        }
        self.store(bar + ENABLE, 2, 1);
    }

    /// Waits for a worker.
    fn until(&self, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", self.ended.lock().unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn message(outcome: Result<impl std::fmt::Debug, Outcome>) -> String {
    let outcome = outcome.expect_err("the guest's end");
    assert_eq!(outcome.code(), 120);
    outcome.message().unwrap()
}

#[test]
fn the_bus_has_a_bridge_and_the_devices() {
    let mut guest = Guest::new();
    // Linux's test for the first mechanism.
    guest.execute(IO_PORT, &[0xee], 0, 1, 0xcfb).unwrap();
    guest.output(ADDRESS, 0x8000_0000);
    assert_eq!(guest.input(ADDRESS), 0x8000_0000);
    assert_eq!(guest.execute(IO_PORT, &[0xec], 0, 0x1122_3344, 0xcfb).unwrap(), 0x1122_3380);
    assert_eq!(guest.config(0, 8) >> 16, 0x0600, "a host bridge");
    assert_eq!(guest.config(CONSOLE, 0), 0x1043_1af4);
    assert_eq!(guest.config(CONSOLE, 8) >> 16, 0x0780);
    assert_eq!(guest.config(ENTROPY, 0), 0x1044_1af4);
    for device in 3..32 {
        assert_eq!(guest.config(device, 0), u32::MAX, "{device}");
    }
    // Another bus, another function, and no cycle at all.
    for address in [0x8001_0800, 0x8000_0900, 0x0000_0800] {
        guest.output(ADDRESS, address);
        assert_eq!(guest.input(DATA), u32::MAX, "{address:#x}");
    }
    // Bytes and halves, and what is not within a word.
    guest.select(CONSOLE, 0);
    assert_eq!(guest.execute(IO_PORT, &[0xec], 0, 0, DATA + 1).unwrap(), 0x1a);
    assert_eq!(guest.execute(IO_PORT, &[0x66, 0xed], 0, 0xabcd_0000, DATA + 2).unwrap(), 0xabcd_1043);
    assert_eq!(guest.execute(IO_PORT, &[0xed], 0, 0, DATA + 1).unwrap(), u32::MAX);
    assert_eq!(guest.execute(IO_PORT, &[0xed], 0, 0, 0xcff).unwrap(), u32::MAX);
}

#[test]
fn registers_are_in_memory_of_which_the_size_can_be_found() {
    let mut guest = Guest::new();
    let mut last = 0;
    for device in [CONSOLE, ENTROPY] {
        let bar = guest.config(device, 0x10);
        assert!(bar > last && bar.is_multiple_of(PAGE_SIZE) && bar as usize >= guest.memory.len());
        last = bar;
        guest.set_config(device, 0x10, u32::MAX);
        assert_eq!(guest.config(device, 0x10), 0xffff_f000, "a page");
        guest.set_config(device, 0x10, bar);
        assert_eq!(guest.config(device, 0x10), bar);
        for other in [0x14, 0x18, 0x1c, 0x20, 0x24, 0x30] {
            guest.set_config(device, other, u32::MAX);
            assert_eq!(guest.config(device, other), 0, "no other");
        }
        // As long as it may not answer, nothing does.
        assert_eq!(guest.load(bar + QUEUES, 2), 0xffff);
        guest.bar(device);
        assert_ne!(guest.load(bar + QUEUES, 2), 0xffff);
    }
    assert_eq!(guest.config(CONSOLE, 0x3c), 0x0101, "the first interrupt after the clock's, and pin A");
    assert_eq!(guest.config(ENTROPY, 0x3c), 0x0103, "those of the console's two queues are two");
    guest.set_config(CONSOLE, 0, 0);
    assert_eq!(guest.config(CONSOLE, 0), 0x1043_1af4, "the ids are not the guest's");
}

#[test]
fn capabilities_say_where_the_registers_are() {
    let mut guest = Guest::new();
    assert_eq!(guest.config(CONSOLE, 4) >> 16 & 0x10, 0x10, "there is a list");
    for (kind, at_least) in [(1, 56), (2, 8), (3, 1), (4, 12)] {
        let (bar, offset, length, _) = guest.capability(CONSOLE, kind).unwrap();
        assert!(bar == 0 && length >= at_least && offset + length <= PAGE_SIZE, "{kind}");
    }
    let (_, _, _, notify) = guest.capability(CONSOLE, 2).unwrap();
    assert_eq!(guest.config(CONSOLE, notify + 16), 4, "a word for each queue");
    assert!(guest.capability(CONSOLE, 5).is_some());
    assert_eq!(guest.capability(ENTROPY, 4), None, "it has no configuration");
}

#[test]
fn linux_prints_by_the_window_before_it_has_any_driver() {
    let mut guest = Guest::new();
    let (_, device, ..) = guest.capability(CONSOLE, 4).unwrap();
    let (.., window) = guest.capability(CONSOLE, 5).unwrap();
    for &byte in b"Linux version\n\xff" {
        guest.select(CONSOLE, window + 4);
        guest.execute(IO_PORT, &[0xee], 0, 0, DATA).unwrap();
        guest.set_config(CONSOLE, window + 12, 4);
        guest.set_config(CONSOLE, window + 8, device + 8);
        guest.set_config(CONSOLE, window + 16, byte.into());
    }
    assert_eq!(guest.screen.shown(), b"Linux version\n\xff");
    // What it reads: how many queues there are.
    guest.set_config(CONSOLE, window + 12, 2);
    guest.set_config(CONSOLE, window + 8, QUEUES);
    assert_eq!(guest.config(CONSOLE, window + 16), 2);
    // Another BAR, no size, not aligned, outside: no access.
    for (bar, offset, size) in
        [(1, QUEUES, 2), (0, QUEUES, 3), (0, QUEUES + 1, 2), (0, 4096, 4), (0, u32::MAX, 1)]
    {
        guest.set_config(CONSOLE, window + 4, bar);
        guest.set_config(CONSOLE, window + 8, offset);
        guest.set_config(CONSOLE, window + 12, size);
        guest.set_config(CONSOLE, window + 16, 0x77);
        assert_eq!(guest.config(CONSOLE, window + 16), 0x77, "{bar} {offset:#x} {size}");
    }
}

#[test]
fn a_queue_works_where_the_guest_has_placed_it() {
    let mut guest = Guest::new();
    // Version 1, and the emergency write.
    let (bar, status) = guest.accept(CONSOLE, 1 << 32 | 1 << 2);
    assert_eq!(status, DRIVER | FEATURES_OK);
    assert_eq!(guest.load(bar + QUEUES, 2), 2);
    guest.store(bar + QUEUE, 2, 1);
    assert_eq!(guest.load(bar + SIZE, 2), 256);
    // The layout is the legacy one, which a guest may choose; the driver computes it by itself.
    let memory = guest.memory.clone();
    let driver = Driver { memory: &memory, start: 0x4000, size: 8 };
    guest.place(bar, 1, 8, [0x4000, 0x4080, 0x5000]);
    assert_eq!(guest.load(bar + ENABLE, 2), 1);
    assert_eq!(guest.load(bar + 48, 4), 0x5000);
    guest.store(bar + STATUS, 1, DRIVER | FEATURES_OK | DRIVER_OK);
    driver.put(0x8000, b"by a virtqueue\n");
    driver.describe_chain(0, &[(0x8000, 15, false)]);
    driver.offer(0);
    let (_, notify, ..) = guest.capability(CONSOLE, 2).unwrap();
    guest.store(bar + notify + 4, 2, 1);
    guest.until(|_| driver.used_index() == 1);
    assert_eq!(guest.screen.shown(), b"by a virtqueue\n");
    assert_eq!(guest.host.next_interrupt(), 1);
    let (_, isr, ..) = guest.capability(CONSOLE, 3).unwrap();
    assert_eq!([guest.load(bar + isr, 1), guest.load(bar + isr, 1)], [1, 0], "until it is read");
    // A reset forgets all of it.
    guest.store(bar + STATUS, 1, 0);
    assert_eq!(guest.load(bar + STATUS, 1), 0);
    guest.store(bar + QUEUE, 2, 1);
    assert_eq!(
        [guest.load(bar + ENABLE, 2), guest.load(bar + SIZE, 2), guest.load(bar + 48, 4)],
        [0, 256, 0]
    );
    driver.offer(0);
    guest.store(bar + notify + 4, 2, 1);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(driver.used_index(), 1, "nobody serves it any more");
    assert!(guest.ended.lock().unwrap().is_none());
}

#[test]
fn features_are_agreed_on_or_not() {
    for (device, features) in [(CONSOLE, 1 << 32 | 1 << 2), (ENTROPY, 1 << 32)] {
        let mut guest = Guest::new();
        let (bar, status) = guest.accept(device, features);
        assert_eq!(status & FEATURES_OK, FEATURES_OK);
        for (word, bits) in [(0, features as u32), (1, (features >> 32) as u32), (2, 0), (u32::MAX, 0)] {
            guest.store(bar + FEATURE_SELECT, 4, word);
            assert_eq!(guest.load(bar + FEATURES, 4), bits, "what is offered");
        }
        // Too late for another choice.
        guest.store(bar + ACCEPTED, 4, 0);
        assert_eq!(guest.load(bar + ACCEPTED, 4), 1);
    }
    // A feature that is not offered, and a guest that speaks virtio before 1.0 only.
    for (device, features) in [(ENTROPY, 1 << 32 | 1 << 28), (CONSOLE, 1 << 2)] {
        let mut guest = Guest::new();
        let (bar, status) = guest.accept(device, features);
        assert_eq!(status, DRIVER);
        let started = guest.try_store(bar + STATUS, 1, DRIVER | DRIVER_OK);
        assert!(message(started).contains("without an agreement on its features"));
    }
}

#[test]
fn what_is_no_register_is_the_guests_end() {
    for (offset, size) in
        [(QUEUES, 4), (STATUS, 2), (57, 1), (0xff, 1), (0x101, 1), (0x100, 4), (0x20c, 1), (0xffc, 4)]
    {
        let mut guest = Guest::new();
        let bar = guest.bar(CONSOLE);
        let read = message(guest.try_load(bar + offset, size));
        assert!(read.contains(&format!("{offset:#x}")) && read.contains("console"), "{read}");
    }
    for (offset, size) in
        [(STATUS, 4), (FEATURE_SELECT, 1), (33, 4), (0x300, 1), (0x302, 2), (0x308, 2), (0x209, 4)]
    {
        let mut guest = Guest::new();
        let bar = guest.bar(CONSOLE);
        assert!(message(guest.try_store(bar + offset, size, 0)).contains(&format!("{offset:#x}")));
    }
}

#[test]
fn a_queue_that_is_not_the_guests_is_its_end() {
    for parts in
        [[1 << 40, 0x4080, 0x5000], [0x4000, 0x4081, 0x5000], [0x4000, 0x4080, u64::MAX - 3], [0x4002, 0, 0]]
    {
        let mut guest = Guest::new();
        let (bar, _) = guest.accept(ENTROPY, 1 << 32);
        guest.place(bar, 0, 8, parts);
        let started = guest.try_store(bar + STATUS, 1, DRIVER | FEATURES_OK | DRIVER_OK);
        assert!(message(started).contains("not its own"), "{parts:x?}");
    }
    // No such size: the one that was offered stays.
    let mut guest = Guest::new();
    let (bar, _) = guest.accept(ENTROPY, 1 << 32);
    for size in [0, 3, 512, 0x8000] {
        guest.store(bar + SIZE, 2, size);
        assert_eq!(guest.load(bar + SIZE, 2), 256);
    }
    // A queue that is not there.
    guest.store(bar + QUEUE, 2, 0xffff);
    assert_eq!(guest.load(bar + SIZE, 2), 0);
    guest.store(bar + ENABLE, 2, 1);
    assert_eq!(guest.load(bar + ENABLE, 2), 0);
}

#[test]
fn another_instruction_is_named_with_its_address() {
    let mut guest = Guest::new();
    let bar = guest.bar(CONSOLE);
    for (trap, code, name) in [
        // add %eax,(%edx); rep movsb; push (%edx); what is none; insb.
        (DEVICE_MEMORY, &[0x01, 0x02][..], "add %eax,(%edx)"),
        (DEVICE_MEMORY, &[0xf3, 0xa4], "movsb"),
        (DEVICE_MEMORY, &[0xff, 0x32], "push"),
        (DEVICE_MEMORY, &[0x8e, 0x02], "mov (%edx),%es"),
        (DEVICE_MEMORY, &[0x89, 0xc2], "mov %eax,%edx"),
        (DEVICE_MEMORY, &[0xf0, 0x89, 0x02], "(bad)"),
        (IO_PORT, &[0x6c], "insb"),
        (IO_PORT, &[0x8b, 0x02], "mov (%edx),%eax"),
    ] {
        let end = message(guest.execute(trap, code, bar, 0, ADDRESS));
        assert!(end.contains(name) && end.contains("0x100000"), "{end}");
    }
}
