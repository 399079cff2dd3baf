//! The text form of a trace, version 1: a header and then an operation a line.
//!
//! The reader refuses what it does not understand with the line's number, and never guesses. (The writer
//! is `Display` of [`Header`] and [`Operation`].)

use super::error::{Malformed, Next, TraceError};
use super::source::Source;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::Paging;
use framework::trace::{Header, Operation, TEXT_END, physical_bits};
use std::io::Read;

/// [`TEXT_END`] without its line end.
const END: &[u8] = TEXT_END.trim_ascii_end().as_bytes();

/// The longest line that is read, in bytes; comments can be long.
const MAX_LINE: usize = 1 << 20;

/// The words of one line.
struct Words<'a> {
    rest: &'a [u8],
}

fn owned(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

/// The value of a number, if it is one and has no more than 64 bits.
#[inline]
fn number(word: &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    if let Some(digits) = word.strip_prefix(b"0x") {
        if digits.is_empty() {
            return None;
        }
        for &byte in digits {
            let digit = (byte as char).to_digit(16)?;
            if value >> 60 != 0 {
                return None;
            }
            value = value << 4 | u64::from(digit);
        }
        return Some(value);
    }
    if word.is_empty() {
        return None;
    }
    for &byte in word {
        let digit = (byte as char).to_digit(10)?;
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(value)
}

impl<'a> Words<'a> {
    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.trim_ascii_start();
        if rest.is_empty() {
            return None;
        }
        let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(length);
        self.rest = rest;
        Some(word)
    }

    fn word(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        self.next().ok_or(Malformed::Missing(what))
    }

    #[inline]
    fn number(&mut self, what: &'static str, bits: u32) -> Result<u64, Malformed> {
        let word = self.word(what)?;
        let value = number(word).ok_or_else(|| Malformed::Number(owned(word)))?;
        if bits < 64 && value >> bits != 0 {
            return Err(Malformed::TooWide { what, value, bits });
        }
        Ok(value)
    }

    fn word32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.number(what, 32).map(|value| value as u32)
    }

    fn virt(&mut self) -> Result<GuestVirt, Malformed> {
        self.word32("virtual address").map(GuestVirt)
    }

    fn phys(&mut self) -> Result<GuestPhys, Malformed> {
        self.word32("physical address").map(GuestPhys)
    }

    fn entry(&mut self, paging: Paging) -> Result<u64, Malformed> {
        self.number("entry", paging.entry_size() * 8)
    }

    /// One of two words; returns whether it was the second.
    fn either(&mut self, words: [&[u8]; 2], what: &'static str) -> Result<bool, Malformed> {
        let word = self.word(what)?;
        match words.iter().position(|known| *known == word) {
            Some(which) => Ok(which == 1),
            None => Err(Malformed::Word(owned(word), what)),
        }
    }

    fn end(mut self) -> Result<(), Malformed> {
        self.next().map_or(Ok(()), |word| Err(Malformed::TooMany(owned(word))))
    }
}

fn operation(line: &[u8], paging: Paging) -> Result<Operation, Malformed> {
    let mut words = Words { rest: line };
    let operation = match words.word("operation")? {
        b"w" => {
            let at = words.number("physical address", physical_bits(paging))?;
            Operation::Write { at, value: words.entry(paging)? }
        }
        b"init" => Operation::Init(words.virt()?),
        b"cr3" => Operation::LoadPageDirectory(words.phys()?),
        b"acc" => Operation::Access {
            va: words.virt()?,
            user: words.either([b"k", b"u"], "k or u")?,
            write: words.either([b"r", b"w"], "r or w")?,
        },
        b"pf" => Operation::PageFault { va: words.virt()?, error: words.word32("error code")? },
        b"pte" => {
            Operation::SetPte { directory: words.phys()?, va: words.virt()?, value: words.entry(paging)? }
        }
        b"pgd" => Operation::SetPgd(words.phys()?, words.word32("index")?),
        b"pmd" if paging == Paging::TwoLevel => return Err(Malformed::NeedsPae("pmd")),
        b"pmd" => Operation::SetPmd(words.phys()?, words.word32("index")?),
        b"flush" => match words.word("what to flush")? {
            b"user" => Operation::FlushUser,
            b"of" => Operation::FlushUserOf(words.phys()?),
            b"all" => Operation::FlushAll,
            other => return Err(Malformed::Word(owned(other), "user, of or all")),
        },
        b"stack" => Operation::SetStack(words.virt()?, words.word32("number of pages")?),
        b"run" => Operation::Run(words.word32("CPU")?),
        b"pa" => Operation::Translate(words.virt()?),
        b"lost" => Operation::Lost(words.number("number of operations", 64)?),
        other => return Err(Malformed::UnknownOperation(owned(other))),
    };
    words.end()?;
    Ok(operation)
}

/// Where a reader is in a trace's text.
#[derive(Debug)]
pub(super) struct TextReader {
    /// Lines that have been read.
    line: u64,
    paging: Paging,
}

impl TextReader {
    /// Reads the header.
    pub(super) fn new<R: Read>(source: &mut Source<R>) -> Result<(Self, Header), TraceError> {
        let mut reader = Self { line: 0, paging: Paging::TwoLevel };
        let version = reader.header_line(source, "lgtrace", 64)?;
        let numbers = [
            reader.header_line(source, "paging", 64)?,
            reader.header_line(source, "pages", 64)?,
            reader.header_line(source, "seed", 64)?,
            reader.header_line(source, "cpus", 64)?,
            reader.header_line(source, "switcher", 64)?,
        ];
        let [levels, pages, seed, cpus, switcher] = numbers;
        let header = match version {
            1 => Header::new(levels, pages, seed, cpus, switcher).map_err(Malformed::from),
            _ => Err(Malformed::Version(version)),
        };
        let header = header.map_err(|reason| reader.malformed(reason))?;
        reader.paging = header.paging;
        Ok((reader, header))
    }

    const fn malformed(&self, reason: Malformed) -> TraceError {
        TraceError::Malformed { line: self.line, reason }
    }

    /// Gives the next line with content to `parse`; `None` at the end.
    #[inline]
    fn line<R: Read, T>(
        &mut self,
        source: &mut Source<R>,
        parse: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, TraceError> {
        let mut searched = 0;
        loop {
            let bytes = source.bytes();
            let (length, consumed) = match memchr::memchr(b'\n', &bytes[searched..]) {
                Some(at) => (searched + at, searched + at + 1),
                None if bytes.len() > MAX_LINE => {
                    self.line += 1;
                    return Err(self.malformed(Malformed::TooLong(MAX_LINE)));
                }
                None => {
                    searched = bytes.len();
                    if source.more().map_err(|source| TraceError::Line { line: self.line, source })? {
                        continue;
                    }
                    if searched == 0 {
                        return Ok(None);
                    }
                    self.line += 1;
                    return Err(self.malformed(Malformed::Cut));
                }
            };
            self.line += 1;
            let text = source.bytes()[..length].trim_ascii_start();
            if text.is_empty() || text.starts_with(b"#") {
                source.consume(consumed);
                searched = 0;
                continue;
            }
            let parsed = parse(text).map_err(|reason| self.malformed(reason))?;
            source.consume(consumed);
            return Ok(Some(parsed));
        }
    }

    fn header_line<R: Read>(
        &mut self,
        source: &mut Source<R>,
        name: &'static str,
        bits: u32,
    ) -> Result<u64, TraceError> {
        let value = self.line(source, |line| {
            let mut words = Words { rest: line };
            let word = words.word(name)?;
            if word != name.as_bytes() {
                return Err(Malformed::Header(owned(word), name));
            }
            let value = words.number(name, bits)?;
            words.end()?;
            Ok(value)
        })?;
        value.ok_or(TraceError::MissingHeader { line: self.line, expected: name })
    }

    /// The next operation, or the end mark.
    #[inline]
    pub(super) fn next<R: Read>(&mut self, source: &mut Source<R>) -> Result<Next, TraceError> {
        let paging = self.paging;
        let next = self.line(source, |line| match line.trim_ascii_end() {
            END => Ok(Next::EndMark),
            _ => operation(line, paging).map(Next::Operation),
        })?;
        Ok(next.unwrap_or(Next::Cut))
    }

    /// Whether any more line has content.
    pub(super) fn goes_on<R: Read>(&mut self, source: &mut Source<R>) -> Result<bool, TraceError> {
        Ok(self.line(source, |_| Ok(()))?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Reader;

    const HEADER: &str =
        "lgtrace 1\n# a comment\npaging 2\n\npages 16\nseed 0x2a\ncpus 2\nswitcher 0xffc00000\n";

    fn read(text: &str) -> Result<Vec<Operation>, TraceError> {
        Reader::new(text.as_bytes())?.collect()
    }

    /// The message of a trace that is cut, or has too much.
    fn refused(operations: &str) -> String {
        read(&format!("{HEADER}{operations}")).unwrap_err().to_string()
    }

    #[test]
    fn a_header_and_every_operation() {
        let text = format!(
            "{HEADER}w 0x1000 0x2067\ninit 0xc0000000\ncr3 4096\nacc 0x8048000 u r\nacc 1 k w\npf 5 6\n\
             pte 0x1000 0x8048000 0x3067\npgd 0x1000 32\nflush user\nflush all\nstack 0xc0004000 2\n\
             flush of 0x3000\nrun 1\npa 0xc0000000\nlost 3\nend\n"
        );
        let reader = Reader::new(text.as_bytes()).unwrap().accept_loss(true);
        assert_eq!(
            reader.header(),
            Header {
                paging: Paging::TwoLevel,
                pages: 16,
                seed: 42,
                cpus: 2,
                switcher: GuestVirt(0xffc0_0000)
            }
        );
        let header = reader.header();
        let operations: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(operations.len(), 15);
        assert_eq!(operations[0], Operation::Write { at: 0x1000, value: 0x2067 });
        assert_eq!(operations[4], Operation::Access { va: GuestVirt(1), user: false, write: true });
        assert_eq!(operations[7], Operation::SetPgd(GuestPhys(0x1000), 32));
        assert_eq!(operations[11], Operation::FlushUserOf(GuestPhys(0x3000)));

        let written =
            operations.iter().fold(header.to_string(), |text, operation| text + &operation.to_string())
                + TEXT_END;
        let again = Reader::new(written.as_bytes()).unwrap().accept_loss(true);
        assert_eq!(again.header(), header);
        assert_eq!(again.map(Result::unwrap).collect::<Vec<_>>(), operations);
    }

    #[test]
    fn a_loss_is_refused_unless_it_is_accepted() {
        let text = format!("{HEADER}cr3 0\nlost 12\ncr3 0x1000\nend\n");
        let message = read(&text).unwrap_err().to_string();
        assert!(message.starts_with("after operation 1: the recording lost 12 operations"), "{message}");
        let reader = Reader::new(text.as_bytes()).unwrap().accept_loss(true);
        assert_eq!(reader.map(Result::unwrap).count(), 3);
    }

    #[test]
    fn a_trace_that_was_cut_is_refused_wherever_it_was() {
        assert_eq!(read(&format!("{HEADER}w 0x1000 0x2067\nend\n # said\n\n")).unwrap().len(), 1);
        let message = refused("w 0x1000 0x2067\n");
        assert!(
            message.starts_with("there is no end mark after operation 1: the trace was cut"),
            "{message}"
        );
        // 0x20 is the beginning of 0x2067.
        let message = refused("w 0x1000 0x20");
        assert_eq!(
            message,
            "line 9: the line has no line break at its end: the trace was cut here; --accept-loss replays what is before it"
        );
        assert!(refused("end").starts_with("line 9: "));
        let text = format!("{HEADER}cr3 0\n");
        assert_eq!(Reader::new(text.as_bytes()).unwrap().accept_cut(true).map(Result::unwrap).count(), 1);
    }

    #[test]
    fn nothing_follows_the_end_mark() {
        assert_eq!(
            refused("cr3 0\nend\ncr3 0\n"),
            "the trace goes on behind its end mark, which follows operation 1"
        );
        assert!(refused("end 1\n").starts_with("line 9: `end` is no operation"));
    }

    #[test]
    fn malformed_lines_are_refused_with_their_number() {
        for (line, words) in [
            ("frobnicate 1", "`frobnicate` is no operation"),
            ("cr3", "a word is missing: physical address"),
            ("cr3 0x1000 7", "`7` is one word too many"),
            ("cr3 0x1g", "`0x1g` is no number"),
            ("cr3 +5", "`+5` is no number"),
            ("cr3 0x", "`0x` is no number"),
            ("w 0 18446744073709551616", "`18446744073709551616` is no number"),
            ("w 0 0x10000000000000000", "`0x10000000000000000` is no number"),
            ("cr3 \u{fffd}", "`\u{fffd}` is no number"),
            ("cr3 0x100000000", "wider than 32 bits"),
            ("w 0x1000 0x100000000", "entry 0x100000000 is wider than 32 bits"),
            ("acc 0 x r", "`x` where k or u is wanted"),
            ("pmd 0x1000 1", "`pmd` is an operation of traces with `paging 3`"),
        ] {
            let message = read(&format!("{HEADER}cr3 0\n{line}\n")).unwrap_err().to_string();
            assert!(message.starts_with("line 10: ") && message.contains(words), "{message}");
        }
    }

    #[test]
    fn a_bad_header_is_refused() {
        for (from, to, words) in [
            ("lgtrace 1", "lgtrace 2", "version 2"),
            ("paging 2", "paging 4", "paging 4"),
            ("seed 0x2a\n", "", "`cpus` where the header wants `seed`"),
            ("pages 16", "pages 0", "0 pages"),
            ("0xffc00000", "0xffd00000", "multiple of 0x400000"),
        ] {
            let message = read(&HEADER.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        let message = read("lgtrace 1\npaging 3\n").unwrap_err().to_string();
        assert_eq!(message, "the trace ends after line 2, where `pages` should follow");
    }
}
