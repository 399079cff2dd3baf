//! The monitor: a socket by which other programs see to a guest. Requests and answers are JSON, one a line:
//!
//! | request | answer |
//! | --- | --- |
//! | `{"command":"status"}` | `{"status":"running"}`, `"paused"`, or `"none"` between two lives |
//! | `{"command":"pause"}` | `{"status":"paused"}`, once the guest stands still |
//! | `{"command":"continue"}` | `{"status":"running"}` |
//! | `{"command":"counters"}` | `{"counters":{"NAME":VALUE,...}}` |
//! | `{"command":"directories"}` | `{"directories":[{"directory":"0x01fc8000","current":true,...},...]}`: the page directories that are shadowed |
//! | `{"command":"tables"}` | `{"tables":[{"directory":"0x01fc8000","page":"0xc0000000","rights":"rwx-",...},...]}`: all shadow entries |
//! | `{"command":"stop"}` | `{"status":"stopped"}`; the guest's end, and the launcher's |
//!
//! What cannot be done is answered by `{"error":"..."}`. Any number of programs may be connected. `lguest --monitor SOCKET
//! --send COMMAND` is one that sends one request ([`send`]).

use crate::control::{Control, ControlError};
use crate::outcome::Outcome;
use arch_i386::launcher::View;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

/// The longest request.
const REQUEST_MAX: u64 = 4096;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Request {
    command: Command,
}

/// What can be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Whether the guest runs
    Status,
    /// Let the guest stand still
    Pause,
    /// Let it go on
    Continue,
    /// What the host has counted of it
    Counters,
    /// Which page directories of its are shadowed
    Directories,
    /// What its shadow tables hold: an object for each entry, without the host's frames
    Tables,
    /// End the guest and its launcher
    Stop,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Status(Cow<'static, str>),
    Counters(BTreeMap<String, u64>),
    Directories(Vec<Map<String, Value>>),
    Tables(Vec<Map<String, Value>>),
    Error(String),
}

/// Sends one request to the monitor at `path`. Returns the answer, and whether it could be done.
///
/// # Errors
/// When nobody answers there.
pub fn send(path: &Path, command: Command) -> io::Result<(String, bool)> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all((serde_json::to_string(&Request { command })? + "\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    let is_done = !matches!(serde_json::from_str(&answer)?, Answer::Error(_));
    Ok((answer.trim_end().to_owned(), is_done))
}

/// Serves all that connect, each in a thread of its own, for as long as the launcher runs.
///
/// # Errors
/// No more threads.
pub fn serve(
    listener: UnixListener,
    control: Arc<Control>,
    end: Arc<dyn Fn(Outcome) + Send + Sync>,
) -> io::Result<()> {
    let thread = || std::thread::Builder::new().name("monitor".into());
    thread().spawn(move || {
        for stream in listener.incoming().flatten() {
            let (control, end) = (control.clone(), end.clone());
            // A client that comes to nothing does not concern the guest.
            let _ = thread().spawn(move || converse(&stream, &control, end.as_ref()));
        }
    })?;
    Ok(())
}

fn converse(
    mut stream: &UnixStream,
    control: &Control,
    end: &(dyn Fn(Outcome) + Send + Sync),
) -> io::Result<()> {
    let mut requests = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if (&mut requests).take(REQUEST_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let request = serde_json::from_str(&line).map(|Request { command }| command);
        let is_last = matches!(request, Ok(Command::Stop));
        let answer =
            request.map_or_else(|error| Answer::Error(error.to_string()), |command| answer(command, control));
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        stream.write_all(text.as_bytes())?;
        if is_last {
            end(Outcome::Stopped);
        }
    }
}

fn answer(command: Command, control: &Control) -> Answer {
    let done = match command {
        Command::Status => Ok(Answer::Status(
            match control.is_paused() {
                None => "none",
                Some(false) => "running",
                Some(true) => "paused",
            }
            .into(),
        )),
        Command::Pause => control.pause().map(|()| Answer::Status("paused".into())),
        Command::Continue => {
            control.proceed();
            Ok(Answer::Status("running".into()))
        }
        Command::Counters => control.counters().map(|text| Answer::Counters(pairs(&text))),
        Command::Directories => control.view(View::Directories).map(|text| Answer::Directories(rows(&text))),
        Command::Tables => control.view(View::Tables).map(|text| Answer::Tables(rows(&text))),
        Command::Stop => Ok(Answer::Status("stopped".into())),
    };
    done.unwrap_or_else(|error: ControlError| Answer::Error(error.to_string()))
}

/// The rows of a text whose first line has the names of its columns.
fn rows(text: &str) -> Vec<Map<String, Value>> {
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let value = |word: &str| match (word, word.parse::<u64>()) {
        ("yes" | "no", _) => Value::from(word == "yes"),
        (_, Ok(number)) => Value::from(number),
        (_, Err(_)) => Value::from(word),
    };
    lines
        .map(|line| {
            names.iter().zip(line.split(' ')).map(|(&name, word)| (name.into(), value(word))).collect()
        })
        .collect()
}

/// The pairs of a text with a `name value` pair a line.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.trim().split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}
