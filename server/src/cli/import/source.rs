//! The bytes of an import, and a name for all of them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::cli::spool;

/// The longest record, in bytes: what a request to the server can carry.
pub(super) const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What readers may hold beyond the record they are at, in bytes.
const READ_AHEAD_BYTES: u64 = 256 * 1024;

/// How much is read at once while hashing, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// A file or a stream.
pub(super) struct Source {
    input: Input,
    /// Over all bytes that a stream has given.
    hasher: blake3::Hasher,
    hash: Option<blake3::Hash>,
    read_bytes: u64,
    /// `read_bytes` when the record that is being read began, or earlier.
    mark_bytes: u64,
    length_bytes: Option<u64>,
}

enum Input {
    /// Can be read again.
    File(File),
    /// Can be read once.
    Stream(Box<dyn Read>),
}

impl Source {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::stream(io::stdin()));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        // A pipe has a name too.
        if !metadata.is_file() {
            return Ok(Self::stream(file));
        }
        Ok(Self::new(Input::File(file), Some(metadata.len())))
    }

    /// Something that can be read only once.
    pub(super) fn stream(input: impl Read + 'static) -> Self {
        Self::new(Input::Stream(Box::new(input)), None)
    }

    fn new(input: Input, length_bytes: Option<u64>) -> Self {
        let hasher = blake3::Hasher::new();
        Self { input, hasher, hash: None, read_bytes: 0, mark_bytes: 0, length_bytes }
    }

    /// How long it is, if that is known.
    pub(super) fn length_bytes(&self) -> Option<u64> {
        self.length_bytes
    }

    /// How much has been read.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// A record has ended: the next one may be as long again.
    pub(super) fn mark(&mut self) {
        self.mark_bytes = self.read_bytes;
    }

    /// The hash of the whole content, also of what has not been read. Reading goes on where it was; what is left of
    /// a stream is set aside in a file for that.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn content_hash(&mut self) -> io::Result<blake3::Hash> {
        if let Some(hash) = self.hash {
            return Ok(hash);
        }
        let hash = match &mut self.input {
            Input::File(file) => {
                let position = file.stream_position()?;
                file.rewind()?;
                let mut hasher = blake3::Hasher::new();
                for_each_chunk(file, |chunk| {
                    hasher.update(chunk);
                    Ok(())
                })?;
                file.seek(SeekFrom::Start(position))?;
                hasher.finalize()
            }
            Input::Stream(stream) => {
                let mut rest = spool::open()?;
                for_each_chunk(stream, |chunk| {
                    self.hasher.update(chunk);
                    io::Write::write_all(&mut rest, chunk)
                })?;
                rest.rewind()?;
                self.input = Input::File(rest);
                self.hasher.finalize()
            }
        };
        self.hash = Some(hash);
        Ok(hash)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read_bytes - self.mark_bytes > RECORD_BYTES_MAX as u64 + READ_AHEAD_BYTES {
            let message =
                format!("a record is longer than {RECORD_BYTES_MAX} bytes: is a quote left open?");
            return Err(io::Error::other(message));
        }
        let count = match &mut self.input {
            Input::File(file) => file.read(buffer)?,
            Input::Stream(stream) => {
                let count = stream.read(buffer)?;
                self.hasher.update(&buffer[..count]);
                count
            }
        };
        self.read_bytes += count as u64;
        Ok(count)
    }
}

fn for_each_chunk(
    reader: &mut impl Read,
    mut on_chunk: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => on_chunk(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn sources(content: &'static [u8]) -> [Source; 2] {
        let mut file = spool::open().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        [Source::new(Input::File(file), None), Source::stream(content)]
    }

    #[test]
    fn the_hash_is_of_the_whole_content_whenever_it_is_asked_for() {
        let content = b"0123456789";
        for read_first in 0..=content.len() {
            for mut source in sources(content) {
                let mut head = vec![0; read_first];
                source.read_exact(&mut head).unwrap();
                assert_eq!(source.content_hash().unwrap(), blake3::hash(content));
                let mut rest = Vec::new();
                source.read_to_end(&mut rest).unwrap();
                assert_eq!([head, rest].concat(), content);
                assert_eq!(source.content_hash().unwrap(), blake3::hash(content));
                assert_eq!(source.read_bytes(), 10);
            }
        }
    }

    #[test]
    fn a_record_without_end_is_stopped() {
        let mut source = Source::stream(io::repeat(b'x'));
        let error = io::copy(&mut source, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("longer than 8388608 bytes"));
        source.mark();
        assert!(source.read(&mut [0]).is_ok());
    }
}
