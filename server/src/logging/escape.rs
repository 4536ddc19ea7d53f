//! Texts of others, made harmless to a terminal and to whoever reads line by line.

use std::fmt::{self, Write};

/// Shows a text without control characters and without those that change the direction of writing or cannot be seen,
/// and no more than [`CHARS_MAX`] characters of it.
pub(super) struct Escaped<'a>(pub(super) &'a str);

/// The most characters of a field's value.
const CHARS_MAX: usize = 1024;

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, char) in self.0.chars().enumerate() {
            if count == CHARS_MAX {
                return f.write_char('…');
            }
            if is_harmful(char) {
                write!(f, "{}", char.escape_unicode())?;
            } else {
                f.write_char(char)?;
            }
        }
        Ok(())
    }
}

fn is_harmful(char: char) -> bool {
    let is_invisible = matches!(
        char,
        '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
    );
    char.is_control() || is_invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_escaped_and_length_is_bounded() {
        assert_eq!(Escaped("grüße \"x\"").to_string(), "grüße \"x\"");
        assert_eq!(Escaped("\u{7}\r\n\u{9b}").to_string(), "\\u{7}\\u{d}\\u{a}\\u{9b}");
        assert_eq!(Escaped("\u{202e}").to_string(), "\\u{202e}");
        let long = Escaped(&"é".repeat(5000)).to_string();
        assert_eq!(long.chars().count(), CHARS_MAX + 1);
    }
}
