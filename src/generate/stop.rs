//! Texts that end an answer.

/// Finds stop strings in a text that comes in pieces, wherever the pieces' borders lie. Text that may be the
/// beginning of a stop string is held back until it is known.
///
/// ```
/// use sunfleck::generate::{StopStrings, StopStep};
///
/// let mut stops = StopStrings::new(["\nUser:"]);
/// assert_eq!(stops.push("Hello\nUs"), StopStep::Text("Hello".to_owned()));
/// assert_eq!(stops.push("ing"), StopStep::Text("\nUsing".to_owned()));
/// assert_eq!(stops.push("it.\nUser: no"), StopStep::Stopped("it.".to_owned()));
/// ```
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopStep {
    /// Text that is no part of a stop string; may be empty.
    Text(String),
    /// A stop string was found: the text before it, and the end.
    Stopped(String),
}

impl StopStrings {
    /// Looks for any of `stops`; empty ones are passed over.
    pub fn new<S: Into<String>>(stops: impl IntoIterator<Item = S>) -> Self {
        let stops = stops.into_iter().map(Into::into);
        Self {
            stops: stops.filter(|stop| !stop.is_empty()).collect(),
            held: String::new(),
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str) -> StopStep {
        self.held.push_str(piece);
        // The earliest place counts, whichever string is found there.
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min();
        if let Some(at) = found {
            self.held.truncate(at);
            return StopStep::Stopped(std::mem::take(&mut self.held));
        }
        let kept = self.stops.iter().map(|stop| begun(&self.held, stop));
        let free = self.held.len() - kept.max().unwrap_or(0);
        let rest = self.held.split_off(free);
        StopStep::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The text held back, at the end of the answer.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Forgets the text held back, before another answer.
    pub fn reset(&mut self) {
        self.held.clear();
    }
}

/// Bytes at the end of `text` that may be the beginning of `stop`.
fn begun(text: &str, stop: &str) -> usize {
    let mut borders = stop.char_indices().map(|(at, _)| at).rev();
    borders
        .find(|length| text.ends_with(&stop[..*length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text before the stop and whether there was one, with `text` cut into pieces at `cuts`.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopStrings::new(stops.iter().copied());
        let mut out = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                StopStep::Text(text) => out.push_str(&text),
                StopStep::Stopped(text) => return (out + &text, true),
            }
        }
        (out + &matcher.finish(), false)
    }

    #[test]
    fn a_stop_string_is_found_wherever_the_borders_lie() {
        let text = "aab aabaac xyz";
        let cuts: Vec<usize> = (0..=text.len()).collect();
        for first in &cuts {
            for second in &cuts[*first..] {
                let pieces = [&text[..*first], &text[*first..*second], &text[*second..]];
                assert_eq!(run(&["aabaac"], &pieces), ("aab ".to_owned(), true));
                assert_eq!(run(&["nothing"], &pieces), (text.to_owned(), false));
                // The earliest place, not the first string.
                assert_eq!(run(&["xyz", "ac"], &pieces), ("aab aaba".to_owned(), true));
            }
        }
    }

    #[test]
    fn one_letter_at_a_time_is_as_good_as_the_whole() {
        let letters: Vec<String> = "日本語です。終".chars().map(String::from).collect();
        let pieces: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(run(&["です。"], &pieces), ("日本語".to_owned(), true));
        assert_eq!(
            run(&["です!"], &pieces),
            ("日本語です。終".to_owned(), false)
        );
    }

    #[test]
    fn text_is_held_back_no_longer_than_it_must() {
        let mut stops = StopStrings::new(["abc", ""]);
        assert_eq!(stops.push("xab"), StopStep::Text("x".into()));
        assert_eq!(stops.push("ab"), StopStep::Text("ab".into()));
        assert_eq!(stops.push("d"), StopStep::Text("abd".into()));
        assert_eq!(stops.push("a"), StopStep::Text(String::new()));
        assert_eq!(stops.finish(), "a");
        assert_eq!(stops.push("bc"), StopStep::Text("bc".into()));
        stops.push("ab");
        stops.reset();
        assert_eq!(stops.push("c"), StopStep::Text("c".into()));
    }

    #[test]
    fn without_stop_strings_text_passes_through() {
        assert_eq!(run(&[], &["a", "", "b"]), ("ab".to_owned(), false));
    }
}
