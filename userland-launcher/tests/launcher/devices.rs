//! Each device's answers, served without a thread.

use crate::support::driver::Driver;
use crate::support::host::{ScriptedHost, Step};
use crate::support::{Screen, disk_name, piped_terminal, pseudo_terminal};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use userland_launcher::devices::block::Block;
use userland_launcher::devices::config_port::{ConfigPort, OnPci};
use userland_launcher::devices::console::Console;
use userland_launcher::devices::entropy::Entropy;
use userland_launcher::devices::network::Network;
use userland_launcher::devices::{AnyService, Device, QueueService, Stop, Wait};
use userland_launcher::disk_file::{DiskError, DiskName};
use userland_launcher::guest_memory::GuestMemory;
use userland_launcher::host::Host;
use userland_launcher::outcome::{Outcome, Violation};
use userland_launcher::terminal::Terminal;
use userland_launcher::virtqueue::Virtqueue;

const SIZE: u16 = 8;
/// Where these tests' buffers are, above the ring at 0.
const BUFFERS: u64 = 0x4000;

/// One queue's service with a guest to talk to.
struct Bench {
    memory: GuestMemory,
    service: AnyService,
}

impl Bench {
    /// Sets `device` up and takes its queue `index`.
    fn new(mut device: impl Device, index: usize) -> Self {
        let service = device.start().unwrap().swap_remove(index);
        Self { memory: GuestMemory::map(1 << 20).unwrap(), service }
    }

    fn driver(&self) -> Driver<'_> {
        Driver { memory: &self.memory, start: 0, size: SIZE }
    }

    /// Offers one chain to a fresh queue. Returns how many bytes the device reports as written, if it
    /// gave the chain back, and what it waits for.
    fn serve(&mut self, buffers: &[(u64, u32, bool)]) -> Result<(Option<u32>, Wait), Stop> {
        let driver = Driver { memory: &self.memory, start: 0, size: SIZE };
        driver.describe_chain(0, buffers);
        driver.set_available_index(0);
        driver.offer(0);
        let mut queue = Virtqueue::new(&self.memory, 0, SIZE).unwrap();
        let before = driver.used_index();
        let wait = self.service.serve(&mut queue)?;
        let answered = driver.used_index() != before || before == 1;
        Ok((answered.then(|| driver.used_element(0).1), wait))
    }

    fn violates(&mut self, buffers: &[(u64, u32, bool)]) -> bool {
        matches!(self.serve(buffers), Err(Stop::Violation(Violation::Protocol(_))))
    }
}

const HEADER: u64 = BUFFERS;
const DATA: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x8000;
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
/// Virtio's feature of a disk that only reads, as Linux has it: VIRTIO_BLK_F_RO.
const FEATURE_READ_ONLY: u32 = 1 << 5;

/// A disk of four sectors, filled with their numbers plus 1.
fn disk() -> (Bench, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for sector in 1..=4 {
        file.write_all(&[sector; 512]).unwrap();
    }
    (Bench::new(Block::open(&disk_name(file.path())).unwrap(), 0), file)
}

/// Sends one request; returns the status byte and the length of the answer.
fn request(disk: &mut Bench, kind: u32, sector: u64, data_len: u32) -> (u8, u32) {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend(sector.to_le_bytes());
    disk.driver().put(HEADER, &header);
    disk.driver().put(STATUS, &[0xee]);
    let mut buffers = vec![(HEADER, 16, false)];
    if data_len > 0 {
        buffers.push((DATA, data_len, kind != WRITE));
    }
    buffers.push((STATUS, 1, true));
    let (written, wait) = disk.serve(&buffers).unwrap();
    assert_eq!(wait, Wait { buffers: true, source: false });
    (disk.driver().get(STATUS, 1)[0], written.expect("an answer"))
}

#[test]
fn a_disk_is_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link, hard) =
        (folder.path().join("disk"), folder.path().join("link"), folder.path().join("hard"));
    std::fs::write(&path, [0; 512]).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    std::fs::hard_link(&path, &hard).unwrap();
    let first = Block::open(&disk_name(&path)).unwrap();
    for name in [&path, &link, &hard] {
        let refused = Block::open(&disk_name(name)).unwrap_err();
        assert!(matches!(&refused, DiskError::InUse(named) if named == name), "{refused}");
        assert!(refused.to_string().contains(name.to_str().unwrap()), "{refused}");
    }
    // What a guest uses is locked as long as the guest is there, whoever has opened it.
    let bench = Bench::new(first.clone(), 0);
    drop(first);
    assert!(Block::open(&disk_name(&path)).is_err());
    drop(bench);
    Block::open(&disk_name(&path)).unwrap();
}

#[test]
fn only_readers_share_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    let writer = disk_name(&folder.path().join("disk"));
    std::fs::write(&writer.path, [0; 512]).unwrap();
    let reader = DiskName { read_only: true, ..writer.clone() };
    let in_use = |name| matches!(Block::open(name), Err(DiskError::InUse(path)) if path == writer.path);
    let readers = [Block::open(&reader).unwrap(), Block::open(&reader).unwrap()];
    assert!(in_use(&writer));
    drop(readers);
    let _writer = Block::open(&writer).unwrap();
    assert!(in_use(&reader));
}

#[test]
fn a_read_only_disk_is_read_and_not_written() {
    let (disk, file) = disk();
    drop(disk);
    let block = Block::open(&DiskName { read_only: true, ..disk_name(file.path()) }).unwrap();
    assert_ne!(block.features() & FEATURE_READ_ONLY, 0);
    let mut disk = Bench::new(block, 0);
    assert_eq!(request(&mut disk, READ, 1, 512), (0, 513));
    assert_eq!(disk.driver().get(DATA, 512), [2; 512]);
    let before = std::fs::read(file.path()).unwrap();
    assert_eq!(request(&mut disk, WRITE, 1, 512).0, 1);
    assert_eq!(request(&mut disk, FLUSH, 0, 0).0, 0);
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
}

#[test]
fn a_disk_has_its_files_name_as_serial() {
    let folder = tempfile::tempdir().unwrap();
    let name = disk_name(&folder.path().join("root.img"));
    std::fs::write(&name.path, [0; 512]).unwrap();
    let block = Block::open(&name).unwrap();
    assert_eq!(block.features() & FEATURE_READ_ONLY, 0);
    let mut disk = Bench::new(block, 0);
    assert_eq!(request(&mut disk, GET_ID, 0, 20), (0, 21));
    assert_eq!(disk.driver().get(DATA, 20), b"root.img\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(request(&mut disk, GET_ID, 0, 4), (0, 5));
}

#[test]
fn a_disk_reads_and_writes_whole_sectors() {
    let (mut disk, file) = disk();
    assert_eq!(request(&mut disk, READ, 1, 1024), (0, 1025));
    assert_eq!(disk.driver().get(DATA, 1024), [[2; 512], [3; 512]].concat());
    disk.driver().put(DATA, &[9; 512]);
    assert_eq!(request(&mut disk, WRITE, 3, 512), (0, 1));
    assert_eq!(request(&mut disk, FLUSH, 0, 0), (0, 1));
    let contents = std::fs::read(file.path()).unwrap();
    assert_eq!(contents, [[1; 512], [2; 512], [3; 512], [9; 512]].concat());
}

#[test]
fn a_disk_refuses_what_it_does_not_have() {
    let (mut disk, file) = disk();
    let before = std::fs::read(file.path()).unwrap();
    for (sector, len) in [(4, 512), (3, 1024), (0, 511), (u64::MAX, 512), (u64::MAX / 512, 512)] {
        assert_eq!(request(&mut disk, READ, sector, len).0, 1, "reading {len} at {sector}");
        assert_eq!(request(&mut disk, WRITE, sector, len).0, 1, "writing {len} at {sector}");
    }
    assert_eq!(request(&mut disk, 77, 0, 0).0, 2);
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
}

#[test]
fn a_disk_request_needs_header_and_status() {
    let (mut disk, _file) = disk();
    assert!(disk.violates(&[(HEADER, 15, false), (STATUS, 1, true)]));
    assert!(disk.violates(&[(HEADER, 16, false)]));
    assert!(disk.violates(&[(HEADER, 16, false), (STATUS, 0, true)]));
}

#[test]
fn entropy_fills_what_it_says() {
    let mut entropy = Bench::new(Entropy::open().unwrap(), 0);
    assert_eq!(entropy.serve(&[(DATA, 64, true)]).unwrap().0, Some(64));
    assert_ne!(entropy.driver().get(DATA, 64), [0; 64]);
    assert_eq!(entropy.serve(&[(DATA, 5000, true)]).unwrap().0, Some(4096));
    assert!(entropy.violates(&[(DATA, 64, false)]));
}

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// One queue of a network card, and the wire's other end. Like a TAP interface, a socket of datagrams passes a frame on
/// at a time.
fn network(queue: usize) -> (Bench, UnixDatagram) {
    let (card, wire) = UnixDatagram::pair().unwrap();
    for end in [&card, &wire] {
        end.set_nonblocking(true).unwrap();
    }
    let card = Network::at("tap0", OwnedFd::from(card).into()).unwrap();
    (Bench::new(card, queue), wire)
}

/// A frame with its header: no offloads, then bytes.
fn frame(len: usize) -> Vec<u8> {
    let bytes = (0..len).map(|i| i as u8 | 1);
    [0; 10].into_iter().chain(bytes).collect()
}

#[test]
fn a_frame_goes_out_whole_from_many_buffers() {
    let (mut card, wire) = network(TRANSMIT);
    let sent = frame(1500);
    card.driver().put(DATA, &sent);
    let buffers = [(DATA, 10, false), (DATA + 10, 700, false), (DATA + 710, 800, false)];
    assert_eq!(card.serve(&buffers).unwrap(), (Some(0), Wait { buffers: true, source: false }));
    let mut got = [0; 2000];
    let len = wire.recv(&mut got).unwrap();
    assert_eq!(got[..len], sent);
    assert!(wire.recv(&mut got).is_err(), "one frame and no more");
}

#[test]
fn frames_that_cannot_be_are_violations() {
    let (mut card, wire) = network(TRANSMIT);
    assert!(card.violates(&[(DATA, 9, false)]), "less than a header");
    assert!(card.violates(&[(DATA, 60, false), (DATA + 60, 1, true)]), "a buffer to write to");
    assert!(card.violates(&[(0, 70_000, false)]), "more than an interface takes");
    assert!(wire.recv(&mut [0; 100]).is_err(), "none of them went out");
}

#[test]
fn a_frame_that_nobody_takes_is_lost_without_harm() {
    let (mut card, wire) = network(TRANSMIT);
    drop(wire);
    card.driver().put(DATA, &frame(60));
    assert_eq!(card.serve(&[(DATA, 70, false)]).unwrap().0, Some(0));
}

#[test]
fn a_frame_comes_in_whole_into_many_buffers() {
    let (mut card, wire) = network(RECEIVE);
    let sent = frame(300);
    assert_eq!(
        card.serve(&[(DATA, 10, true), (DATA + 10, 500, true)]).unwrap(),
        (None, Wait { buffers: false, source: true })
    );
    wire.send(&sent).unwrap();
    let (written, _) = card.serve(&[(DATA, 10, true), (DATA + 10, 500, true)]).unwrap();
    assert_eq!(written, Some(310));
    assert_eq!(card.driver().get(DATA, 310), sent);
}

#[test]
fn version_1_of_virtio_has_a_longer_header() {
    let (wire, card_end) = UnixDatagram::pair().unwrap();
    card_end.set_nonblocking(true).unwrap();
    wire.set_nonblocking(true).unwrap();
    let tap = std::fs::File::from(OwnedFd::from(card_end));
    let mut services = Network::at("tap9", tap).unwrap().start_version_1().unwrap();
    let memory = || GuestMemory::map(1 << 20).unwrap();
    let mut transmit = Bench { memory: memory(), service: services.remove(TRANSMIT) };
    let mut receive = Bench { memory: memory(), service: services.remove(RECEIVE) };
    let plain = frame(300);
    let (header, payload) = plain.split_at(10);
    // The count of buffers is between header and payload; it is the device's to write.
    let long = [header, &[1, 0], payload].concat();
    transmit.driver().put(DATA, &[header, &[0, 0], payload].concat());
    assert_eq!(transmit.serve(&[(DATA, 12, false), (DATA + 12, 300, false)]).unwrap().0, Some(0));
    let mut got = [0; 2000];
    let len = wire.recv(&mut got).unwrap();
    assert_eq!(got[..len], plain);
    assert!(transmit.violates(&[(DATA, 11, false)]), "less than a header");
    wire.send(&plain).unwrap();
    assert_eq!(receive.serve(&[(DATA, 312, true)]).unwrap().0, Some(312));
    assert_eq!(receive.driver().get(DATA, 312), long);
    // It fits to the byte, or is lost.
    wire.send(&plain).unwrap();
    assert_eq!(receive.serve(&[(DATA, 311, true)]).unwrap().0, Some(0));
}

#[test]
fn a_frame_waits_for_a_buffer_and_is_lost_in_one_too_small() {
    let (mut card, wire) = network(RECEIVE);
    wire.send(&frame(300)).unwrap();
    let mut queue = Virtqueue::new(&card.memory, 0, SIZE).unwrap();
    let wait = card.service.serve(&mut queue).unwrap();
    assert_eq!(wait, Wait { buffers: true, source: false }, "what is received already is not read again");
    assert_eq!(card.serve(&[(DATA, 309, true)]).unwrap().0, Some(0));
    wire.send(&frame(20)).unwrap();
    assert_eq!(card.serve(&[(DATA, 309, true)]).unwrap().0, Some(30), "the next one is a new one");
    wire.send(&frame(20)).unwrap();
    assert!(card.violates(&[(DATA, 309, false)]), "a buffer to read from");
}

#[test]
fn console_output_is_shown_byte_for_byte() {
    let screen = Screen::default();
    let (terminal, _keyboard) = piped_terminal();
    let mut console = Bench::new(Console::new(terminal, screen.output()), 1);
    let text: Vec<u8> = (0..=255).cycle().take(5000).collect();
    console.driver().put(DATA, &text);
    let answer = console.serve(&[(DATA, 10, false), (DATA + 10, 4990, false)]).unwrap();
    assert_eq!(answer, (Some(0), Wait { buffers: true, source: false }));
    assert!(screen.shown() == text);
    assert!(console.violates(&[(DATA, 10, true)]));
}

#[test]
fn console_input_waits_for_keys_and_for_buffers() {
    let (terminal, keyboard) = piped_terminal();
    let mut console = Bench::new(Console::new(terminal, Screen::default().output()), 0);
    let nothing_typed = console.serve(&[(DATA, 4, true)]).unwrap();
    assert_eq!(nothing_typed, (None, Wait { buffers: false, source: true }));
    rustix::io::write(&keyboard, b"hello").unwrap();
    let filled = console.serve(&[(DATA, 4, true)]).unwrap();
    assert_eq!(filled, (Some(4), Wait { buffers: true, source: true }));
    assert_eq!(console.driver().get(DATA, 4), b"hell");
    drop(keyboard);
    let rest = console.serve(&[(DATA, 4, true)]).unwrap();
    assert_eq!(rest, (Some(1), Wait { buffers: false, source: false }));
    assert_eq!(console.driver().get(DATA, 1), b"o");
}

#[test]
fn console_input_takes_no_output() {
    let (terminal, keyboard) = piped_terminal();
    let mut console = Bench::new(Console::new(terminal, Screen::default().output()), 0);
    rustix::io::write(&keyboard, b"x").unwrap();
    assert!(console.violates(&[(DATA, 4, false)]));
}

#[test]
fn a_terminal_is_handed_over_and_given_back() {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let (_person, launcher) = pseudo_terminal();
    let copy = launcher.try_clone().unwrap();
    let modes = || tcgetattr(&copy).unwrap().local_modes;
    let settings = tcgetattr(&copy).unwrap();
    let before = modes();
    let lines = LocalModes::ISIG | LocalModes::ICANON | LocalModes::ECHO;
    assert!(before.contains(lines));
    let terminal = Arc::new(Terminal::new(launcher));
    let mut console = Console::new(terminal.clone(), Screen::default().output());
    assert_eq!(modes(), before, "it is the person's until the guest sets the console up");
    let services = console.start().unwrap();
    assert_eq!(modes(), before - lines);
    drop(services);
    // A guest may reset its console and set it up again.
    console.start().unwrap();
    // A shell sets it while the launcher is stopped.
    tcsetattr(&copy, OptionalActions::Now, &settings).unwrap();
    terminal.continued();
    assert_eq!(modes(), before - lines);
    terminal.give_back();
    assert_eq!(modes(), before);
    // What is left of the guest does not get it again.
    terminal.continued();
    console.start().unwrap();
    assert_eq!(modes(), before);
}

#[test]
fn a_console_has_the_size_of_the_terminal() {
    use rustix::termios::{Winsize, tcsetwinsize};
    const IRQ: u32 = 7;
    let (person, launcher) = pseudo_terminal();
    let resize = |columns, rows| {
        tcsetwinsize(&person, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    };
    let terminal = Arc::new(Terminal::new(launcher));
    let console = || Console::new(terminal.clone(), Screen::default().output());
    // A terminal that does not know its size.
    assert_eq!((console().features(), console().config()), (0, vec![]));
    resize(132, 300);
    let mut console = console();
    // VIRTIO_CONSOLE_F_SIZE; columns and rows (virtio 1.x, 5.3).
    assert_eq!((console.features(), console.config()), (1, vec![132, 0, 44, 1]));

    let memory = Arc::new(GuestMemory::map(1 << 20).unwrap());
    let host = ScriptedHost::new([
        Step::AwaitInterrupt(9),
        Step::AwaitInterrupt(IRQ),
        Step::AwaitInterrupt(IRQ),
        Step::Fail(1),
    ]);
    let (config, status, pci) = (0x100, 0x200, OnPci::default());
    let shown = || {
        let mut bytes = [0; 5];
        assert_eq!(memory.slice(config, 5).unwrap().copy_to(&mut bytes), 5);
        bytes
    };
    resize(80, 25);
    console.connect(ConfigPort {
        host: host.clone(),
        memory: memory.clone(),
        config: config as u32,
        status: status as u32,
        irq: IRQ,
        pci: pci.clone(),
    });
    assert_eq!(shown(), [80, 0, 25, 0, 0], "the size has changed since the guest was prepared");
    // Nobody uses the device yet.
    host.interrupt(9).unwrap();
    // ACKNOWLEDGE, DRIVER, DRIVER_OK.
    assert_eq!(memory.slice(status, 1).unwrap().copy_from(&[7]), 1);
    resize(81, 26);
    terminal.size_changed();
    assert_eq!(shown(), [81, 0, 26, 0, 0]);
    assert_eq!(pci.isr.load(Ordering::Relaxed), 0);
    // A guest that uses it on the PCI bus finds the reason in the interrupt status (virtio 1.x, 4.1.4.5).
    assert_eq!(memory.slice(status, 1).unwrap().copy_from(&[0]), 1);
    pci.used.store(true, Ordering::Relaxed);
    terminal.size_changed();
    assert_eq!(pci.isr.load(Ordering::Relaxed), 2);
    // Exactly these three interrupts, in this order.
    assert_eq!(host.read(&mut [0; 64]).unwrap_err().raw_os_error(), Some(1));
    drop(console);
    resize(82, 27);
    terminal.size_changed();
    assert_eq!(shown(), [81, 0, 26, 0, 0], "a guest that is gone is left alone");
}

/// Waits until something has been typed.
fn await_input(console: &Bench) {
    use rustix::event::{PollFd, PollFlags, poll};
    let source = console.service.source().unwrap();
    poll(&mut [PollFd::from_borrowed_fd(source, PollFlags::IN)], None).unwrap();
}

#[test]
fn a_long_paste_arrives_whole_at_a_guest_that_takes_it_late() {
    const LEN: usize = 100_000;
    let (person, launcher) = pseudo_terminal();
    let terminal = Arc::new(Terminal::new(launcher));
    let mut console = Bench::new(Console::new(terminal, Screen::default().output()), 0);
    let paste: Vec<u8> = (0..LEN).map(|i| b'a' + (i % 26) as u8).collect();
    let mut queue = Virtqueue::new(&console.memory, 0, SIZE).unwrap();
    // A pseudo-terminal takes some kilobytes at a time, until they are read.
    for part in paste.chunks(1000) {
        let mut rest = part;
        while !rest.is_empty() {
            let written = rustix::io::write(&person, rest).unwrap();
            rest = &rest[written..];
        }
        for _ in 0..4 {
            console.service.serve(&mut queue).unwrap();
        }
    }
    let mut arrived = Vec::new();
    while arrived.len() < LEN {
        if let (Some(written), _) = console.serve(&[(DATA, 5000, true)]).unwrap() {
            arrived.extend(console.driver().get(DATA, written as usize));
        } else {
            await_input(&console);
        }
    }
    assert!(arrived == paste);
}

#[test]
fn three_ctrl_c_at_a_terminal_leave_a_guest_that_takes_no_input() {
    let (person, launcher) = pseudo_terminal();
    let terminal = Arc::new(Terminal::new(launcher));
    let mut console = Bench::new(Console::new(terminal, Screen::default().output()), 0);
    rustix::io::write(&person, b"\x03\x03\x03").unwrap();
    let mut queue = Virtqueue::new(&console.memory, 0, SIZE).unwrap();
    // The keys may arrive one by one; at the third, the guest is left.
    let stop = loop {
        match console.service.serve(&mut queue) {
            Ok(wait) => {
                assert!(wait.source);
                await_input(&console);
            }
            Err(stop) => break stop,
        }
    };
    assert!(matches!(stop, Stop::Ended(Outcome::UserLeft)));
}
