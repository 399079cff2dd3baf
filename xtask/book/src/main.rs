//! `cargo xtask book`: the project's documents as one book, with every link checked.
//!
//! The documents are read in two places: as files of the repository, where a forge shows them, and as pages of the book.
//! Their links hold in both. `docs/SUMMARY.md` lists the pages, `docs/book.toml` configures mdBook.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`document`] | reads one document: its links and the anchors of its headings |
//! | [`links`] | checks the links of all documents as a forge follows them |
//! | [`stage`] | lays out what mdBook reads: the pages, and the sources that they link |
//! | [`mdbook`] | installs mdBook at its pinned version and runs it |
//! | [`pages`] | checks the links of the book that came out |
//!
//! What a document states is not checked here: examples in Rust are doctests of `examples/policy-plugin`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use xtask::project::Project;
use xtask::tally::{self, Tally};

mod document;
mod links;
mod mdbook;
mod pages;
mod stage;

/// Makes the book.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Make the book of all documents in target/book, and check every link
    Book,
    /// Make the checks of one section of `cargo xtask test`
    #[command(subcommand, hide = true)]
    Section(Section),
}

#[derive(Subcommand)]
enum Section {
    /// The book and its links
    Book,
}

fn main() -> ExitCode {
    xtask::exit_code(run(Command::parse()))
}

fn run(command: Command) -> Result<()> {
    let project = Project::locate()?;
    match command {
        Command::Book => {
            none_broken(&links::broken(project.root())?)?;
            let book = build(&project)?;
            none_broken(&pages::broken(&book)?)?;
            println!("{}", book.join("index.html").display());
        }
        Command::Section(Section::Book) => tally::section(|tally| check(&project, tally)),
    }
    Ok(())
}

/// The checks of this program: a section of `cargo xtask test`.
fn check(project: &Project, tally: &mut Tally) {
    let links = links::broken(project.root()).and_then(|broken| none_broken(&broken));
    tally.check("every link of the documents leads somewhere", links);
    let book = match build(project) {
        Ok(book) => book,
        Err(error) => return tally.fail("the book builds", &format!("{error:#}")),
    };
    tally.pass("the book builds");
    let pages = pages::broken(&book).and_then(|broken| none_broken(&broken));
    tally.check("every link of the book leads somewhere", pages);
}

/// Builds the book; the folder that it is in.
fn build(project: &Project) -> Result<PathBuf> {
    let staged = project.out().join("book");
    stage::lay_out(project.root(), &staged)?;
    let book = project.target().join("book");
    mdbook::build(project, &staged, &book)?;
    Ok(book)
}

fn none_broken(broken: &[String]) -> Result<()> {
    if broken.is_empty() {
        return Ok(());
    }
    bail!("{} links lead nowhere:\n    {}", broken.len(), broken.join("\n    "))
}
