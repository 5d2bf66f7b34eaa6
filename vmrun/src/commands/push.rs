//! `vmrun push`

use std::{
    io::{self, IsTerminal},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Result, anyhow, bail};
use image_store::{FindError, Outgoing, OutgoingBlob, Reference};
use registry::{Pushed, RegistryError, Repository, Upload};

use super::{
    Host, print,
    progress::{Bars, short},
    reference, refuse,
};
use crate::{cli::PushArgs, events::Event};

/// Blobs that are sent at once.
const STREAMS: usize = 3;

pub fn push(args: &PushArgs) -> Result<()> {
    refuse(args.trust.refused())?;
    let host = Host::open()?;
    let image = reference(&args.image)?;
    if image.digest().is_some() {
        bail!("cannot push a digest reference");
    }
    let repository = host.registries()?.to_push(&image)?;
    let say = |text: &str| if args.quiet { Ok(()) } else { print(text) };
    let references = match args.all_tags {
        true => tags_here(&host, &image)?,
        false => vec![image.clone().or_latest()],
    };
    if !args.all_tags && image.tag().is_none() {
        say("Using default tag: latest\n")?;
    }
    say(&format!("The push refers to repository [{}]\n", image.repository()))?;
    for reference in &references {
        push_one(&host, &repository, reference, args.quiet)
            .map_err(|error| explain(error, reference))?;
    }
    match (args.quiet, references.as_slice()) {
        (true, [reference]) => print(&format!("{reference}\n")),
        (true, _) => print(&format!("{}\n", image.repository())),
        _ => Ok(()),
    }
}

/// The tags that a repository has in the store.
fn tags_here(host: &Host, name: &Reference) -> Result<Vec<Reference>> {
    if name.tag().is_some() {
        bail!("tag can't be used with --all-tags/-a");
    }
    let images = host.images.images()?;
    let names = images.into_iter().flat_map(|image| image.names);
    let mut tags: Vec<_> = names.filter(|tag| tag.repository() == name.repository()).collect();
    tags.sort();
    match tags.is_empty() {
        true => Err(not_here(name)),
        false => Ok(tags),
    }
}

fn not_here(name: &Reference) -> anyhow::Error {
    anyhow!("an image does not exist locally with the tag: {}", name.familiar())
}

fn push_one(host: &Host, repository: &Repository, name: &Reference, quiet: bool) -> Result<()> {
    let outgoing = match host.images.outgoing(&name.to_string()) {
        Err(FindError::NotFound(_)) => return Err(not_here(name)),
        found => found?,
    };
    // Config last: it is small, and its presence says that the layers are there.
    let Some((config, layers)) = outgoing.blobs.split_last() else {
        bail!("{} has no content", name.familiar());
    };
    let bars = (!quiet && io::stdout().is_terminal() && io::stderr().is_terminal())
        .then(|| Bars::new("Pushed"));
    let work = Work { repository, outgoing: &outgoing, name, bars: bars.as_ref(), quiet };
    work.push_all(layers)?;
    work.push_blob(config, &|_| {})?;
    let tag = name.tag().unwrap_or("latest");
    let (manifest, media_type) = (&outgoing.manifest, &outgoing.media_type);
    let digest = repository.push_manifest(tag, media_type, manifest)?;
    host.images.note_digest(&outgoing.id, &name.with_digest(digest))?;
    host.tell(Event::of_image(&name.familiar(), &name.familiar_repository(), "push"));
    match quiet {
        true => Ok(()),
        false => print(&format!("{tag}: digest: {digest} size: {}\n", manifest.len())),
    }
}

/// What the threads of a push share.
struct Work<'a> {
    repository: &'a Repository,
    outgoing: &'a Outgoing,
    name: &'a Reference,
    bars: Option<&'a Bars>,
    quiet: bool,
}

impl Work<'_> {
    /// Pushes layers, a few at once; the first error is given.
    fn push_all(&self, layers: &[OutgoingBlob]) -> Result<()> {
        for layer in layers {
            self.tell(layer, "Preparing");
        }
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let error = Mutex::new(None);
        let work = || {
            while !failed.load(Ordering::Relaxed) {
                let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                if let Err(new) = self.push_layer(layer) {
                    error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(new);
                    failed.store(true, Ordering::Relaxed);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..STREAMS.min(layers.len()) {
                scope.spawn(work);
            }
            work();
        });
        error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn push_layer(&self, layer: &OutgoingBlob) -> Result<()> {
        let progress = |sent: u64| {
            if let Some(bars) = self.bars {
                // Full only when the registry has confirmed it.
                bars.set(&layer.digest, sent.min(layer.size.saturating_sub(1)), layer.size, "");
            }
        };
        let pushed = self.push_blob(layer, &progress)?;
        let word = match &pushed {
            Pushed::Existed => "Layer already exists",
            Pushed::Mounted(_) => "Mounted",
            Pushed::Sent => "Pushed",
        };
        if let Some(bars) = self.bars {
            bars.set(&layer.digest, layer.size, layer.size, word);
        }
        match &pushed {
            Pushed::Mounted(from) => self.tell(layer, &format!("{word} from {from}")),
            _ => self.tell(layer, word),
        }
        Ok(())
    }

    fn push_blob(&self, blob: &OutgoingBlob, progress: &dyn Fn(u64)) -> Result<Pushed> {
        let open = || {
            let file = self.outgoing.open(&blob.digest).map_err(io::Error::other)?;
            Ok(Box::new(file) as Box<dyn io::Read>)
        };
        Ok(self.repository.push(&Upload {
            digest: blob.digest,
            size: blob.size,
            open: &open,
            mount: self.mount(),
            progress,
        })?)
    }

    /// Another repository of the same registry that has had this image.
    fn mount(&self) -> Option<&str> {
        let known = self.outgoing.digests.iter();
        let mut of_registry = known.filter(|known| known.domain() == self.name.domain());
        of_registry.find(|known| known.path() != self.name.path()).map(Reference::path)
    }

    fn tell(&self, layer: &OutgoingBlob, word: &str) {
        if !self.quiet && self.bars.is_none() {
            let _ = print(&format!("{}: {word}\n", short(&layer.digest)));
        }
    }
}

/// A registry's refusal in the words that people know from Docker.
fn explain(error: anyhow::Error, name: &Reference) -> anyhow::Error {
    match error.downcast_ref() {
        Some(RegistryError::Denied { words, .. }) => anyhow!(
            "push access denied for {}, repository does not exist or may require 'vmrun login': \
             {words}",
            name.familiar_repository()
        ),
        _ => error,
    }
}
