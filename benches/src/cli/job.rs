//! One job of a sweep: a trace on one strategy, which anybody can run anywhere with the same result.

use super::failure::Failure;
use super::input::{InputOptions, file};
use super::json::{self, VERSION};
use super::notices;
use crate::comparison::{self, Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::io::{self, Read};
use std::path::Path;

/// What a line of a list says it is, and what a line of results does.
pub const JOB: &str = "replay-job";
pub const RESULT: &str = "replay-result";

/// A line of a list of jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    pub schema: String,
    pub version: u32,
    /// Which line it is, from 1.
    pub number: u64,
    /// The trace's file.
    pub trace: String,
    /// Of the file, so that a job on another machine does not take another file for it.
    pub sha256: String,
    /// How it is read.
    pub form: InputOptions,
    pub accept_loss: bool,
    /// With its parameters, without its slots.
    pub strategy: String,
    pub slots: Option<u64>,
    pub seed: Option<u64>,
    pub warmup: u64,
}

/// What came out of a job: a row of the comparison, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    pub schema: String,
    pub version: u32,
    pub job: Job,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The outcome of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As in the JSON form of a comparison.
    Row(Value),
    /// Why.
    Failed(String),
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} ({}", self.number, self.strategy)?;
        if let Some(slots) = self.slots {
            write!(f, ", {slots} slots")?;
        }
        if let Some(seed) = self.seed {
            write!(f, ", seed {seed}")?;
        }
        write!(f, ", {})", self.trace)
    }
}

impl Job {
    /// Runs it.
    pub fn run(self) -> (JobResult, Result<(), Failure>) {
        let (outcome, failure) = match self.row() {
            Ok(row) => (Outcome::Row(row), Ok(())),
            Err(failure) => (Outcome::Failed(failure.to_string()), Err(failure)),
        };
        let result = JobResult { schema: RESULT.to_owned(), version: VERSION, job: self, outcome };
        (result, failure)
    }

    fn row(&self) -> Result<Value, Failure> {
        let path = Path::new(&self.trace);
        let found = sha256(path)?;
        if found != self.sha256 {
            let (path, expected) = (path.to_owned(), self.sha256.clone());
            return Err(Failure::OtherFile { path, found, expected });
        }
        let slots = self.slots.into_iter().collect::<Vec<_>>();
        let competitors = comparison::competitors(std::slice::from_ref(&self.strategy), &slots)?;
        let settings = Settings { seed: self.seed, warmup: self.warmup };
        let compared = comparison::compare(&competitors, settings, || {
            Ok(self.form.open(path)?.accept_loss(self.accept_loss))
        });
        let compared = compared.map_err(|error| Failure::of_comparison(path, error))?;
        let row = &compared.rows[0];
        row.outcome.iter().for_each(notices::print);
        Failure::of_row(row)?;
        Ok(json::row(row, compared.compulsory))
    }
}

/// The SHA-256 of a file, as `sha256sum` prints it.
pub fn sha256(path: &Path) -> Result<String, Failure> {
    let of_file = |source: io::Error| Failure::Open { path: path.to_owned(), source };
    let mut input = file(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match input.read(&mut buffer).map_err(of_file)? {
            0 => break,
            length => digest.update(&buffer[..length]),
        }
    }
    Ok(digest.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
