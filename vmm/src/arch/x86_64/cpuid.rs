//! What the guest's processors say of themselves.
//!
//! The start is what KVM can give on this host (`KVM_GET_SUPPORTED_CPUID`, its own leaves among
//! it); then performance counters and nested virtualisation, a large part of KVM that a container
//! has no use for, are taken away, the topology is set to cores of one socket
//! with an APIC id each, and the clocks are told, so that the guest calibrates none.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

use crate::config::VcpuCount;

const KVM_SIGNATURE: u32 = 0x4000_0000;
const KVM_TIMING: u32 = 0x4000_0010;
/// Rate of KVM's local APIC timers in kHz (`APIC_BUS_CYCLE_NS` is 1).
const APIC_BUS_KHZ: u32 = 1_000_000;

/// CPUID leaves that are the same on every vCPU, before [`Self::for_vcpu`].
#[derive(Clone, Debug)]
pub(crate) struct CpuidTemplate {
    entries: Vec<kvm_cpuid_entry2>,
    vcpus: VcpuCount,
}

impl CpuidTemplate {
    /// Asks KVM what it can give, for a VM of `vcpus` with this TSC rate (0 where unknown).
    pub(crate) fn new(
        kvm: &Kvm,
        vcpus: VcpuCount,
        tsc_khz: u32,
    ) -> Result<Self, kvm_ioctls::Error> {
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        let deadline_timer = kvm.check_extension(Cap::TscDeadlineTimer);
        Ok(Self::from_entries(supported.as_slice().to_vec(), vcpus, tsc_khz, deadline_timer))
    }

    fn from_entries(
        mut entries: Vec<kvm_cpuid_entry2>,
        vcpus: VcpuCount,
        tsc_khz: u32,
        deadline_timer: bool,
    ) -> Self {
        let highest = entries.iter().find(|entry| entry.function == 0).map_or(0, |leaf| leaf.eax);
        entries.retain(|entry| !is_replaced(entry.function));
        if highest >= 0xb {
            entries.extend(extended_topology(vcpus));
        }
        if tsc_khz > 0 {
            entries.push(kvm_cpuid_entry2 {
                function: KVM_TIMING,
                eax: tsc_khz,
                ebx: APIC_BUS_KHZ,
                ..Default::default()
            });
        }
        for entry in &mut entries {
            set_common(entry, vcpus, deadline_timer);
        }
        Self { entries, vcpus }
    }

    /// The leaves of vCPU `id`, which is its APIC id as well.
    pub(crate) fn for_vcpu(&self, id: u8) -> Result<CpuId, vmm_sys_util::fam::Error> {
        CpuId::from_entries(&self.entries_for(id))
    }

    fn entries_for(&self, id: u8) -> Vec<kvm_cpuid_entry2> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            match entry.function {
                0x1 => set_bits(&mut entry.ebx, 24, 8, id.into()),
                0xb => entry.edx = id.into(),
                0x8000_001e => {
                    entry.eax = id.into();
                    // Core id; one thread a core, one node.
                    entry.ebx = id.into();
                    entry.ecx = 0;
                }
                _ => {}
            }
        }
        debug_assert!(id < self.vcpus.get());
        entries
    }
}

/// Leaves that are made anew (topology, timing) or not given: performance counters (0xa and
/// 0x8000_0022), processor trace, last branch records, SVM, and the topology leaves that would
/// contradict leaf 0xb.
fn is_replaced(function: u32) -> bool {
    const TOPOLOGY_AND_TIMING: [u32; 4] = [0xb, 0x1f, KVM_TIMING, 0x8000_0026];
    const NOT_GIVEN: [u32; 5] = [0xa, 0x14, 0x1c, 0x8000_000a, 0x8000_0022];
    TOPOLOGY_AND_TIMING.contains(&function) || NOT_GIVEN.contains(&function)
}

fn set_common(entry: &mut kvm_cpuid_entry2, vcpus: VcpuCount, deadline_timer: bool) {
    let count = u32::from(vcpus.get());
    let id_bits = id_bits(vcpus);
    let several = u32::from(count > 1);
    match entry.function {
        0x1 => {
            set_bits(&mut entry.ebx, 16, 8, 1 << id_bits);
            set_bits(&mut entry.ecx, 5, 1, 0); // VMX
            set_bits(&mut entry.ecx, 15, 1, 0); // performance capabilities
            set_bits(&mut entry.ecx, 24, 1, deadline_timer.into());
            set_bits(&mut entry.ecx, 31, 1, 1); // hypervisor
            set_bits(&mut entry.edx, 28, 1, several); // more than one APIC id in the socket
        }
        // Intel's and AMD's cache descriptions: the third level is everyone's, the others one core's.
        0x4 | 0x8000_001d if entry.eax & 0x1f != 0 => {
            let shared = if (entry.eax >> 5) & 0x7 == 3 { (1 << id_bits) - 1 } else { 0 };
            set_bits(&mut entry.eax, 14, 12, shared);
            if entry.function == 0x4 {
                set_bits(&mut entry.eax, 26, 6, (1 << id_bits) - 1);
            }
        }
        KVM_SIGNATURE => entry.eax = entry.eax.max(KVM_TIMING),
        0x8000_0001 => {
            // AMD: SVM and performance counter extensions off, several cores on. Bit 1 is reserved on Intel
            // and zero there in what KVM supports.
            if entry.ecx & (1 << 22) != 0 {
                set_bits(&mut entry.ecx, 1, 1, several);
            }
            for bit in [2, 23, 24, 28] {
                set_bits(&mut entry.ecx, bit, 1, 0);
            }
        }
        0x8000_0008 => {
            set_bits(&mut entry.ecx, 0, 8, count - 1);
            set_bits(&mut entry.ecx, 12, 4, id_bits);
        }
        _ => {}
    }
}

/// Leaf 0xb: one thread a core, then all cores in the socket, then the end.
fn extended_topology(vcpus: VcpuCount) -> [kvm_cpuid_entry2; 3] {
    const BY_INDEX: u32 = kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    const THREAD: u32 = 1 << 8;
    const CORE: u32 = 2 << 8;
    let level = |index, shift, count, kind| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: BY_INDEX,
        eax: shift,
        ebx: count,
        ecx: index | kind,
        ..Default::default()
    };
    let count = vcpus.get().into();
    [level(0, 0, 1, THREAD), level(1, id_bits(vcpus), count, CORE), level(2, 0, 0, 0)]
}

/// Bits that hold every APIC id.
fn id_bits(vcpus: VcpuCount) -> u32 {
    u32::from(vcpus.get()).next_power_of_two().trailing_zeros()
}

/// Sets `width` bits of `register` from bit `low` on to `value`.
fn set_bits(register: &mut u32, low: u32, width: u32, value: u32) {
    let mask = ((1 << width) - 1) << low;
    *register = (*register & !mask) | ((value << low) & mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(vcpus: u8) -> CpuidTemplate {
        let leaf =
            |function, eax, ecx| kvm_cpuid_entry2 { function, eax, ecx, ..Default::default() };
        let entries = vec![
            leaf(0, 0xd, 0),
            leaf(1, 0, (1 << 15) | (1 << 5)),
            leaf(0xa, 0x0730_0404, 0),
            leaf(KVM_SIGNATURE, KVM_SIGNATURE + 1, 0),
            leaf(0x8000_0001, 0, (1 << 22) | (1 << 23) | (1 << 2)),
            leaf(0x8000_0008, 0x3028, 0xffff),
            leaf(0x8000_001d, (0xfff << 14) | (3 << 5) | 3, 0),
            leaf(0x8000_001e, 0xff, 0xff),
        ];
        CpuidTemplate::from_entries(entries, VcpuCount::try_from(vcpus).unwrap(), 2_400_000, true)
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *entries.iter().find(|e| e.function == function && e.index == index).unwrap()
    }

    #[test]
    fn every_vcpu_has_its_apic_id_in_every_leaf_that_tells_it() {
        for vcpus in [1, 2, 4, 8] {
            for id in 0..vcpus {
                let entries = template(vcpus).entries_for(id);
                assert_eq!(find(&entries, 1, 0).ebx >> 24, u32::from(id));
                assert_eq!(find(&entries, 0xb, 0).edx, u32::from(id));
                assert_eq!(find(&entries, 0xb, 1).edx, u32::from(id));
                assert_eq!(find(&entries, 0x8000_001e, 0).eax, u32::from(id));
            }
        }
    }

    #[test]
    fn three_vcpus_are_cores_of_one_socket() {
        let entries = template(3).entries_for(2);
        assert_eq!(find(&entries, 0xb, 0).ebx, 1);
        let cores = find(&entries, 0xb, 1);
        assert_eq!((cores.eax, cores.ebx, cores.ecx), (2, 3, 0x201));
        assert_eq!((find(&entries, 1, 0).ebx >> 16) & 0xff, 4);
        assert_eq!(find(&entries, 0x8000_0008, 0).ecx & 0xf0ff, 0x2002);
        assert_eq!((find(&entries, 0x8000_001d, 0).eax >> 14) & 0xfff, 3);
    }

    #[test]
    fn the_guest_sees_a_hypervisor_and_its_clocks() {
        let entries = template(1).entries_for(0);
        let features = find(&entries, 1, 0);
        assert_eq!(features.ecx & (1 << 31), 1 << 31);
        assert_eq!(features.ecx & (1 << 24), 1 << 24);
        assert_eq!(features.edx & (1 << 28), 0);
        assert_eq!(find(&entries, KVM_SIGNATURE, 0).eax, KVM_TIMING);
        let timing = find(&entries, KVM_TIMING, 0);
        assert_eq!((timing.eax, timing.ebx), (2_400_000, 1_000_000));
    }

    #[test]
    fn performance_counters_are_not_given() {
        let entries = template(1).entries_for(0);
        assert!(entries.iter().all(|entry| entry.function != 0xa));
        assert_eq!(find(&entries, 1, 0).ecx & (1 << 15), 0);
        assert_eq!(find(&entries, 0x8000_0001, 0).ecx & (1 << 23), 0);
    }

    #[test]
    fn guests_cannot_run_guests() {
        let entries = template(1).entries_for(0);
        assert_eq!(find(&entries, 1, 0).ecx & (1 << 5), 0);
        assert_eq!(find(&entries, 0x8000_0001, 0).ecx & (1 << 2), 0);
    }
}
