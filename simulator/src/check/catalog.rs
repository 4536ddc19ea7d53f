//! Changes of the catalog that race are answered, and leave the catalog, as if they had been made one after the other,
//! each at some moment between its question and its answer.

use std::collections::{BTreeMap, BTreeSet};

use super::Failure;

/// A change of an app or a key. Apps are numbered, and secrets are the public parts of the texts of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    PutApp { app: u8, name: &'static str },
    DeleteApp { app: u8 },
    PutKey { app: u8, name: &'static str, secret: String },
    DeleteKey { app: u8, name: &'static str },
}

/// The answer to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Made,
    /// A name is taken, or what is to be changed does not exist.
    Conflict,
    /// It is not made, for a reason that lies in no other change.
    Refused,
    /// Nobody will ever know whether it is made, but by what is stored.
    Unknown,
}

/// A change that somebody asked for, and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) change: Change,
    pub(crate) asked_ns: u64,
    pub(crate) answer: Answer,
    pub(crate) answered_ns: u64,
}

/// Apps by number, each with its name and the secrets of its keys by name: a model that knows no code of the core.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Model {
    pub(crate) apps: BTreeMap<u8, (String, BTreeMap<String, String>)>,
}

impl Model {
    /// Makes a change, unless something speaks against it.
    fn make(&mut self, change: &Change) -> bool {
        match change {
            Change::PutApp { app, name } => {
                if self.apps.iter().any(|(other, (taken, _))| other != app && taken == name) {
                    return false;
                }
                let entry = self.apps.entry(*app).or_default();
                (*name).clone_into(&mut entry.0);
                true
            }
            Change::DeleteApp { app } => self.apps.remove(app).is_some(),
            Change::PutKey { app, name, secret } => match self.apps.get_mut(app) {
                Some((_, keys)) if !keys.contains_key(*name) => {
                    keys.insert((*name).to_owned(), secret.clone());
                    true
                }
                _ => false,
            },
            Change::DeleteKey { app, name } => {
                self.apps.get_mut(app).is_some_and(|(_, keys)| keys.remove(*name).is_some())
            }
        }
    }
}

/// Judges changes that were asked for at once by what was stored before any of them and after all.
pub(crate) fn judge(before: &Model, asked: &[Asked], stored: &Model) -> Result<(), Failure> {
    assert!(asked.len() <= 16, "the search goes through all orders");
    let all = (1_u32 << asked.len()) - 1;
    let mut seen = BTreeSet::new();
    let mut open = vec![(all, before.clone())];
    while let Some((left, state)) = open.pop() {
        if !seen.insert((left, state.clone())) {
            continue;
        }
        let is_left = |place: usize| left & (1 << place) != 0;
        let is_open = |asked: &Asked| matches!(asked.answer, Answer::Unknown | Answer::Refused);
        let are_optional = (0..asked.len()).all(|place| !is_left(place) || is_open(&asked[place]));
        if are_optional && state == *stored {
            return Ok(());
        }
        for (place, next) in asked.iter().enumerate().filter(|(place, _)| is_left(*place)) {
            let is_first = asked.iter().enumerate().all(|(other, before)| {
                !is_left(other) || is_open(before) || before.answered_ns >= next.asked_ns
            });
            let mut then = state.clone();
            let is_made = then.make(&next.change);
            let is_answered = match next.answer {
                Answer::Made => is_made,
                Answer::Conflict => !is_made,
                Answer::Refused => false,
                Answer::Unknown => true,
            };
            if is_first && is_answered {
                open.push((left & !(1 << place), then));
            }
        }
    }
    let text = format!("no order of {asked:?} leads from {before:?} to {stored:?}");
    Err(Failure::new("catalog", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop(keys: &[(&str, &str)]) -> Model {
        let keys = keys.iter().map(|(name, secret)| ((*name).into(), (*secret).into())).collect();
        Model { apps: BTreeMap::from([(0, ("shop".to_owned(), keys))]) }
    }

    fn put(secret: &str, answer: Answer, [asked_ns, answered_ns]: [u64; 2]) -> Asked {
        let change = Change::PutKey { app: 0, name: "till", secret: secret.into() };
        Asked { change, asked_ns, answer, answered_ns }
    }

    fn delete(answer: Answer, [asked_ns, answered_ns]: [u64; 2]) -> Asked {
        let change = Change::DeleteKey { app: 0, name: "till" };
        Asked { change, asked_ns, answer, answered_ns }
    }

    #[test]
    fn of_two_that_make_one_name_one_is_told_that_it_is_taken() {
        use Answer::{Conflict, Made};
        let (none, first) = (shop(&[]), shop(&[("till", "1")]));
        let second = shop(&[("till", "2")]);
        let both = |one, two| [put("1", one, [1, 9]), put("2", two, [2, 8])];
        assert!(judge(&none, &both(Made, Conflict), &first).is_ok());
        assert!(judge(&none, &both(Conflict, Made), &second).is_ok());
        assert!(judge(&none, &both(Made, Conflict), &second).is_err(), "the other's is there");
        assert!(judge(&none, &both(Made, Made), &second).is_err(), "two of one name");
        assert!(judge(&none, &both(Conflict, Conflict), &none).is_err(), "nobody had the name");
        let with_end = |end| [&both(Made, Made)[..], &[delete(Made, end)]].concat();
        assert!(judge(&none, &with_end([1, 9]), &second).is_ok(), "it was deleted in between");
        assert!(judge(&none, &with_end([10, 11]), &none).is_err(), "that came later than both");
    }

    #[test]
    fn a_change_without_an_answer_is_made_or_not_and_one_that_was_refused_is_not() {
        use Answer::{Refused, Unknown};
        let (none, first) = (shop(&[]), shop(&[("till", "1")]));
        for stored in [&none, &first] {
            assert!(judge(&none, &[put("1", Unknown, [1, 2])], stored).is_ok());
        }
        assert!(judge(&none, &[put("1", Refused, [1, 2])], &none).is_ok());
        assert!(judge(&none, &[put("1", Refused, [1, 2])], &first).is_err());
    }

    #[test]
    fn an_app_has_one_name_that_no_other_has_and_keeps_its_keys_under_a_new_one() {
        let apps = |answers: [Answer; 2]| {
            let changes = [1, 2].map(|app| Change::PutApp { app, name: "branch" });
            let asked = changes.into_iter().zip(answers);
            asked
                .map(|(change, answer)| Asked { change, asked_ns: 1, answer, answered_ns: 2 })
                .collect::<Vec<_>>()
        };
        let mut stored = shop(&[("till", "1")]);
        let before = stored.clone();
        assert!(stored.make(&Change::PutApp { app: 1, name: "branch" }));
        assert!(judge(&before, &apps([Answer::Made, Answer::Conflict]), &stored).is_ok());
        assert!(judge(&before, &apps([Answer::Made, Answer::Made]), &stored).is_err());
        assert!(stored.make(&Change::PutApp { app: 0, name: "store" }));
        assert_eq!(stored.apps[&0], ("store".into(), before.apps[&0].1.clone()));
        assert!(stored.make(&Change::DeleteApp { app: 1 }));
        assert!(!stored.make(&Change::DeleteApp { app: 1 }));
        assert!(!stored.make(&Change::DeleteKey { app: 1, name: "till" }));
    }
}
