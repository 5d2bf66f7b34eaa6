//! The monitor or the VM killed at a random moment of any command: what is said afterwards is true,
//! nothing is left running, and the container starts again with a sound disk (`threats.md` rows 33
//! and 36).
//!
//! `KILLS` says how many moments are tried, and `SEED` from which number they follow.

use std::{env, fs, process::Command, thread, time::Duration};

use crate::support::{Store, eventually, finish, processes};

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
        let victim = if random.below(2) == 0 { "vmrun monitor" } else { "vmm" };
        kill(&store, victim);
        // Whatever it comes to, it comes to an end.
        finish(child, &said);
        kill(&store, "vmrun monitor");
        eventually(&format!("{said}: nothing is left"), || living(&store, "vm").is_empty());
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

/// This store's processes whose command line has these words.
fn living(store: &Store, words: &str) -> Vec<i32> {
    let root = store.path().as_os_str().as_encoded_bytes().to_vec();
    let mut found = processes(&[words]);
    found.retain(|pid| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        program.ends_with("vmrun") && environment.windows(root.len()).any(|part| part == root)
    });
    // The commands of the case itself are none of it.
    found.retain(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.get(1).is_some_and(|word| [&b"monitor"[..], b"vmm"].contains(word))
    });
    found
}

fn kill(store: &Store, words: &str) {
    for pid in living(store, words) {
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).output();
    }
}
