//! Which files are kernels, and the error for every other one.

use crate::support::elf::{Elf, Segment, file_of};
use arch_i386::paging::Paging;
use userland_launcher::kernel::{Kernel, KernelError};

fn error(file: &[u8]) -> KernelError {
    Kernel::read(file_of(file)).unwrap_err()
}

/// What is wrong with a good kernel after this change.
fn changed(change: impl FnOnce(&mut Elf)) -> KernelError {
    let mut elf = Elf::good();
    change(&mut elf);
    error(&elf.bytes())
}

#[test]
fn segments_go_to_their_physical_addresses() {
    let mut elf = Elf::good();
    elf.segments.push(Segment {
        physical: 0x3000,
        virt: 0xc000_3000,
        contents: vec![0xaa; 5],
        memory_len: 5,
    });
    let kernel = Kernel::read(elf.file()).unwrap();
    assert_eq!((kernel.entry(), kernel.end()), (0x10_0000, 0x10_0020));
    let mut memory = vec![0; 2 << 20];
    kernel.load(&mut memory).unwrap();
    let mut expected = vec![0; 2 << 20];
    expected[0x10_0000..0x10_0010].copy_from_slice(&elf.segments[0].contents);
    expected[0x3000..0x3005].copy_from_slice(&[0xaa; 5]);
    assert!(memory == expected);
}

#[test]
fn a_virtual_entry_point_is_translated_by_its_segment() {
    let entry = |entry| {
        let mut elf = Elf::good();
        elf.entry = entry;
        Kernel::read(elf.file()).map(|kernel| kernel.entry())
    };
    assert_eq!(entry(0x10_0004).unwrap(), 0x10_0004);
    assert_eq!(entry(0xc010_0004).unwrap(), 0x10_0004);
    assert!(matches!(entry(0xc010_0020), Err(KernelError::EntryOutside(0xc010_0020))));
    assert!(matches!(entry(0), Err(KernelError::EntryOutside(0))));
}

#[test]
fn a_note_tells_the_page_format() {
    let paging = |paging| Kernel::read(Elf { paging, ..Elf::good() }.file()).unwrap().paging();
    assert_eq!(paging(Some(1)), Some(Paging::TwoLevel));
    assert_eq!(paging(Some(2)), Some(Paging::Pae));
    // It can do both, or declares none.
    assert_eq!(paging(Some(3)), None);
    assert_eq!(paging(None), None);
}

#[test]
fn other_files_are_told_apart() {
    assert!(matches!(error(b""), KernelError::NotElf));
    assert!(matches!(error(b"#!/bin/sh\n"), KernelError::NotElf));
    let mut image = vec![0; 4096];
    image[0x1fe..0x206].copy_from_slice(b"\x55\xaa\xeb\x66HdrS");
    assert!(matches!(error(&image), KernelError::BzImage));
    image[0x202] = b'X';
    assert!(matches!(error(&image), KernelError::NotElf));
    assert!(matches!(changed(|elf| elf.class = 2), KernelError::SixtyFourBit));
    assert!(matches!(changed(|elf| elf.data = 2), KernelError::BigEndian));
    let wrong = changed(|elf| elf.machine = 40);
    assert!(matches!(wrong, KernelError::WrongMachine(_)));
    assert!(wrong.to_string().contains("EM_ARM"), "{wrong}");
    for kind in [1, 3, 4] {
        assert!(matches!(changed(|elf| elf.kind = kind), KernelError::NotExecutable(_)));
    }
}

#[test]
fn a_kernel_must_have_something_to_load() {
    assert!(matches!(changed(|elf| elf.segments.clear()), KernelError::NoSegments));
    let empty = Segment { physical: 0x10_0000, virt: 0, contents: vec![], memory_len: 0 };
    assert!(matches!(changed(|elf| elf.segments = vec![empty]), KernelError::NoSegments));
}

#[test]
fn damaged_files_are_refused() {
    let good = Elf::good().bytes();
    for len in [4, 16, 51, 52, 100, good.len() - 1] {
        assert!(matches!(error(&good[..len]), KernelError::Damaged(_)), "cut at {len}");
    }
    assert!(matches!(changed(|elf| elf.segments[0].memory_len = 15), KernelError::Damaged(_)));
    let mut elf = Elf::good().bytes();
    elf[28..32].copy_from_slice(&u32::MAX.to_le_bytes()); // e_phoff
    assert!(matches!(error(&elf), KernelError::Damaged(_)));
}

#[test]
fn boot_parameters_are_not_overwritten() {
    for physical in [0, 0x1000, 0x1fff] {
        let error = changed(|elf| {
            elf.segments[0].physical = physical;
            elf.entry = physical;
        });
        assert!(matches!(error, KernelError::TooLow(at) if at == physical));
    }
}

#[test]
fn too_little_memory_says_how_much_would_do() {
    let too_small =
        |elf: &Elf, memory: usize| Kernel::read(elf.file()).unwrap().load(&mut vec![0; memory]).unwrap_err();
    let error = too_small(&Elf::good(), 1 << 20);
    assert!(matches!(error, KernelError::MemoryTooSmall { end: 0x10_0020, memory: 0x10_0000 }));
    assert!(error.to_string().contains("--memory 2M"), "{error}");
    // A segment that goes on beyond the last 32-bit address.
    let mut elf = Elf::good();
    elf.segments[0].physical = 0xffff_fff0;
    elf.entry = 0xffff_fff0;
    let error = too_small(&elf, 1 << 20);
    assert!(matches!(error, KernelError::MemoryTooSmall { end: 0x1_0000_0010, .. }));
}
