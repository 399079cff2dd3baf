//! Writes the descriptions of the module's strategies to `modinfo`: a field for each, from the same registry that the
//! module itself is built with.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs, io};

// Nothing else refers to the strategies, and the linker would leave them out.
use strategies as _;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut fields = String::new();
    for line in framework::registry::catalogue().to_string().lines() {
        // The parameters of a strategy are indented.
        match line.strip_prefix("  ") {
            Some(parameter) => write!(fields, "; {}", squeezed(parameter)),
            None => write!(fields, "\0strategy={}", squeezed(line)),
        }
        .expect("a String takes all");
    }
    let fields = format!("{}\0", fields.trim_start_matches('\0'));
    // Kept as the functions are that C calls: by its name. `#[used]` would mark the section, and the kernel's build
    // would not find its own fields beside it.
    let source = format!(
        "#[unsafe(no_mangle)]\n#[unsafe(link_section = \".modinfo\")]\n#[allow(non_upper_case_globals)]\n\
         static lg_rust_modinfo: [u8; {}] = *b\"{}\";\n",
        fields.len(),
        fields.as_bytes().escape_ascii()
    );
    let out = env::var_os("OUT_DIR").expect("cargo names the folder");
    fs::write(Path::new(&out).join("modinfo.rs"), source)
}

/// The same words with one blank between them.
fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
