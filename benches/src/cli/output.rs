//! Text to a file or to the standard output.

use super::failure::Failure;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Writes a text. A file is there as a whole or not at all: a job that is killed leaves no half of one.
pub fn write(path: Option<&Path>, text: &str) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(io::stdout().lock().write_all(text.as_bytes())?) };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    written.map_err(|source| {
        // What is left of it is of no use, and may not be there.
        let _ = fs::remove_file(&beside);
        Failure::Write { path: path.to_owned(), source }
    })
}
