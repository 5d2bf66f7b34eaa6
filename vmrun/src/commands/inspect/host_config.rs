//! What a container may use and how it is set up, as `inspect` shows it.

use serde_json::{Map, Value, json};

use crate::{
    container::{Record, RestartPolicy},
    limits,
};

/// What the container may use, and how it is set up.
pub fn show(record: &Record) -> Value {
    let guest = &record.guest;
    let hosts = guest.network.hosts.iter().map(|(name, address)| format!("{name}:{address}"));
    let retries = match record.restart {
        RestartPolicy::OnFailure(retries) => retries,
        _ => 0,
    };
    let mut shown = json!({
        "Binds": null,
        "ContainerIDFile": "",
        "LogConfig": { "Type": record.log.driver_name(), "Config": record.log_options },
        "NetworkMode": "none",
        "PortBindings": {},
        "RestartPolicy": { "Name": record.restart.name(), "MaximumRetryCount": retries },
        "AutoRemove": record.remove_on_exit,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "CapAdd": or_null(guest.cap_add.clone()),
        "CapDrop": or_null(guest.cap_drop.clone()),
        "CgroupnsMode": "private",
        "Dns": guest.network.dns,
        "DnsOptions": guest.network.dns_options,
        "DnsSearch": guest.network.dns_search,
        "ExtraHosts": or_null(hosts.collect()),
        "GroupAdd": or_null(record.command.groups.clone()),
        "IpcMode": "private",
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": 0,
        "PidMode": "",
        "Privileged": guest.privileged,
        "PublishAllPorts": false,
        "ReadonlyRootfs": guest.read_only,
        "SecurityOpt": or_null(guest.security_options.clone()),
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let tmpfs = guest.tmpfs.iter();
    let tmpfs = tmpfs.map(|tmpfs| (text(&tmpfs.target), tmpfs.options.clone().into()));
    put_some(&mut shown, "Tmpfs", tmpfs.collect());
    shown["UTSMode"] = "".into();
    shown["UsernsMode"] = "".into();
    shown["ShmSize"] = guest.shm_bytes.into();
    let sysctls = guest.sysctls.iter().map(|(name, value)| (name.clone(), value.clone().into()));
    put_some(&mut shown, "Sysctls", sysctls.collect());
    put_all(&mut shown, resources_of(record));
    let limits = guest.limits.iter().map(|limit| {
        let shown = |value: Option<u64>| value.map_or_else(|| json!(-1), Value::from);
        json!({
            "Name": limits::name(limit.resource),
            "Hard": shown(limit.hard),
            "Soft": shown(limit.soft),
        })
    });
    shown["Ulimits"] = or_null(limits.collect());
    put_all(
        &mut shown,
        json!({
            "CpuCount": 0,
            "CpuPercent": 0,
            "IOMaximumIOps": 0,
            "IOMaximumBandwidth": 0,
        }),
    );
    if guest.init {
        shown["Init"] = true.into();
    }
    shown
}

/// The VM's size. What Docker can say of cgroups besides is as where nothing was said.
fn resources_of(record: &Record) -> Value {
    let resources = &record.resources;
    let all = || u64::from(resources.vcpus) * 1_000_000_000;
    json!({
        "Runtime": "vmrun",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "CpuShares": 0,
        "Memory": resources.memory_mib << 20,
        "NanoCpus": resources.nano_cpus.unwrap_or_else(all),
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": null,
        "BlkioDeviceWriteBps": null,
        "BlkioDeviceReadIOps": null,
        "BlkioDeviceWriteIOps": null,
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "Devices": [],
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "KernelMemory": 0,
        "KernelMemoryTCP": 0,
        "MemoryReservation": resources.memory_reservation,
        // Memory and swap together: there is no swap.
        "MemorySwap": resources.memory_mib << 20,
        "MemorySwappiness": null,
        "OomKillDisable": false,
        "PidsLimit": record.guest.pids_limit,
    })
}

fn put_all(shown: &mut Value, more: Value) {
    if let (Value::Object(shown), Value::Object(more)) = (shown, more) {
        shown.extend(more);
    }
}

/// A list as Docker has it if there may be nothing in it.
fn or_null<T: Into<Value>>(list: Vec<T>) -> Value {
    if list.is_empty() { Value::Null } else { list.into() }
}

/// Puts a map there unless it is empty, as Docker does.
fn put_some(shown: &mut Value, name: &str, map: Map<String, Value>) {
    if !map.is_empty() {
        shown[name] = map.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::inspect::container::tests::record;

    #[test]
    fn empty_lists_are_what_docker_has_for_them() {
        let shown = show(&record(&json!({ "log_options": { "max-size": "1m" } })));
        assert_eq!((&shown["CapAdd"], &shown["Ulimits"]), (&Value::Null, &Value::Null));
        assert_eq!(shown["Dns"], json!([]));
        assert!(shown.get("Tmpfs").is_none() && shown.get("Init").is_none());
        let log = json!({ "Type": "json-file", "Config": { "max-size": "1m" } });
        assert_eq!(shown["LogConfig"], log);
    }
}
