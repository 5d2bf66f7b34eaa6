//! `vmrun pull`, and what `vmrun run` does when an image is not here.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result, anyhow, bail};
use image_store::{NoProgress, Platform, Progress, PullRequest, PulledImage, Reference};
use registry::{RegistryError, Repository};

use super::{
    Host, print,
    progress::{Bars, Lines},
    reference, refuse,
};
use crate::{cli::PullArgs, events::Event};

pub fn pull(args: &PullArgs) -> Result<()> {
    refuse(args.trust.refused())?;
    let host = Host::open()?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let talk = if args.quiet { Talk::None } else { Talk::Stdout };
    let image = reference(&args.image)?;
    let named = image.tag().is_some() || image.digest().is_some();
    if args.all_tags {
        if named {
            bail!("tag can't be used with --all-tags/-a");
        }
        return pull_all(&host, &image, &platform, talk);
    }
    let reference = image.or_latest();
    if !named {
        talk.say("Using default tag: latest\n");
    }
    let repository = host.registries()?.to_pull(&reference)?;
    fetch(&host, &repository, &reference, &platform, talk)?;
    print(&format!("{reference}\n"))
}

fn pull_all(host: &Host, name: &Reference, platform: &Platform, talk: Talk) -> Result<()> {
    let repository = host.registries()?.to_pull(name)?;
    let tags = repository.tags().map_err(|error| explain(error, name))?;
    if tags.is_empty() {
        bail!("repository {} has no tags", name.familiar_repository());
    }
    for tag in tags {
        let reference = name
            .with_tag(&tag)
            .with_context(|| format!("the registry has a tag {tag:?}, which is none"))?;
        fetch(host, &repository, &reference, platform, talk)?;
    }
    print(&format!("{}\n", name.repository()))
}

/// Pulls the image that a command needs, talking on stderr: stdout is the container's.
pub fn pull_for_run(host: &Host, reference: &Reference) -> Result<()> {
    let reference = reference.clone().or_latest();
    let repository = host.registries()?.to_pull(&reference)?;
    fetch(host, &repository, &reference, &Platform::host(), Talk::Stderr)?;
    Ok(())
}

/// Where a pull tells what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talk {
    Stdout,
    Stderr,
    None,
}

impl Talk {
    fn say(self, text: &str) {
        match self {
            Self::Stdout => drop(print(text)),
            Self::Stderr => drop(io::stderr().write_all(text.as_bytes())),
            Self::None => {}
        }
    }

    fn progress(self) -> Box<dyn Progress> {
        let terminal = io::stderr().is_terminal();
        match self {
            Self::None => Box::new(NoProgress),
            Self::Stdout if terminal && io::stdout().is_terminal() => {
                Box::new(Bars::new("Pull complete"))
            }
            Self::Stdout => Box::new(Lines::new(|text| Self::Stdout.say(text))),
            Self::Stderr if terminal => Box::new(Bars::new("Pull complete")),
            Self::Stderr => Box::new(Lines::new(|text| Self::Stderr.say(text))),
        }
    }
}

fn fetch(
    host: &Host,
    repository: &Repository,
    reference: &Reference,
    platform: &Platform,
    talk: Talk,
) -> Result<PulledImage> {
    let manifest = repository.manifest(reference).map_err(|error| explain(error, reference))?;
    let which = reference.tag().map_or_else(|| reference.to_string(), str::to_owned);
    talk.say(&format!("{which}: Pulling from {}\n", reference.path()));
    let request = PullRequest {
        reference,
        platform,
        manifest: &manifest.bytes,
        media_type: &manifest.media_type,
    };
    let progress = talk.progress();
    let pulled = host.images.pull(&request, repository, &*progress);
    drop(progress);
    let pulled = pulled.with_context(|| format!("cannot pull {}", reference.familiar()))?;
    let status = match pulled.up_to_date {
        true => "Image is up to date",
        false => "Downloaded newer image",
    };
    let name = reference.familiar();
    host.tell(Event::of_image(&name, &reference.familiar_repository(), "pull"));
    talk.say(&format!("Digest: {}\nStatus: {status} for {name}\n", pulled.digest));
    Ok(pulled)
}

/// A registry's refusal in the words that people know from Docker.
fn explain(error: RegistryError, reference: &Reference) -> anyhow::Error {
    let repository = reference.familiar_repository();
    match error {
        RegistryError::Denied { words, .. } => anyhow!(
            "pull access denied for {repository}, repository does not exist or may require \
             'vmrun login': {words}"
        ),
        RegistryError::ManifestUnknown { words } => {
            anyhow!("manifest for {} not found: {words}", reference.familiar())
        }
        RegistryError::NameUnknown { words, .. } => {
            anyhow!("repository {repository} not found: {words}")
        }
        error => error.into(),
    }
}
