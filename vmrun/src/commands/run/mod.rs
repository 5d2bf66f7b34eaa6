//! `vmrun run` and `vmrun create`: a new container from an image, and its first start.

mod compose;
pub mod env;
pub mod settings;

use std::{
    fs,
    io::{self, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, bail};
use image_store::{FindError, Image, ImageConfig, Lease};
use jiff::Timestamp;

use super::{Host, check_platform, doctor, print, pull, reference, refuse};
use crate::{
    cli::{ContainerArgs, CreateArgs, PullPolicy, RunArgs},
    client::{self, Attachment, ForwardedSignals, Left},
    container::{Attached, Container, ContainerId, ImageUse, Record, Resources, RestartPolicy},
    error::{RUN_FAILED, failure},
    events::{self, Event},
    logs::LogConfig,
    size::ByteSize,
};

/// Memory where none is given, in MiB: enough for PostgreSQL and large builds. It is a bound: the
/// host gives what the guest touches.
const DEFAULT_MEMORY_MIB: u64 = 2048;

/// Microseconds of a period of `--cpu-quota`.
const DEFAULT_PERIOD: i64 = 100_000;

/// vCPUs where none are given, if the host has as many.
const DEFAULT_VCPUS: u8 = 4;

pub fn run(args: RunArgs) -> Result<u8> {
    let host = Host::open()?;
    let of = &args.container;
    if of.tty && of.interactive && !args.detach && !client::stdin_is_terminal() {
        return Err(failure(1, "the input device is not a TTY"));
    }
    if args.detach && !of.attach.is_empty() {
        return Err(failure(1, "Conflicting options: -a and -d"));
    }
    host.paths.guest()?;
    doctor::check_kvm()?;
    let attachment = Attachment {
        stdin: of.interactive,
        terminal: of.tty,
        proxy_signals: args.sig_proxy,
        detach_keys: args.detach_keys,
        owns_output: true,
    };
    let detach = args.detach;
    // From when it is there until its monitor is, a container has nobody else who would remove it.
    let mut signals = None;
    let container = create_container(&host, args.container, !detach, || {
        signals = Some(ForwardedSignals::take()?);
        Ok(())
    })?;
    let started = if detach {
        client::start_detached(&container, signals)
            .and_then(|()| print(&format!("{}\n", container.record.id)))
            .map(|()| Left::Detached)
    } else {
        client::start_attached(&container, &attachment, signals)
    };
    if started.is_err() && container.record.remove_on_exit {
        // The monitor has done it, unless it did not come to be.
        let _ = host.containers.remove(&container);
    }
    started.map(|left| match left {
        Left::Exited(status) => status,
        Left::Detached => 0,
    })
}

pub fn create(args: CreateArgs) -> Result<()> {
    let host = Host::open()?;
    let container = create_container(&host, args.container, true, || Ok(()))?;
    print(&format!("{}\n", container.record.id))
}

/// Makes a container; `attached`: whoever starts it stays with it, and so its stdin ends with
/// theirs. `ready` is called once its image is here, before there is anything of it.
fn create_container(
    host: &Host,
    args: ContainerArgs,
    attached: bool,
    ready: impl FnOnce() -> Result<()>,
) -> Result<Container> {
    refuse(args.without.refused())?;
    refuse(args.trust.refused())?;
    check_platform(args.platform.as_ref())?;
    if args.rm && args.restart != RestartPolicy::No {
        return Err(misused("Conflicting options: --restart and --rm"));
    }
    // Docker takes no name for none.
    let name = args.name.as_deref().filter(|name| !name.is_empty()).map(str::parse).transpose()?;
    let resources = resources(&args)?;
    let guest = settings::guest(&args)?;
    let log = LogConfig::parse(args.log_driver.as_deref(), &args.log_opt)?;
    let cidfile = args.cidfile.as_deref().map(CidFile::create).transpose()?;
    let (_lease, image) = lease_image(host, &args.image(), args.pull)?;
    let id = ContainerId::random();
    let hostname = args.hostname.clone().unwrap_or_else(|| id.short().to_owned());
    let mut command = compose::command(&args, &image.config, &hostname)?;
    let attached = if attached { settings::attached(&args) } else { Attached::default() };
    command.stdin_once = command.stdin && attached.stdin;
    let labels = settings::labels(&args, &image.config.labels)?;
    let config = ImageConfig { labels: labels.clone(), ..compose::config(&args, image.config)? };
    let health = settings::health(&args, &host.images.image_config(&image.id)?)?;
    ready()?;
    let container = host.containers.create(name, |name| Record {
        id,
        name,
        created: Timestamp::now(),
        image: ImageUse { reference: args.image(), id: image.id, root: image.root },
        command,
        config,
        hostname,
        resources,
        remove_on_exit: args.rm,
        labels,
        restart: args.restart,
        stop_timeout: args.stop_timeout,
        health,
        guest,
        log,
        log_options: settings::log_options(&args.log_opt),
        attached,
    })?;
    events::record(&host.paths, Event::of_container(&container.record, "create"));
    if let Some(file) = cidfile {
        file.write(&container.record.id)?;
    }
    Ok(container)
}

/// Options that contradict each other or name what is not there: what Docker's CLI finds out before
/// it asks its daemon, and the exit status for that, also of `create`.
fn misused(message: impl Into<String>) -> anyhow::Error {
    failure(RUN_FAILED, message)
}

/// The file for the container's id, made before there is one, so that it is known to be possible;
/// gone again where nothing came of that.
struct CidFile {
    file: fs::File,
    path: PathBuf,
    is_written: bool,
}

impl CidFile {
    fn create(path: &Path) -> Result<Self> {
        let shown = path.display();
        match fs::File::create_new(path) {
            Ok(file) => Ok(Self { file, path: path.to_owned(), is_written: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
                "container ID file found, make sure the other container isn't running or delete \
                 {shown}"
            ),
            Err(error) => Err(error)
                .with_context(|| format!("failed to create the container ID file {shown}")),
        }
    }

    fn write(mut self, id: &ContainerId) -> Result<()> {
        self.is_written = true;
        let shown = self.path.display();
        self.file
            .write_all(id.as_str().as_bytes())
            .with_context(|| format!("cannot write the container's id to {shown}"))
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Finds the image, pulled first where need be. The lease is for until the container's record names
/// the image.
fn lease_image(host: &Host, name: &str, policy: PullPolicy) -> Result<(Lease, Image)> {
    if policy == PullPolicy::Always {
        pull::pull_for_run(host, &reference(name)?)?;
    }
    if let Some(found) = find_leased(host, name)? {
        return Ok(found);
    }
    let reference = reference(name)?;
    let shown = reference.clone().or_latest().familiar();
    if policy == PullPolicy::Never {
        bail!("No such image: {shown}");
    }
    eprintln!("Unable to find image '{shown}' locally");
    pull::pull_for_run(host, &reference)?;
    let found = find_leased(host, name)?;
    found.with_context(|| format!("image {shown} was removed while it was pulled"))
}

/// An image that is here, and a lease; none is held where it is not: pulls wait for leases.
fn find_leased(host: &Host, name: &str) -> Result<Option<(Lease, Image)>> {
    let lease = host.images.lease()?;
    match host.images.find(name) {
        Ok(image) => Ok(Some((lease, image))),
        Err(FindError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn resources(args: &ContainerArgs) -> Result<Resources> {
    let memory_mib = match args.memory {
        Some(ByteSize(bytes)) => bytes.div_ceil(1 << 20),
        // A host that has less memory than the default lends its guests most of what it has.
        None => {
            host_memory_mib().map_or(DEFAULT_MEMORY_MIB, |has| DEFAULT_MEMORY_MIB.min(has / 4 * 3))
        }
    };
    let least = vmm::MemorySize::MIN_MIB;
    if memory_mib < least {
        bail!("Minimum memory limit allowed is {least}MB");
    }
    vmm::MemorySize::try_from(memory_mib)?;
    if let (Some(ByteSize(memory)), Some(ByteSize(reserved))) =
        (args.memory, args.memory_reservation)
        && memory < reserved
    {
        bail!("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    check_swap(args)?;
    let most = vmm::VcpuCount::MAX;
    let cpus = cpus(args)?;
    let vcpus = match cpus {
        Some(cpus) if cpus > 0.0 && cpus <= f64::from(most) => whole(cpus),
        Some(_) => {
            bail!("Range of CPUs is from 0.01 to {most}.00, as a VM has at most {most} CPUs")
        }
        None => {
            let has = thread::available_parallelism().map_or(1, NonZeroUsize::get);
            u8::try_from(has).unwrap_or(DEFAULT_VCPUS).min(DEFAULT_VCPUS)
        }
    };
    let nano_cpus = cpus.map(billionths);
    let memory_reservation = args.memory_reservation.map_or(0, |ByteSize(bytes)| bytes);
    let disk = args.storage_opt.last().copied().unwrap_or(args.disk_size);
    Ok(Resources { memory_mib, vcpus, nano_cpus, disk, memory_reservation })
}

/// A guest has no swap, so any limit on it holds that is one.
fn check_swap(args: &ContainerArgs) -> Result<()> {
    match (args.memory, args.memory_swap) {
        (None, Some(swap)) if !matches!(swap, 0 | u64::MAX) => {
            bail!("You should always set the Memory limit when using Memoryswap limit, see usage")
        }
        (Some(ByteSize(memory)), Some(swap)) if (1..memory).contains(&swap) => {
            bail!("Minimum memoryswap limit should be larger than memory limit, see usage")
        }
        _ => {}
    }
    match args.memory_swappiness {
        Some(wrong) if !(-1..=100).contains(&wrong) => {
            Err(misused(format!("invalid value: {wrong}. Valid memory swappiness range is 0-100")))
        }
        _ => Ok(()),
    }
}

/// `--cpus`, or what `--cpu-quota` and `--cpu-period` come to.
fn cpus(args: &ContainerArgs) -> Result<Option<f64>> {
    let given = |value: Option<i64>| value.filter(|&value| value != 0);
    let (period, quota) = (given(args.cpu_period), given(args.cpu_quota));
    let both = |name| format!("Conflicting options: Nano CPUs and CPU {name} cannot both be set");
    match args.cpus {
        Some(_) if period.is_some() => bail!(both("Period")),
        Some(_) if quota.is_some() => bail!(both("Quota")),
        Some(cpus) => return Ok(Some(cpus)),
        None => {}
    }
    let period = period.unwrap_or(DEFAULT_PERIOD);
    if !(1_000..=1_000_000).contains(&period) {
        bail!(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        );
    }
    match quota {
        // There is no limit.
        None | Some(..0) => Ok(None),
        Some(..1_000) => bail!("CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        Some(quota) => Ok(Some(quota as f64 / period as f64)),
    }
}

/// A checked number of CPUs in billionths of one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "more than 0 and at most 8 CPUs"
)]
fn billionths(cpus: f64) -> u64 {
    (cpus * 1e9).round() as u64
}

/// The next whole number of CPUs.
fn whole(cpus: f64) -> u8 {
    (1..vmm::VcpuCount::MAX).find(|&count| f64::from(count) >= cpus).unwrap_or(vmm::VcpuCount::MAX)
}

fn host_memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib >> 10)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Action, Cli};

    fn resources_of(line: &str) -> Result<Resources, String> {
        let words = ["vmrun", "run"].into_iter().chain(line.split_whitespace()).chain(["image"]);
        let Action::Run(args) = Cli::try_parse_from(words).unwrap().action else { unreachable!() };
        resources(&args.container).map_err(|error| error.to_string())
    }

    #[test]
    fn quotas_of_cpus_are_cpus() {
        let cpus = |line| resources_of(line).map(|found| (found.vcpus, found.nano_cpus));
        assert_eq!(cpus("--cpu-quota 50000"), Ok((1, Some(500_000_000))));
        assert_eq!(cpus("--cpu-quota 150000 --cpu-period 50000"), Ok((3, Some(3_000_000_000))));
        assert_eq!(cpus("--cpu-quota -1").unwrap().1, None);
        assert_eq!(cpus("--cpu-period 50000").unwrap().1, None);
        for (line, words) in [
            ("--cpus 1 --cpu-quota 5000", "Nano CPUs and CPU Quota cannot both be set"),
            ("--cpus 1 --cpu-period 5000", "Nano CPUs and CPU Period cannot both be set"),
            ("--cpu-quota 10", "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
            ("--cpu-quota 5000 --cpu-period 10", "or larger than 1s (i.e. 1000000)"),
            ("--cpu-quota 900000", "as a VM has at most 8 CPUs"),
        ] {
            assert!(cpus(line).unwrap_err().ends_with(words), "{line}");
        }
    }

    #[test]
    fn swap_is_limited_where_there_is_none() {
        for line in ["-m 1g --memory-swap 2g", "-m 1g --memory-swap 1g", "--memory-swap -1"] {
            assert!(resources_of(line).is_ok(), "{line}");
        }
        for line in ["-m 1g --memory-swap 512m", "--memory-swap 1g", "--memory-swappiness 101"] {
            assert!(resources_of(line).is_err(), "{line}");
        }
    }

    #[test]
    fn size_of_the_disk_is_a_storage_option_too() {
        assert_eq!(resources_of("--storage-opt size=1g").unwrap().disk.bytes(), 1 << 30);
    }

    #[test]
    fn file_for_the_id_is_gone_again_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        drop(CidFile::create(&path).unwrap());
        let id = ContainerId::random();
        CidFile::create(&path).unwrap().write(&id).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), id.as_str());
        assert!(CidFile::create(&path).is_err() && path.exists());
    }

    #[test]
    fn parts_of_a_cpu_are_rounded_up() {
        for (cpus, count) in [(0.1, 1), (1.0, 1), (1.5, 2), (7.2, 8), (8.0, 8)] {
            assert_eq!(whole(cpus), count);
        }
    }
}
