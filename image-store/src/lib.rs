//! OCI images as a content store, and root disks made of them.
//!
//! An image comes in as an archive ([`Store::load`]); its layers are streamed once each into a
//! *layer blob* (the data of its files, 4 KiB-aligned) and an index of its entries; the indexes of
//! an image's layers are merged into one small EROFS metadata file whose inodes point straight
//! into the blobs. What a VM gets ([`Store::open_root`]) is a list of extents, metadata first, to be
//! served as one read-only block device. Nothing of an image is ever extracted into a directory of
//! the host, and this crate knows nothing of VMs or containers.
//!
//! # On disk
//!
//! ```text
//! images.json                  the images and their names; format version inside
//! images.lock                  flock: guards images.json for as long as it takes to rewrite it
//! content.lock                 flock: shared by every load, exclusive for collecting garbage
//! blobs/sha256/<digest>        manifests, configs and layers exactly as they came
//! layers/<diffID>/blob         data of the layer's files, each starting at a multiple of 4 KiB
//! layers/<diffID>/index        the layer's entries in tar order (see `layer::index`)
//! layers/<diffID>/from-<digest>  empty: that blob is known to decompress to this layer
//! roots/<key>/metadata.erofs   the merged tree; its data addresses reach beyond its own end
//! roots/<key>/disk.json        which layer blobs follow the metadata, and how long each is
//! ingest/<random>/             what a load writes before it is verified; swept when its lock is free
//! ingest/<diffID>.lock         flock: a layer (or a root) is made once, others wait and reuse it
//! ```
//!
//! # Rules
//!
//! - Ingest, verify, fsync the file, rename into place: whatever has its final name is complete and
//!   was verified against both its compressed digest and its diffID. The folders are fsynced before
//!   `images.json` names what is in them, which is then in them after a power cut too.
//! - Content is immutable and named by its hash, so two loads that publish the same thing publish
//!   the same bytes. `images.json` alone is rewritten, under `images.lock`.
//! - Locks are taken in the order content, layer, images; they are `flock`s, so a killed process
//!   leaves none behind. [`Store`] may be shared by threads and the folder by processes.

#![forbid(unsafe_code)]

mod archive;
mod catalog;
mod check;
mod collect;
mod compression;
mod config;
mod digest;
mod erofs;
mod error;
mod files;
mod layer;
mod limits;
mod load;
mod outgoing;
mod paths;
mod platform;
mod progress;
mod reference;
mod remote;
mod removal;
mod root;
mod save;
mod source;
mod store;
#[cfg(test)]
mod testing;
mod tree;
mod usage;

use tar_stream as tar;

pub use archive::ArchiveError;
pub use check::{Checked, Damage, Outcome};
pub use compression::{CompressionError, decompress};
pub use config::{Empty, ImageConfig};
pub use digest::{Digest, DigestError, ImageId};
pub use erofs::ErofsError;
pub use error::{
    CheckError, FindError, LoadError, RemoveError, RootError, SaveError, StoreError, TagError,
};
pub use layer::{LayerError, PathError};
pub use load::{CommitRequest, ImageError, IngestError, PullRequest, PulledImage};
pub use outgoing::{Outgoing, OutgoingBlob};
pub use platform::{Platform, PlatformError};
pub use progress::{NoProgress, Progress};
pub use reference::{Reference, ReferenceError};
pub use remote::{Remote, RemoteError};
pub use root::{MergeError, RootDisk, RootExtent, RootKey};
pub use source::Source;
pub use store::{
    Image, ImageDetails, ImageSummary, InUse, LayerDetails, Lease, LoadedImage, Pruned, Removal,
    Store,
};
pub use tar::TarError;
pub use tree::TreeError;
pub use usage::{ImageUsage, Usage};
