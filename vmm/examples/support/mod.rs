//! What the example programs share: a VM's configuration with nothing attached.

use std::error::Error;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use vmm::devices::virtio::block::HostEvents;
use vmm::devices::virtio::vsock::{Cid, VsockConfig};
use vmm::{MemorySize, VcpuCount, Vm, VmConfig, probe};

/// Any error, for `main`.
pub(crate) type Fault = Box<dyn Error>;

/// One vCPU, 64 MiB, no disks, and a vsock that nobody can reach.
pub(crate) fn bare_config(
    kernel: File,
    initramfs: File,
    serial: OwnedFd,
) -> Result<VmConfig, Fault> {
    let socket = std::env::temp_dir().join(format!("vmm-example-{}", std::process::id()));
    let listener = UnixListener::bind(&socket)?;
    std::fs::remove_file(&socket)?;
    Ok(VmConfig {
        vcpus: VcpuCount::try_from(1)?,
        cpu_quota: None,
        memory: MemorySize::try_from(64)?,
        kernel,
        initramfs,
        cmdline: String::new(),
        disks: Vec::new(),
        vsock: VsockConfig { guest_cid: Cid::try_from(3_u64)?, listener, guest_ports: Vec::new() },
        serial,
        events: Arc::new(Silent),
        kept_open: Vec::new(),
    })
}

/// Builds the VM on this host's KVM.
pub(crate) fn build(config: VmConfig) -> Result<Vm, Fault> {
    Ok(Vm::build(probe::open_kvm(Path::new("/dev/kvm"))?, config)?)
}

/// An error and all its causes in one line.
pub(crate) fn chain(fault: &dyn Error) -> String {
    let mut line = fault.to_string();
    let mut source = fault.source();
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    line
}

#[derive(Debug)]
struct Silent;

impl HostEvents for Silent {
    fn disk_full(&self, _disk: &str) {}

    fn disk_resumed(&self, _disk: &str) {}
}
