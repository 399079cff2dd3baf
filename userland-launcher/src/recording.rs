//! The guest's recording, from the host to a file, while the guest runs.
//!
//! The strategy `record` writes down a guest's paging requests; the host keeps that in a buffer
//! of limited size until somebody reads it, here in a thread of its own. The rest of it comes when the
//! host lets the guest go.

use std::fs::File;
use std::io::{self, Read, Write};
use std::thread::JoinHandle;

/// Bytes that are moved at a time: more than the guest writes while the launcher waits for its turn.
const PIECE: usize = 1 << 16;

/// The name of the strategy that records.
const STRATEGY: &str = "record";

/// The text of a strategy that records on `strategy`, or on the default one.
#[must_use]
pub fn strategy(strategy: Option<&str>) -> String {
    match strategy {
        None => STRATEGY.to_owned(),
        Some(text) if text.split(':').next() == Some(STRATEGY) => text.to_owned(),
        Some(text) => format!("{STRATEGY}:of={text}"),
    }
}

/// A recording that is being moved.
#[derive(Debug)]
pub struct Recording(JoinHandle<io::Result<()>>);

impl Recording {
    /// Begins to move `from` the host to a file.
    ///
    /// # Errors
    /// No more threads.
    pub fn start(mut from: Box<dyn Read + Send>, mut file: File) -> io::Result<Self> {
        let thread = std::thread::Builder::new().name("recording".into());
        let thread = thread.spawn(move || {
            let mut piece = vec![0; PIECE];
            loop {
                match from.read(&mut piece) {
                    Ok(0) => return Ok(()),
                    Ok(length) => file.write_all(&piece[..length])?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        })?;
        Ok(Self(thread))
    }

    /// Waits until all is in the file. The host must have let the guest go, or this waits for ever.
    ///
    /// # Errors
    /// When something could not be read or written.
    pub fn finish(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_can_be_recorded() {
        assert_eq!(strategy(None), "record");
        assert_eq!(strategy(Some("lru:slots=8")), "record:of=lru:slots=8");
        assert_eq!(strategy(Some("record:touch=all")), "record:touch=all");
    }

    #[test]
    fn all_of_it_arrives() {
        let bytes: Vec<u8> = (0..3 * PIECE + 7).map(|i| i as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        let target = file.reopen().unwrap();
        let recording = Recording::start(Box::new(io::Cursor::new(bytes.clone())), target).unwrap();
        recording.finish().unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), bytes);
    }
}
