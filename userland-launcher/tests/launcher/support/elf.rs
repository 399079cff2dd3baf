//! Kernels for tests: small ELF images, as right or wrong as a test needs them.

use std::fs::File;
use std::io::Write;

/// A loadable segment.
#[derive(Clone, Debug)]
pub struct Segment {
    pub physical: u32,
    pub virt: u32,
    pub contents: Vec<u8>,
    pub memory_len: u32,
}

/// An ELF file (System V ABI, chapter 4), little-endian and 32-bit unless `class` or `data` specify otherwise.
#[derive(Clone, Debug)]
pub struct Elf {
    pub class: u8,
    pub data: u8,
    pub kind: u16,
    pub machine: u16,
    pub entry: u32,
    pub segments: Vec<Segment>,
    /// The page formats in the note; without it, the note's header points at no note.
    pub paging: Option<u32>,
}

const HEADER: u32 = 52;
const PROGRAM_HEADER: u32 = 32;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

impl Elf {
    /// A good kernel: 16 bytes of contents and as many of BSS at 1 MiB, linked at 0xc0100000, that begins at
    /// its first byte.
    pub fn good() -> Self {
        let contents = (1..=16).collect();
        let segment = Segment { physical: 0x10_0000, virt: 0xc010_0000, contents, memory_len: 32 };
        Self {
            class: 1,
            data: 1,
            kind: 2,
            machine: 3,
            entry: 0x10_0000,
            segments: vec![segment],
            paging: None,
        }
    }

    /// The file's bytes. Before the segments' headers comes one of a note, which is not to be loaded.
    pub fn bytes(&self) -> Vec<u8> {
        let count = self.segments.len() as u32 + 1;
        let mut offset = HEADER + count * PROGRAM_HEADER;
        let mut file = b"\x7fELF".to_vec();
        file.extend([self.class, self.data, 1, 0]);
        file.extend([0; 8]);
        for half in [self.kind, self.machine] {
            file.extend(half.to_le_bytes());
        }
        for word in [1, self.entry, HEADER, 0, 0] {
            file.extend(word.to_le_bytes());
        }
        for half in [HEADER as u16, PROGRAM_HEADER as u16, count as u16, 40, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let note = self.note();
        let note_offset = offset + self.segments.iter().map(|s| s.contents.len() as u32).sum::<u32>();
        let (note_offset, note_len) = if note.is_empty() { (0, 8) } else { (note_offset, note.len() as u32) };
        for word in [PT_NOTE, note_offset, 0, 0, note_len, note_len, 4, 4] {
            file.extend(word.to_le_bytes());
        }
        for segment in &self.segments {
            let len = segment.contents.len() as u32;
            for word in [PT_LOAD, offset, segment.virt, segment.physical, len, segment.memory_len, 7, 4096] {
                file.extend(word.to_le_bytes());
            }
            offset += len;
        }
        for segment in &self.segments {
            file.extend(&segment.contents);
        }
        file.extend(note);
        file
    }

    /// A note of the type 1 and the name `lguest`, as the ELF standard lays it out.
    fn note(&self) -> Vec<u8> {
        let Some(formats) = self.paging else { return Vec::new() };
        let header = [7u32, 4, 1].map(u32::to_le_bytes);
        [header.as_flattened(), b"lguest\0\0", &formats.to_le_bytes()].concat()
    }

    /// The same as an open file.
    pub fn file(&self) -> File {
        file_of(&self.bytes())
    }
}

/// An open file with these contents.
pub fn file_of(contents: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(contents).unwrap();
    file
}
