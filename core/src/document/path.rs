//! Paths: where in a document something is, as bytes that sort in document order.

use std::fmt;

use smallvec::SmallVec;

/// A path of field names, encoded so that comparing bytes compares paths name by name, and so that everything
/// below a path is one contiguous range of keys: those that start with its bytes. The root is empty.
///
/// Each step is its UTF-8 bytes, with `00` written `01 01` and `01` written `01 02`, closed by `00`.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(SmallVec<[u8; INLINE_BYTES]>);

impl Clone for Path {
    fn clone(&self) -> Self {
        // The derived one goes byte by byte.
        Self(SmallVec::from_slice(&self.0))
    }
}

/// The path would be deeper than [`Path::DEPTH_MAX`] or its encoding longer than [`Path::SIZE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a path has at most {} steps and {} bytes", Path::DEPTH_MAX, Path::SIZE_BYTES_MAX)]
pub struct PathError;

impl Path {
    /// How many steps a path may have.
    pub const DEPTH_MAX: usize = 128;
    /// How many bytes the encoding of a path may take.
    pub const SIZE_BYTES_MAX: usize = 16 << 10;

    /// The path of the document itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of these steps, outermost first.
    ///
    /// # Errors
    ///
    /// If it is too deep or too long.
    pub fn from_steps<S: AsRef<str>>(
        steps: impl IntoIterator<Item = S>,
    ) -> Result<Self, PathError> {
        let mut path = Self::root();
        for step in steps {
            path.push(step.as_ref())?;
        }
        Ok(path)
    }

    /// Goes one step down.
    ///
    /// # Errors
    ///
    /// If it becomes too deep or too long; the path is then as before.
    pub fn push(&mut self, step: &str) -> Result<(), PathError> {
        let escapes = step.bytes().filter(|&byte| byte <= ESCAPE).count();
        let too_long = self.0.len() + step.len() + escapes + 1 > Self::SIZE_BYTES_MAX;
        // Each step takes a byte at least.
        let may_be_deep = self.0.len() >= Self::DEPTH_MAX;
        if too_long || (may_be_deep && self.depth() >= Self::DEPTH_MAX) {
            return Err(PathError);
        }
        if escapes == 0 {
            self.0.extend_from_slice(step.as_bytes());
            self.0.push(END);
        } else {
            self.push_escaped(step);
        }
        Ok(())
    }

    /// The path one step down; see [`Self::push`].
    ///
    /// # Errors
    ///
    /// If it would be too deep or too long.
    pub fn child(&self, step: &str) -> Result<Self, PathError> {
        let (above, size) = (self.0.len(), self.0.len() + step.len() + 1);
        if size <= INLINE_BYTES && step.bytes().all(|byte| byte > ESCAPE) {
            let mut bytes = [END; INLINE_BYTES];
            bytes[..above].copy_from_slice(&self.0);
            bytes[above..size - 1].copy_from_slice(step.as_bytes());
            return Ok(Self(SmallVec::from_buf_and_len(bytes, size)));
        }
        let mut child = self.clone();
        child.push(step)?;
        Ok(child)
    }

    /// Takes the bytes of a path from elsewhere.
    ///
    /// # Errors
    ///
    /// If they are not what [`Self::push`] makes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.len() > Self::SIZE_BYTES_MAX {
            return Err(PathError);
        }
        let mut rest = bytes;
        let mut depth = 0;
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == END).ok_or(PathError)?;
            unescape(&rest[..end]).ok_or(PathError)?;
            rest = &rest[end + 1..];
            depth += 1;
        }
        if depth > Self::DEPTH_MAX {
            return Err(PathError);
        }
        Ok(Self(SmallVec::from_slice(bytes)))
    }

    /// The encoding: key and order of components.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the document itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// How many steps there are.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.iter().filter(|&&byte| byte == END).count()
    }

    /// The path one step up; none above the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let inner = self.0.len().checked_sub(1)?;
        let start = self.0[..inner].iter().rposition(|&byte| byte == END).map_or(0, |end| end + 1);
        Some(Self(SmallVec::from_slice(&self.0[..start])))
    }

    /// Whether this is `ancestor` or lies below it.
    #[must_use]
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.0.starts_with(&ancestor.0)
    }

    /// The names, outermost first.
    pub fn steps(&self) -> impl Iterator<Item = Box<str>> + '_ {
        let inner = self.0.strip_suffix(&[END]);
        inner
            .into_iter()
            .flat_map(|inner| inner.split(|&byte| byte == END))
            .map(|step| unescape(step).expect("a path is made of whole steps"))
    }

    fn push_escaped(&mut self, step: &str) {
        for part in step.as_bytes().split_inclusive(|&byte| byte <= ESCAPE) {
            match part {
                [plain @ .., byte] if *byte <= ESCAPE => {
                    self.0.extend_from_slice(plain);
                    self.0.extend_from_slice(&[ESCAPE, byte + 1]);
                }
                plain => self.0.extend_from_slice(plain),
            }
        }
        self.0.push(END);
    }
}

/// The name of the step that the encoded path `path` takes just below its first `prefix_bytes` bytes, still
/// escaped.
pub(crate) fn step_below(path: &[u8], prefix_bytes: usize) -> &[u8] {
    let rest = &path[prefix_bytes..];
    let end = rest.iter().position(|&byte| byte == END).expect("a path is made of whole steps");
    &rest[..end]
}

/// Whether the bytes of a step are not those of its name.
pub(crate) fn is_escaped(step: &[u8]) -> bool {
    step.contains(&ESCAPE)
}

/// The text of an escaped step.
pub(crate) fn unescape(step: &[u8]) -> Option<Box<str>> {
    let text = if is_escaped(step) {
        let mut out = Vec::with_capacity(step.len());
        let mut bytes = step.iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                ESCAPE => out.push(bytes.next().filter(|&&code| code == 1 || code == 2)? - 1),
                _ => out.push(byte),
            }
        }
        String::from_utf8(out).ok()?
    } else {
        std::str::from_utf8(step).ok()?.to_owned()
    };
    Some(text.into_boxed_str())
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps()).finish()
    }
}

/// Shorter paths lie in place. None of them is too deep.
const INLINE_BYTES: usize = 24;
const _: () = assert!(INLINE_BYTES < Path::DEPTH_MAX, "each step takes a byte at least");

const END: u8 = 0;
const ESCAPE: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(prop_oneof!["[\\x00-\\x02a]{0,3}", "\\PC{0,4}"], 0..4)
    }

    fn path(steps: &[String]) -> Path {
        Path::from_steps(steps).expect("short enough")
    }

    proptest! {
        #[test]
        fn bytes_sort_as_steps_do_and_read_back(a in steps(), b in steps()) {
            prop_assert_eq!(path(&a).cmp(&path(&b)), a.cmp(&b));
            prop_assert_eq!(path(&a).starts_with(&path(&b)), a.starts_with(&b));
            prop_assert_eq!(Path::from_bytes(path(&a).as_bytes()), Ok(path(&a)));
            let read: Vec<String> = path(&a).steps().map(String::from).collect();
            prop_assert_eq!(&read, &a);
            prop_assert_eq!(path(&a).depth(), a.len());
            let parent = a.split_last().map(|(_, rest)| path(rest));
            prop_assert_eq!(path(&a).parent(), parent);
        }

        #[test]
        fn foreign_bytes_are_a_path_only_if_its_steps_make_them(bytes in prop::collection::vec(0_u8..4, 0..8)) {
            if let Ok(read) = Path::from_bytes(&bytes) {
                let again = Path::from_steps(read.steps()).expect("short enough");
                prop_assert_eq!(again.as_bytes(), &bytes[..]);
            }
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let mut deep = Path::from_steps(["x"; Path::DEPTH_MAX]).expect("at the limit");
        let before = deep.clone();
        assert_eq!(deep.push("y"), Err(PathError));
        assert_eq!(deep, before);
        assert_eq!(Path::root().child(&"x".repeat(Path::SIZE_BYTES_MAX)), Err(PathError));
        assert_eq!(Path::from_bytes(&b"x\0".repeat(Path::DEPTH_MAX + 1)), Err(PathError));
    }

    #[test]
    fn golden_paths() {
        let path = Path::from_steps(["a", "", "\0\u{1}b"]).expect("short enough");
        assert_eq!(path.as_bytes(), b"a\x00\x00\x01\x01\x01\x02b\x00");
    }
}
