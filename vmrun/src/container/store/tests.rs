use super::*;

fn record(name: ContainerName) -> Record {
    let digest = format!("sha256:{}", "1".repeat(64));
    let record = serde_json::json!({
        "id": "2".repeat(64),
        "name": name.to_string(),
        "created": "2026-01-01T00:00:00Z",
        "image": { "reference": "none", "id": digest, "root": digest },
        "command": {
            "args": [], "env": [], "cwd": "/", "user": "",
            "terminal": false, "stdin": false, "stop_signal": 15,
        },
        "hostname": "gone",
        "resources": { "memory_mib": 512, "vcpus": 1, "disk": 10_u64 << 30 },
        "remove_on_exit": true,
    });
    serde_json::from_value(record).unwrap()
}

/// `ps` has listed a container, and another command removes it before its state is read.
#[test]
fn container_that_is_removed_meanwhile_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let containers = Containers::new(Paths::below(folder.path()).unwrap());
    let container = containers.create(None, record).unwrap();
    assert_eq!(containers.list_with_status().unwrap().len(), 1);
    fs::remove_file(container.folder.join("state.json")).unwrap();
    assert!(containers.list_with_status().unwrap().is_empty());
    assert!(matches!(containers.status(&container), Err(ContainerError::NotFound(_))));
    fs::remove_file(container.disk()).unwrap();
    assert_eq!(container.disk_usage().unwrap(), 0);
}

#[test]
fn damaged_container_is_told_of_and_half_a_one_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let containers = Containers::new(Paths::below(folder.path()).unwrap());
    let container = containers.create(None, record).unwrap();
    let config = container.folder.join("config.json");
    fs::write(&config, "{").unwrap();
    let kept = containers.sweep().unwrap();
    assert!(kept.is_empty());
    let damaged = containers.damaged(&kept).unwrap();
    assert!(
        damaged[0]
            .to_string()
            .ends_with(&format!("'vmrun rm {}' removes the container", "2".repeat(64)))
    );
    containers.remove_damaged(&container.record.id).unwrap();
    assert!(!container.folder.exists());

    let container = containers.create(None, record).unwrap();
    fs::write(container.folder.join("config.json"), "").unwrap();
    assert!(containers.sweep().unwrap().is_empty());
    assert!(!container.folder.exists());
}
