//! Colours that say how a token came about.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use sunfleck::generate::Origin;

/// When text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, where NO_COLOR is not set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorWhen {
    /// Whether to colour what goes to a stream, with the values of the environment's NO_COLOR and TERM.
    fn on(self, terminal: bool, no_color: Option<&str>, term: Option<&str>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            // As no-color.org has it: set and not empty.
            Self::Auto => {
                terminal && no_color.is_none_or(str::is_empty) && term.is_none_or(|t| t != "dumb")
            }
        }
    }
}

/// The colours of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    colored: bool,
}

impl Palette {
    /// The colours for a stream that is a terminal or not.
    pub fn new(when: ColorWhen, terminal: bool) -> Self {
        let variable =
            |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let (no_color, term) = (variable("NO_COLOR"), variable("TERM"));
        Self {
            colored: when.on(terminal, no_color.as_deref(), term.as_deref()),
        }
    }

    /// The text in the colour of its origin.
    pub fn paint(self, text: &str, origin: Origin) -> String {
        let code = match origin {
            Origin::Drafted => "32",
            Origin::Bonus => "36",
            _ => return text.to_owned(),
        };
        match self.colored {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// What the colours of the answer mean, for standard error; `None` where it has none.
    pub fn legend(self, when: ColorWhen) -> Option<String> {
        let words = Self::new(when, std::io::stderr().is_terminal());
        self.colored.then(|| {
            format!(
                "{}, {}, uncoloured: plain decoding",
                words.paint("green: drafted and kept", Origin::Drafted),
                words.paint("cyan: bonus after a draft", Origin::Bonus)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_colours_a_terminal_unless_the_user_wants_none() {
        let auto = |terminal, no_color, term| ColorWhen::Auto.on(terminal, no_color, term);
        assert!(auto(true, None, Some("xterm")));
        assert!(auto(true, Some(""), None));
        assert!(!auto(false, None, Some("xterm")));
        assert!(!auto(true, Some("1"), Some("xterm")));
        assert!(!auto(true, None, Some("dumb")));
        assert!(ColorWhen::Always.on(false, Some("1"), Some("dumb")));
        assert!(!ColorWhen::Never.on(true, None, None));
    }

    #[test]
    fn each_origin_has_its_look() {
        let on = Palette { colored: true };
        assert_eq!(on.paint("a", Origin::Drafted), "\x1b[32ma\x1b[0m");
        assert_eq!(on.paint("a", Origin::Bonus), "\x1b[36ma\x1b[0m");
        assert_eq!(on.paint("a", Origin::Plain), "a");
        let off = Palette { colored: false };
        assert_eq!(off.paint("a", Origin::Drafted), "a");
        assert!(off.legend(ColorWhen::Never).is_none());
        assert!(on.legend(ColorWhen::Never).unwrap().contains("drafted"));
    }
}
