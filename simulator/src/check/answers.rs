//! Judges of answers: what one to a statement tells, and what an acknowledged statement must have reached.

use std::collections::BTreeSet;

use super::Failure;
use crate::check::ledger::Effect;
use crate::profile::Profile;
use crate::workload::documents::collection_of;
use crate::workload::statement::Statement;
use crate::world::api::Answer;

/// Nothing in an answer is about a document that its reader may not read, except what its reader has named.
pub(crate) fn judge_told(profile: Profile, asked: &str, answer: &Answer) -> Result<(), Failure> {
    let rows = answer.rows.iter().filter_map(|row| row.as_object()?.get("_id")?.as_str());
    let mutated = answer.mutated.iter().filter_map(|id| id.as_str());
    let message = answer.error.as_ref().map_or("", |(_, message)| message);
    let known = ids_in(asked);
    let hidden =
        |id: &&str| collection_of(id).is_some_and(|collection| !profile.may_read(collection, id));
    if let Some(id) = rows.clone().find(hidden) {
        let text = format!("{id} is read with {profile:?}: {asked}");
        return Err(Failure::new("permission", text));
    }
    let told = mutated.chain(ids_in(message)).filter(|id| !known.contains(id));
    match told.into_iter().find(hidden) {
        Some(id) => {
            let text = format!("{id} is told to {profile:?}: {asked}: {message}");
            Err(Failure::new("permission", text))
        }
        None => Ok(()),
    }
}

/// An acknowledged mutation wrote nothing outside of its write rule.
pub(crate) fn judge_written(
    profile: Profile,
    asked: &str,
    written: &[String],
) -> Result<(), Failure> {
    let foreign = written
        .iter()
        .find(|id| collection_of(id).is_some_and(|collection| !profile.may_write(collection, id)));
    match foreign {
        Some(id) => {
            let text = format!("{id} is written with {profile:?}: {asked}");
            Err(Failure::new("permission", text))
        }
        None => Ok(()),
    }
}

/// An acknowledged UPDATE reached the documents that were there when it was asked for and that nobody deletes.
pub(crate) fn judge_reach(
    statement: &Statement,
    held: &BTreeSet<String>,
    mutated: &[String],
) -> Result<(), Failure> {
    let is_certain = matches!(statement.effect, Effect::Set { .. } | Effect::Increment);
    if !is_certain || !statement.text.starts_with("UPDATE cars") {
        return Ok(());
    }
    let kept = held.iter().filter(|id| id.starts_with('k'));
    let missed = kept.into_iter().find(|id| {
        let is_meant = match &statement.target {
            Some(target) => target == *id,
            None => statement.text.ends_with("WHERE kind = 'k'"),
        };
        is_meant && !mutated.contains(id)
    });
    match missed {
        Some(id) => {
            let text = format!("{} reached {mutated:?}, and not {id}", statement.text);
            Err(Failure::new("acknowledged write lost", text))
        }
        None => Ok(()),
    }
}

/// The ids of this workload that a text names: a letter and digits.
fn ids_in(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| word.len() > 1 && collection_of(word).is_some())
        .filter(|word| word[1..].bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
        .collect()
}

#[cfg(test)]
mod tests {
    use bigpeer_core::node::ErrorKind;

    use super::*;

    #[test]
    fn a_refusal_may_name_what_was_asked_for_and_nothing_else() {
        let error = |text: &str| Answer {
            error: Some((ErrorKind::Forbidden, text.to_owned())),
            ..Answer::default()
        };
        let asked = "DELETE FROM cars WHERE _id = 'k0'";
        let hidden = error("the key may not write `k0`");
        assert!(judge_told(Profile::Overlapping, asked, &hidden).is_ok());
        assert!(judge_told(Profile::Overlapping, "DELETE FROM cars", &hidden).is_err());
        assert!(judge_told(Profile::Reader, "DELETE FROM cars", &hidden).is_ok());
    }

    #[test]
    fn an_update_of_everything_must_reach_what_was_there() {
        let mut ledger = crate::check::ledger::Ledger::default();
        let mut pen = crate::workload::statement::Pen::new(&mut ledger);
        let statement = crate::workload::statement::set_together(&mut pen);
        let held = BTreeSet::from(["k0".to_owned(), "k1".to_owned(), "d1".to_owned()]);
        let reached = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert!(judge_reach(&statement, &held, &reached(&["k0", "k1"])).is_ok());
        assert!(judge_reach(&statement, &held, &reached(&["k0"])).is_err());
    }
}
