//! A short read waits for those that came before it, and for no later ones: however many come for one partition of a
//! thread, the others are answered.

use super::Failure;

/// A read of one document, and the moments of its thread at which it was asked for and answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    /// It is one of very many of one partition.
    pub(crate) is_of_crowd: bool,
    pub(crate) asked: u64,
    pub(crate) answered: Option<u64>,
}

/// Judges the reads of one thread.
pub(crate) fn judge(reads: &[Read]) -> Result<(), Failure> {
    let fault = |text: String| Err(Failure::new("fairness", text));
    if let Some(read) = reads.iter().find(|read| read.answered.is_none()) {
        return fault(format!("{read:?} has no answer"));
    }
    for read in reads.iter().filter(|read| !read.is_of_crowd) {
        let is_late = read.answered > Some(read.asked + WITHIN);
        let is_overtaken =
            |it: &Read| it.is_of_crowd && it.asked > read.asked && it.answered < read.answered;
        let overtaken = reads.iter().filter(|it| is_overtaken(it)).count();
        if is_late && overtaken > 0 {
            return fault(format!(
                "{read:?} waits, and {overtaken} of a crowd come later and go first"
            ));
        }
    }
    Ok(())
}

/// A read that is alone at its partition is answered within so many moments: what had come before it to the node that
/// answers for all is done by then, each node has had several turns, and a block that was not there has come.
const WITHIN: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_does_not_wait_until_a_crowd_that_comes_later_has_gone() {
        let crowd = |asked| Read { is_of_crowd: true, asked, answered: Some(asked * 2 + 5) };
        let judge_of = |answered, moments| {
            let other = Read { is_of_crowd: false, asked: 3, answered };
            let reads: Vec<Read> = (0..moments).map(crowd).chain([other]).collect();
            judge(&reads)
        };
        assert!(judge_of(Some(4), 40).is_ok() && judge_of(Some(3 + WITHIN), 40).is_ok());
        assert!(judge_of(Some(4 + WITHIN), 40).is_err());
        assert!(judge_of(Some(4 + WITHIN), 4).is_ok(), "nobody came later");
        assert!(judge_of(None, 4).is_err());
    }
}
