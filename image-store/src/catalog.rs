//! `images.json`: the images of a store and their names. The one file that is rewritten.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::files::{io_error, publish, write_new};
use crate::paths::{Ingest, Lock, Paths};
use crate::{Digest, FindError, ImageId, Reference, RootKey, StoreError};

/// The format of the whole store. Raised when the meaning of something old changes.
const VERSION: u32 = 1;

/// All images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalog {
    version: u32,
    pub(crate) images: Vec<Record>,
}

/// What of a catalog can be understood whatever wrote it.
#[derive(Deserialize)]
struct Format {
    version: u32,
}

impl Format {
    fn check(paths: &Paths, text: &[u8]) -> Result<(), StoreError> {
        let Self { version } =
            serde_json::from_slice(text).map_err(|error| damaged(paths, error))?;
        match version {
            VERSION => Ok(()),
            newer if newer > VERSION => {
                Err(StoreError::Version { path: paths.catalog(), found: newer, known: VERSION })
            }
            older => Err(damaged(paths, format!("store format {older}"))),
        }
    }
}

fn damaged(
    paths: &Paths,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Damaged { path: paths.catalog(), source: source.into() }
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ImageId,
    /// Digest of its manifest.
    pub(crate) manifest: Digest,
    pub(crate) root: RootKey,
    /// Lowest first.
    pub(crate) layers: Vec<LayerRecord>,
    /// Bytes of its layers' files.
    pub(crate) size: u64,
    /// As its config says.
    pub(crate) created: Option<String>,
    pub(crate) names: BTreeSet<Reference>,
    /// What registries call it, `repository@digest`: of the manifest, or of the index it was in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) digests: BTreeSet<Reference>,
}

/// A layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) diff_id: Digest,
    /// Digest of the layer as it came.
    pub(crate) blob: Digest,
}

impl Catalog {
    /// Refuses a store of a newer format.
    pub(crate) fn check_format(paths: &Paths) -> Result<(), StoreError> {
        match Self::read_text(paths)? {
            Some(text) => Format::check(paths, &text),
            None => Ok(()),
        }
    }

    /// Reads the catalog; an absent one is empty.
    pub(crate) fn read(paths: &Paths) -> Result<Self, StoreError> {
        let Some(text) = Self::read_text(paths)? else { return Ok(Self::default()) };
        match serde_json::from_slice::<Self>(&text) {
            Ok(catalog) if catalog.version == VERSION => Ok(catalog),
            // What a newer format holds need not make sense here.
            other => {
                Format::check(paths, &text)?;
                other.map_err(|error| damaged(paths, error))
            }
        }
    }

    fn read_text(paths: &Paths) -> Result<Option<Vec<u8>>, StoreError> {
        let path = paths.catalog();
        match fs::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Writes the catalog durably; the lock is the proof that nobody else does.
    pub(crate) fn write(
        mut self,
        paths: &Paths,
        ingest: &Ingest,
        _lock: &Lock,
    ) -> Result<(), StoreError> {
        self.version = VERSION;
        self.images.sort_by_key(|record| record.id);
        let path = paths.catalog();
        let text = serde_json::to_vec_pretty(&self)
            .map_err(|error| io_error("write", &path)(error.into()))?;
        let new = ingest.path().join("images.json");
        write_new(&new, &text)?;
        publish(&new, &path)?;
        paths.sync_root()
    }

    /// Adds an image, or brings an old record up to date; its names move here from other images.
    pub(crate) fn add(&mut self, mut record: Record) {
        for other in &mut self.images {
            other.names.retain(|name| !record.names.contains(name));
        }
        if let Some(old) = self.images.iter_mut().find(|old| old.id == record.id) {
            record.names.append(&mut old.names);
            record.digests.append(&mut old.digests);
            *old = record;
        } else {
            self.images.push(record);
        }
    }

    /// Gives an image a name, which no other has any more.
    pub(crate) fn tag(&mut self, id: ImageId, name: &Reference) {
        for record in &mut self.images {
            record.names.remove(name);
            if record.id == id {
                record.names.insert(name.clone());
            }
        }
    }

    /// The image that a name means, and the reference if it is found by one.
    pub(crate) fn find(&self, name: &str) -> Result<(&Record, Option<Reference>), FindError> {
        let id = name.strip_prefix("sha256:").unwrap_or(name);
        if let Ok(digest) = Digest::from_hex(id) {
            let found = self.images.iter().find(|record| record.id.0 == digest);
            return found.map(|record| (record, None)).ok_or_else(|| not_found(name));
        }
        let parsed = name.parse::<Reference>().map(Reference::or_latest);
        if let Ok(reference) = &parsed
            && let Some(record) = self.find_reference(reference)
        {
            return Ok((record, Some(reference.clone())));
        }
        let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if !id.is_empty() && id.chars().all(is_hex) {
            let mut found = self.images.iter().filter(|record| record.id.0.hex().starts_with(id));
            match (found.next(), found.next()) {
                (Some(record), None) => return Ok((record, None)),
                (Some(_), Some(_)) => return Err(FindError::Ambiguous(name.to_owned())),
                (None, _) => {}
            }
        }
        match parsed {
            Ok(_) => Err(not_found(name)),
            Err(source) => Err(FindError::Name(source)),
        }
    }

    /// A digest outweighs a tag, as in Docker.
    fn find_reference(&self, reference: &Reference) -> Option<&Record> {
        self.images.iter().find(|record| match reference.digest() {
            Some(digest) => {
                let repository = reference.repository();
                let same = |name: &Reference| name.repository() == repository;
                record.digests.iter().any(|known| same(known) && known.digest() == Some(digest))
                    || record.manifest == *digest && record.names.iter().any(same)
            }
            None => record.names.contains(reference),
        })
    }
}

fn not_found(name: &str) -> FindError {
    FindError::NotFound(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: &str, names: &[&str]) -> Record {
        let digest = Digest::of(content.as_bytes());
        Record {
            id: ImageId(digest),
            manifest: Digest::of(&[content.as_bytes(), b"manifest"].concat()),
            root: RootKey(digest),
            layers: Vec::new(),
            size: 0,
            created: None,
            names: names.iter().map(|name| name.parse::<Reference>().unwrap()).collect(),
            digests: BTreeSet::new(),
        }
    }

    fn id_of(catalog: &Catalog, name: &str) -> Option<ImageId> {
        catalog.find(name).ok().map(|(record, _)| record.id)
    }

    #[test]
    fn images_are_found_by_tag_id_prefix_and_digest() {
        let mut catalog = Catalog::default();
        let one = record("one", &["alpine:latest", "me/tool:1"]);
        catalog.add(one.clone());
        catalog.add(record("two", &[]));
        let hex = one.id.0.hex();
        let by_digest = format!("alpine@{}", one.manifest);
        for name in ["alpine", "me/tool:1", &hex, &one.id.to_string(), &hex[..4], &by_digest] {
            assert_eq!(id_of(&catalog, name), Some(one.id), "{name}");
        }
        for name in ["me/tool", "other", &format!("other@{}", one.manifest), &"0".repeat(64)] {
            assert!(matches!(catalog.find(name), Err(FindError::NotFound(_))), "{name}");
        }
        assert!(matches!(catalog.find("Wrong"), Err(FindError::Name { .. })));
    }

    #[test]
    fn an_image_is_found_by_what_a_registry_called_it_without_having_a_tag() {
        let mut catalog = Catalog::default();
        let pulled: Reference = format!("alpine@{}", Digest::of(b"index")).parse().unwrap();
        let digests = BTreeSet::from([pulled.clone()]);
        catalog.add(Record { digests, ..record("one", &[]) });
        catalog.add(record("one", &["me/tool:1"]));
        assert_eq!(id_of(&catalog, &pulled.familiar()), Some(record("one", &[]).id));
        let other = pulled.familiar().replace("alpine", "me/tool");
        assert!(matches!(catalog.find(&other), Err(FindError::NotFound(_))));
    }

    #[test]
    fn the_start_of_two_ids_is_ambiguous() {
        let mut catalog = Catalog::default();
        for number in 0..17 {
            catalog.add(record(&number.to_string(), &[]));
        }
        let shared = "0123456789abcdef".chars().find(|digit| {
            let starts = |r: &&Record| r.id.0.hex().starts_with(*digit);
            catalog.images.iter().filter(starts).count() > 1
        });
        let name = shared.unwrap().to_string();
        assert!(matches!(catalog.find(&name), Err(FindError::Ambiguous(_))));
    }

    #[test]
    fn a_store_of_a_newer_format_is_refused_and_a_damaged_one_called_so() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::create(folder.path()).unwrap();
        let refusal = |text: &str| {
            fs::write(paths.catalog(), text).unwrap();
            Catalog::read(&paths).unwrap_err()
        };
        let newer = refusal(r#"{"version":2,"pictures":{}}"#);
        assert!(matches!(newer, StoreError::Version { found: 2, known: VERSION, .. }));
        for text in ["", "{", r#"{"version":1,"images":7}"#, r#"{"version":0,"images":[]}"#] {
            assert!(matches!(refusal(text), StoreError::Damaged { .. }), "{text}");
        }
    }

    #[test]
    fn a_name_belongs_to_the_image_that_took_it_last() {
        let mut catalog = Catalog::default();
        catalog.add(record("one", &["a:1", "b:1"]));
        catalog.add(record("two", &["a:1"]));
        assert_eq!(id_of(&catalog, "a:1"), Some(record("two", &[]).id));
        assert_eq!(id_of(&catalog, "b:1"), Some(record("one", &[]).id));
        catalog.add(record("two", &["c:1"]));
        assert_eq!(catalog.find("c:1").unwrap().0.names.len(), 2);
    }
}
