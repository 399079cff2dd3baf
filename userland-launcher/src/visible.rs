//! Text that a guest had a part in, made harmless for the terminal that the launcher's own messages go to.
//!
//! The guest's console is another matter: it is the guest's terminal, and passes through as it is.

use std::fmt::{self, Display, Formatter, Write};

/// Shows `text` as one line without control characters: those, and whatever else has no shape of its own (such as
/// the characters that turn the direction of writing), appear as in a Rust string, `\n` or `\u{1b}`, and the
/// backslash as two.
#[must_use]
pub fn visible(text: &str) -> impl Display + '_ {
    Visible(text)
}

struct Visible<'t>(&'t str);

impl Display for Visible<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            // These are escaped only where they would end a string.
            '\'' | '"' => f.write_char(c),
            _ => write!(f, "{}", c.escape_debug()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_stays_and_escapes_become_visible() {
        for (text, shown) in [
            ("Kernel panic - can't \"mount\" root", "Kernel panic - can't \"mount\" root"),
            ("\u{1b}[2J\u{7f}\u{9b}1m", "\\u{1b}[2J\\u{7f}\\u{9b}1m"),
            ("a\r\n\tb\0", "a\\r\\n\\tb\\0"),
            ("\\u{1b}", "\\\\u{1b}"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("Grüße, 世界 \u{fffd}", "Grüße, 世界 \u{fffd}"),
        ] {
            assert_eq!(visible(text).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn no_control_character_is_left(text in any::<String>()) {
            let harmless = |c: char| !c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c);
            prop_assert!(visible(&text).to_string().chars().all(harmless));
        }
    }
}
