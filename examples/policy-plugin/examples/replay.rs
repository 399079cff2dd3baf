//! `replay` with the plug-in in its registry: `cargo run -p policy-plugin --example replay -- --list`.

use policy_plugin as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    benches::cli::main()
}
