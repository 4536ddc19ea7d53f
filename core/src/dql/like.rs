//! `LIKE` in time linear in the text: no pattern makes it go back over what it has read.
//!
//! A pattern of plain runs between `%` is searched run by run. One with `_` or an escape runs as a set of states,
//! a bit each, that every character moves on at once. Either goes over a long text piece by piece, so that an
//! evaluation may be paused between two of them.

use super::meter::Fuel;

/// The most characters other than `%` in a pattern that needs the set of states.
pub const PATTERN_CHARACTERS_MAX: usize = 1024;

/// The work of going over one piece of a text.
const PIECE: Fuel = 1 << 16;

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

    /// The text as it is to be gone over, if not as it is.
    pub(super) fn folded(&self, text: &str) -> Option<String> {
        self.ignore_case.then(|| text.to_lowercase())
    }

    /// The cost of beginning with a text of so many bytes, before it is folded.
    pub(super) fn begin_fuel(&self, text_bytes: usize) -> Fuel {
        // To begin a search costs more than to go on with it, and a run takes at least two bytes of the pattern.
        let runs = self.bytes.min(text_bytes) * 16;
        let lower = if self.ignore_case { 4 * text_bytes } else { 0 };
        (runs + lower) as Fuel
    }

    /// The cost of the next piece of a folded text.
    pub(super) fn piece_fuel(&self, text: &str, progress: &Progress) -> Fuel {
        let left = text.len().saturating_sub(progress.read) as Fuel;
        (left * self.byte_fuel()).min(PIECE)
    }

    /// Goes over the next piece of a folded text. Whether all of the text matches, once that is known.
    pub(super) fn go_on(&self, text: &str, progress: &mut Progress) -> Option<bool> {
        let bytes = usize::try_from(PIECE / self.byte_fuel()).unwrap_or(usize::MAX).max(1);
        match &self.kind {
            Kind::Runs(pattern) => find_runs(text, pattern, progress, bytes),
            Kind::States(states) => states.go_on(text, progress, bytes),
        }
    }

    fn byte_fuel(&self) -> Fuel {
        match &self.kind {
            Kind::Runs(_) => 1,
            Kind::States(states) => 4 + 2 * states.loops.len() as Fuel,
        }
    }

    /// About how much memory it takes.
    fn size(&self) -> usize {
        let states = match &self.kind {
            Kind::Runs(_) => 0,
            Kind::States(states) => states.steps.len() * (16 + 8 * states.loops.len()),
        };
        size_of::<Self>() + self.bytes + states
    }
}

/// How far a pattern has come with a text.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes of the text that have been read.
    read: usize,
    /// Bytes of a pattern of runs that account for these.
    matched: usize,
    /// The states that these lead to; empty before the first.
    states: Vec<u64>,
}

/// A pattern that is being tried on a text.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// The pattern, where it was made for this text alone.
    pub(super) pattern: Option<Pattern>,
    pub(super) progress: Progress,
}

impl Trial {
    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.pattern.as_ref().map_or(0, Pattern::size)
    }
}

/// Looks for the plain runs of a pattern in about so many bytes of a text. The leftmost place for each run leaves the
/// most room for the next, so there is never a reason to go back.
fn find_runs(text: &str, pattern: &str, progress: &mut Progress, bytes: usize) -> Option<bool> {
    let Progress { read, matched, .. } = progress;
    if *matched == 0 {
        let Some(end) = pattern.find('%') else { return Some(text == pattern) };
        if !text.starts_with(&pattern[..end]) {
            return Some(false);
        }
        (*read, *matched) = (end, end + 1);
    }
    // A pattern may have many `%` beside each other, and none of them reads anything.
    let end_of_piece = (*read + *matched).saturating_add(bytes);
    while *read + *matched < end_of_piece {
        let Some(run) = pattern[*matched..].find('%') else {
            return Some(text[*read..].ends_with(&pattern[*matched..]));
        };
        let run = &pattern[*matched..*matched + run];
        // A run may begin in this piece and end in the next; a long one is not looked at once for each short piece.
        let reach = text.floor_char_boundary(*read + run.len() + bytes.max(run.len()));
        if let Some(place) = text[*read..reach].find(run) {
            *read += place + run.len();
            *matched += run.len() + 1;
        } else if reach == text.len() {
            return Some(false);
        } else {
            *read = text.floor_char_boundary(reach - run.len() + 1);
        }
    }
    None
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

    /// Reads about so many bytes of a text.
    fn go_on(&self, text: &str, progress: &mut Progress, bytes: usize) -> Option<bool> {
        let Progress { read, states: current, .. } = progress;
        if current.is_empty() {
            *current = vec![0_u64; self.loops.len()];
            set(current, 0);
        }
        let end = text.floor_char_boundary(read.saturating_add(bytes.max(4)));
        for character in text[*read..end].chars() {
            let found = self.moves.binary_search_by_key(&character, |entry| entry.0).ok();
            let moves = found.map(|index| &self.moves[index].1);
            let mut carry = 0;
            for (word, state) in current.iter_mut().enumerate() {
                let moving = *state & (self.any[word] | moves.map_or(0, |moves| moves[word]));
                *state = (*state & self.loops[word]) | (moving << 1) | carry;
                carry = moving >> 63;
            }
        }
        *read = end;
        let last = self.steps.len();
        (end == text.len()).then(|| current[last / 64] >> (last % 64) & 1 == 1)
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

    impl Pattern {
        fn accepts(&self, text: &str) -> bool {
            let folded = self.folded(text);
            let (text, mut progress) = (folded.as_deref().unwrap_or(text), Progress::default());
            std::iter::repeat_with(|| self.go_on(text, &mut progress))
                .find_map(|it| it)
                .expect("an end")
        }
    }

    /// The answer, going over so many bytes at once.
    fn in_pieces(kind: &Kind, text: &str, bytes: usize) -> bool {
        let mut progress = Progress::default();
        loop {
            let answer = match kind {
                Kind::Runs(pattern) => find_runs(text, pattern, &mut progress, bytes),
                Kind::States(states) => states.go_on(text, &mut progress, bytes),
            };
            if let Some(answer) = answer {
                return answer;
            }
        }
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
        fn both_ways_agree_with_the_definition(
            text in "[abé]{0,8}",
            pattern in "[abé%_]{0,6}",
            bytes in 1_usize..6,
        ) {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = by_definition(&chars(&text), &chars(&pattern));
            prop_assert_eq!(like(&text, &pattern), expected);
            let states = States::new(&pattern, None).expect("the pattern is short");
            prop_assert_eq!(in_pieces(&Kind::States(states), &text, bytes), expected);
            if !pattern.contains('_') {
                prop_assert_eq!(in_pieces(&Kind::Runs(pattern.into()), &text, bytes), expected);
            }
        }
    }
}
