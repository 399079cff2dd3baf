//! Sequences of keys, as cache simulators have them, read as loads of page directories and written from any trace.
//!
//! Each key is a page directory, numbered in the order of the keys' first loads, in a guest that does nothing else. So the
//! policies meet the loads of other cache studies, and others' simulators those of guests. `docs/replay-formats.md` has the
//! forms. Each reader streams; what grows is the number of each key that has been seen.

use crate::compression::Decompressed;
use arch_i386::addr::{GuestPhys, PAGE_SIZE};
use framework::trace::{Header, Operation};
use list::ListReader;
use oracle_general::OracleGeneralReader;
use std::collections::HashMap;
use std::io::{BufReader, Read};
use table::TableReader;

pub use error::{KeyError, KeyWriteError, MalformedKey};
pub use key::Key;
pub use table::Column;
pub use write::{KeyForm, KeyWriter};

mod error;
mod key;
mod list;
mod oracle_general;
mod table;
mod write;

/// What keys are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadForm {
    /// A key a line.
    List,
    /// CSV.
    Csv {
        /// Where the keys are.
        column: Column,
        /// What is between two columns: a comma in RFC 4180.
        delimiter: u8,
    },
    /// libCacheSim's.
    OracleGeneral,
}

/// Reads keys, from compressed files too.
pub struct KeyReader<R: Read> {
    form: Form<BufReader<Decompressed<R>>>,
    /// Its end was reached, or an error.
    over: bool,
}

enum Form<R> {
    List(ListReader<R>),
    Csv(Box<TableReader<R>>),
    OracleGeneral(OracleGeneralReader<R>),
}

impl<R: Read> KeyReader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`KeyError`] for a table without the column.
    pub fn new(input: R, form: &ReadForm) -> Result<Self, KeyError> {
        let input = BufReader::new(Decompressed::new(input).map_err(KeyError::Begin)?);
        let form = match form {
            ReadForm::List => Form::List(ListReader::new(input)),
            ReadForm::Csv { column, delimiter } => {
                Form::Csv(Box::new(TableReader::new(input, column, *delimiter)?))
            }
            ReadForm::OracleGeneral => Form::OracleGeneral(OracleGeneralReader::new(input)),
        };
        Ok(Self { form, over: false })
    }
}

impl<R: Read> Iterator for KeyReader<R> {
    type Item = Result<Key, KeyError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let key = match &mut self.form {
            Form::List(reader) => reader.next(),
            Form::Csv(reader) => reader.next(),
            Form::OracleGeneral(reader) => reader.next(),
        };
        self.over = !matches!(key, Ok(Some(_)));
        key.transpose()
    }
}

/// The memory of the guest that loads keys, in pages. Each of many replays has a guest.
const PAGES: u32 = 1 << 14;

/// The bytes of a page directory. The guest has three levels, where the topmost table is that small (Intel SDM vol. 3A,
/// 4.4.1), so that many fit into its memory.
const DIRECTORY: u32 = 32;

/// The most keys that a guest has page directories for; 0 is none, since a guest begins there.
const MOST_KEYS: u32 = PAGES * (PAGE_SIZE / DIRECTORY) - 1;

/// The loads of a guest whose page directories are the keys.
pub struct Loads<R: Read> {
    keys: KeyReader<R>,
    numbers: HashMap<Key, u32>,
    /// How many keys there may be.
    most: u32,
    loads: u64,
}

impl<R: Read> Loads<R> {
    /// The loads that a sequence of keys makes.
    #[must_use]
    pub fn new(keys: KeyReader<R>) -> Self {
        Self { keys, numbers: HashMap::new(), most: MOST_KEYS, loads: 0 }
    }

    /// The header of a trace of them.
    #[must_use]
    pub fn header(&self) -> Header {
        Header::new(3, PAGES.into(), 1, 1, 0xffc0_0000).expect("the guest is a possible one")
    }

    fn load(&mut self, key: Key) -> Result<Operation, KeyError> {
        self.loads += 1;
        let new = self.numbers.len() as u32 + 1;
        let number = match self.numbers.get(&key) {
            Some(number) => *number,
            None if new > self.most => {
                return Err(KeyError::TooMany { load: self.loads, key, most: self.most });
            }
            None => *self.numbers.entry(key).or_insert(new),
        };
        Ok(Operation::LoadPageDirectory(GuestPhys(number * DIRECTORY)))
    }
}

impl<R: Read> Iterator for Loads<R> {
    type Item = Result<Operation, KeyError>;

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.keys.next()?;
        Some(key.and_then(|key| self.load(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_keys_than_page_directories_are_refused() {
        let list = &b"5\n7\n5\n9\n5\n"[..];
        let mut loads = Loads::new(KeyReader::new(list, &ReadForm::List).unwrap());
        loads.most = 2;
        let loads: Vec<_> = loads.map(|load| load.map_err(|error| error.to_string())).collect();
        assert!(loads[..3].iter().all(Result::is_ok));
        let refused = loads[3].as_ref().unwrap_err();
        assert_eq!(
            refused,
            "load 4: `9` is one key too many; a simulated guest has 2 page directories at most"
        );
    }
}
