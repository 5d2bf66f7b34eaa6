//! One pass over a layer's tar stream.

use std::path::Path;

use super::blob::BlobWriter;
use super::entry::{Entry, EntryKind, show};
use super::index::IndexWriter;
use super::{LayerError, xattr};
use crate::StoreError;
use crate::limits::Limits;
use crate::tar::{DataSink, Input, MemberKind, TarError, TarReader};

/// A layer that was written into a folder but whose tar stream may go on.
#[derive(Debug)]
pub(crate) struct Unpacked {
    index: IndexWriter,
    file_bytes: u64,
    blob_size: u64,
}

impl Unpacked {
    /// Ends the index, once the whole stream was read.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        self.index.finish(self.file_bytes, self.blob_size)
    }
}

/// Reads a tar stream up to its end mark and writes `blob` and `index` into `folder`. What is left
/// of `input` afterwards belongs to the layer's diffID but says nothing.
pub(crate) fn unpack<R: Input>(
    input: R,
    folder: &Path,
    limits: &Limits,
) -> Result<Unpacked, LayerError> {
    let mut reader = TarReader::new(input);
    let mut blob = BlobWriter::create(&folder.join("blob"))?;
    let mut index = IndexWriter::create(&folder.join("index"))?;
    let mut after = Vec::new();
    let mut declared = 0u64;
    loop {
        let tar_error = |source| LayerError::Tar { after: show(&after), source };
        let Some(mut member) = reader.next_member().map_err(tar_error)? else { break };
        if index.entries() >= limits.entries {
            return Err(LayerError::Entries(limits.entries));
        }
        if index.bytes() > limits.index_bytes {
            return Err(LayerError::IndexSize(limits.index_bytes));
        }
        after.clone_from(&member.path);
        xattr::filter(member.kind, &mut member.xattrs);
        let is_file = member.kind == MemberKind::Regular;
        let Some(mut entry) = Entry::from_member(member)? else { continue };
        if let EntryKind::Regular { size, block } = &mut entry.kind
            && is_file
            && *size > 0
        {
            declared = declared.saturating_add(*size);
            if declared > limits.layer_bytes {
                let (entry, limit) = (show(&after), limits.layer_bytes);
                return Err(LayerError::DeclaredSize { entry, limit });
            }
            *block = blob.begin()?;
            let mut sink = BlobSink { blob: &mut blob };
            reader.read_data(&mut sink).map_err(|error| match error {
                SinkError::Tar(source) => LayerError::Tar { after: show(&after), source },
                SinkError::Store(error) => LayerError::Store(error),
            })?;
        }
        index.push(&entry)?;
    }
    Ok(Unpacked { index, file_bytes: declared, blob_size: blob.finish()? })
}

struct BlobSink<'a> {
    blob: &'a mut BlobWriter,
}

enum SinkError {
    Tar(TarError),
    Store(StoreError),
}

impl From<TarError> for SinkError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

impl DataSink for BlobSink<'_> {
    type Error = SinkError;

    fn data(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.blob.data(bytes).map_err(SinkError::Store)
    }

    fn hole(&mut self, length: u64) -> Result<(), SinkError> {
        self.blob.hole(length).map_err(SinkError::Store)
    }
}
