//! Documents gathered into requests.

use std::collections::BTreeSet;

use bigpeer_core::ident::DocId;

/// How large a batch grows, in bytes of JSON, unless one document alone is larger.
pub(super) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The largest request that a server takes by default, in bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a request holds besides its documents, in bytes: the statement, at most.
const REQUEST_OVERHEAD_BYTES: usize = 16 * 1024;

/// The largest document that fits into a request, in bytes of JSON.
pub(super) const DOCUMENT_BYTES_MAX: usize = REQUEST_BYTES_MAX - REQUEST_OVERHEAD_BYTES;

const _: () = assert!(BATCH_BYTES_MAX <= DOCUMENT_BYTES_MAX, "a full batch fits into a request");

/// A document that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    /// The line of its record.
    pub(super) line: u64,
    /// Its id.
    pub(super) id: DocId,
    /// Its text.
    pub(super) json: Vec<u8>,
}

/// Documents for one request. No two have the same id, for which a statement fails.
#[derive(Debug, Default)]
pub(super) struct Batch {
    documents: Vec<Prepared>,
    ids: BTreeSet<DocId>,
    /// The length of the array of all documents, without its brackets.
    bytes: usize,
    /// How often it has been sent in vain.
    pub(super) attempts: u32,
}

impl Batch {
    fn push(&mut self, document: Prepared) {
        self.bytes += document.json.len() + 1;
        let is_new = self.ids.insert(document.id.clone());
        debug_assert!(is_new, "the ids in a batch are distinct");
        self.documents.push(document);
    }

    /// How many documents there are.
    pub(super) fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether some document has an id that is in `other` too.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        !self.ids.is_disjoint(&other.ids)
    }

    /// The arguments of the statement: `{"docs":[…]}`.
    pub(super) fn args(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes + 16);
        out.extend_from_slice(b"{\"docs\":[");
        for (index, document) in self.documents.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&document.json);
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// Both halves, or the one document that cannot be halved.
    pub(super) fn halve(mut self) -> Result<[Self; 2], Prepared> {
        if self.documents.len() == 1 {
            return Err(self.documents.pop().expect("there is one"));
        }
        let second = self.documents.split_off(self.documents.len() / 2);
        Ok([self.documents, second].map(|documents| {
            let mut half = Self::default();
            documents.into_iter().for_each(|document| half.push(document));
            half
        }))
    }
}

/// Gathers documents until a batch is full.
#[derive(Debug)]
pub(super) struct Batcher {
    count_max: usize,
    bytes_max: usize,
    batch: Batch,
}

impl Batcher {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { count_max, bytes_max, batch: Batch::default() }
    }

    /// Adds a document. Returns the batch before it if it must not or cannot join that one.
    pub(super) fn push(&mut self, document: Prepared) -> Option<Batch> {
        let is_full = self.batch.len() >= self.count_max
            || self.batch.bytes + document.json.len() > self.bytes_max
            || self.batch.ids.contains(&document.id);
        let full = if is_full { self.take() } else { None };
        self.batch.push(document);
        full
    }

    /// The batch as it stands, unless it is empty.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let batch = std::mem::take(&mut self.batch);
        (batch.len() > 0).then_some(batch)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bigpeer_core::value::canonical::encode_id;

    use super::*;

    pub(crate) fn document(id: i64, bytes: usize) -> Prepared {
        let line = id.unsigned_abs();
        Prepared { line, id: encode_id(&id.into()).unwrap(), json: vec![b'x'; bytes] }
    }

    fn sizes(batcher: &mut Batcher, documents: &[(i64, usize)]) -> Vec<usize> {
        let full = documents.iter().filter_map(|&(id, bytes)| batcher.push(document(id, bytes)));
        let mut sizes: Vec<usize> = full.map(|batch| batch.len()).collect();
        sizes.extend(batcher.take().map(|batch| batch.len()));
        sizes
    }

    #[test]
    fn a_batch_ends_at_its_count_its_bytes_or_an_id_it_has() {
        let mut batcher = Batcher::new(3, 100);
        assert_eq!(sizes(&mut batcher, &[(1, 1), (2, 1), (3, 1), (4, 1)]), [3, 1]);
        assert_eq!(sizes(&mut batcher, &[(1, 60), (2, 30), (3, 30)]), [2, 1]);
        assert_eq!(sizes(&mut batcher, &[(1, 1), (2, 1), (1, 1)]), [2, 1]);
        assert_eq!(sizes(&mut batcher, &[(1, 500), (2, 500)]), [1, 1]);
        assert_eq!(sizes(&mut batcher, &[]), [0; 0]);
    }

    #[test]
    fn halving_ends_at_one_document_and_loses_none() {
        let mut batcher = Batcher::new(10, 1000);
        for id in 0..5 {
            assert!(batcher.push(document(id, 1)).is_none());
        }
        let mut pending = vec![batcher.take().unwrap()];
        let mut lines = BTreeSet::new();
        while let Some(batch) = pending.pop() {
            match batch.halve() {
                Ok(halves) => pending.extend(halves),
                Err(document) => assert!(lines.insert(document.line)),
            }
        }
        assert_eq!(lines, (0..5).collect());
    }
}
