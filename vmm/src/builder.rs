//! Builds a VM, step by step: memory, the VM in KVM, devices, what the guest finds in its memory,
//! and the vCPUs.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::thread;

use kvm_bindings::{
    KVM_CAP_PMU_CAPABILITY, KVM_PIT_SPEAKER_DUMMY, KVM_PMU_CAP_DISABLE, kvm_enable_cap,
    kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};
use thiserror::Error;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::arch::x86_64::cpuid::CpuidTemplate;
use crate::arch::x86_64::vcpu_state::{self, VcpuStateError};
use crate::boot::{self, BootError, BootSource};
use crate::bus::BusError;
use crate::config::{DiskConfig, VcpuCount, VmConfig};
use crate::confine::{self, DescriptorError};
use crate::control::{ControlError, Controller};
use crate::devices::legacy::{I8042, Serial};
use crate::devices::virtio::balloon::Balloon;
use crate::devices::virtio::block::{
    Backend, BackendError, Block, ExtentDisk, FileDisk, HostEvents,
};
use crate::devices::virtio::rng::Rng;
use crate::devices::virtio::transport::{MmioTransport, NOTIFY_OFFSET, TransportError};
use crate::devices::virtio::vsock::{Vsock, VsockConfig, VsockError};
use crate::devices::virtio::{DeviceThread, Interrupt, VirtioDevice};
use crate::ending::Ending;
use crate::exit::VmExit;
use crate::interrupt::IrqLine;
use crate::layout::{self, MAX_VIRTIO_DEVICES, VirtioSlot};
use crate::memory::{self, GuestMemory, MemoryError};
use crate::probe::{self, KvmFault};
use crate::throttle::Throttle;
use crate::vcpu::{Buses, Vcpu};
use crate::vm::Vm;

/// A VM could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error("this host cannot run microVMs")]
    Host(#[from] KvmFault),
    #[error("the process holds more than its VM")]
    Descriptors(#[from] DescriptorError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("KVM refused a step of the set-up")]
    Kvm(#[from] KvmStepError),
    #[error("{count} virtio devices: a VM has at most {MAX_VIRTIO_DEVICES}")]
    TooManyDevices { count: usize },
    #[error("cannot use a disk")]
    Disk(#[from] BackendError),
    #[error("cannot set up vsock")]
    Vsock(#[from] VsockError),
    #[error("cannot set up a virtio device")]
    Transport(#[from] TransportError),
    #[error("cannot connect an interrupt line or event of a device")]
    Event(#[source] std::io::Error),
    #[error("cannot make ready to stop the vCPUs")]
    Control(#[from] ControlError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    VcpuState(#[from] VcpuStateError),
}

/// A request to KVM failed.
#[derive(Debug, Error)]
#[error("cannot {step}")]
pub struct KvmStepError {
    step: &'static str,
    source: kvm_ioctls::Error,
}

/// Names the step that failed.
fn step(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmStepError {
    move |source| KvmStepError { step, source }
}

impl Vm {
    /// Builds the VM that `config` describes. Nothing of it runs yet.
    ///
    /// # Errors
    /// When the host cannot run VMs, a file does not fit its purpose, or the process has
    /// descriptors open that belong to nothing in `config`.
    pub fn build(kvm: Kvm, mut config: VmConfig) -> Result<Self, BuildError> {
        probe::require_hardware(&kvm)?;
        confine::check_open(&config.descriptors(&kvm))?;
        let memory = memory::allocate(config.memory)?;
        let fd = create_vm(&kvm)?;
        add_memory(&fd, &memory)?;

        let quota = config.cpu_quota.filter(|quota| quota.limits(config.vcpus));
        let controller = Controller::new(quota.map(Throttle::new))?;
        let mut devices = DeviceSet::new(&fd, &memory);
        let serial = devices.add_legacy(config.serial, controller.ending.clone())?;
        devices.add_disks(config.disks, &config.events)?;
        devices.add_vsock(config.vsock)?;
        devices.add_rng()?;
        devices.add_balloon();
        let (buses, device_threads, slots) = devices.finish()?;

        let source = BootSource {
            kernel: &mut config.kernel,
            initramfs: &mut config.initramfs,
            cmdline: &config.cmdline,
            vcpus: config.vcpus,
            devices: &slots,
        };
        let entry = boot::load(&memory, source)?;
        let fds = create_vcpus(&kvm, &fd, config.vcpus, entry)?;
        let (buses, brake) = (Arc::new(buses), &controller.brake);
        let seated = |(id, fd)| Vcpu { id, fd, buses: buses.clone(), seat: brake.seat() };
        let vcpus = (0..).zip(fds).map(seated).collect();
        Ok(Self { fd, vcpus, device_threads, serial, controller })
    }
}

impl VmConfig {
    /// Every descriptor that may be open when the VM is built.
    fn descriptors(&self, kvm: &Kvm) -> Vec<RawFd> {
        let mut open = self.kept_open.clone();
        open.extend([kvm.as_raw_fd(), self.kernel.as_raw_fd(), self.initramfs.as_raw_fd()]);
        open.extend([self.serial.as_raw_fd(), self.vsock.listener.as_raw_fd()]);
        open.extend(self.vsock.guest_ports.iter().map(|(_, stream)| stream.as_raw_fd()));
        for disk in &self.disks {
            match disk {
                DiskConfig::ReadOnly { extents, .. } => {
                    open.extend(extents.iter().map(|extent| extent.file.as_raw_fd()));
                }
                DiskConfig::Writable { file, .. } => open.push(file.as_raw_fd()),
            }
        }
        open
    }
}

/// A VM in KVM with its interrupt controllers and PIT, without memory and vCPUs.
fn create_vm(kvm: &Kvm) -> Result<VmFd, KvmStepError> {
    let vm = kvm.create_vm().map_err(step("create a VM"))?;
    // Both pages are used on Intel only, and only by guests in real mode.
    vm.set_identity_map_address(layout::IDENTITY_MAP).map_err(step("set the identity map"))?;
    vm.set_tss_address(layout::TASK_STATE).map_err(step("set the task state segment"))?;
    vm.create_irq_chip().map_err(step("create the interrupt controllers"))?;
    let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    vm.create_pit2(pit).map_err(step("create the PIT"))?;
    disable_pmu(&vm)?;
    Ok(vm)
}

/// Takes the performance counters away, on hosts that can: the guest then does not try them out,
/// which costs it VM exits, and KVM keeps none.
fn disable_pmu(vm: &VmFd) -> Result<(), KvmStepError> {
    let can = vm.check_extension_raw(KVM_CAP_PMU_CAPABILITY.into());
    if can & KVM_PMU_CAP_DISABLE.cast_signed() == 0 {
        return Ok(());
    }
    let mut capability = kvm_enable_cap { cap: KVM_CAP_PMU_CAPABILITY, ..Default::default() };
    capability.args[0] = KVM_PMU_CAP_DISABLE.into();
    vm.enable_cap(&capability).map_err(step("disable the performance counters"))
}

fn add_memory(vm: &VmFd, memory: &GuestMemory) -> Result<(), BuildError> {
    for (slot, region) in (0_u32..).zip(memory.iter()) {
        let host_address = memory
            .get_host_address(region.start_addr())
            .map_err(|fault| BuildError::Boot(fault.into()))?;
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: host_address.expose_provenance() as u64,
        };
        // SAFETY: `memory` maps `memory_size` bytes at `userspace_addr` and, as its module says, is
        // never unmapped, so KVM and the guest touch nothing else.
        unsafe { vm.set_user_memory_region(region) }.map_err(step("add guest memory"))?;
    }
    Ok(())
}

/// Creates the vCPUs and sets their state.
fn create_vcpus(
    kvm: &Kvm,
    vm: &VmFd,
    count: VcpuCount,
    entry: GuestAddress,
) -> Result<Vec<VcpuFd>, BuildError> {
    let fds = (0..count.get())
        .map(|id| vm.create_vcpu(id.into()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(step("create a vCPU"))?;
    let tsc_khz = fds.first().and_then(|vcpu| vcpu.get_tsc_khz().ok()).unwrap_or_default();
    let cpuid = CpuidTemplate::new(kvm, count, tsc_khz).map_err(step("ask for CPUID"))?;
    for (id, fd) in (0..count.get()).zip(&fds) {
        let too_many = kvm_ioctls::Error::new(libc::E2BIG);
        let leaves = cpuid.for_vcpu(id).map_err(|_| step("form CPUID")(too_many))?;
        fd.set_cpuid2(&leaves).map_err(step("set CPUID"))?;
        vcpu_state::set_common(fd)?;
        if id == 0 {
            let zero_page = layout::ZERO_PAGE.raw_value();
            let (gdt, page_tables) = (layout::BOOT_GDT, layout::BOOT_PAGE_TABLES);
            vcpu_state::set_entry(fd, gdt, page_tables, entry, zero_page)?;
        }
    }
    Ok(fds)
}

/// Devices as they are added: their places on the buses, and their threads.
struct DeviceSet<'a> {
    vm: &'a VmFd,
    memory: &'a GuestMemory,
    buses: Buses,
    virtio: Vec<(Box<dyn VirtioDevice>, DeviceThread)>,
}

impl<'a> DeviceSet<'a> {
    fn new(vm: &'a VmFd, memory: &'a GuestMemory) -> Self {
        Self { vm, memory, buses: Buses::default(), virtio: Vec::new() }
    }

    /// The UART and the keyboard controller; a reset is told to `ending`.
    fn add_legacy(
        &mut self,
        output: std::os::fd::OwnedFd,
        ending: Arc<Ending>,
    ) -> Result<Arc<Serial>, BuildError> {
        let irq = IrqLine::new(self.vm, layout::COM1_GSI).map_err(BuildError::Event)?;
        let serial = Arc::new(Serial::new(Arc::new(irq), output).map_err(BuildError::Event)?);
        self.buses.ports.insert(layout::COM1, layout::COM1_PORTS, serial.clone())?;
        let i8042 = I8042::new(move || {
            ending.tell(VmExit::Reset);
            // The vCPU that asked goes no further.
            loop {
                thread::park();
            }
        });
        self.buses.ports.insert(layout::I8042, layout::I8042_PORTS, Arc::new(i8042))?;
        Ok(serial)
    }

    fn add_disks(
        &mut self,
        disks: Vec<DiskConfig>,
        events: &Arc<dyn HostEvents>,
    ) -> Result<(), BuildError> {
        for disk in disks {
            let (name, backend): (_, Box<dyn Backend>) = match disk {
                DiskConfig::ReadOnly { extents, size } => {
                    ("root", Box::new(ExtentDisk::new(extents, size)?))
                }
                DiskConfig::Writable { file, size, flush } => {
                    ("disk", Box::new(FileDisk::new(file, size, flush)?))
                }
            };
            let (device, thread) = Block::new(name, backend, events.clone());
            self.virtio.push((Box::new(device), thread));
        }
        Ok(())
    }

    fn add_vsock(&mut self, config: VsockConfig) -> Result<(), BuildError> {
        let (device, thread) = Vsock::new(config)?;
        self.virtio.push((Box::new(device), thread));
        Ok(())
    }

    fn add_rng(&mut self) -> Result<(), BuildError> {
        let (device, thread) = Rng::new();
        self.virtio.push((Box::new(device), thread));
        Ok(())
    }

    fn add_balloon(&mut self) {
        let (device, thread) = Balloon::new();
        self.virtio.push((Box::new(device), thread));
    }

    /// Gives each virtio device its slot; returns the buses, the threads and the slots taken.
    fn finish(mut self) -> Result<(Buses, Vec<DeviceThread>, Vec<VirtioSlot>), BuildError> {
        let slots = virtio_slots(self.virtio.len())?;
        let mut threads = Vec::new();
        for ((device, thread), &slot) in self.virtio.into_iter().zip(&slots) {
            let line = IrqLine::new(self.vm, slot.gsi).map_err(BuildError::Event)?;
            let transport = plug_in(self.vm, self.memory, device, slot, Arc::new(line))?;
            let base = slot.window.raw_value();
            self.buses.mmio.insert(base, layout::VIRTIO_WINDOW, Arc::new(transport))?;
            threads.push(thread);
        }
        Ok((self.buses, threads, slots))
    }
}

/// Slots for `count` devices.
fn virtio_slots(count: usize) -> Result<Vec<VirtioSlot>, BuildError> {
    if count > MAX_VIRTIO_DEVICES {
        return Err(BuildError::TooManyDevices { count });
    }
    Ok(VirtioSlot::all().take(count).collect())
}

/// Puts a device behind its window, with an ioeventfd for each queue's notifications.
fn plug_in(
    vm: &VmFd,
    memory: &GuestMemory,
    device: Box<dyn VirtioDevice>,
    slot: VirtioSlot,
    line: Arc<dyn Interrupt>,
) -> Result<MmioTransport, BuildError> {
    let transport = MmioTransport::new(device, memory.clone(), line)?;
    let notify = IoEventAddress::Mmio(slot.window.unchecked_add(NOTIFY_OFFSET).raw_value());
    for (queue, kick) in (0_u32..).zip(transport.kick_events()) {
        vm.register_ioevent(kick, &notify, queue).map_err(step("connect a queue's kick"))?;
    }
    Ok(transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_devices_than_interrupt_lines_are_refused() {
        assert_eq!(virtio_slots(MAX_VIRTIO_DEVICES).unwrap().len(), MAX_VIRTIO_DEVICES);
        let fault = virtio_slots(MAX_VIRTIO_DEVICES + 1).unwrap_err();
        assert_eq!(fault.to_string(), "20 virtio devices: a VM has at most 19");
    }
}
