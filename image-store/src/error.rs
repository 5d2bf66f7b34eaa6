//! The errors of the store's operations. Each message is one line and names the file, digest or
//! entry at fault; the cause is its `source`.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::load::{ImageError, IngestError};
use crate::root::{MergeError, RootKey};
use crate::{Digest, ReferenceError};

/// The store's own folder or files do not work.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A system call on a file of the store failed; a full disk is among these.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "create", "write", "lock" and so on.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A newer program made the store.
    #[error(
        "{} has store format {found}, this vmrun knows up to {known}; use a newer vmrun, or another \
         store (VMRUN_ROOT)", path.display()
    )]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// A file of the store holds something this version cannot read.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// An archive could not be loaded; the store has the images it had.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The archive's images cannot be understood.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// One of its layers cannot be ingested.
    #[error("cannot load layer {layer}")]
    Layer {
        /// The diffID that its config names.
        layer: Digest,
        /// What is wrong.
        source: IngestError,
    },
    /// A stream does not become a layer.
    #[error("cannot make a layer")]
    NewLayer(#[source] IngestError),
    /// Its layers do not make a root disk.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The store itself does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// No image goes by a name.
#[derive(Debug, Error)]
pub enum FindError {
    /// Neither a tag, nor an id, nor the start of one.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The start of more than one id.
    #[error("image id {0} is ambiguous: it is the start of several")]
    Ambiguous(String),
    /// Not a name at all.
    #[error(transparent)]
    Name(ReferenceError),
    /// The store itself does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image could not be removed; it is still there.
#[derive(Debug, Error)]
pub enum RemoveError {
    /// No such image.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Its last name, while a container was made of it and removal was not forced.
    #[error(
        "conflict: unable to remove repository reference {reference:?} (must force) - container \
         {container} is using its referenced image {image}"
    )]
    NameInUse {
        /// The name.
        reference: String,
        /// One of the containers.
        container: String,
        /// The image.
        image: String,
    },
    /// A container was made of it and removal was not forced, or the container runs.
    #[error(
        "conflict: unable to delete {image} ({}) - image is being used by {} container {container}",
        if *.running { "cannot be forced" } else { "must be forced" },
        if *.running { "running" } else { "stopped" }
    )]
    InUse {
        /// The image.
        image: String,
        /// One of the containers.
        container: String,
        /// Whether that one runs.
        running: bool,
    },
    /// Named by id while it has several names.
    #[error(
        "conflict: unable to delete {0} (must be forced) - image is referenced in multiple \
         repositories"
    )]
    SeveralNames(String),
    /// The containers could not be listed.
    #[error("cannot list the containers")]
    Containers(#[source] io::Error),
    /// The store itself does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image could not be given another name.
#[derive(Debug, Error)]
pub enum TagError {
    /// No such image.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The new name has a digest, which is not for the user to choose.
    #[error("refusing to create a tag with a digest reference: {0}")]
    Digest(String),
}

/// Images could not be saved; what was written so far is no archive.
#[derive(Debug, Error)]
pub enum SaveError {
    /// No such image.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The store itself does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store could not be checked to the end.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The containers could not be listed.
    #[error("cannot list the containers")]
    Containers(#[source] io::Error),
    /// A root disk could not be made for comparison, though its layers are sound.
    #[error(transparent)]
    Root(LoadError),
    /// The store itself does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A root disk could not be opened.
#[derive(Debug, Error)]
pub enum RootError {
    /// Not in the store.
    #[error("no root disk {0} in the store")]
    NotFound(RootKey),
    /// The store itself does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}
