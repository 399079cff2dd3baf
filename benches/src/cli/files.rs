//! Trace files: converted, generated.

use super::failure::Failure;
use super::input::{InputForm, InputOptions, file};
use clap::{Args, ValueEnum};
use sim::generate::{Generator, Load, MAX_PROCESSES};
use sim::input::InputError;
use sim::keys::{Key, KeyForm, KeyReader, KeyWriter};
use sim::trace::{Header, Operation, Writer, WrittenForm};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What a file is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutForm {
    Trace(WrittenForm),
    Keys { form: KeyForm, compressed: bool },
}

impl OutForm {
    /// The form that a file's name selects, unless one is requested.
    fn of(path: &Path, requested: Option<InputForm>) -> Result<Self, Failure> {
        let trace = trace_form(path)?;
        let keys = |form| Self::Keys { form, compressed: trace.compressed };
        Ok(match requested.unwrap_or_else(|| InputForm::of_name(path)) {
            InputForm::Trace => Self::Trace(trace),
            InputForm::Keys => keys(KeyForm::List),
            InputForm::Csv => keys(KeyForm::Csv),
            InputForm::OracleGeneral => keys(KeyForm::OracleGeneral),
        })
    }
}

/// The form of a paging trace in a file of this name.
fn trace_form(path: &Path) -> Result<WrittenForm, Failure> {
    let extension = |path: &Path, wanted: &str| path.extension().is_some_and(|extension| extension == wanted);
    if extension(path, "zst") {
        return Err(Failure::NoZstd(path.to_owned()));
    }
    let compressed = extension(path, "lz4");
    let inner = if compressed { path.with_extension("") } else { path.to_owned() };
    Ok(WrittenForm { binary: extension(&inner, "lgt"), compressed })
}

/// Begins to write a file; `-` is the standard output.
fn create(path: &Path) -> Result<Box<dyn Write>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    let file = File::create(path).map_err(|source| Failure::Write { path: path.to_owned(), source })?;
    Ok(Box::new(file))
}

/// Options of `replay convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// The trace, in any form; `-` for the standard input
    from: PathBuf,
    /// Where to write it: NAME.lgt, NAME.trace, NAME.keys, NAME.csv, NAME.oracleGeneral.bin; with `.lz4` behind it compressed; `-`
    /// for the standard output
    out: PathBuf,
    #[command(flatten)]
    input: InputOptions,
    /// Form of OUT [default: by its name; for `-` a paging trace as text]
    #[arg(long, value_enum, value_name = "FORM")]
    output: Option<InputForm>,
    /// Number the keys from 0 in the order of their first loads
    #[arg(long)]
    number_keys: bool,
    /// Write keys from a recording that has lost operations too; a paging trace stays marked where it has
    #[arg(long)]
    accept_loss: bool,
}

/// Options of `replay generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// Where to write it: NAME.lgt, NAME.lgt.lz4, NAME.trace, NAME.trace.lz4; `-` for the standard output, as text
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
    match OutForm::of(&options.out, options.output)? {
        OutForm::Trace(_) if options.number_keys => Err(Failure::NoKeys(options.out.clone())),
        OutForm::Trace(form) => convert_to_trace(options, form),
        OutForm::Keys { form, compressed } => convert_to_keys(options, form, compressed),
    }
}

fn convert_to_trace(options: &Convert, form: WrittenForm) -> Result<(), Failure> {
    // What a recording has lost stays marked, and a cut one stays without its end mark.
    let input = options.input.open(&options.from)?.mark_loss();
    let header = input.header();
    let mut reading = None;
    let operations = input.map_while(|operation| operation.map_err(|error| reading = Some(error)).ok());
    let mut writer = TraceOutput::new(&options.out, form, &header)?;
    writer.write(operations)?;
    match reading {
        // What was read is there, without the end mark of a whole trace.
        Some(source) => writer.finish_cut().and(Err(Failure::Input { path: options.from.clone(), source })),
        None => writer.finish(),
    }
}

fn convert_to_keys(options: &Convert, form: KeyForm, compressed: bool) -> Result<(), Failure> {
    let of_input = |source| Failure::Input { path: options.from.clone(), source };
    let of_output = |source| Failure::WriteKeys { path: options.out.clone(), source };
    let keys: Box<dyn Iterator<Item = Result<Key, InputError>>> =
        match options.input.key_form(&options.from)? {
            Some(form) => {
                let reader = KeyReader::new(file(&options.from)?, &form);
                let reader = reader.map_err(|error| of_input(error.into()))?;
                let most = usize::try_from(options.input.most_loads()).unwrap_or(usize::MAX);
                Box::new(reader.take(most).map(|key| Ok(key?)))
            }
            None => {
                let input = options.input.open(&options.from)?.accept_loss(options.accept_loss);
                Box::new(input.filter_map(|operation| operation.map(loaded).transpose()))
            }
        };
    let output = BufWriter::new(create(&options.out)?);
    let mut writer = KeyWriter::new(output, form, compressed, options.number_keys).map_err(of_output)?;
    for key in keys {
        writer.write(key.map_err(of_input)?).map_err(of_output)?;
    }
    writer.finish().map_err(of_output)
}

/// The page directory that an operation loads, as a key.
fn loaded(operation: Operation) -> Option<Key> {
    match operation {
        Operation::LoadPageDirectory(directory) => Some(Key::Number(directory.0.into())),
        _ => None,
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
    let mut output = TraceOutput::new(&options.out, trace_form(&options.out)?, &header)?;
    output.write(operations)?;
    output.finish()
}

/// A trace being written to a file, whose errors name the file.
struct TraceOutput<'a> {
    path: &'a Path,
    writer: Writer<BufWriter<Box<dyn Write>>>,
}

impl<'a> TraceOutput<'a> {
    fn new(path: &'a Path, form: WrittenForm, header: &Header) -> Result<Self, Failure> {
        let output = BufWriter::with_capacity(1 << 16, create(path)?);
        let writer = Writer::new(output, form, header)
            .map_err(|source| Failure::Write { path: path.to_owned(), source })?;
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
        let form = |name: &str| OutForm::of(Path::new(name), None);
        for (name, binary, compressed) in [
            ("a/b.trace", false, false),
            ("b.trace.lz4", false, true),
            ("b.lgt", true, false),
            ("b.c.lgt.lz4", true, true),
            ("lgt", false, false),
        ] {
            let expected = OutForm::Trace(WrittenForm { binary, compressed });
            assert_eq!(form(name).unwrap(), expected, "{name}");
        }
        let keys = |form, compressed| OutForm::Keys { form, compressed };
        assert_eq!(form("a.csv.lz4").unwrap(), keys(KeyForm::Csv, true));
        assert_eq!(form("a.oracleGeneral.bin").unwrap(), keys(KeyForm::OracleGeneral, false));
        assert!(form("a.trace.zst").unwrap_err().to_string().contains(".lz4"));
    }
}
