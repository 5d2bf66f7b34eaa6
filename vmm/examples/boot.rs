//! Boots a kernel and an initramfs, without an agent, and says how the guest ended: a runner to try
//! kernels and to count what a start costs.
//!
//! ```text
//! boot VMLINUX INITRAMFS [-m MIB] [-c VCPUS] [-a CMDLINE-WORDS] [-r READ-ONLY-DISK] [-w DISK]
//! ```
//!
//! The guest's serial output goes to standard output. Exit status: 0 when the guest ended the VM
//! itself, 1 otherwise.

mod support;

use std::fs::{File, OpenOptions};
use std::process::ExitCode;
use std::sync::Arc;

use support::{Fault, bare_config, build, chain};
use vmm::devices::virtio::block::{Extent, FlushPolicy};
use vmm::{DiskConfig, MemorySize, VcpuCount, VmExit};

fn main() -> ExitCode {
    match run() {
        Ok(exit) => {
            eprintln!("boot: {exit}");
            if exit.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(fault) => {
            eprintln!("boot: {}", chain(&*fault));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<VmExit, Fault> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or_else(|| format!("{what} is missing"));
    let kernel = File::open(next("VMLINUX")?)?;
    let initramfs = File::open(next("INITRAMFS")?)?;
    let serial = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?;
    let mut config = bare_config(kernel, initramfs, serial)?;
    while let Ok(option) = next("option") {
        let value = next("value of the option")?;
        match option.as_str() {
            "-m" => config.memory = MemorySize::try_from(value.parse::<u64>()?)?,
            "-c" => config.vcpus = VcpuCount::try_from(value.parse::<u8>()?)?,
            "-a" => config.cmdline = value,
            "-r" => config.disks.push(read_only(&value)?),
            "-w" => config.disks.push(writable(&value)?),
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let vm = build(config)?.lock()?;
    eprintln!("boot: locked in, {}, {} threads", vm.report().landlock, vm.report().threads);
    Ok(vm.run())
}

fn read_only(path: &str) -> Result<DiskConfig, Fault> {
    let file = Arc::new(File::open(path)?);
    let size = file.metadata()?.len();
    let extents = vec![Extent { start: 0, length: size, file, offset: 0 }];
    Ok(DiskConfig::ReadOnly { extents, size })
}

fn writable(path: &str) -> Result<DiskConfig, Fault> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    Ok(DiskConfig::Writable { file, size, flush: FlushPolicy::Durable })
}
