//! `replay` with the built-in strategies; see [`benches::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    benches::cli::main()
}
