//! The program `replay` on traces that come through a pipe, and on such as were cut.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

const TRACE: &str =
    "lgtrace 1\npaging 2\npages 64\nseed 1\ncpus 1\nswitcher 0xffc00000\ncr3 0x1000\ncr3 0x2000\nend\n";

/// Runs it with a pipe as its standard input.
fn replay(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_replay"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn words(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[test]
fn a_pipe_is_a_trace_as_long_as_one_reading_is_enough() {
    let one = replay(&["-"], TRACE);
    assert!(one.status.success() && words(&one.stdout).contains("ops 2\n"), "{}", words(&one.stderr));
    for path in ["-", "/dev/stdin"] {
        let many = replay(&[path, "--strategies", "lru,fifo", "--format", "csv"], TRACE);
        assert!(many.status.success(), "{}", words(&many.stderr));
        assert!(words(&many.stdout).contains("\nlru,,2,0,2,"), "{}", words(&many.stdout));
        let twice = replay(&[path, "--strategies", "lru,opt"], TRACE);
        assert!(!twice.status.success());
        let why = words(&twice.stderr);
        assert!(
            why.contains(&format!("{path} is a pipe")) && why.contains("reads the trace 2 times"),
            "{why}"
        );
    }
}

#[test]
fn a_cut_trace_stays_one_when_it_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.trace");
    let converted = replay(&["convert", "-", out.to_str().unwrap()], TRACE);
    assert!(converted.status.success(), "{}", words(&converted.stderr));
    assert_eq!(fs::read_to_string(&out).unwrap(), TRACE);

    let cut = TRACE.strip_suffix("end\n").unwrap();
    let converted = replay(&["convert", "-", out.to_str().unwrap()], cut);
    assert!(!converted.status.success());
    assert!(words(&converted.stderr).contains("the trace was cut"), "{}", words(&converted.stderr));
    assert_eq!(fs::read_to_string(&out).unwrap(), cut);
    assert!(!replay(&[out.to_str().unwrap()], "").status.success());
    assert!(replay(&[out.to_str().unwrap(), "--accept-loss"], "").status.success());
}
