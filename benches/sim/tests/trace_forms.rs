//! The forms of a trace against one another: each operation that one of them writes is read back the same.

use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::Paging;
use lz4_flex::frame::FrameEncoder;
use proptest::prelude::*;
use sim::trace::{Header, Operation, Reader, Writer, WrittenForm};
use std::fs;
use std::io::Write as _;
use std::path::Path;

const FORMS: [WrittenForm; 4] = [
    WrittenForm { binary: false, compressed: false },
    WrittenForm { binary: false, compressed: true },
    WrittenForm { binary: true, compressed: false },
    WrittenForm { binary: true, compressed: true },
];

fn write(form: WrittenForm, header: &Header, operations: &[Operation]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, form, header).unwrap();
    for operation in operations {
        writer.write(operation).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn read(bytes: &[u8]) -> (Header, Vec<Operation>) {
    let reader = Reader::new(bytes).unwrap().accept_loss(true);
    (reader.header(), reader.map(Result::unwrap).collect())
}

fn header() -> impl Strategy<Value = Header> {
    let switcher = prop_oneof![Just(0xffc0_0000_u64), Just(0x0040_0000), Just(0xc000_0000)];
    (2u64..=3, 1u64..=0xc_0000, any::<u64>(), 0u64..64, switcher).prop_map(
        |(levels, pages, seed, cpus, switcher)| Header::new(levels, pages, seed, cpus, switcher).unwrap(),
    )
}

/// Addresses of which many are near one another or page-aligned, and some anywhere.
fn address() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => (0u32..64).prop_map(|page| 0x0804_8000 + page * 4096),
        2 => (0u32..64).prop_map(|page| 0xc000_0000 + page * 4),
        1 => any::<u32>(),
    ]
}

fn operations(paging: Paging) -> impl Strategy<Value = Vec<Operation>> {
    let pae = paging == Paging::Pae;
    let entry = prop_oneof![
        4 => (0u64..1024, 0u64..4096, any::<bool>())
            .prop_map(move |(frame, flags, top)| frame << 12 | flags | u64::from(top && pae) << 63),
        1 => any::<u64>().prop_map(move |entry| if pae { entry } else { entry & 0xffff_ffff }),
    ];
    let physical = prop_oneof![
        4 => address().prop_map(u64::from),
        1 => (0u64..1 << 36).prop_map(move |at| if pae { at } else { at & 0xffff_ffff }),
    ];
    let virt = || address().prop_map(GuestVirt);
    let phys = || address().prop_map(GuestPhys);
    let operation = prop_oneof![
        4 => (physical, entry.clone()).prop_map(|(at, value)| Operation::Write { at, value }),
        1 => virt().prop_map(Operation::Init),
        2 => phys().prop_map(Operation::LoadPageDirectory),
        8 => (virt(), any::<bool>(), any::<bool>())
            .prop_map(|(va, user, write)| Operation::Access { va, user, write }),
        1 => (virt(), any::<u32>()).prop_map(|(va, error)| Operation::PageFault { va, error }),
        4 => (phys(), virt(), entry)
            .prop_map(|(directory, va, value)| Operation::SetPte { directory, va, value }),
        1 => (phys(), any::<u32>()).prop_map(|(page, index)| Operation::SetPgd(page, index)),
        1 => (phys(), any::<u32>()).prop_map(move |(page, index)| match paging {
            Paging::Pae => Operation::SetPmd(page, index),
            Paging::TwoLevel => Operation::SetPgd(page, index),
        }),
        1 => Just(Operation::FlushUser),
        1 => phys().prop_map(Operation::FlushUserOf),
        1 => Just(Operation::FlushAll),
        1 => (virt(), any::<u32>()).prop_map(|(esp1, pages)| Operation::SetStack(esp1, pages)),
        1 => any::<u32>().prop_map(Operation::Run),
        1 => virt().prop_map(Operation::Translate),
        1 => any::<u64>().prop_map(Operation::Lost),
    ];
    prop::collection::vec(operation, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_form_is_read_back_as_it_was_written(
        (header, operations) in header().prop_flat_map(|header| (Just(header), operations(header.paging)))
    ) {
        for form in FORMS {
            let read = read(&write(form, &header, &operations));
            prop_assert_eq!(&read, &(header, operations.clone()), "{:?}", form);
        }
    }

    #[test]
    fn bytes_that_are_no_trace_are_refused_without_a_panic(
        rest in prop::collection::vec(any::<u8>(), 0..100), start in 0usize..3
    ) {
        let valid = Header::new(3, 16, 1, 1, 0xffc0_0000).unwrap();
        let mut bytes = [
            Vec::new(),
            write(FORMS[2], &valid, &[]),
            write(FORMS[0], &valid, &[]),
        ][start].clone();
        bytes.extend(rest);
        if let Ok(reader) = Reader::new(&bytes[..]) {
            let operations = reader.take_while(Result::is_ok).count();
            prop_assert!(operations <= bytes.len());
        }
    }
}

#[test]
fn a_cut_trace_is_an_error_that_says_where() {
    let header = Header::new(2, 16, 1, 1, 0xffc0_0000).unwrap();
    let operation = Operation::SetStack(GuestVirt(0xc000_4000), 2);
    let bytes = write(FORMS[2], &header, &[operation, operation]);
    let whole = read(&bytes).1.len();
    assert_eq!(whole, 2);
    // The last byte is the end mark.
    let last_words = |bytes: &[u8]| Reader::new(bytes).unwrap().last().unwrap().unwrap_err().to_string();
    let message = last_words(&bytes[..bytes.len() - 1]);
    assert!(message.starts_with("there is no end mark after operation 2: the trace was cut"), "{message}");
    let message = last_words(&bytes[..bytes.len() - 2]);
    // 8 bytes of magic, 5 numbers of one byte, the Switcher's 5; the first operation is a tag, -0x3fffc pages (19
    // bits in zigzag, so 3 bytes) and a number.
    assert_eq!(message, "at byte 23 of the binary trace: the bytes end within a record");
}

#[test]
fn every_compressed_trace_that_was_cut_is_refused() {
    let header = Header::new(2, 16, 1, 1, 0xffc0_0000).unwrap();
    let operations: Vec<_> = (0..100).map(Operation::Run).collect();
    for form in [FORMS[1], FORMS[3]] {
        let bytes = write(form, &header, &operations);
        // Without the frame's own end (4 bytes of it) all of the trace is there.
        for length in 0..bytes.len() - 4 {
            let refused = Reader::new(&bytes[..length]).map_or(true, |mut reader| reader.any(|o| o.is_err()));
            assert!(refused, "{form:?} cut to {length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn of_a_trace_that_was_cut_the_whole_operations_can_be_had() {
    let header = Header::new(2, 16, 1, 1, 0xffc0_0000).unwrap();
    let operations: Vec<_> = (0..100).map(Operation::Run).collect();
    for form in FORMS {
        let bytes = write(form, &header, &operations);
        let mut most = 0;
        for length in 0..bytes.len() {
            // What ends within the header is refused in any case.
            let Ok(reader) = Reader::new(&bytes[..length]) else { continue };
            let had: Vec<_> = reader.accept_cut(true).map(Result::unwrap).collect();
            assert_eq!(had, operations[..had.len()], "{form:?} cut to {length} of {} bytes", bytes.len());
            assert!(had.len() >= most, "{form:?}: less of a longer piece");
            most = had.len();
        }
        assert_eq!(most, 100, "{form:?}: only the end is missing");
    }
}

#[test]
fn nothing_follows_the_end_mark_of_a_binary_trace() {
    let header = Header::new(2, 16, 1, 1, 0xffc0_0000).unwrap();
    let mut bytes = write(FORMS[2], &header, &[Operation::FlushAll]);
    bytes.push(0x09);
    let message = Reader::new(&bytes[..]).unwrap().last().unwrap().unwrap_err().to_string();
    assert_eq!(message, "the trace goes on behind its end mark, which follows operation 1");
}

/// The program `lz4` makes such files of pieces, and `cat` of files.
#[test]
fn frames_one_behind_the_other_are_one_trace() {
    let header = Header::new(2, 16, 1, 1, 0xffc0_0000).unwrap();
    let operations: Vec<_> = (0..1000).map(Operation::Run).collect();
    for form in [FORMS[0], FORMS[2]] {
        let whole = write(form, &header, &operations);
        let (first, second) = whole.split_at(whole.len() / 3);
        let mut bytes = Vec::new();
        // An empty one among them.
        for piece in [first, &[], second] {
            let mut frame = FrameEncoder::new(&mut bytes);
            frame.write_all(piece).unwrap();
            frame.finish().unwrap();
        }
        assert_eq!(read(&bytes), (header, operations.clone()));
        bytes.extend_from_slice(b"no frame");
        assert!(Reader::new(&bytes[..]).unwrap().any(|operation| operation.is_err()));
    }
}

#[test]
fn recorded_traces_shrink_to_a_fraction() {
    let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/calm-p3-101.trace")).unwrap();
    let (header, operations) = read(&text);
    let binary = write(FORMS[2], &header, &operations);
    let compressed = write(FORMS[3], &header, &operations);
    assert!(binary.len() * 4 < text.len(), "{} bytes of {}", binary.len(), text.len());
    assert!(compressed.len() < binary.len(), "{} bytes of {}", compressed.len(), binary.len());
}
