//! The records that a server keeps about peers: none, of one that has left nothing there.

use std::collections::{BTreeMap, BTreeSet};

use bigpeer_core::codec::{DecodeError, Reader};
use bigpeer_core::ident::PeerKey;
use bigpeer_core::log::transaction::{Op, Transaction};

use super::Failure;

/// The first record about a peer holds more than who it says it is: an update, a cursor or a refusal comes with it.
/// `known` are the peers of which that was seen.
pub(crate) fn no_stranger_is_kept(
    known: &mut BTreeSet<PeerKey>,
    transaction: &Transaction,
) -> Result<(), Failure> {
    let mut has_more: BTreeMap<PeerKey, bool> = BTreeMap::new();
    for op in &transaction.ops {
        if let Op::Remote { peer, state } = op {
            *has_more.entry(*peer).or_default() |= !is_introduction(state);
        }
    }
    let has_edits = transaction.ops.iter().any(|op| matches!(op, Op::Merge { .. }));
    for (peer, has_more) in has_more {
        if has_more || has_edits {
            known.insert(peer);
        } else if !known.contains(&peer) {
            let text = format!("the server keeps nonces of {peer:?}, which has left nothing there");
            return Err(Failure::new("bounds", text));
        }
    }
    Ok(())
}

/// True when changes of a remote's record name its store and nonces alone: "Remote record" in the core's
/// ARCHITECTURE.md.
fn is_introduction(changes: &[u8]) -> bool {
    names_alone(&mut Reader::new(changes)).unwrap_or(false)
}

fn names_alone(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
    if from.byte("version")? != CHANGES_VERSION {
        return Ok(false);
    }
    while from.remaining_bytes() > 0 {
        match from.byte("change")? {
            STORE => drop(from.take("store", 16)?),
            OURS => {
                for _ in 0..from.count("nonces", 1)? {
                    from.varint("nonce")?;
                }
            }
            THEIRS => drop(from.varint("nonce")?),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// The version of a record of changes, and the kinds of them that say who a peer is.
const CHANGES_VERSION: u8 = 2;
const STORE: u8 = 1;
const OURS: u8 = 4;
const THEIRS: u8 = 5;
