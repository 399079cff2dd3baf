//! Which files are kernels, and the error for every other one.

use crate::support::elf::{Elf, Segment, file_of};
use arch_i386::paging::Paging;
use proptest::prelude::any;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use std::io::Write;
use userland_launcher::kernel::{Kernel, KernelError};
use userland_launcher::unpack::UnpackError;

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
    assert!(matches!(changed(|elf| elf.class = 2), KernelError::SixtyFourBit));
    assert!(matches!(changed(|elf| elf.data = 2), KernelError::BigEndian));
    let wrong = changed(|elf| elf.machine = 40);
    assert!(matches!(wrong, KernelError::WrongMachine(_)));
    assert!(wrong.to_string().contains("EM_ARM"), "{wrong}");
    for kind in [1, 3, 4] {
        assert!(matches!(changed(|elf| elf.kind = kind), KernelError::NotExecutable(_)));
    }
}

/// The compressors of Linux's build, each with a file of it.
fn packed(plain: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let written = |encoder: &mut dyn Write| encoder.write_all(plain).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    written(&mut gzip);
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    written(&mut bzip2);
    // As Linux's build does it (`scripts/xz_wrap.sh`), with the filter for i386 code.
    let mut options = lzma_rust2::XzOptions::with_preset(6);
    options.prepend_pre_filter(lzma_rust2::FilterType::BcjX86, 0);
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    written(&mut xz);
    let options = lzma_rust2::LzmaOptions::with_preset(6);
    let mut lzma = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).unwrap();
    written(&mut lzma);
    let lz4 = |legacy| {
        let info = lz4_flex::frame::FrameInfo::new().legacy_frame(legacy);
        let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        written(&mut lz4);
        lz4.finish().unwrap()
    };
    let zstd = ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest);
    vec![
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("lzma", lzma.finish().unwrap()),
        ("lz4 -l", lz4(true)),
        ("lz4", lz4(false)),
        ("zstd", zstd),
        ("lzop", lzop(plain)),
    ]
}

/// A file of `lzop` (`lib/decompress_unlzo.c` of Linux), as `lzop -9` makes it, in blocks of 64 KiB.
fn lzop(plain: &[u8]) -> Vec<u8> {
    let mut file = b"\x89LZO\0\r\n\x1a\n\x10\x40\x20\xa0\x09\x40\x03\x09\x03\0\0\x01".to_vec();
    // Mode and times, no name, the header's checksum.
    file.extend([0; 12 + 1 + 4]);
    for block in plain.chunks(64 << 10) {
        let packed = lzokay::compress::compress(block).unwrap();
        assert!(packed.len() < block.len());
        for word in [block.len() as u32, packed.len() as u32, adler2::adler32_slice(block)] {
            file.extend(word.to_be_bytes());
        }
        file.extend(packed);
    }
    file.extend([0; 4]);
    file
}

/// A bzImage of boot protocol 2.08 with two sectors of setup code; the payload, with the unpacked length behind it, begins
/// 100 bytes into the code.
fn bz_image(payload: &[u8], unpacked_len: usize) -> Vec<u8> {
    let mut image = vec![0; 3 * 512 + 100];
    image[0x1f1] = 2;
    image[0x1fe..0x208].copy_from_slice(b"\x55\xaa\xeb\x66HdrS\x08\x02");
    image[0x248..0x24c].copy_from_slice(&100u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
    image.extend(payload);
    image.extend((unpacked_len as u32).to_le_bytes());
    image.extend(b"what follows is not the payload's");
    image
}

/// A kernel whose contents can be packed, but not to nearly nothing.
fn large_elf() -> Elf {
    let mut elf = Elf::good();
    let mut word = 1u32;
    let next = |_| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if word >> 31 == 0 { 0 } else { (word >> 24) as u8 }
    };
    elf.segments[0].contents = (0..300_000).map(next).collect();
    elf.segments[0].memory_len = 300_000;
    elf
}

#[test]
fn a_packed_kernel_is_unpacked() {
    let elf = large_elf();
    let plain = elf.bytes();
    for (how, packed) in packed(&plain) {
        assert!(packed.len() < plain.len(), "{how}");
        for file in [bz_image(&packed, plain.len()), packed] {
            let kernel = Kernel::read(file_of(&file)).unwrap_or_else(|error| panic!("{how}: {error:?}"));
            let mut memory = vec![0; 2 << 20];
            kernel.load(&mut memory).unwrap();
            assert!(memory[0x10_0000..][..300_000] == elf.segments[0].contents, "{how}");
        }
    }
}

#[test]
fn a_damaged_packed_kernel_is_refused() {
    let plain = large_elf().bytes();
    for (how, packed) in packed(&plain) {
        let cut = &packed[..packed.len() / 2];
        for file in [bz_image(cut, plain.len()), cut.to_vec()] {
            let error = error(&file);
            assert!(matches!(error, KernelError::Unpack(_) | KernelError::Damaged(_)), "{how}: {error:?}");
        }
    }
    let unknown = error(&bz_image(b"unknown payload", 100));
    assert!(unknown.to_string().contains("neither by gzip"), "{unknown}");
    let mut old = bz_image(b"", 0);
    old[0x206] = 7;
    assert!(matches!(error(&old), KernelError::Unpack(UnpackError::TooOld)));
    old[0x202] = b'X';
    assert!(matches!(error(&old), KernelError::NotElf));
}

/// One byte is another, of a bzImage or of a file that was packed whole.
#[test]
fn no_byte_makes_a_decoder_panic() {
    let plain = large_elf().bytes();
    let packed = packed(&plain);
    let runner = &mut TestRunner::new(Config::with_cases(64));
    let strategy = (0..packed.len(), any::<Index>(), 1u8.., any::<bool>());
    let tried = runner.run(&strategy, |(which, at, change, in_image)| {
        let (_, packed) = &packed[which];
        let mut file = if in_image { bz_image(packed, plain.len()) } else { packed.clone() };
        // Half of them where the headers are, of which most bytes mean something.
        let range = if change % 2 == 0 { file.len() } else { file.len().min(64) };
        let at = at.index(range);
        file[at] ^= change;
        drop(Kernel::read(file_of(&file)));
        Ok(())
    });
    tried.unwrap();
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
