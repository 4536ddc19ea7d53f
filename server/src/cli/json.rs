//! Cuts JSON text that arrives in pieces into values, without reading them: an import file and the `items` of an answer
//! may be larger than memory.

mod elements;
mod envelope;

pub(crate) use elements::{Element, Elements, Framing, SplitError};
pub(crate) use envelope::EnvelopeReader;
