//! Texts with `*` and `?`, compared without case.
//!
//! A text is read once, from its first letter to its last, whatever the pattern: what can have matched so far is a set of
//! places in the pattern, one bit for each, and every letter moves the whole set on. So there is nothing to go back to,
//! and no pattern that takes longer than another.

use std::fmt;
use std::str::FromStr;

/// The longest pattern, in letters: a bit for each, and one for the end.
const LONGEST: usize = 127;

/// A text in which `*` stands for any letters, none included, and `?` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    written: String,
    /// For each letter, the places at which the pattern has it; sorted by letter.
    letters: Vec<(char, u128)>,
    /// The places of `?`.
    any: u128,
    /// The places of `*`.
    stars: u128,
    /// The place behind the last letter.
    end: u128,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It says nothing.
    #[error("it is empty")]
    Empty,
    /// It does not fit into the set of places.
    #[error("it has more than {LONGEST} letters")]
    TooLong,
}

impl Pattern {
    /// Whether the whole text is as the pattern says.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let mut places = self.past_stars(1);
        for letter in folded(text) {
            let here = match self.letters.binary_search_by_key(&letter, |(letter, _)| *letter) {
                Ok(found) => self.letters.get(found).map_or(0, |(_, places)| *places),
                Err(_) => 0,
            };
            let moved = (places & (here | self.any)) << 1;
            places = self.past_stars(moved | (places & self.stars));
            if places == 0 {
                return false;
            }
        }
        places & self.end != 0
    }

    /// A star may stand for nothing. Two never stand side by side, so one step is enough.
    fn past_stars(&self, places: u128) -> u128 {
        places | ((places & self.stars) << 1)
    }
}

/// The letters as they are compared.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let written = text.trim();
        let mut pattern = Self { written: written.to_owned(), letters: Vec::new(), any: 0, stars: 0, end: 1 };
        let mut length = 0;
        let mut last = None;
        for letter in folded(written) {
            if (letter, last) == ('*', Some('*')) {
                continue;
            }
            if length == LONGEST {
                return Err(PatternError::TooLong);
            }
            match letter {
                '*' => pattern.stars |= pattern.end,
                '?' => pattern.any |= pattern.end,
                _ => match pattern.letters.binary_search_by_key(&letter, |(letter, _)| *letter) {
                    Ok(found) => {
                        if let Some((_, places)) = pattern.letters.get_mut(found) {
                            *places |= pattern.end;
                        }
                    }
                    Err(place) => pattern.letters.insert(place, (letter, pattern.end)),
                },
            }
            pattern.end <<= 1;
            length += 1;
            last = Some(letter);
        }
        if length == 0 { Err(PatternError::Empty) } else { Ok(pattern) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().fits(text)
    }

    #[test]
    fn wildcards_stand_for_letters_and_case_for_nothing() {
        for (pattern, text) in [
            ("CT", "ct"),
            ("chest*", "CHEST PA"),
            ("*night*", "CT Night Shift"),
            ("*", ""),
            ("**", "x"),
            ("?T", "CT"),
            ("a*b*c", "a-b-b-c"),
            ("thorax*", "Thorax übersicht"),
            ("*ÜBERSICHT", "Thorax übersicht"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("CT", "CTA"), ("?", ""), ("a*b", "ab "), ("chest", "chest pa"), ("*x", "xy"), ("CT", "")]
        {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn what_says_nothing_or_too_much_is_no_pattern() {
        assert_eq!("".parse::<Pattern>(), Err(PatternError::Empty));
        assert_eq!("  ".parse::<Pattern>(), Err(PatternError::Empty));
        assert!(fits(&"a".repeat(LONGEST), &"A".repeat(LONGEST)));
        assert_eq!("a".repeat(LONGEST + 1).parse::<Pattern>(), Err(PatternError::TooLong));
        assert!("*".repeat(1_000).parse::<Pattern>().is_ok(), "many stars are one");
    }

    #[test]
    fn no_pattern_makes_a_text_expensive() {
        let text = "a".repeat(1_000_000);
        assert!(!fits(&"*a".repeat(60), &format!("{text}b")));
    }

    /// The definition, by trying everything.
    fn model(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => model(&pattern[1..], text) || (!text.is_empty() && model(pattern, &text[1..])),
            (Some('?'), Some(_)) => model(&pattern[1..], &text[1..]),
            (Some(a), Some(b)) if a == b => model(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_fits_what_the_definition_fits(pattern in "[abAÄ*?]{1,12}", text in "[abABä ]{0,12}") {
            let letters = |text: &str| folded(text).collect::<Vec<_>>();
            prop_assert_eq!(fits(&pattern, &text), model(&letters(&pattern), &letters(&text)));
        }
    }
}
