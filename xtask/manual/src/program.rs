//! The pages and completions of a program, from the definition of its command line.

use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use userland_launcher::cli::Cli;

use crate::File;

/// A program, and what its page says besides its options.
pub struct Program {
    command: Command,
    see_also: &'static str,
}

/// The programs that are installed.
#[must_use]
pub fn all() -> [Program; 2] {
    [
        Program { command: Cli::command(), see_also: "replay(1), lg(4)" },
        Program { command: benches::cli::command(), see_also: "lguest(1), lg(4)" },
    ]
}

impl Program {
    /// Its page, and one for each of its subcommands and theirs.
    ///
    /// # Errors
    /// When a page cannot be written.
    pub fn pages(&self) -> Result<Vec<File>> {
        let mut command = self.command.clone().disable_help_subcommand(true);
        command.build();
        let mut pages = Vec::new();
        self.add_pages(&command, &mut pages)?;
        Ok(pages)
    }

    fn add_pages(&self, command: &Command, pages: &mut Vec<File>) -> Result<()> {
        pages.push(self.page(command.clone())?);
        command.get_subcommands().try_for_each(|subcommand| self.add_pages(subcommand, pages))
    }

    fn page(&self, command: Command) -> Result<File> {
        // A subcommand's has the program's name before its own.
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = format!("man/man1/{name}.1");
        let exit_codes = command.get_after_help().map(ToString::to_string);
        let man = Man::new(command);
        let mut contents = Vec::new();
        man.render_title(&mut contents)?;
        man.render_name_section(&mut contents)?;
        man.render_synopsis_section(&mut contents)?;
        man.render_description_section(&mut contents)?;
        man.render_options_section(&mut contents)?;
        if let Some(exit_codes) = exit_codes {
            let mut status = Roff::new();
            status.control("SH", ["EXIT STATUS"]).control("nf", []);
            // The first line is the heading.
            for line in exit_codes.lines().skip(1) {
                status.text([roman(line)]);
            }
            status.control("fi", []).to_writer(&mut contents)?;
        }
        let mut rest = Roff::new();
        rest.control("SH", ["SEE ALSO"]).text([roman(self.see_also)]).to_writer(&mut contents)?;
        Ok(File { path, contents })
    }

    /// Its completions, for each shell where that shell looks for them.
    #[must_use]
    pub fn completions(&self) -> Vec<File> {
        let name = self.command.get_name().to_owned();
        let places = [
            (Shell::Bash, format!("bash-completion/completions/{name}")),
            (Shell::Zsh, format!("zsh/vendor-completions/_{name}")),
            (Shell::Fish, format!("fish/vendor_completions.d/{name}.fish")),
        ];
        let made = places.into_iter().map(|(shell, path)| {
            let mut contents = Vec::new();
            clap_complete::generate(shell, &mut self.command.clone(), &name, &mut contents);
            File { path, contents }
        });
        made.collect()
    }
}
