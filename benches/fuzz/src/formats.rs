//! Targets for what is parsed: nothing may panic, and what is accepted must mean what it states.

use crate::bytes::Bytes;
use crate::count;
use crate::request::{Memory, Request};
use arch_i386::addr::{GuestVirt, PAGE_SIZE};
use arch_i386::lguest_data::IRQS;
use arch_i386::paging::Paging;
use framework::registry::{BuildContext, Choice};
use framework::strategy::Formats;
use sim::SimHost;
use sim::keys::{Column, Key, KeyForm, KeyReader, KeyWriter, ReadForm};
use sim::trace::{Operation, Reader, Writer, WrittenForm};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use userland_launcher::guest_memory::GuestMemory;
use userland_launcher::kernel::Kernel;
use userland_launcher::virtqueue::{Virtqueue, ring_bytes};

/// No more operations are read of one trace: a compressed one may hold any number.
const OPERATIONS_MAX: usize = 4096;

/// A trace: read without a panic; what was read is written in each form and reads the same.
pub fn traces(bytes: &[u8]) {
    count(1);
    let Ok(reader) = Reader::new(bytes) else { return };
    let header = reader.header();
    let operations: Vec<Operation> =
        reader.accept_loss(true).take(OPERATIONS_MAX).map_while(Result::ok).collect();
    for binary in [false, true] {
        let mut written = Vec::new();
        let form = WrittenForm { binary, compressed: bytes.len().is_multiple_of(2) };
        let mut writer = Writer::new(&mut written, form, &header).expect("memory takes all bytes");
        for operation in &operations {
            writer.write(operation).expect("memory takes all bytes");
        }
        writer.finish().expect("memory takes all bytes");
        let again = Reader::new(&written[..]).expect("a header that was written reads");
        assert_eq!(again.header(), header);
        let again: Vec<Operation> =
            again.accept_loss(true).collect::<Result<_, _>>().expect("operations that were written read");
        assert_eq!(again, operations);
    }
}

/// Keys, in the form that the first byte selects: read without a panic; what was read is written in each form that can name
/// it, and reads the same.
pub fn keys(bytes: &[u8]) {
    count(1);
    let Some((form, bytes)) = bytes.split_first() else { return };
    let form = match form % 4 {
        0 => ReadForm::List,
        1 => ReadForm::Csv { column: Column::Name("key".to_owned()), delimiter: b',' },
        2 => ReadForm::Csv { column: Column::Number { number: 2, header: false }, delimiter: b';' },
        _ => ReadForm::OracleGeneral,
    };
    let Ok(reader) = KeyReader::new(bytes, &form) else { return };
    let keys: Vec<Key> = reader.take(OPERATIONS_MAX).map_while(Result::ok).collect();
    for (form, read) in [
        (KeyForm::List, ReadForm::List),
        (KeyForm::Csv, ReadForm::Csv { column: Column::Name("key".to_owned()), delimiter: b',' }),
        (KeyForm::OracleGeneral, ReadForm::OracleGeneral),
    ] {
        let mut written = Vec::new();
        let compressed = bytes.len().is_multiple_of(2);
        let mut writer =
            KeyWriter::new(&mut written, form, compressed, false).expect("memory takes all bytes");
        // A form that cannot name a key refuses it.
        let named: Vec<Key> =
            keys.iter().filter(|key| writer.write((*key).clone()).is_ok()).cloned().collect();
        writer.finish().expect("memory takes all bytes");
        let again = KeyReader::new(&written[..], &read).expect("what was written begins as it should");
        let again: Vec<Key> = again.collect::<Result<_, _>>().expect("keys that were written read");
        assert_eq!(again, named, "{form:?}");
    }
}

/// A kernel file: read without a panic; an accepted one goes into as much memory as it declares.
pub fn kernels(bytes: &[u8]) {
    thread_local! {
        static SCRATCH: RefCell<File> = RefCell::new(tempfile::tempfile().expect("a temporary file"));
    }
    count(1);
    let file = SCRATCH.with_borrow(|file| {
        file.set_len(0).expect("a file can be emptied");
        file.write_all_at(bytes, 0).expect("room in the temporary folder");
        file.try_clone().expect("a free file descriptor")
    });
    let Ok(kernel) = Kernel::read(file) else { return };
    // More would only be slow.
    if kernel.end() > 8 << 20 {
        return;
    }
    let mut memory = vec![0; kernel.end() as usize];
    kernel.load(&mut memory).expect("a kernel goes into the memory that it says it needs");
    assert!(kernel.load(&mut memory[1..]).is_err(), "and into no less");
}

const QUEUE_MEMORY: u32 = 16 * PAGE_SIZE;

/// A virtqueue: chains are taken, read, written and given back; no byte is touched outside the guest's memory, and
/// chains end.
pub fn virtqueues(bytes: &[u8]) {
    thread_local! {
        static MEMORY: RefCell<GuestMemory> =
            RefCell::new(GuestMemory::map(QUEUE_MEMORY as usize).expect("memory for a queue"));
    }
    count(1);
    let mut input = Bytes::new(bytes);
    let size = 1_u16 << (input.byte() % 9);
    let take = usize::from(input.byte());
    let contents = bytes.get(2..).unwrap_or_default();
    let length = contents.len().min(QUEUE_MEMORY as usize);
    MEMORY.with_borrow_mut(|memory| {
        let all = memory.bytes_mut();
        all.fill(0);
        all[..length].copy_from_slice(&contents[..length]);
        // The available ring of a small queue lies among the first bytes, so that short inputs reach it.
        let memory = &*memory;
        assert!(ring_bytes(size) <= QUEUE_MEMORY);
        let mut queue = Virtqueue::new(memory, 0, size).expect("the ring is within memory");
        for round in 0..=usize::from(size) {
            let Ok(Some(mut chain)) = queue.take() else { break };
            let (readable, writable) = (chain.readable.left(), chain.writable.left());
            let mut rest = chain.readable.split_off(take as u64);
            assert_eq!(chain.readable.left() + rest.left(), readable);
            let mut buffer = vec![0; take];
            let front = chain.readable.read(&mut buffer).expect("reading cannot fail") as u64;
            assert_eq!(front, readable.min(take as u64));
            let read = rest.read(&mut buffer).expect("reading cannot fail");
            let written = chain.writable.write(&buffer[..read]).expect("writing cannot fail");
            assert_eq!(written as u64, writable.min(read as u64));
            queue.give_back(chain.head, written as u32);
            if round.is_multiple_of(2) {
                queue.ignore_notifications();
            } else {
                let _ = queue.await_notifications();
            }
            queue.wants_interrupt();
        }
    });
}

/// A request: parsed without a panic, from its first bytes only; what is accepted is within bounds.
pub fn requests(bytes: &[u8]) {
    count(1);
    let parsed = Request::parse(bytes);
    let mut longer = bytes.to_vec();
    longer.extend_from_slice(&[0xa5; 7]);
    match &parsed {
        Ok(request) => {
            // One request has an argument that may be missing.
            let all = !matches!(request, Request::Initialize { .. }) || bytes.len() >= 20;
            assert!(
                !all || Request::parse(&longer).as_ref() == Ok(request),
                "what comes after the arguments is ignored"
            );
            match *request {
                Request::Initialize { memory: memory @ Memory { base, pages, device_limit }, .. } => {
                    assert!((pages..=1 << 20).contains(&device_limit));
                    assert!(pages > 0 && base.is_multiple_of(PAGE_SIZE));
                    assert!(base.checked_add(memory.bytes()).is_some());
                }
                Request::Irq(irq) => assert!(irq < IRQS),
                Request::Eventfd { address, .. } => assert_ne!(address, 0),
                Request::Strategy(text) => assert!(text.len() <= arch_i386::launcher::STRATEGY_MAX),
                Request::Intercept(vectors) => assert_eq!(vectors & !arch_i386::debug::INTERCEPTED, 0),
                Request::Paging(_)
                | Request::Counters { .. }
                | Request::View { .. }
                | Request::Registers(_)
                | Request::SetRegisters(_)
                | Request::PassTrapOn
                | Request::GetRegister(_)
                | Request::SetRegister { .. }
                | Request::Trap(_) => {}
            }
        }
        Err(invalid) => assert!(!format!("{invalid:?}").is_empty()),
    }
}

/// The description of a strategy: parsed without a panic; an accepted one is described as it was, and serves a guest
/// or reports why not.
pub fn choices(bytes: &[u8]) {
    count(1);
    let Ok(text) = str::from_utf8(bytes) else { return };
    let choice = match Choice::parse(text) {
        Ok(choice) => choice,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let described = choice.to_string();
    let again = Choice::parse(&described).expect("a description that was made is accepted");
    assert_eq!(again.to_string(), described);
    for formats in Formats::SERVED {
        let mut host = SimHost::new(16);
        let window = host.window(GuestVirt(0xffc0_0000));
        if let Ok(mut strategy) =
            choice.build(&BuildContext { formats, window, seed: 1, switcher_fills: false })
        {
            assert_eq!(strategy.paging(), formats.guest);
            let _ = strategy.set_up(&mut host);
            strategy.tear_down(&mut host);
        } else {
            // `pae` is for PAE hosts; the others take all.
            assert_ne!(formats.shadow, Paging::Pae, "{described} on a PAE host");
        }
        host.remove_window();
        assert_eq!((host.entries(), host.tables()), (0, 0));
    }
}
