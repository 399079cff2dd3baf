//! The pages and completions are accepted by the programs that read them.

use std::process::{Command, Output};

/// Runs a program on a file of the manual; `None` if this machine has no such program.
fn read_by(program: &[&str], file: &manual::File) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file.path.rsplit('/').next().unwrap());
    std::fs::write(&path, &file.contents).unwrap();
    let (name, arguments) = program.split_first().unwrap();
    match Command::new(name)
        .args(arguments)
        .arg(&path)
        .env("MANWIDTH", "80")
        .env("LC_ALL", "C.UTF-8")
        .output()
    {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("this machine has no {name}: {} is not checked", file.path);
            None
        }
        output => Some(output.unwrap()),
    }
}

fn files(folder: &str) -> Vec<manual::File> {
    let files: Vec<_> =
        manual::files().unwrap().into_iter().filter(|file| file.path.starts_with(folder)).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn pages_are_shown_without_a_warning() {
    for page in files("man/") {
        let Some(output) = read_by(&["man", "--warnings", "--encoding=UTF-8", "-P", "cat", "-l"], &page)
        else {
            return;
        };
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", page.path);
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("NAME") && shown.contains("SEE ALSO"), "{}: {shown}", page.path);
    }
}

#[test]
fn pages_have_what_users_look_for() {
    let pages = files("man/");
    let page = |name: &str| {
        let page = pages.iter().find(|page| page.path.ends_with(name)).unwrap_or_else(|| panic!("no {name}"));
        String::from_utf8(page.contents.clone()).unwrap().replace('\\', "")
    };
    for option in ["--memory", "--block", "readonly", "--tunnet", "EXIT STATUS"] {
        assert!(page("/lguest.1").contains(option), "{option}");
    }
    assert!(page("/replay.1").contains("--strategies"));
    assert!(page("/replay-convert.1").contains("replay-convert"));
    assert!(page("/replay-sweep-merge.1").contains("--format"));
    assert!(page("/lg.4").contains("guests_per_user"));
}

#[test]
fn completions_are_scripts_of_their_shells() {
    for (folder, shell) in [("bash-completion/", "bash"), ("zsh/", "zsh"), ("fish/", "fish")] {
        for script in files(folder) {
            let Some(output) = read_by(&[shell, "-n"], &script) else { continue };
            let complaints = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", script.path);
        }
    }
}
