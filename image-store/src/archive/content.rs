//! A file of an archive, and reading it once.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::compression::Compressed;
use crate::files::io_error;
use crate::{Digest, StoreError};

/// Bytes read at once.
const BUFFER: usize = 128 << 10;
/// Bytes between two calls of the progress function, of a file and of a stream.
const FILE_STEP: u64 = 8 << 20;
const STREAM_STEP: u64 = 512 << 10;
/// First bytes that tell what a stream is.
const HEAD: usize = 16;

/// The bytes of a file of an archive.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    file: Arc<File>,
    offset: u64,
    length: u64,
    spooled: Option<Spooled>,
}

/// A file that was spooled into the ingest folder of this load.
#[derive(Clone, Debug)]
pub(crate) struct Spooled {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
}

impl Content {
    pub(super) fn whole(file: File, length: u64) -> Self {
        Self::part(Arc::new(file), 0, length)
    }

    pub(super) fn part(file: Arc<File>, offset: u64, length: u64) -> Self {
        Self { file, offset, length, spooled: None }
    }

    pub(crate) fn spooled(file: File, length: u64, spooled: Spooled) -> Self {
        Self { spooled: Some(spooled), ..Self::whole(file, length) }
    }

    /// A blob of the store.
    pub(crate) fn of_file(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let length = file.metadata().map_err(io_error("read", path))?.len();
        Ok(Self::whole(file, length))
    }

    /// Bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Where it was spooled to, if it was.
    pub(crate) fn spool(&self) -> Option<&Spooled> {
        self.spooled.as_ref()
    }

    /// The file it is read from, to make it durable.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether it is all of the file it is read from.
    pub(crate) fn is_whole_file(&self) -> bool {
        self.offset == 0 && self.file.metadata().is_ok_and(|file| file.len() == self.length)
    }

    /// What tells it from other content of the same archive.
    pub(crate) fn place(&self) -> (usize, u64) {
        (Arc::as_ptr(&self.file).addr(), self.offset)
    }

    /// The first bytes, up to 16.
    pub(crate) fn head(&self) -> io::Result<Vec<u8>> {
        self.read_start(HEAD as u64)
    }

    /// All of it, or its first `limit` bytes.
    pub(crate) fn read_start(&self, limit: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.length.min(limit)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.offset)?;
        Ok(bytes)
    }
}

/// Reads content from its start to its end, hashing it and keeping a copy on the way.
pub(crate) struct Intake<'a> {
    feed: Feed<'a>,
    length: u64,
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    /// Bytes that came.
    read: u64,
    hasher: Option<Sha256>,
    copy: Option<(File, PathBuf)>,
    progress: &'a dyn Fn(u64),
    told: u64,
}

/// What an intake reads from.
enum Feed<'a> {
    Content(&'a Content),
    Stream(Box<dyn Read + 'a>),
}

impl Feed<'_> {
    /// Reads some of what begins at `at`; of a stream that is where it is.
    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Content(content) => content.file.read_at(bytes, content.offset + at),
            Self::Stream(stream) => loop {
                match stream.read(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return result,
                }
            },
        }
    }
}

impl<'a> Intake<'a> {
    /// Reads a stream that has to have `length` bytes.
    pub(crate) fn of_stream(
        stream: Box<dyn Read + 'a>,
        length: u64,
        copy: (File, PathBuf),
        progress: &'a dyn Fn(u64),
    ) -> Self {
        Self::of_feed(Feed::Stream(stream), length, Some(Sha256::new()), Some(copy), progress)
    }

    /// Content that was spooled was hashed then and is not again.
    pub(crate) fn new(
        content: &'a Content,
        copy: Option<(File, PathBuf)>,
        progress: &'a dyn Fn(u64),
    ) -> Self {
        let hasher = content.spooled.is_none().then(Sha256::new);
        Self::of_feed(Feed::Content(content), content.length, hasher, copy, progress)
    }

    fn of_feed(
        feed: Feed<'a>,
        length: u64,
        hasher: Option<Sha256>,
        copy: Option<(File, PathBuf)>,
        progress: &'a dyn Fn(u64),
    ) -> Self {
        Self {
            feed,
            length,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            from: 0,
            to: 0,
            read: 0,
            hasher,
            copy,
            progress,
            told: 0,
        }
    }

    /// The digest of what was read, which must be all, and the copy.
    pub(crate) fn finish(self) -> (Option<Digest>, Option<File>) {
        let digest = match (self.hasher, self.feed) {
            (Some(hasher), _) => Some(Digest::from(<[u8; 32]>::from(hasher.finalize()))),
            (None, Feed::Content(content)) => content.spool().map(|spooled| spooled.digest),
            (None, Feed::Stream(_)) => None,
        };
        (digest, self.copy.map(|(file, _)| file))
    }

    fn refill(&mut self) -> io::Result<()> {
        let left = self.length - self.read;
        let want = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        let mut count = 0;
        // A stream's first bytes may come one by one, but tell what it is only together.
        while count < want.min(HEAD) {
            let bytes = self.buffer.get_mut(count..want).unwrap_or_default();
            match self.feed.read(self.read + count as u64, bytes)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => count += more,
            }
        }
        let bytes = self.buffer.get(..count).unwrap_or_default();
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        if let Some((file, path)) = &mut self.copy {
            let written = file.write_all(bytes).map_err(io_error("write", path));
            written.map_err(io::Error::other)?;
        }
        self.read += count as u64;
        (self.from, self.to) = (0, count);
        let step = match self.feed {
            Feed::Content(_) => FILE_STEP,
            Feed::Stream(_) => STREAM_STEP,
        };
        if self.read - self.told >= step {
            self.told = self.read;
            (self.progress)(self.read);
        }
        Ok(())
    }
}

impl Read for Intake<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Intake<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.from == self.to && self.read < self.length {
            self.refill()?;
        }
        Ok(self.buffer.get(self.from..self.to).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.from = self.from.saturating_add(amount).min(self.to);
    }
}

impl Compressed for Intake<'_> {
    fn taken(&self) -> u64 {
        self.read
    }

    fn length(&self) -> Option<u64> {
        Some(self.length)
    }
}
