//! `LIKE` in time linear in the text: no pattern makes it go back over what it has read.
//!
//! A pattern of plain runs between `%` is searched run by run. One with `_` or an escape runs as a set of states,
//! a bit each, that every character moves on at once.

use super::meter::Fuel;

/// The most characters other than `%` in a pattern that needs the set of states.
pub const PATTERN_CHARACTERS_MAX: usize = 1024;

/// A pattern, made once for all the texts that it is tried on.
#[derive(Debug)]
pub(crate) struct Pattern {
    ignore_case: bool,
    bytes: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Plain runs between `%`.
    Runs(Box<str>),
    States(States),
}

impl Pattern {
    /// `None` if the pattern is too long to be tried.
    pub(crate) fn new(pattern: &str, escape: Option<char>, ignore_case: bool) -> Option<Self> {
        if ignore_case {
            let lower = Self::new(&pattern.to_lowercase(), escape, false)?;
            return Some(Self { ignore_case, ..lower });
        }
        let needs_states =
            pattern.contains('_') || escape.is_some_and(|escape| pattern.contains(escape));
        let kind = match needs_states {
            true => Kind::States(States::new(pattern, escape)?),
            false => Kind::Runs(pattern.into()),
        };
        Some(Self { ignore_case, bytes: pattern.len(), kind })
    }

    /// Whether all of `text` matches.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        if self.ignore_case {
            return self.accepts_as_it_is(&text.to_lowercase());
        }
        self.accepts_as_it_is(text)
    }

    /// What trying a text of so many bytes costs.
    pub(super) fn fuel(&self, text_bytes: usize) -> Fuel {
        let per_byte = match &self.kind {
            Kind::Runs(_) => 1,
            Kind::States(states) => 4 + 2 * states.loops.len(),
        };
        // To begin a search costs more than to go on with it, and a run takes at least two bytes of the pattern.
        let runs = self.bytes.min(text_bytes) * 16;
        let lower = if self.ignore_case { 4 * text_bytes } else { 0 };
        (text_bytes * per_byte + runs + lower) as Fuel
    }

    fn accepts_as_it_is(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Runs(pattern) => matches_runs(text, pattern),
            Kind::States(states) => states.accept(text),
        }
    }
}

/// The leftmost place for each run leaves the most room for the next, so there is never a reason to go back.
fn matches_runs(text: &str, pattern: &str) -> bool {
    let mut runs = pattern.split('%');
    let first = runs.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = runs.next_back() else { return rest.is_empty() };
    for run in runs {
        match rest.find(run) {
            Some(at) => rest = &rest[at + run.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A pattern with `_` or an escape. Having read some of the text, state `n` means: the first `n` characters of the pattern can account for it.
#[derive(Debug)]
struct States {
    /// What moves from state `n` to the next; `None` is any character.
    steps: Vec<Option<char>>,
    /// The states in which a `%` lets any character pass, a bit each.
    loops: Vec<u64>,
    /// For each character of the pattern, sorted, the states that it moves on.
    moves: Vec<(char, Vec<u64>)>,
    /// The states that every character moves on.
    any: Vec<u64>,
}

impl States {
    fn new(pattern: &str, escape: Option<char>) -> Option<Self> {
        let mut steps = Vec::new();
        let mut loops_at = Vec::new();
        let mut chars = pattern.chars();
        while let Some(character) = chars.next() {
            match character {
                // An escape at the end has nothing to escape and stands for itself.
                _ if Some(character) == escape => steps.push(chars.next().or(escape)),
                '%' => loops_at.push(steps.len()),
                '_' => steps.push(None),
                _ => steps.push(Some(character)),
            }
            if steps.len() > PATTERN_CHARACTERS_MAX {
                return None;
            }
        }
        let words = steps.len() / 64 + 1;
        let mut states =
            Self { loops: vec![0; words], moves: Vec::new(), any: vec![0; words], steps };
        loops_at.into_iter().for_each(|state| set(&mut states.loops, state));
        for (state, step) in states.steps.iter().enumerate() {
            let Some(character) = *step else {
                set(&mut states.any, state);
                continue;
            };
            let known = states.moves.binary_search_by_key(&character, |entry| entry.0);
            let index = known.unwrap_or_else(|index| {
                states.moves.insert(index, (character, vec![0; words]));
                index
            });
            set(&mut states.moves[index].1, state);
        }
        Some(states)
    }

    fn accept(&self, text: &str) -> bool {
        let mut current = vec![0_u64; self.loops.len()];
        set(&mut current, 0);
        for character in text.chars() {
            let found = self.moves.binary_search_by_key(&character, |entry| entry.0).ok();
            let moves = found.map(|index| &self.moves[index].1);
            let mut carry = 0;
            for (word, state) in current.iter_mut().enumerate() {
                let moving = *state & (self.any[word] | moves.map_or(0, |moves| moves[word]));
                *state = (*state & self.loops[word]) | (moving << 1) | carry;
                carry = moving >> 63;
            }
        }
        let last = self.steps.len();
        current[last / 64] >> (last % 64) & 1 == 1
    }
}

fn set(bits: &mut [u64], index: usize) {
    bits[index / 64] |= 1 << (index % 64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_like(text: &str, pattern: &str, escape: Option<char>, ignore_case: bool) -> Option<bool> {
        Pattern::new(pattern, escape, ignore_case).map(|pattern| pattern.accepts(text))
    }

    fn like(text: &str, pattern: &str) -> bool {
        is_like(text, pattern, None, false).expect("the pattern is short")
    }

    #[test]
    fn wildcards_stand_for_runs_and_characters() {
        for pattern in ["abc", "a%", "%c", "%", "%%", "a%c", "_b_", "a_%", "%_c", "___", "%b%"] {
            assert!(like("abc", pattern), "{pattern}");
        }
        for pattern in ["", "ab", "b%", "%b", "____", "a%b", "_", "ABC", "c%a", "abcabc%"] {
            assert!(!like("abc", pattern), "{pattern}");
        }
        assert!(like("", "") && like("", "%") && !like("", "_"));
        assert!(!like("ab", "ab%b"), "one character cannot serve two runs");
        assert!(like("né", "n_"));
    }

    #[test]
    fn an_escape_takes_the_meaning_away() {
        assert_eq!(is_like("50%", "50!%", Some('!'), false), Some(true));
        assert_eq!(is_like("50x", "50!%", Some('!'), false), Some(false));
        assert_eq!(is_like("a!", "a!!", Some('!'), false), Some(true));
        assert_eq!(is_like(r"a\b", r"a\b", None, false), Some(true));
    }

    #[test]
    fn ilike_ignores_case() {
        assert_eq!(is_like("StraßE", "straß_", None, true), Some(true));
    }

    #[test]
    fn a_pattern_longer_than_one_word_of_states_works() {
        let text = "ab".repeat(100);
        assert!(like(&text, &"a_".repeat(100)));
        assert!(!like(&text, &"a_".repeat(99)));
        assert!(like(&text, &format!("{}%", "_b".repeat(70))));
        assert_eq!(is_like("a", &"_".repeat(PATTERN_CHARACTERS_MAX + 1), None, false), None);
    }

    /// The definition, in exponential time.
    fn by_definition(text: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|skip| by_definition(&text[skip..], rest)),
            Some((&step, rest)) => text.split_first().is_some_and(|(&first, after)| {
                (step == '_' || step == first) && by_definition(after, rest)
            }),
        }
    }

    proptest! {
        #[test]
        fn both_ways_agree_with_the_definition(text in "[ab]{0,8}", pattern in "[ab%_]{0,6}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = by_definition(&chars(&text), &chars(&pattern));
            prop_assert_eq!(like(&text, &pattern), expected);
            let states = States::new(&pattern, None).expect("the pattern is short");
            prop_assert_eq!(states.accept(&text), expected);
        }
    }
}
