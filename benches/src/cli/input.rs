//! What is replayed: a paging trace or a sequence of keys, by its name or by options.

use super::failure::Failure;
use crate::analysis::FirstLoads;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sim::input::Input;
use sim::keys::{Column, ReadForm};
use sim::trace::Operation;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How an input is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct InputOptions {
    /// Form of the trace [default: by its name, as in NAME.keys, NAME.csv, NAME.oracleGeneral.bin]
    #[arg(long, value_enum, value_name = "FORM")]
    input: Option<InputForm>,
    /// CSV's column with the keys, by its name in the first line or its number from 1 [default: key]
    #[arg(long, value_name = "COLUMN")]
    key_column: Option<String>,
    /// CSV's first line is no header; the column is chosen by its number
    #[arg(long, requires = "key_column")]
    #[serde(default)]
    no_header: bool,
    /// What is between CSV's columns, a character or `tab` [default: ,]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delimiter: Option<u8>,
    /// Read no more than the first N page-directory loads, and what follows them up to the next one
    #[arg(long, value_name = "N", visible_alias = "num-req", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loads: Option<u64>,
}

/// What an input can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputForm {
    /// A paging trace, text or binary
    Trace,
    /// A key a line
    #[value(alias = "txt")]
    Keys,
    /// CSV, with the key in a column
    Csv,
    /// libCacheSim's oracleGeneral
    #[value(alias = "oracleGeneral")]
    OracleGeneral,
}

/// Parses what is between two columns.
fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        &[byte] if !matches!(byte, b'"' | b'#' | b'\n' | b'\r') => Ok(byte),
        _ => Err(format!("`{text}`: columns are divided by one ASCII character, as `;`, or `tab`")),
    }
}

impl InputForm {
    /// The form that a file's name selects; compression may be named behind it.
    pub fn of_name(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let name = [".lz4", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if ends(&[".keys", ".txt"]) {
            Self::Keys
        } else if ends(&[".csv"]) {
            Self::Csv
        } else if ends(&[".oraclegeneral", ".oraclegeneral.bin"]) {
            Self::OracleGeneral
        } else {
            Self::Trace
        }
    }
}

impl InputOptions {
    /// The form in which the keys of this file are read; `None` for a paging trace.
    pub fn key_form(&self, path: &Path) -> Result<Option<ReadForm>, Failure> {
        let form = self.input.unwrap_or_else(|| InputForm::of_name(path));
        if form != InputForm::Csv {
            let given =
                [("--key-column", self.key_column.is_some()), ("--delimiter", self.delimiter.is_some())];
            if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(Failure::NoCsv { path: path.to_owned(), option });
            }
        }
        Ok(match form {
            InputForm::Trace => None,
            InputForm::Keys => Some(ReadForm::List),
            InputForm::Csv => {
                Some(ReadForm::Csv { column: self.column()?, delimiter: self.delimiter.unwrap_or(b',') })
            }
            InputForm::OracleGeneral => Some(ReadForm::OracleGeneral),
        })
    }

    fn column(&self) -> Result<Column, Failure> {
        let column = self.key_column.as_deref().unwrap_or("key");
        match column.parse() {
            Ok(0) => Err(Failure::ColumnZero),
            Ok(number) => Ok(Column::Number { number, header: !self.no_header }),
            Err(_) if self.no_header => Err(Failure::NamedColumn(column.to_owned())),
            Err(_) => Ok(Column::Name(column.to_owned())),
        }
    }

    /// Begins to read a file.
    pub fn open(&self, path: &Path) -> Result<Input<File>, Failure> {
        self.read(path, file(path)?)
    }

    /// Begins to read what is in a file of this name.
    pub fn read<R: Read>(&self, path: &Path, input: R) -> Result<Input<R>, Failure> {
        let input = Input::new(input, self.key_form(path)?.as_ref())
            .map_err(|source| Failure::Input { path: path.to_owned(), source })?;
        Ok(input.of_loads(self.most_loads()))
    }

    /// How many page directories the trace loads, different ones, by a reading of its own.
    pub fn count_directories(&self, path: &Path, accept_loss: bool) -> Result<u64, Failure> {
        let input = file(path)?;
        if !input.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(Failure::ReadOnce { path: path.to_owned(), readings: 2 });
        }
        let mut first_loads = FirstLoads::default();
        for operation in self.read(path, input)?.accept_loss(accept_loss) {
            let of_input = |source| Failure::Input { path: path.to_owned(), source };
            if let Operation::LoadPageDirectory(directory) = operation.map_err(of_input)? {
                first_loads.load(directory);
            }
        }
        Ok(first_loads.after(0))
    }

    /// How many page-directory loads are read at most.
    pub fn most_loads(&self) -> u64 {
        self.loads.unwrap_or(u64::MAX)
    }
}

/// Opens an input's file; `-` is the standard input.
pub fn file(path: &Path) -> Result<File, Failure> {
    let at = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    File::open(at).map_err(|source| Failure::Open { path: PathBuf::from(path), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_selects_the_form() {
        for (name, form) in [
            ("a.trace", InputForm::Trace),
            ("a.lgt.lz4", InputForm::Trace),
            ("-", InputForm::Trace),
            ("csv", InputForm::Trace),
            ("a/b.keys", InputForm::Keys),
            ("b.txt.zst", InputForm::Keys),
            ("b.CSV.lz4", InputForm::Csv),
            ("w92.oracleGeneral.bin.zst", InputForm::OracleGeneral),
            ("w92.oracleGeneral", InputForm::OracleGeneral),
        ] {
            assert_eq!(InputForm::of_name(Path::new(name)), form, "{name}");
        }
    }

    #[test]
    fn a_column_has_a_name_or_a_number() {
        let column = |column: Option<&str>, no_header| {
            let key_column = column.map(str::to_owned);
            InputOptions { key_column, no_header, ..InputOptions::default() }.column()
        };
        assert_eq!(column(None, false).unwrap(), Column::Name("key".to_owned()));
        assert_eq!(column(Some("3"), false).unwrap(), Column::Number { number: 3, header: true });
        assert_eq!(column(Some("3"), true).unwrap(), Column::Number { number: 3, header: false });
        assert!(column(Some("0"), false).is_err());
        assert!(column(Some("id"), true).unwrap_err().to_string().contains("`id`"));
        let other = InputOptions { key_column: Some("id".to_owned()), ..InputOptions::default() };
        assert!(other.key_form(Path::new("a.keys")).unwrap_err().to_string().contains("--key-column"));
        let other = InputOptions { delimiter: Some(b';'), ..InputOptions::default() };
        assert!(other.key_form(Path::new("a.keys")).unwrap_err().to_string().contains("--delimiter"));
    }

    #[test]
    fn a_delimiter_is_a_character() {
        assert_eq!(["tab", ";", "\t", " "].map(|text| delimiter(text).unwrap()), [b'\t', b';', b'\t', b' ']);
        for text in ["", ";;", "ä", "\"", "#", "\n"] {
            assert!(delimiter(text).unwrap_err().contains("one ASCII character"), "{text}");
        }
    }
}
