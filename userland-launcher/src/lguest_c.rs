//! The command line of lguest (C), `tools/lguest` in Linux 3.x:
//!
//! ```text
//!  lguest [OPTION...] MEGABYTES VMLINUX [OPTION... WORD...]
//! ```
//!
//! A first word that is a number, with a kernel behind it, marks such a line: there options are recognised behind the kernel,
//! too, up to a `--`. The line is translated to one of this launcher's own.

use std::ffi::{OsStr, OsString};

/// Options that have a value, as a word of its own or after `=`.
const WITH_VALUE: [&str; 4] = ["--block", "--initrd", "--tunnet", "--username"];

/// The line that means here what this one means to lguest (C); `None` if it is no such line. `words` are the last ones of
/// `line`, from the first that is no option nor an option's value.
#[must_use]
pub fn translate(line: &[OsString], words: &[String]) -> Option<Vec<OsString>> {
    let [megabytes, kernel, rest @ ..] = words else { return None };
    if megabytes.is_empty() || !megabytes.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let before = line.get(..line.len().checked_sub(words.len())?)?;
    let mut options = vec!["--memory".to_owned(), format!("{megabytes}M")];
    let mut arguments = Vec::new();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            arguments.extend(rest.by_ref().cloned());
        } else if word.starts_with("--") {
            options.push(word.clone());
            if WITH_VALUE.contains(&word.as_str()) {
                options.extend(rest.next().cloned());
            }
        } else {
            arguments.push(word.clone());
        }
    }
    let before = before.iter().filter(|word| *word != OsStr::new("--")).cloned();
    let kernel = ["--".to_owned(), kernel.clone()];
    let after = options.into_iter().chain(kernel).chain(arguments).map(OsString::from);
    Some(before.chain(after).collect())
}
