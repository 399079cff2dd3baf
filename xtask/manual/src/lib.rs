//! Manual pages and shell completions of the installed programs.
//!
//! `lguest(1)` and `replay(1)` are made of the definitions of their command lines, `lg(4)` of a text of its own
//! ([`module`]) and the descriptions of parameters in the module's sources. So none of them names an option or a parameter that
//! there is not, nor lacks one.

pub mod module;
pub mod program;

use anyhow::Result;

/// A file of the manual, or a shell's completions.
#[derive(Debug)]
pub struct File {
    /// Its path below the folder in which such files are installed, such as `/usr/share`.
    pub path: String,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// All of them.
///
/// # Errors
/// When one cannot be written.
pub fn files() -> Result<Vec<File>> {
    let mut files = Vec::new();
    for program in program::all() {
        files.extend(program.pages()?);
        files.extend(program.completions());
    }
    files.push(File { path: "man/man4/lg.4".into(), contents: module::page().into_bytes() });
    Ok(files)
}
