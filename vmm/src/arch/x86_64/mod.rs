//! x86-64: what a vCPU and the tables in memory must hold when Linux is entered at its 64-bit entry
//! point (Documentation/arch/x86/boot.rst).

pub(crate) mod boot_tables;
pub(crate) mod cpuid;
pub(crate) mod mp_table;
pub(crate) mod vcpu_state;
pub(crate) mod zero_page;
