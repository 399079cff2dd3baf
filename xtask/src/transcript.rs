//! What a command shows a user in the terminal: printed, and kept for a picture of it.

use anstyle::{AnsiColor, Color, RgbColor, Style};
use anstyle_svg::Term;

/// Lines and columns that a picture has at most.
const LINES: usize = 30;
const COLUMNS: usize = 100;

/// Lines of a later guest that a picture has, if it cannot have all.
const LATER: usize = 3;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A command, or what happens next.
    Heading,
    /// The words of a guest.
    Guest,
    /// A result.
    Result,
}

impl Kind {
    /// Light colours on a dark ground; Okabe and Ito's sky blue (2008), which every eye tells from white.
    fn style(self) -> Style {
        let sky_blue = Color::Rgb(RgbColor(86, 180, 233));
        match self {
            Kind::Heading => Style::new().bold().fg_color(Some(sky_blue)),
            Kind::Guest => Style::new(),
            Kind::Result => Style::new().fg_color(Some(AnsiColor::BrightWhite.into())),
        }
    }
}

/// The lines that have been printed.
#[derive(Debug, Default)]
pub struct Transcript {
    lines: Vec<(Kind, String)>,
}

impl Transcript {
    /// Prints a text and keeps its lines.
    pub fn print(&mut self, kind: Kind, text: &str) {
        println!("{text}");
        self.lines.extend(text.split('\n').map(|line| (kind, line.to_owned())));
    }

    /// A picture of a terminal (SVG), with the command that was given there. It does not have all lines of guests that
    /// write many: `…` is in the place of those that are missing.
    pub fn svg(&self, command: &str) -> String {
        let mut text = styled(Kind::Heading, &format!("$ {command}"));
        for (kind, line) in self.shortened(LINES - 1) {
            text.push('\n');
            text += &styled(kind, line);
        }
        let picture = Term::new()
            .bg_color(Color::Rgb(RgbColor(0x16, 0x1b, 0x22)))
            .fg_color(Color::Rgb(RgbColor(0xc9, 0xd1, 0xd9)))
            .render_svg(&text);
        scalable(&picture)
    }

    /// At most so many lines, as long as there are words of guests that can be left out.
    fn shortened(&self, most: usize) -> Vec<(Kind, &str)> {
        let groups: Vec<_> = self.lines.chunk_by(|a, b| a.0 == b.0).collect();
        let is_guest = |group: &&[(Kind, String)]| group[0].0 == Kind::Guest;
        let guests = groups.iter().copied().filter(is_guest);
        let others: usize = groups.iter().filter(|group| !is_guest(group)).map(|group| group.len()).sum();
        let mut room = most.saturating_sub(others);
        let mut reserved: usize = guests.map(|group| group.len().min(LATER)).sum();
        let mut lines = Vec::new();
        for group in groups {
            let texts = group.iter().map(|(kind, line)| (*kind, line.as_str()));
            if group[0].0 != Kind::Guest {
                lines.extend(texts);
                continue;
            }
            // Each gets what those after it leave.
            reserved -= group.len().min(LATER);
            let own = room.saturating_sub(reserved).min(group.len());
            room -= own;
            if own < group.len() {
                lines.push((Kind::Guest, "  | …"));
                lines.extend(texts.skip(group.len() + 1 - own.max(1)));
            } else {
                lines.extend(texts);
            }
        }
        lines
    }
}

/// A line with its colour, cut to the terminal's width.
fn styled(kind: Kind, line: &str) -> String {
    let style = kind.style();
    let line = line.trim_end();
    if line.chars().count() <= COLUMNS {
        return format!("{style}{line}{style:#}");
    }
    let cut: String = line.chars().take(COLUMNS - 1).collect();
    format!("{style}{cut}…{style:#}")
}

/// The same picture for pages that are narrower: it has a size, but no view box, and would be cut off.
fn scalable(picture: &str) -> String {
    let size = |name: &str| {
        let (_, rest) = picture.split_once(&format!("{name}=\""))?;
        rest.split_once("px\"")?.0.parse::<u32>().ok()
    };
    match (size("width"), size("height")) {
        (Some(width), Some(height)) => {
            picture.replacen("<svg ", &format!("<svg viewBox=\"0 0 {width} {height}\" "), 1)
        }
        _ => picture.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(lines: &[(Kind, &str)]) -> Transcript {
        Transcript { lines: lines.iter().map(|(kind, line)| (*kind, (*line).to_owned())).collect() }
    }

    /// Lines of text in a picture.
    fn rows(svg: &str) -> usize {
        svg.matches("y=\"").count() - svg.matches("<rect").count()
    }

    #[test]
    fn text_is_escaped_and_every_line_is_there() {
        let svg =
            transcript(&[(Kind::Heading, "a <b> & \"c\""), (Kind::Result, ""), (Kind::Guest, "  | end")])
                .svg("cargo xtask demo");
        for text in ["$ cargo xtask demo", "a &lt;b&gt; &amp; ", "  | end", "viewBox=\"0 0 740 "] {
            assert!(svg.contains(text), "{text} is not in\n{svg}");
        }
        assert!(!svg.contains("<b>") && !svg.contains("<script"));
        assert_eq!(rows(&svg), 4);
    }

    #[test]
    fn of_guests_that_write_much_the_last_words_are_left() {
        let numbered: Vec<String> = (0..40).map(|number| format!("  | {number}")).collect();
        let guest = numbered.iter().map(|line| (Kind::Guest, line.as_str()));
        let mut lines = vec![(Kind::Heading, "first")];
        lines.extend(guest.clone());
        lines.push((Kind::Heading, "second"));
        lines.extend(guest);
        lines.push((Kind::Result, "table"));
        let transcript = transcript(&lines);
        let shown = transcript.shortened(10);
        let texts: Vec<_> = shown.iter().map(|(_, line)| *line).collect();
        assert_eq!(
            texts,
            ["first", "  | …", "  | 37", "  | 38", "  | 39", "second", "  | …", "  | 38", "  | 39", "table"]
        );
        assert_eq!(rows(&transcript.svg("x")), LINES);
        assert_eq!(transcript.shortened(100).len(), lines.len(), "nothing is left out for no reason");
    }

    #[test]
    fn long_lines_end_at_the_terminals_width() {
        let line = styled(Kind::Guest, &"x".repeat(COLUMNS + 1));
        assert_eq!(line.matches('x').count(), COLUMNS - 1);
        assert!(line.contains('…'));
        assert!(!styled(Kind::Guest, &"x".repeat(COLUMNS)).contains('…'));
    }
}
