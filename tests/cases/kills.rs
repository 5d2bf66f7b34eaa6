//! The monitor or the VM killed at a random moment of any command: what is said afterwards is true,
//! nothing is left running, and the container starts again with a sound disk (`threats.md` rows 33
//! and 36).
//!
//! `KILLS` says how many moments are tried, and `SEED` from which number they follow.

use std::{env, fs, process::Command, thread, time::Duration};

use crate::support::{Store, children_of, eventually, finish, processes};

/// Moments tried where nobody says how many.
const MOMENTS: u64 = 12;

/// A sequence that the seed settles (SplitMix64).
struct Moments(u64);

impl Moments {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Commands on a container that runs (`true`) or not, after its name.
const COMMANDS: [(bool, &[&str], &[&str]); 10] = [
    (true, &["exec"], &["sh", "-c", "dd if=/dev/zero of=/more bs=1M count=4; sync"]),
    (true, &["pause"], &[]),
    (true, &["stop", "-t", "1"], &[]),
    (true, &["restart", "-t", "0"], &[]),
    (true, &["kill"], &[]),
    (true, &["cp", "FILE", "-"], &[]),
    (true, &["logs", "-f"], &[]),
    (false, &["start"], &[]),
    (false, &["start", "-a"], &[]),
    (false, &["cp", "FILE", "-"], &[]),
];

fn is_alive(pid: i32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn row33_kills_at_random_moments_leave_a_true_list_and_a_container_that_starts() {
    let (seed, moments) = (number("SEED", 1), number("KILLS", MOMENTS));
    let mut random = Moments(seed);
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let script = "while :; do date >> /log; echo line; sleep 0.1; done";
    store.vmrun(["create", "--name", "prey", "busybox", "sh", "-c", script]).run().succeeds();
    for moment in 0..moments {
        let pick = usize::try_from(random.below(COMMANDS.len() as u64)).unwrap();
        let (runs, before, after) = COMMANDS[pick];
        if runs {
            store.vmrun(["start", "prey"]).run().succeeds();
        }
        let name = if before.contains(&"FILE") { None } else { Some("prey") };
        let before = before.iter().map(|word| if *word == "FILE" { "prey:/bin" } else { word });
        let words: Vec<&str> = before.chain(name).chain(after.iter().copied()).collect();
        let said = format!("moment {moment} of seed {seed}: {words:?}");
        let child = store.vmrun(&words).spawn();
        thread::sleep(Duration::from_millis(random.below(2500)));
        let of_whom = monitors(&store);
        kill(&if random.below(2) == 0 { of_whom } else { children_of(&of_whom) });
        // Whatever it comes to, it comes to an end; a restart does so too late for the next.
        let ended = thread::spawn({
            let said = said.clone();
            move || drop(finish(child, &said))
        });
        while !ended.is_finished() && words.contains(&"-f") | words.contains(&"-a") {
            thread::sleep(Duration::from_millis(500));
            kill(&monitors(&store));
        }
        ended.join().unwrap();
        let left = monitors(&store);
        let vms = children_of(&left);
        kill(&left);
        eventually(&format!("{said}: nothing is left"), || {
            monitors(&store).is_empty() && vms.iter().all(|pid| !is_alive(*pid))
        });
        let listed = store.vmrun(["ps", "-a", "--format", "{{.State}}"]).run().succeeds();
        assert!(["exited\n", "created\n"].contains(&listed.as_str()), "{said}: {listed}");
        assert_eq!(store.vmrun(["ps", "-q"]).run().succeeds(), "", "{said}");
    }
    store.vmrun(["start", "prey"]).run().succeeds();
    let log = store.vmrun(["exec", "prey", "tail", "-n", "1", "/log"]).run().succeeds();
    assert!(log.contains("UTC"), "{log}");
    store.vmrun(["stop", "-t", "1", "prey"]).run().succeeds();
    let id = store.vmrun(["ps", "-aq", "--no-trunc"]).run().succeeds();
    let disk = store.path().join("containers").join(id.trim()).join("disk.ext4");
    let check = Command::new("e2fsck").args(["-f", "-n"]).arg(disk).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    store.vmrun(["rm", "prey"]).run().succeeds();
    assert_eq!(fs::read_dir(store.path().join("run")).unwrap().count(), 0);
}

/// The monitors of this store.
fn monitors(store: &Store) -> Vec<i32> {
    let root = store.path().as_os_str().as_encoded_bytes().to_vec();
    let mut found = processes(&["vmrun monitor"]);
    found.retain(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(root.len()).any(|part| part == root)
    });
    found
}

fn kill(pids: &[i32]) {
    for pid in pids {
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).output();
    }
}
