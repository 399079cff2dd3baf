//! Where the guest's console output goes: one sink for early strings and the console device.

use crate::outcome::Outcome;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// A sink that any thread may write to; each write appears as a whole and at once.
#[derive(Clone)]
pub struct ConsoleOutput(Arc<Mutex<dyn Write + Send>>);

impl ConsoleOutput {
    /// Console output to `sink`, such as standard output.
    pub fn new(sink: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(sink)))
    }

    /// Writes and flushes.
    ///
    /// # Errors
    /// [`Outcome::Failed`]: nobody would see the guest any more.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Outcome> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sink.write_all(bytes)
            .and_then(|()| sink.flush())
            .map_err(|error| Outcome::Failed { doing: "showing the guest's console".into(), error })
    }
}
