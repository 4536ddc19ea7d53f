//! The text that opens the admin routes, from a file that is read again when it changes: see [`crate::files`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use crate::files::{self, FileError, FromFiles};
use crate::secrets::Secret;

/// The admin token as it is now. Clones share it.
#[derive(Clone, Debug)]
pub struct AdminToken(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    file: PathBuf,
    current: RwLock<Secret>,
}

/// The longest token, in bytes: a file beyond that is another one.
const TOKEN_BYTES_MAX: usize = 4_096;

impl AdminToken {
    /// Reads the token from a file of one line. Warns if every user of the machine can read it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or holds no token.
    pub fn read(file: &Path) -> Result<Self, FileError> {
        files::warn_if_open(file, "admin token");
        Ok(Self(Arc::new(Kept { file: file.to_owned(), current: RwLock::new(token_in(file)?) })))
    }

    /// True when `shown` is the token.
    #[must_use]
    pub fn matches(&self, shown: &str) -> bool {
        self.0.current.read().expect("no holder of this lock panics").matches(shown)
    }

    /// The token, to be watched.
    #[must_use]
    pub fn watched(&self) -> Arc<dyn FromFiles> {
        self.0.clone()
    }

    #[cfg(test)]
    pub(crate) fn for_test(text: &str) -> Self {
        let current = RwLock::new(Secret::for_test(text));
        Self(Arc::new(Kept { file: PathBuf::new(), current }))
    }
}

impl FromFiles for Kept {
    fn files(&self) -> Vec<&Path> {
        vec![&self.file]
    }

    fn read_again(&self) -> Result<(), FileError> {
        let token = token_in(&self.file)?;
        files::warn_if_open(&self.file, "admin token");
        *self.current.write().expect("no holder of this lock panics") = token;
        Ok(())
    }
}

fn token_in(file: &Path) -> Result<Secret, FileError> {
    let error = |cause: String| FileError { path: file.to_owned(), cause };
    let text = fs::read_to_string(file).map_err(|cause| error(cause.to_string()))?;
    let token = text.trim();
    if token.is_empty()
        || token.len() > TOKEN_BYTES_MAX
        || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        let cause = format!(
            "holds no token: one line of at most {TOKEN_BYTES_MAX} visible ASCII characters"
        );
        return Err(error(cause));
    }
    Ok(Secret::from_text(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_visible_word_and_a_bad_file_keeps_the_old_one() {
        let file = std::env::temp_dir().join(format!("bigpeer-token-{}", std::process::id()));
        for bad in ["", " \n", "two words", "\u{1}", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            fs::write(&file, bad).expect("temporary");
            let refused = AdminToken::read(&file).expect_err("no token").to_string();
            assert!(
                refused.contains("holds no token") && refused.contains("bigpeer-token"),
                "{refused}"
            );
        }
        fs::write(&file, "first\n").expect("temporary");
        let token = AdminToken::read(&file).expect("a token");
        assert!(token.matches("first") && !token.matches("first\n") && !token.matches(""));
        fs::write(&file, "").expect("temporary");
        token.watched().read_again().expect_err("no token");
        assert!(token.clone().matches("first"));
        fs::write(&file, "second").expect("temporary");
        token.watched().read_again().expect("a token");
        assert!(token.matches("second") && !token.matches("first"));
        fs::remove_file(&file).expect("ours");
    }
}
