//! Trace files: opened, converted, generated.

use super::Failure;
use clap::{Args, ValueEnum};
use sim::generate::{Generator, Load, MAX_PROCESSES};
use sim::trace::{Header, Operation, Reader, Writer, WrittenForm};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// Opens a trace's file; `-` is the standard input.
pub fn file(path: &Path) -> Result<File, Failure> {
    let at = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    File::open(at).map_err(|source| Failure::Open { path: path.to_owned(), source })
}

/// Begins to read a trace.
pub fn open(path: &Path) -> Result<Reader<File>, Failure> {
    Reader::new(file(path)?).map_err(|source| Failure::Trace { path: path.to_owned(), source })
}

/// The form that a file's name selects.
fn form_of(path: &Path) -> WrittenForm {
    let extension = |path: &Path, wanted: &str| path.extension().is_some_and(|extension| extension == wanted);
    let compressed = extension(path, "lz4");
    let inner = if compressed { path.with_extension("") } else { path.to_owned() };
    WrittenForm { binary: extension(&inner, "lgt"), compressed }
}

/// Options of `replay convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// The trace, in any form; `-` for the standard input
    from: PathBuf,
    /// Where to write it: NAME.lgt, NAME.lgt.lz4, NAME.trace, NAME.trace.lz4
    out: PathBuf,
}

/// Options of `replay generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// Where to write it: NAME.lgt, NAME.lgt.lz4, NAME.trace, NAME.trace.lz4
    out: PathBuf,
    /// Processes at a time
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PROCESSES)))]
    processes: u32,
    /// Operations
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    operations: u64,
    /// Page format of the guest
    #[arg(long, value_enum, default_value_t = Paging::TwoLevel)]
    paging: Paging,
    /// Where everything random begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Paging {
    /// Two levels
    #[value(name = "2")]
    TwoLevel,
    /// Three levels (PAE)
    #[value(name = "3")]
    Pae,
}

pub fn convert(options: &Convert) -> Result<(), Failure> {
    // What a recording has lost stays marked.
    let reader = open(&options.from)?.accept_loss(true);
    let header = reader.header();
    let mut reading = None;
    let operations = reader.map_while(|operation| operation.map_err(|error| reading = Some(error)).ok());
    let mut writer = Output::new(&options.out, &header)?;
    writer.write(operations)?;
    match reading {
        // What was read is there, without the end mark of a whole trace.
        Some(source) => writer.finish_cut().and(Err(Failure::Trace { path: options.from.clone(), source })),
        None => writer.finish(),
    }
}

pub fn generate(options: &Generate) -> Result<(), Failure> {
    let paging = match options.paging {
        Paging::TwoLevel => arch_i386::paging::Paging::TwoLevel,
        Paging::Pae => arch_i386::paging::Paging::Pae,
    };
    let generator = Generator::new(Load { paging, processes: options.processes, seed: options.seed });
    let header = generator.header();
    let mut left = options.operations;
    let operations = generator.take_while(|_| {
        left.checked_sub(1).is_some_and(|rest| {
            left = rest;
            true
        })
    });
    let mut output = Output::new(&options.out, &header)?;
    output.write(operations)?;
    output.finish()
}

/// A trace being written to a file, whose errors name the file.
struct Output<'a> {
    path: &'a Path,
    writer: Writer<BufWriter<File>>,
}

impl<'a> Output<'a> {
    fn new(path: &'a Path, header: &Header) -> Result<Self, Failure> {
        let create =
            || Writer::new(BufWriter::with_capacity(1 << 16, File::create(path)?), form_of(path), header);
        let writer = create().map_err(|source| Failure::Write { path: path.to_owned(), source })?;
        Ok(Self { path, writer })
    }

    fn write(&mut self, mut operations: impl Iterator<Item = Operation>) -> Result<(), Failure> {
        let written = operations.try_for_each(|operation| self.writer.write(&operation));
        written.map_err(|source| Failure::Write { path: self.path.to_owned(), source })
    }

    fn finish(self) -> Result<(), Failure> {
        self.writer.finish().map_err(|source| Failure::Write { path: self.path.to_owned(), source })
    }

    fn finish_cut(self) -> Result<(), Failure> {
        self.writer.finish_cut().map_err(|source| Failure::Write { path: self.path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_form() {
        for (name, binary, compressed) in [
            ("a/b.trace", false, false),
            ("b.trace.lz4", false, true),
            ("b.lgt", true, false),
            ("b.c.lgt.lz4", true, true),
            ("lgt", false, false),
        ] {
            assert_eq!(form_of(Path::new(name)), WrittenForm { binary, compressed }, "{name}");
        }
    }
}
