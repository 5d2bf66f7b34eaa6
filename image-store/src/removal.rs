//! Taking names from images and removing images, by Docker's rules of what needs to be forced.

use std::collections::HashSet;
use std::io;

use crate::catalog::{Catalog, Record};
use crate::collect::collect;
use crate::paths::{Ingest, Lock, Paths};
use crate::{
    Digest, ImageSummary, InUse, Pruned, Reference, Removal, RemoveError, StoreError, digest,
};

/// Removes a name, and the image with its last one.
pub(crate) fn remove(
    paths: &Paths,
    name: &str,
    force: bool,
    containers: &dyn Fn() -> io::Result<Vec<InUse>>,
) -> Result<Vec<Removal>, RemoveError> {
    let mut change = Change::begin(paths, containers)?;
    let (record, reference) = change.catalog.find(name)?;
    let (id, users) = (record.id, Users::of(record, &change.containers));
    let gone = match &reference {
        Some(reference) => {
            users.allow_untagging(record, reference, force)?;
            of_reference(record, reference)
        }
        None => {
            users.allow_deletion(record, force)?;
            record.names.iter().chain(&record.digests).cloned().collect()
        }
    };
    let nameless = record.names.len() + record.digests.len() == gone.len();
    let mut removals = change.untag(id.0, &gone);
    // A name may be taken from an image that a container runs, which then stays without one.
    if nameless && (reference.is_none() || users.running.is_none()) {
        removals.extend(change.delete(id.0));
    }
    change.commit(paths)?;
    Ok(removals)
}

/// Removes every image that no container was made of and that is wanted.
pub(crate) fn prune(
    paths: &Paths,
    unwanted: &dyn Fn(&ImageSummary) -> bool,
    containers: &dyn Fn() -> io::Result<Vec<InUse>>,
) -> Result<Pruned, RemoveError> {
    let mut change = Change::begin(paths, containers)?;
    let used: HashSet<Digest> = change.containers.iter().map(|user| user.image.0).collect();
    let records: Vec<Record> = change.catalog.images.clone();
    let mut removals = Vec::new();
    for record in records {
        let id = record.id.0;
        let names: Vec<Reference> = record.names.iter().chain(&record.digests).cloned().collect();
        if !used.contains(&id) && unwanted(&ImageSummary::from(record)) {
            removals.extend(change.untag(id, &names));
            removals.extend(change.delete(id));
        }
    }
    let freed = change.commit(paths)?;
    Ok(Pruned { removals, freed })
}

/// A change of the catalog that takes something away.
struct Change {
    /// `None` while a load is going on: what it may use is left alone.
    collecting: Option<Lock>,
    ingest: Ingest,
    lock: Lock,
    catalog: Catalog,
    containers: Vec<InUse>,
}

impl Change {
    /// Takes the locks, in their order.
    fn begin(
        paths: &Paths,
        containers: &dyn Fn() -> io::Result<Vec<InUse>>,
    ) -> Result<Self, RemoveError> {
        let collecting = Lock::try_exclusive(&paths.content_lock())?;
        let ingest = Ingest::create(paths)?;
        let lock = Lock::exclusive(&paths.catalog_lock())?;
        let catalog = Catalog::read(paths)?;
        let containers = containers().map_err(RemoveError::Containers)?;
        Ok(Self { collecting, ingest, lock, catalog, containers })
    }

    fn untag(&mut self, id: Digest, gone: &[Reference]) -> Vec<Removal> {
        for record in self.catalog.images.iter_mut().filter(|record| record.id.0 == id) {
            record.names.retain(|name| !gone.contains(name));
            record.digests.retain(|name| !gone.contains(name));
        }
        gone.iter().map(|name| Removal::Untagged(name.familiar())).collect()
    }

    /// Removes an image; its id, and the chain ids of the layers that go with it, topmost first.
    fn delete(&mut self, id: Digest) -> Vec<Removal> {
        let Some(at) = self.catalog.images.iter().position(|record| record.id.0 == id) else {
            return Vec::new();
        };
        let record = self.catalog.images.swap_remove(at);
        let mut deleted = vec![Removal::Deleted(id)];
        if self.containers.iter().all(|container| container.root != record.root) {
            let diff_ids = diff_ids(&record);
            let shared = |other: &Record| {
                let other = other.layers.iter().map(|layer| layer.diff_id);
                other.zip(&diff_ids).take_while(|(a, b)| a == *b).count()
            };
            let kept = self.catalog.images.iter().map(shared).max().unwrap_or(0);
            let chain = digest::chain_ids(&diff_ids);
            deleted.extend(chain.into_iter().skip(kept).rev().map(Removal::Deleted));
        }
        deleted
    }

    /// Makes it so; the bytes on disk that this freed.
    fn commit(self, paths: &Paths) -> Result<u64, StoreError> {
        self.catalog.clone().write(paths, &self.ingest, &self.lock)?;
        match &self.collecting {
            Some(content) => collect(paths, &self.ingest, &self.catalog, &self.containers, content),
            None => Ok(0),
        }
    }
}

fn diff_ids(record: &Record) -> Vec<Digest> {
    record.layers.iter().map(|layer| layer.diff_id).collect()
}

/// What goes when a name is removed: by a digest, all names in that repository; by a tag, that
/// one, and with the last tag of a repository what its registry called the image.
fn of_reference(record: &Record, reference: &Reference) -> Vec<Reference> {
    let repository = reference.repository();
    let in_it = |name: &&Reference| name.repository() == repository;
    let tags: Vec<Reference> = match reference.digest() {
        Some(_) => record.names.iter().filter(in_it).cloned().collect(),
        None => vec![reference.clone()],
    };
    let left = record.names.iter().filter(in_it).any(|name| !tags.contains(name));
    let digests = record.digests.iter().filter(in_it).filter(|_| !left).cloned();
    tags.into_iter().chain(digests).collect()
}

/// The containers that were made of an image.
struct Users {
    running: Option<InUse>,
    stopped: Option<InUse>,
}

impl Users {
    fn of(record: &Record, containers: &[InUse]) -> Self {
        let find = |running| {
            let mut users = containers.iter().filter(|user| user.image == record.id);
            users.find(|user| user.running == running).cloned()
        };
        Self { running: find(true), stopped: find(false) }
    }

    /// The last name of an image with containers is not taken away by accident.
    fn allow_untagging(
        &self,
        record: &Record,
        reference: &Reference,
        force: bool,
    ) -> Result<(), RemoveError> {
        let user = self.running.as_ref().or(self.stopped.as_ref());
        match user {
            Some(user) if !force && is_single(record) => Err(RemoveError::NameInUse {
                reference: reference.familiar(),
                container: user.container.clone(),
                image: record.id.short(),
            }),
            _ => Ok(()),
        }
    }

    fn allow_deletion(&self, record: &Record, force: bool) -> Result<(), RemoveError> {
        let in_use = |user: &InUse| RemoveError::InUse {
            image: record.id.short(),
            container: user.container.clone(),
            running: user.running,
        };
        match (&self.running, &self.stopped) {
            (Some(user), _) => Err(in_use(user)),
            _ if !force && !is_single(record) => Err(RemoveError::SeveralNames(record.id.short())),
            (None, Some(user)) if !force => Err(in_use(user)),
            _ => Ok(()),
        }
    }
}

/// Whether an image has no more than one tag, and no name in another repository.
fn is_single(record: &Record) -> bool {
    let repositories: HashSet<String> =
        record.names.iter().chain(&record.digests).map(Reference::repository).collect();
    record.names.len() <= 1 && repositories.len() <= 1
}
