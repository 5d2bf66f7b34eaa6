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
    fs::remove_dir_all(&container.folder).unwrap();
    assert!(containers.with_status(vec![container.clone()]).unwrap().is_empty());
    assert!(matches!(containers.status(&container), Err(ContainerError::NotFound(_))));
    assert_eq!(container.disk_usage().unwrap(), 0);
}

#[test]
fn damaged_container_is_told_of_hides_no_other_and_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let containers = Containers::new(Paths::below(folder.path()).unwrap());
    for (file, damage) in [
        ("config.json", Some("{")),
        ("config.json", None),
        ("state.json", Some("")),
        ("state.json", None),
    ] {
        let container = containers.create(None, record).unwrap();
        let id = &container.record.id;
        let path = container.folder.join(file);
        match damage {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let known = containers.list_with_status().unwrap();
        assert!(known.is_empty(), "{file} {damage:?}");
        let told = containers.damaged(&known).unwrap()[0].to_string();
        let expected = format!(
            "{} is damaged; 'vmrun rm {}' removes the container",
            path.display(),
            id.as_str()
        );
        assert_eq!(told, expected);
        // Its VM may run all the same.
        let run = container.lock().unwrap();
        assert!(matches!(containers.remove_damaged(id), Err(ContainerError::Running(_))));
        drop(run);
        containers.remove_damaged(id).unwrap();
        assert!(!container.folder.exists());
        assert!(containers.damaged(&[]).unwrap().is_empty());
    }
}

#[test]
fn a_runtime_folder_without_a_container_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::below(folder.path()).unwrap();
    let containers = Containers::new(paths.clone());
    let kept = containers.create(None, record).unwrap();
    let (gone, kept) = ("0".repeat(64), kept.record.id.as_str().to_owned());
    for id in [&gone, &kept] {
        fs::create_dir(paths.runtime_of(id)).unwrap();
    }
    containers.sweep().unwrap();
    assert_eq!([gone, kept].map(|id| paths.runtime_of(&id).exists()), [false, true]);
}

#[test]
fn what_a_power_cut_left_of_a_passing_container_is_swept_and_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let containers = Containers::new(Paths::below(folder.path()).unwrap());
    for remove_on_exit in [true, false] {
        let record = |name| Record { remove_on_exit, ..record(name) };
        let container = containers.create(None, record).unwrap();
        fs::write(container.folder.join("config.json"), "").unwrap();
        let run = container.lock().unwrap();
        containers.sweep().unwrap();
        assert!(container.folder.exists(), "its VM runs");
        drop(run);
        containers.sweep().unwrap();
        assert_eq!(container.folder.exists(), !remove_on_exit);
    }
}
