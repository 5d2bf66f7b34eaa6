//! Docker's options for what vmrun does not have: accepted where they ask for what is so anyway, else
//! refused by name, never passed over.

use clap::{ArgAction, Args};

const NETWORK: &str = "there is no network in the guest yet";
const VOLUMES: &str = "there are no volumes yet";
const DEVICES: &str = "a guest has no devices of the host";
const CGROUPS: &str = "a container is a VM, whose size is set by --memory and --cpus";
const KERNEL: &str = "a guest has a kernel of its own and shares nothing with the host";

/// Options of `run` and `create`.
#[derive(Debug, Args)]
pub struct WithoutArgs {
    #[arg(long, alias = "net", hide = true)]
    network: Option<String>,
    #[arg(long, alias = "net-alias", hide = true)]
    network_alias: Vec<String>,
    #[arg(long, hide = true)]
    ip: Option<String>,
    #[arg(long, hide = true)]
    ip6: Option<String>,
    #[arg(long, hide = true)]
    link: Vec<String>,
    #[arg(long, hide = true)]
    link_local_ip: Vec<String>,
    #[arg(long, hide = true)]
    mac_address: Option<String>,
    #[arg(short, long, hide = true)]
    publish: Vec<String>,
    #[arg(short = 'P', long, hide = true)]
    publish_all: bool,
    #[arg(short, long, hide = true)]
    volume: Vec<String>,
    #[arg(long, hide = true)]
    mount: Vec<String>,
    #[arg(long, hide = true)]
    volumes_from: Vec<String>,
    #[arg(long, hide = true)]
    volume_driver: Option<String>,
    #[arg(long, hide = true)]
    device: Vec<String>,
    #[arg(long, hide = true)]
    device_cgroup_rule: Vec<String>,
    #[arg(long, hide = true)]
    gpus: Option<String>,
    #[arg(long, hide = true)]
    device_read_bps: Vec<String>,
    #[arg(long, hide = true)]
    device_read_iops: Vec<String>,
    #[arg(long, hide = true)]
    device_write_bps: Vec<String>,
    #[arg(long, hide = true)]
    device_write_iops: Vec<String>,
    #[arg(long, hide = true)]
    blkio_weight_device: Vec<String>,
    #[arg(long, hide = true)]
    cgroup_parent: Option<String>,
    #[command(flatten)]
    shares: SharesArgs,
    #[arg(long, hide = true)]
    oom_kill_disable: bool,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    oom_score_adj: Option<i64>,
    #[arg(long, hide = true)]
    ipc: Option<String>,
    #[arg(long, hide = true)]
    pid: Option<String>,
    #[arg(long, hide = true)]
    uts: Option<String>,
    #[arg(long, hide = true)]
    userns: Option<String>,
    #[arg(long, hide = true)]
    cgroupns: Option<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    runtime: Option<String>,
    #[arg(long, hide = true)]
    domainname: Option<String>,
}

/// Limits of cgroups, which `update` has too.
#[derive(Debug, Args)]
pub struct SharesArgs {
    #[arg(long, hide = true)]
    blkio_weight: Option<u16>,
    #[arg(short, long, hide = true, allow_negative_numbers = true)]
    cpu_shares: Option<i64>,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    cpu_rt_period: Option<i64>,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    #[arg(long, hide = true)]
    cpuset_cpus: Option<String>,
    #[arg(long, hide = true)]
    cpuset_mems: Option<String>,
    #[arg(long, hide = true)]
    kernel_memory: Option<String>,
}

/// What `update` cannot change.
#[derive(Debug, Args)]
pub struct FixedArgs {
    #[command(flatten)]
    shares: SharesArgs,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    cpu_period: Option<i64>,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    #[arg(long, hide = true)]
    cpus: Option<String>,
    #[arg(short, long, hide = true)]
    memory: Option<String>,
    #[arg(long, hide = true)]
    memory_reservation: Option<String>,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    memory_swap: Option<String>,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    pids_limit: Option<i64>,
}

/// Signed images, of which neither Docker by default nor vmrun knows anything.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// Accepted as in Docker: no signatures are looked at
    #[arg(
        long, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set
    )]
    disable_content_trust: bool,
}

/// An option that cannot be, and why.
pub type Refused = Option<(&'static str, &'static str)>;

impl WithoutArgs {
    pub fn refused(&self) -> Refused {
        first([
            (is_other(self.network.as_deref(), "none"), "--network", NETWORK),
            (!self.network_alias.is_empty(), "--network-alias", NETWORK),
            (self.ip.is_some(), "--ip", NETWORK),
            (self.ip6.is_some(), "--ip6", NETWORK),
            (!self.link.is_empty(), "--link", NETWORK),
            (!self.link_local_ip.is_empty(), "--link-local-ip", NETWORK),
            (self.mac_address.is_some(), "--mac-address", NETWORK),
            (!self.publish.is_empty(), "--publish", NETWORK),
            (self.publish_all, "--publish-all", NETWORK),
            (!self.volume.is_empty(), "--volume", VOLUMES),
            (!self.mount.is_empty(), "--mount", VOLUMES),
            (!self.volumes_from.is_empty(), "--volumes-from", VOLUMES),
            (self.volume_driver.is_some(), "--volume-driver", VOLUMES),
            (!self.device.is_empty(), "--device", DEVICES),
            (!self.device_cgroup_rule.is_empty(), "--device-cgroup-rule", DEVICES),
            (self.gpus.is_some(), "--gpus", DEVICES),
            (!self.device_read_bps.is_empty(), "--device-read-bps", DEVICES),
            (!self.device_read_iops.is_empty(), "--device-read-iops", DEVICES),
            (!self.device_write_bps.is_empty(), "--device-write-bps", DEVICES),
            (!self.device_write_iops.is_empty(), "--device-write-iops", DEVICES),
            (!self.blkio_weight_device.is_empty(), "--blkio-weight-device", DEVICES),
            (is_other(self.cgroup_parent.as_deref(), ""), "--cgroup-parent", CGROUPS),
            (self.oom_kill_disable, "--oom-kill-disable", "a guest's kernel has to go on"),
            (self.oom_score_adj.unwrap_or(0) != 0, "--oom-score-adj", KERNEL),
            (is_other(self.ipc.as_deref(), "private"), "--ipc", KERNEL),
            (is_other(self.pid.as_deref(), ""), "--pid", KERNEL),
            (is_other(self.uts.as_deref(), ""), "--uts", KERNEL),
            (is_other(self.userns.as_deref(), "host"), "--userns", KERNEL),
            (is_other(self.cgroupns.as_deref(), "private"), "--cgroupns", KERNEL),
            (is_other(self.isolation.as_deref(), "default"), "--isolation", KERNEL),
            (is_other(self.runtime.as_deref(), ""), "--runtime", "a VM is the only one"),
            (
                is_other(self.domainname.as_deref(), ""),
                "--domainname",
                "give the whole name as --hostname",
            ),
        ])
        .or_else(|| self.shares.refused(CGROUPS))
    }
}

impl SharesArgs {
    fn refused(&self, why: &'static str) -> Refused {
        first([
            (self.blkio_weight.unwrap_or(0) != 0, "--blkio-weight", why),
            (self.cpu_shares.unwrap_or(0) != 0, "--cpu-shares", why),
            (self.cpu_rt_period.unwrap_or(0) != 0, "--cpu-rt-period", why),
            (self.cpu_rt_runtime.unwrap_or(0) != 0, "--cpu-rt-runtime", why),
            (is_other(self.cpuset_cpus.as_deref(), ""), "--cpuset-cpus", why),
            (is_other(self.cpuset_mems.as_deref(), ""), "--cpuset-mems", why),
            (is_other(self.kernel_memory.as_deref(), "0"), "--kernel-memory", why),
        ])
    }
}

impl FixedArgs {
    pub fn refused(&self) -> Refused {
        const WHY: &str = "the size of a VM is settled when its container is made";
        first([
            (self.cpu_period.is_some(), "--cpu-period", WHY),
            (self.cpu_quota.is_some(), "--cpu-quota", WHY),
            (self.cpus.is_some(), "--cpus", WHY),
            (self.memory.is_some(), "--memory", WHY),
            (self.memory_reservation.is_some(), "--memory-reservation", WHY),
            (self.memory_swap.is_some(), "--memory-swap", WHY),
            (self.pids_limit.is_some(), "--pids-limit", WHY),
        ])
        .or_else(|| self.shares.refused(WHY))
    }
}

impl TrustArgs {
    pub fn refused(&self) -> Refused {
        const WHY: &str = "signatures of images are not looked at";
        first([(!self.disable_content_trust, "--disable-content-trust=false", WHY)])
    }
}

/// Whether something else is asked for than what is so anyway.
fn is_other(given: Option<&str>, usual: &str) -> bool {
    given.is_some_and(|given| !given.is_empty() && given != usual)
}

fn first<const N: usize>(options: [(bool, &'static str, &'static str); N]) -> Refused {
    let refused = options.into_iter().find(|(is_refused, _, _)| *is_refused);
    refused.map(|(_, option, why)| (option, why))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Action, Cli};

    fn refused(line: &str) -> Option<&'static str> {
        let words = ["vmrun", "run"].into_iter().chain(line.split_whitespace()).chain(["image"]);
        let Action::Run(args) = Cli::try_parse_from(words).unwrap().action else { unreachable!() };
        args.container.without.refused().map(|(option, _)| option)
    }

    #[test]
    fn what_is_so_anyway_is_accepted_and_else_refused_by_name() {
        for line in [
            "--net none",
            "--ipc private --cgroupns private --userns host --isolation default",
            "--pid= --uts= --oom-score-adj 0 --cpu-shares 0 --kernel-memory 0",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
        for (line, option) in [
            ("--net host", "--network"),
            ("-v /a:/b", "--volume"),
            ("-c 512", "--cpu-shares"),
            ("--pid host", "--pid"),
            ("--cpuset-cpus 0,1", "--cpuset-cpus"),
            ("--runtime runc", "--runtime"),
            ("--domainname lan", "--domainname"),
            ("--oom-kill-disable", "--oom-kill-disable"),
            ("--device-read-bps /dev/sda:1mb", "--device-read-bps"),
        ] {
            assert_eq!(refused(line), Some(option), "{line}");
        }
    }

    #[test]
    fn sizes_of_a_vm_are_not_updated() {
        for (words, option) in [
            (["--cpus", "2"], "--cpus"),
            (["-m", "1g"], "--memory"),
            (["-c", "512"], "--cpu-shares"),
            (["--memory-swap", "-1"], "--memory-swap"),
        ] {
            let line = ["vmrun", "update"].iter().chain(&words).chain(&["one"]);
            let Action::Update(args) = Cli::try_parse_from(line).unwrap().action else {
                unreachable!()
            };
            assert_eq!(args.fixed.refused().map(|(option, _)| option), Some(option));
        }
    }
}
