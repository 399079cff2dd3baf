//! Hands the programs' linker script to the linker.

fn main() {
    println!("cargo::rerun-if-changed=programs.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-T{here}/programs.ld");
    }
}
