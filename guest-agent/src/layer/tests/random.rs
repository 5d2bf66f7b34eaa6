//! Random images and random histories of containers.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

use super::{Overlay, judge};

/// Something done to a path.
#[derive(Clone, Debug)]
enum Step {
    Write(u8),
    Append,
    Truncate(u16),
    Directory,
    Remove,
    Rename(String),
    Link(String),
    Symlink(String),
    Mode(u32),
    Owner(u32),
    Xattr(u8),
    Fifo,
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-c]", 1..4).prop_map(|names| names.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Write),
        2 => Just(Step::Append),
        1 => any::<u16>().prop_map(Step::Truncate),
        4 => Just(Step::Directory),
        3 => Just(Step::Remove),
        6 => path().prop_map(Step::Rename),
        2 => path().prop_map(Step::Link),
        1 => path().prop_map(Step::Symlink),
        1 => (0o700u32..=0o777).prop_map(Step::Mode),
        1 => (0u32..5_000_000).prop_map(Step::Owner),
        1 => any::<u8>().prop_map(Step::Xattr),
        1 => Just(Step::Fifo),
    ]
}

/// Does what can be done; the rest is passed over. Nothing goes through symlinks.
fn act(root: &Path, history: &[(String, Step)]) {
    for (path, step) in history {
        let place = root.join(path);
        let is_real = |path: &str| {
            let mut folders = Path::new(path).ancestors().skip(1);
            folders.all(|folder| !root.join(folder).is_symlink())
        };
        let is_link = place.is_symlink();
        // Opening a FIFO would wait for its other end.
        let is_file = place.is_file() && !is_link;
        let _ = match step {
            _ if !is_real(path) => Ok(()),
            Step::Write(byte) if is_file || place.symlink_metadata().is_err() => {
                fs::write(&place, vec![*byte; 100])
            }
            Step::Append if is_file => fs::OpenOptions::new()
                .append(true)
                .open(&place)
                .and_then(|file| file.write_at(b"more", 0).map(drop)),
            Step::Truncate(pages) if is_file => File::options()
                .write(true)
                .open(&place)
                .and_then(|file| file.set_len(u64::from(*pages) * 4096)),
            Step::Directory => fs::create_dir(&place),
            Step::Remove if !is_link && place.is_dir() => fs::remove_dir_all(&place),
            Step::Remove => fs::remove_file(&place),
            Step::Rename(to) if is_real(to) => fs::rename(&place, root.join(to)),
            Step::Link(to) if is_real(to) => fs::hard_link(&place, root.join(to)),
            Step::Symlink(target) => symlink(target, &place),
            Step::Mode(mode) if !is_link => {
                fs::set_permissions(&place, fs::Permissions::from_mode(*mode))
            }
            Step::Owner(owner) => std::os::unix::fs::lchown(&place, Some(*owner), Some(owner / 2)),
            Step::Xattr(byte) if !is_link => {
                lsetxattr(&place, c"user.x", &[*byte], XattrFlags::empty()).map_err(Into::into)
            }
            Step::Fifo => mknodat(CWD, &place, FileType::Fifo, Mode::from_bits_retain(0o600), 0)
                .map_err(Into::into),
            _ => Ok(()),
        };
    }
    let _ = chown(root, Some(0), Some(0));
}

fn history(steps: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(String, Step)>> {
    proptest::collection::vec((path(), step()), steps)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    #[ignore = "mounts overlays as root: scripts/test runs it in the test host"]
    fn any_history_gives_docker_s_list_and_gnu_tar_s_tree(
        image in history(0..60), container in history(0..40),
    ) {
        let overlay = Overlay::of(|lower| act(lower, &image));
        act(&overlay.at("merged"), &container);
        judge::agrees(&overlay);
    }
}
