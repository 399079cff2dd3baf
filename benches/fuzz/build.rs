//! Keeps what the fuzzer's instrumentation has put into sections of its own, which nothing but their bounds refer to.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,nostart-stop-gc");
}
