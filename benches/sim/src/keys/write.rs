//! Sequences of keys, written.

use super::error::KeyWriteError;
use super::key::Key;
use super::oracle_general::Record;
use crate::compression::Compressed;
use std::collections::HashMap;
use std::io::Write;

/// What keys are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// A key a line.
    List,
    /// A table with the columns `time`, which is the load's number from 0, `key`, and `size`, which is 1.
    Csv,
    /// libCacheSim's; time and size as in the table.
    OracleGeneral,
}

/// Writes keys. [`KeyWriter::finish`] must be called, or what is held back is lost.
pub struct KeyWriter<W: Write> {
    form: Form<W>,
    /// Numbers of keys by their first loads, where keys are numbered.
    numbers: Option<HashMap<Key, u64>>,
    /// Loads that have been written.
    loads: u64,
}

enum Form<W: Write> {
    List(Compressed<W>),
    Csv(Box<csv::Writer<Compressed<W>>>),
    /// A record needs to know the next load, so that all keys are kept until the end.
    OracleGeneral(Compressed<W>, Vec<u64>),
}

impl<W: Write> KeyWriter<W> {
    /// A writer of that form. With `number`, keys are replaced by numbers from 0 in the order of their first loads. The
    /// output should be buffered.
    ///
    /// # Errors
    /// The output's.
    pub fn new(output: W, form: KeyForm, compressed: bool, number: bool) -> Result<Self, KeyWriteError> {
        let output = Compressed::new(output, compressed);
        let form = match form {
            KeyForm::List => Form::List(output),
            KeyForm::Csv => {
                let mut writer = csv::Writer::from_writer(output);
                writer.write_record(["time", "key", "size"])?;
                Form::Csv(Box::new(writer))
            }
            KeyForm::OracleGeneral => Form::OracleGeneral(output, Vec::new()),
        };
        Ok(Self { form, numbers: number.then(HashMap::new), loads: 0 })
    }

    /// Writes a key.
    ///
    /// # Errors
    /// The output's, and where the form has no such key.
    pub fn write(&mut self, key: Key) -> Result<(), KeyWriteError> {
        let load = self.loads;
        let key = match &mut self.numbers {
            Some(numbers) => {
                let new = numbers.len() as u64;
                Key::Number(*numbers.entry(key).or_insert(new))
            }
            None => key,
        };
        match &mut self.form {
            Form::List(output) => {
                if let Key::Text(text) = &key
                    && (text.is_empty() || text.starts_with('#') || text.contains(char::is_whitespace))
                {
                    return Err(KeyWriteError::NoWord { load, key });
                }
                writeln!(output, "{key}")?;
            }
            Form::Csv(writer) => writer.write_record([&load.to_string(), &key.to_string(), "1"])?,
            Form::OracleGeneral(_, keys) => match key {
                Key::Number(_) if load > u64::from(u32::MAX) => return Err(KeyWriteError::TooLong(load)),
                Key::Number(number) => keys.push(number),
                Key::Text(_) => return Err(KeyWriteError::NoNumber { load, key }),
            },
        }
        self.loads += 1;
        Ok(())
    }

    /// Writes what is held back.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(self) -> Result<(), KeyWriteError> {
        let output = match self.form {
            Form::List(output) => output,
            Form::Csv(writer) => writer.into_inner().map_err(|error| error.into_error())?,
            Form::OracleGeneral(mut output, keys) => {
                for ((&object, next), time) in keys.iter().zip(next_loads(&keys)).zip(0..) {
                    output.write_all(&Record { time, object, size: 1, next }.to_bytes())?;
                }
                output
            }
        };
        Ok(output.finish()?)
    }
}

/// For each load the number of the next one of the same key, counted from 1; -1 if there is none.
fn next_loads(keys: &[u64]) -> Vec<i64> {
    let mut next = vec![-1; keys.len()];
    let mut last: HashMap<u64, i64> = HashMap::new();
    for (place, &key) in keys.iter().enumerate().rev() {
        next[place] = last.insert(key, place as i64 + 1).unwrap_or(-1);
    }
    next
}
