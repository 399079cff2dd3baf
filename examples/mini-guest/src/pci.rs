//! The console on the PCI bus, as a guest of Linux 4.1 to 4.13 finds it: by configuration cycles, and without a driver by the
//! window on its registers that its capabilities describe; then by the registers in device memory and by a virtqueue.
//!
//! Source: virtio 1.x specification, 4.1 and 5.3; PCI Local Bus Specification 3.0, 3.2.2.3.2 and 6.

use crate::ram::Ram;
use crate::scratch::{self, SPARE};
use crate::state::kernel;
use crate::{console, host};
use arch_i386::addr::{GuestPhys, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags};
use core::arch::asm;
use mini_guest::page_tables::{KERNEL_PAGE, Machine};

/// The device after the host bridge.
const CONSOLE: u32 = 1;
/// Vendor and device of a console of virtio 1.0.
const ID: u32 = 0x1043_1af4;
/// Types of capabilities.
const COMMON: u32 = 1;
const NOTIFY: u32 = 2;
const ISR: u32 = 3;
const DEVICE: u32 = 4;
const WINDOW: u32 = 5;
/// The emergency write in the console's configuration.
const EMERGENCY: u32 = 8;
/// Registers of the common configuration.
const ACCEPTED_SELECT: u32 = 8;
const ACCEPTED: u32 = 12;
const STATUS: u32 = 20;
const QUEUE: u32 = 22;
const SIZE: u32 = 24;
const ENABLE: u32 = 28;
const PARTS: u32 = 32;
/// Acknowledge, driver, features-ok, driver-ok.
const READY: u32 = 0xf;
/// The queue of output.
const OUTPUT: u32 = 1;
/// Where the parts of a ring of eight are in its page, and the text that goes out.
const AVAILABLE: u32 = 128;
const USED: u32 = 256;
const TEXT: u32 = 512;

/// How long a device may take, in looks at the ring.
const LOOKS: u32 = 1 << 26;

fn output(port: u16, value: u32) {
    // SAFETY: the launcher's devices answer, and do what this file asks for.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value) };
}

fn input(port: u16) -> u32 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value) };
    value
}

fn config(register: u32) -> u32 {
    output(0xcf8, 1 << 31 | CONSOLE << 11 | register);
    input(0xcfc)
}

fn set_config(register: u32, value: u32) {
    output(0xcf8, 1 << 31 | CONSOLE << 11 | register);
    output(0xcfc, value);
}

/// Where the capability of this type is; `None` also for a list without an end.
fn capability(kind: u32) -> Option<u32> {
    let mut at = config(0x34) & 0xfc;
    for _ in 0..48 {
        if at == 0 {
            break;
        }
        let header = config(at);
        if header & 0xff == 9 && header >> 24 == kind {
            return Some(at);
        }
        at = header >> 8 & 0xfc;
    }
    None
}

/// The registers, mapped.
#[derive(Clone, Copy)]
struct Registers(u32);

impl Registers {
    fn read(self, at: u32, size: u32) -> u32 {
        let value: u32;
        let at = self.0 + at;
        // SAFETY: the page is mapped to the device, which has registers there.
        unsafe {
            match size {
                1 => asm!("movzx {0:e}, byte ptr [{1:e}]", out(reg) value, in(reg) at),
                2 => asm!("movzx {0:e}, word ptr [{1:e}]", out(reg) value, in(reg) at),
                _ => asm!("mov {0:e}, [{1:e}]", out(reg) value, in(reg) at),
            }
        }
        value
    }

    fn write(self, at: u32, size: u32, value: u32) {
        let at = self.0 + at;
        // SAFETY: as above.
        unsafe {
            match size {
                1 => asm!("mov [{0:e}], al", in(reg) at, in("eax") value),
                2 => asm!("mov [{0:e}], {1:x}", in(reg) at, in(reg) value),
                _ => asm!("mov [{0:e}], {1:e}", in(reg) at, in(reg) value),
            }
        }
    }
}

/// Prints by the console of the PCI bus, by the window and by a virtqueue; what was wrong otherwise.
pub fn use_console() -> Result<(), &'static str> {
    if config(0) != ID {
        return Err("there is no console after the host bridge");
    }
    let find = |kind| capability(kind).ok_or("the console lacks a capability");
    let (window, device) = (find(WINDOW)?, config(find(DEVICE)? + 8));
    for &byte in b"pci: by the window\n" {
        set_config(window + 4, 0);
        set_config(window + 12, 4);
        set_config(window + 8, device + EMERGENCY);
        set_config(window + 16, byte.into());
    }
    let notify = find(NOTIFY)?;
    let notify = config(notify + 8) + OUTPUT * config(notify + 16);
    let places = (config(find(COMMON)? + 8), config(find(ISR)? + 8), notify);
    // It may answer in memory; and the page where it does, uncached as Linux maps it.
    set_config(4, 2);
    let bar = config(0x10);
    let entry = Entry::new((bar / PAGE_SIZE).into(), KERNEL_PAGE | Flags::NO_CACHE);
    scratch::set_spare(SPARE, entry, false);
    let printed = by_a_queue(Registers(scratch::address(SPARE)), places);
    scratch::set_spare(SPARE, Entry::EMPTY, false);
    printed
}

fn by_a_queue(registers: Registers, (common, isr, notify): (u32, u32, u32)) -> Result<(), &'static str> {
    const WORDS: &[u8] = b"pci: by a virtqueue\n";
    let frame = kernel().memory().frames.allocate().map_err(|_| "there is no memory for a ring")?;
    let page = frame.start().0;
    let put = |at: u32, word| Ram.write(GuestPhys(page + at), word);
    Machine::zero(&mut Ram, frame);
    for (word, bytes) in (0..).zip(WORDS.chunks(4)) {
        let mut text = [0; 4];
        text[..bytes.len()].copy_from_slice(bytes);
        put(TEXT + 4 * word, u32::from_le_bytes(text));
    }
    put(0, page + TEXT);
    put(8, WORDS.len() as u32);
    // One chain is offered, the first; and no interrupt is asked for.
    put(AVAILABLE, 1 << 16 | 1);
    registers.write(common + STATUS, 1, READY & 3);
    for word in 0..2 {
        // Version 1 and nothing else.
        registers.write(common + ACCEPTED_SELECT, 4, word);
        registers.write(common + ACCEPTED, 4, word);
    }
    registers.write(common + STATUS, 1, READY & !4);
    if registers.read(common + STATUS, 1) != READY & !4 {
        return Err("the console does not speak virtio 1.0");
    }
    registers.write(common + QUEUE, 2, OUTPUT);
    registers.write(common + SIZE, 2, 8);
    for (index, part) in (0..).zip([0, AVAILABLE, USED]) {
        registers.write(common + PARTS + 8 * index, 4, page + part);
    }
    registers.write(common + ENABLE, 2, 1);
    registers.write(common + STATUS, 1, READY);
    registers.write(notify, 2, OUTPUT);
    let answered = (0..LOOKS).any(|_| {
        host::rdtsc();
        Ram.read(GuestPhys(page + USED)) >> 16 == 1
    });
    let interrupted = registers.read(isr, 1);
    registers.write(common + STATUS, 1, 0);
    kernel().memory().frames.release(frame);
    match (answered, interrupted) {
        (true, 0) => Ok(()),
        (true, _) => Err("the console interrupts where it must not"),
        (false, _) => Err("the console has not answered"),
    }
}

/// As a test: whether it went well; what was wrong is printed.
pub fn check() -> bool {
    use_console().map_err(|what| console::print(format_args!("mini: {what}"))).is_ok()
}
