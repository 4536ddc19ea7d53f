//! Assigning values: which type each field gets, and merging objects key by key.

use super::{Edit, EditError};
use crate::document::{Content, Kind, Leaf, Path};
use crate::value::{Object, Value};

/// How an object is written where no type is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objects {
    /// As a map: assigning merges key by key (DQL 5, non-strict).
    #[default]
    AsMaps,
    /// As one register: assigning replaces it (DQL 4, strict).
    AsRegisters,
}

/// The type that a statement declares for a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Any value, replaced as a whole.
    Register,
    /// An object, field by field.
    Map(Fields),
    /// A settable counter: assigning an integer restarts it there.
    Counter,
    /// A legacy counter: cannot be assigned.
    PnCounter,
    /// A blob's token.
    Attachment,
}

/// The types declared for the fields of one map; others are inferred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    fields: Vec<(Box<str>, Declared)>,
}

impl Fields {
    /// The type declared for a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Declared> {
        self.fields.iter().find(|(have, _)| **have == *name).map(|(_, declared)| declared)
    }
}

impl FromIterator<(Box<str>, Declared)> for Fields {
    fn from_iter<T: IntoIterator<Item = (Box<str>, Declared)>>(fields: T) -> Self {
        Self { fields: fields.into_iter().collect() }
    }
}

/// Which leaves an assignment writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Differing,
}

impl Edit {
    /// Assigns `value` to the field at `path`, as the declared type or the inferred one. An object assigned to a
    /// map merges key by key; keys that it leaves out stay. An object at the root is the document's content.
    ///
    /// # Errors
    ///
    /// If a path is too deep, the root gets anything but an object, or a value does not fit its declared type.
    pub fn assign(
        &mut self,
        path: &Path,
        value: &Value,
        declared: Option<&Declared>,
    ) -> Result<(), EditError> {
        self.assign_at(path, value, declared, Which::All)
    }

    /// As [`Self::assign`], but writes only the leaves that differ from what this document shows.
    ///
    /// # Errors
    ///
    /// As [`Self::assign`].
    pub fn assign_differing(
        &mut self,
        path: &Path,
        value: &Value,
        declared: Option<&Declared>,
    ) -> Result<(), EditError> {
        self.assign_at(path, value, declared, Which::Differing)
    }

    /// Assigns the content of a document, field by field; see [`Self::assign`].
    ///
    /// # Errors
    ///
    /// As [`Self::assign`].
    pub fn assign_content(&mut self, content: &Object, fields: &Fields) -> Result<(), EditError> {
        self.assign_fields(&Path::root(), content, Some(fields))
    }

    /// As [`Self::assign_content`], but writes only the leaves that differ from what this document shows.
    ///
    /// # Errors
    ///
    /// As [`Self::assign`].
    pub fn assign_content_differing(
        &mut self,
        content: &Object,
        fields: &Fields,
    ) -> Result<(), EditError> {
        self.each_field(&Path::root(), content, Some(fields), Which::Differing)
    }

    /// Assigns the fields of a node that is a map already.
    pub(super) fn assign_fields(
        &mut self,
        path: &Path,
        object: &Object,
        fields: Option<&Fields>,
    ) -> Result<(), EditError> {
        self.each_field(path, object, fields, Which::All)
    }

    fn each_field(
        &mut self,
        path: &Path,
        object: &Object,
        fields: Option<&Fields>,
        which: Which,
    ) -> Result<(), EditError> {
        self.document.leaves.reserve(object.len());
        for (name, value) in object {
            let declared = fields.and_then(|fields| fields.get(name));
            self.assign_at(&path.child(name)?, value, declared, which)?;
        }
        Ok(())
    }

    fn assign_at(
        &mut self,
        path: &Path,
        value: &Value,
        declared: Option<&Declared>,
        which: Which,
    ) -> Result<(), EditError> {
        let mismatch = |declared: &'static str| EditError::TypeMismatch {
            path: path.clone(),
            declared,
            found: value.type_name(),
        };
        match (declared, value) {
            (Some(Declared::Map(fields)), Value::Object(object)) => {
                self.assign_map(path, object, Some(fields), which)
            }
            (None, Value::Object(object)) if self.objects == Objects::AsMaps || path.is_root() => {
                self.assign_map(path, object, None, which)
            }
            (Some(Declared::Map(_)), _) => Err(mismatch("MAP")),
            (Some(Declared::Counter), &Value::Int(to)) => {
                if which == Which::Differing && self.shows(path, Kind::COUNTER, value) {
                    return Ok(());
                }
                self.restart(path, to)
            }
            (Some(Declared::Counter), _) => Err(mismatch("COUNTER")),
            (Some(Declared::PnCounter), _) => Err(mismatch("PN_COUNTER")),
            (Some(Declared::Attachment), _) => {
                if which == Which::Differing && self.shows(path, Kind::ATTACHMENT, value) {
                    return Ok(());
                }
                self.set_attachment(path, value.clone())
            }
            (Some(Declared::Register) | None, _) => {
                if which == Which::Differing && self.shows(path, Kind::REGISTER, value) {
                    return Ok(());
                }
                self.set_register(path, value.clone())
            }
        }
    }

    fn assign_map(
        &mut self,
        path: &Path,
        object: &Object,
        fields: Option<&Fields>,
        which: Which,
    ) -> Result<(), EditError> {
        if path.is_root() {
            return self.each_field(path, object, fields, which);
        }
        let shown = self.document.visible_entry(path);
        let was_map = shown.is_none() && self.document.has_content(path);
        if which == Which::Differing
            && shown.and_then(|leaf| leaf.latest().held()?.as_object()) == Some(object)
        {
            return Ok(());
        }
        if which == Which::All || !was_map {
            self.open_ancestors(path)?;
            self.become_map(path);
        }
        // An empty object writes no leaf: that the node is a map is all it says.
        if object.is_empty() && was_map && which == Which::All {
            self.write(path, Kind::MAP, Content::Present);
        }
        self.each_field(path, object, fields, which)
    }

    /// Whether `value` is what readers see at `path`, held in a component of this kind.
    fn shows(&self, path: &Path, kind: Kind, value: &Value) -> bool {
        let leaf = self.document.visible_entry(path).filter(|leaf| leaf.kind == kind);
        leaf.and_then(Leaf::own_value).is_some_and(|shown| shown == *value)
    }
}
