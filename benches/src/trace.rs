//! The paging trace, version 1: what a guest asked of its pager, as lines of text.
//!
//! A header (`lgtrace`, `paging`, `pages`, `seed`, `cpus`, `switcher`, in this order) and then one
//! operation a line; `docs/trace-format.md` has the whole format. The reader streams: it holds one line
//! at a time, refuses what it does not understand with the line's number, and never guesses.

use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Pae, PageFormat, Paging, TwoLevel};
pub use framework::trace::{Header, Operation};
use std::io::{self, BufRead};

/// A trace that cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TraceError {
    #[error("line {line}: {source}")]
    Io { line: u64, source: io::Error },
    #[error("line {line}: {reason}")]
    Malformed { line: u64, reason: Malformed },
    #[error("the trace ends after line {line}, where `{expected}` should follow")]
    MissingHeader { line: u64, expected: &'static str },
    #[error(
        "line {line}: the recording lost {operations} operations here; record it again with a larger buffer, or replay it with --accept-loss"
    )]
    Lost { line: u64, operations: u64 },
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Malformed {
    #[error("`{0}` where the header wants `{1}`")]
    Header(String, &'static str),
    #[error("version {0}; this reader knows version 1")]
    Version(u64),
    #[error("paging {0}; it is 2 or 3 levels")]
    Paging(u64),
    #[error("{0} pages; 1 to {max} are possible", max = MAX_PAGES)]
    Pages(u64),
    #[error(
        "the Switcher at {0:#x}; it must start at a multiple of {1:#x} and, with a page and two for each CPU, fit below the next"
    )]
    Switcher(u64, u32),
    #[error("`{0}` is no operation")]
    UnknownOperation(String),
    #[error("`{0}` is an operation of traces with `paging 3`")]
    NeedsPae(&'static str),
    #[error("a word is missing: {0}")]
    Missing(&'static str),
    #[error("`{0}` is one word too many")]
    TooMany(String),
    #[error("`{0}` is no number (decimal, or hexadecimal with 0x)")]
    Number(String),
    #[error("{what} {value:#x} is wider than {bits} bits")]
    TooWide { what: &'static str, value: u64, bits: u32 },
    #[error("`{0}` where {1} is wanted")]
    Word(String, &'static str),
}

/// The most memory that a trace may give its guest, in pages (3 GiB).
const MAX_PAGES: u64 = 0xc_0000;

/// The words of one line.
struct Words<'a>(std::str::SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        self.0.next().ok_or(Malformed::Missing(what))
    }

    fn number(&mut self, what: &'static str, bits: u32) -> Result<u64, Malformed> {
        let word = self.word(what)?;
        let (digits, radix) = match word.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (word, 10),
        };
        // `from_str_radix` takes a sign, which is none of a number's here.
        let value = Some(digits).filter(|digits| !digits.starts_with('+'));
        let value = value.and_then(|digits| u64::from_str_radix(digits, radix).ok());
        let value = value.ok_or_else(|| Malformed::Number(word.to_owned()))?;
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

    /// One of two words; says whether it was the second.
    fn either(&mut self, words: [&str; 2], what: &'static str) -> Result<bool, Malformed> {
        let word = self.word(what)?;
        match words.iter().position(|known| *known == word) {
            Some(which) => Ok(which == 1),
            None => Err(Malformed::Word(word.to_owned(), what)),
        }
    }

    fn end(mut self) -> Result<(), Malformed> {
        self.0.next().map_or(Ok(()), |word| Err(Malformed::TooMany(word.to_owned())))
    }
}

fn operation(line: &str, paging: Paging) -> Result<Operation, Malformed> {
    let mut words = Words(line.split_ascii_whitespace());
    let operation = match words.word("operation")? {
        "w" => {
            let bits = if paging == Paging::Pae { 36 } else { 32 };
            Operation::Write { at: words.number("physical address", bits)?, value: words.entry(paging)? }
        }
        "init" => Operation::Init(words.virt()?),
        "cr3" => Operation::LoadPageDirectory(words.phys()?),
        "acc" => Operation::Access {
            va: words.virt()?,
            user: words.either(["k", "u"], "k or u")?,
            write: words.either(["r", "w"], "r or w")?,
        },
        "pf" => Operation::PageFault { va: words.virt()?, error: words.word32("error code")? },
        "pte" => {
            Operation::SetPte { directory: words.phys()?, va: words.virt()?, value: words.entry(paging)? }
        }
        "pgd" => Operation::SetPgd(words.phys()?, words.word32("index")?),
        "pmd" if paging == Paging::TwoLevel => return Err(Malformed::NeedsPae("pmd")),
        "pmd" => Operation::SetPmd(words.phys()?, words.word32("index")?),
        "flush" => match words.either(["user", "all"], "user or all")? {
            false => Operation::FlushUser,
            true => Operation::FlushAll,
        },
        "stack" => Operation::SetStack(words.virt()?, words.word32("number of pages")?),
        "run" => Operation::Run(words.word32("CPU")?),
        "pa" => Operation::Translate(words.virt()?),
        "lost" => Operation::Lost(words.number("number of operations", 64)?),
        other => return Err(Malformed::UnknownOperation(other.to_owned())),
    };
    words.end()?;
    Ok(operation)
}

/// Reads a trace, a line at a time.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: String,
    number: u64,
    header: Header,
    accept_loss: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn new(input: R) -> Result<Self, TraceError> {
        let header = Header { paging: Paging::TwoLevel, pages: 0, seed: 0, cpus: 0, switcher: GuestVirt(0) };
        let mut reader = Self { input, line: String::new(), number: 0, header, accept_loss: false };
        let [version, levels, pages, seed, cpus, switcher] = [
            reader.header_line("lgtrace", 32)?,
            reader.header_line("paging", 32)?,
            reader.header_line("pages", 32)?,
            reader.header_line("seed", 64)?,
            reader.header_line("cpus", 16)?,
            reader.header_line("switcher", 32)?,
        ];
        let (paging, span) = match levels {
            3 => (Paging::Pae, Pae::LEAF_SPAN),
            _ => (Paging::TwoLevel, TwoLevel::LEAF_SPAN),
        };
        let (pages_of_switcher, room) = (1 + 2 * cpus, u64::from(span / PAGE_SIZE));
        let problem = if version != 1 {
            Some(Malformed::Version(version))
        } else if !(2..=3).contains(&levels) {
            Some(Malformed::Paging(levels))
        } else if !(1..=MAX_PAGES).contains(&pages) {
            Some(Malformed::Pages(pages))
        } else if switcher == 0 || !switcher.is_multiple_of(span.into()) || pages_of_switcher > room {
            Some(Malformed::Switcher(switcher, span))
        } else {
            None
        };
        if let Some(reason) = problem {
            return Err(TraceError::Malformed { line: reader.number, reason });
        }
        let (pages, cpus, switcher) = (pages as u32, cpus as u32, GuestVirt(switcher as u32));
        reader.header = Header { paging, pages, seed, cpus, switcher };
        Ok(reader)
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// Goes on where a recording has lost operations, which is an error otherwise.
    #[must_use]
    pub fn accept_loss(mut self, accept: bool) -> Self {
        self.accept_loss = accept;
        self
    }

    /// Goes to the next line that says something; `false` at the end.
    fn advance(&mut self) -> Result<bool, TraceError> {
        loop {
            self.line.clear();
            self.number += 1;
            let read = self.input.read_line(&mut self.line);
            if read.map_err(|source| TraceError::Io { line: self.number, source })? == 0 {
                return Ok(false);
            }
            let text = self.line.trim_ascii_start();
            if !text.is_empty() && !text.starts_with('#') {
                return Ok(true);
            }
        }
    }

    fn header_line(&mut self, name: &'static str, bits: u32) -> Result<u64, TraceError> {
        if !self.advance()? {
            return Err(TraceError::MissingHeader { line: self.number - 1, expected: name });
        }
        let mut words = Words(self.line.split_ascii_whitespace());
        let value = words.word(name).and_then(|word| {
            if word != name {
                return Err(Malformed::Header(word.to_owned(), name));
            }
            let value = words.number(name, bits)?;
            words.end()?;
            Ok(value)
        });
        value.map_err(|reason| TraceError::Malformed { line: self.number, reason })
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Operation, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(false) => None,
            Ok(true) => {
                let line = self.number;
                Some(match operation(&self.line, self.header.paging) {
                    Ok(Operation::Lost(operations)) if !self.accept_loss => {
                        Err(TraceError::Lost { line, operations })
                    }
                    result => result.map_err(|reason| TraceError::Malformed { line, reason }),
                })
            }
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "lgtrace 1\n# a comment\npaging 2\n\npages 16\nseed 0x2a\ncpus 2\nswitcher 0xffc00000\n";

    fn read(text: &str) -> Result<Vec<Operation>, TraceError> {
        Reader::new(text.as_bytes())?.collect()
    }

    #[test]
    fn a_header_and_every_operation() {
        let text = format!(
            "{HEADER}w 0x1000 0x2067\ninit 0xc0000000\ncr3 4096\nacc 0x8048000 u r\nacc 1 k w\npf 5 6\n\
             pte 0x1000 0x8048000 0x3067\npgd 0x1000 32\nflush user\nflush all\nstack 0xc0004000 2\n\
             run 1\npa 0xc0000000\nlost 3\n"
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
        assert_eq!(operations.len(), 14);
        assert_eq!(operations[0], Operation::Write { at: 0x1000, value: 0x2067 });
        assert_eq!(operations[4], Operation::Access { va: GuestVirt(1), user: false, write: true });
        assert_eq!(operations[7], Operation::SetPgd(GuestPhys(0x1000), 32));

        let written =
            operations.iter().fold(header.to_string(), |text, operation| text + &operation.to_string());
        let again = Reader::new(written.as_bytes()).unwrap().accept_loss(true);
        assert_eq!(again.header(), header);
        assert_eq!(again.map(Result::unwrap).collect::<Vec<_>>(), operations);
    }

    #[test]
    fn a_loss_is_refused_unless_it_is_accepted() {
        let text = format!("{HEADER}cr3 0\nlost 12\ncr3 0x1000\n");
        let message = read(&text).unwrap_err().to_string();
        assert!(message.starts_with("line 10: the recording lost 12 operations"), "{message}");
        let reader = Reader::new(text.as_bytes()).unwrap().accept_loss(true);
        assert_eq!(reader.map(Result::unwrap).count(), 3);
    }

    #[test]
    fn malformed_lines_are_refused_with_their_number() {
        for (line, words) in [
            ("frobnicate 1", "`frobnicate` is no operation"),
            ("cr3", "a word is missing: physical address"),
            ("cr3 0x1000 7", "`7` is one word too many"),
            ("cr3 0x1g", "`0x1g` is no number"),
            ("cr3 +5", "`+5` is no number"),
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
