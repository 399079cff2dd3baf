//! What other programs do with a guest that runs on a scripted host.

use crate::support::host::{ScriptedHost, Step};
use crate::support::session::Played;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use userland_launcher::monitor;
use userland_launcher::outcome::Outcome;

/// A program that is connected.
struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(socket: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(socket).unwrap()))
    }

    fn ask(&mut self, request: &str) -> String {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    fn command(&mut self, command: &str) -> String {
        self.ask(&format!(r#"{{"command":"{command}"}}"#))
    }
}

/// Runs a guest that does nothing but run, and meanwhile `act`, in another thread; returns how the guest ended.
fn with_guest(act: impl FnOnce(&Path, &ScriptedHost) + Send + 'static) -> Outcome {
    let mut played = Played::with_socket("--monitor");
    let end = Arc::new(played.session.ender());
    monitor::serve(played.files.monitor.take().unwrap(), played.control.clone(), end.clone()).unwrap();
    let (host, socket) = (ScriptedHost::new([Step::Run]), played.socket.clone());
    let guest = host.clone();
    played.run(&host, move || {
        while !guest.is_running() {
            std::thread::sleep(Duration::from_millis(1));
        }
        act(&socket, &guest);
        end(Outcome::Stopped);
    })
}

#[test]
fn a_guest_is_paused_and_goes_on() {
    let outcome = with_guest(|socket, guest| {
        let (mut one, mut other) = (Client::connect(socket), Client::connect(socket));
        assert_eq!(one.command("status"), r#"{"status":"running"}"#);
        for _ in 0..50 {
            assert_eq!(one.command("pause"), r#"{"status":"paused"}"#);
            assert!(!guest.is_running());
            let interrupted = guest.runs.load(std::sync::atomic::Ordering::SeqCst);
            assert_eq!(other.command("counters"), r#"{"counters":{"switches":3}}"#);
            assert_eq!(other.command("status"), r#"{"status":"paused"}"#);
            assert_eq!(guest.runs.load(std::sync::atomic::Ordering::SeqCst), interrupted, "it stands still");
            assert_eq!(other.command("continue"), r#"{"status":"running"}"#);
            while !guest.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(other.command("stop"), r#"{"status":"stopped"}"#);
    });
    assert!(matches!(outcome, Outcome::Stopped), "{outcome:?}");
    assert_eq!(outcome.code(), 143);
}

#[test]
fn counters_are_read_of_a_guest_that_runs() {
    with_guest(|socket, guest| {
        let mut client = Client::connect(socket);
        for _ in 0..50 {
            assert_eq!(client.command("counters"), r#"{"counters":{"switches":3}}"#);
            assert_eq!(client.command("status"), r#"{"status":"running"}"#);
        }
        while !guest.is_running() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn tables_are_objects_of_their_columns() {
    with_guest(|socket, _| {
        let mut client = Client::connect(socket);
        let directory = r#""directory":"0x00001000","current":true,"kernel_stack":false"#;
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(
            parsed(&client.command("directories")),
            parsed(&format!(
                r#"{{"directories":[{{{directory},"leaf_tables":2,"entries":3,"shared_entries":4}}]}}"#
            ))
        );
        let entry = r#""directory":"shared","page":"0xc0000000","rights":"rwx-","accessed":1,"dirty":0"#;
        assert_eq!(parsed(&client.command("tables")), parsed(&format!(r#"{{"tables":[{{{entry}}}]}}"#)));
        assert_eq!(client.command("status"), r#"{"status":"running"}"#);
    });
}

#[test]
fn what_is_no_request_is_answered_by_an_error() {
    with_guest(|socket, _| {
        let mut client = Client::connect(socket);
        let long = "x".repeat(4000);
        for request in ["", "pause", "{}", r#"{"command":"nosuch"}"#, r#"{"command":"pause","for":3}"#, &long]
        {
            let answer = client.ask(request);
            assert!(answer.starts_with(r#"{"error":"#), "{request}: {answer}");
        }
        assert_eq!(client.command("status"), r#"{"status":"running"}"#);
        let sent = |command| monitor::send(socket, command).unwrap();
        assert_eq!(sent(monitor::Command::Pause), (r#"{"status":"paused"}"#.to_owned(), true));
        assert_eq!(sent(monitor::Command::Counters), (r#"{"counters":{"switches":3}}"#.to_owned(), true));
    });
}
