//! Keys and tokens: made from the operating system's randomness, compared without a hint.

use std::fmt;

/// Fills a buffer with random bytes. A parameter, so that whoever needs randomness has no source of its own.
pub type FillRandom = fn(&mut [u8]);

/// Random bytes of the operating system.
///
/// # Panics
///
/// When there are none: nothing safe can be done then.
pub fn os_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has randomness");
}

/// A text that gives access. It is never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The key of an API client: ten characters by which it is known, and forty that make it secret.
    #[must_use]
    pub fn api_key(random: FillRandom) -> Self {
        Self(base62(random, KEY_PREFIX_CHARS + SECRET_CHARS).into())
    }

    /// A token without a public part.
    #[must_use]
    pub fn token(random: FillRandom) -> Self {
        Self(base62(random, SECRET_CHARS).into())
    }

    /// A secret that was read from where it is kept.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, to be shown once or to be written down.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True when `shown` is this secret. Takes the same time wherever they differ.
    #[must_use]
    pub fn matches(&self, shown: &str) -> bool {
        let same_length = self.0.len() == shown.len();
        let pairs = self.0.bytes().zip(shown.bytes());
        same_length && pairs.fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs)) == 0
    }

    #[cfg(test)]
    pub(crate) fn for_test(text: &str) -> Self {
        Self::from_text(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How much of a key is public; core looks keys up by as many characters.
const KEY_PREFIX_CHARS: usize = 10;

/// Forty characters of 62 carry 238 bits.
const SECRET_CHARS: usize = 40;

fn base62(random: FillRandom, chars: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // The greatest multiple of 62 in a byte: beyond it some characters would come more often.
    const FAIR: u8 = 248;
    let mut text = String::with_capacity(chars);
    let mut bytes = [0; 64];
    while text.len() < chars {
        random(&mut bytes);
        let fair = bytes.iter().filter(|&&byte| byte < FAIR).take(chars - text.len());
        text.extend(fair.map(|&byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_have_their_length_and_are_not_shown() {
        let (one, two) = (Secret::api_key(os_random), Secret::api_key(os_random));
        assert_eq!(one.reveal().len(), 50);
        assert!(one.reveal().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, two);
        assert!(one.matches(one.reveal()) && !one.matches(two.reveal()) && !one.matches(""));
        assert_eq!(format!("{one:?}"), "Secret(..)");
    }
}
