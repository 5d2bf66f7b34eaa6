//! Makes the two templates of an empty writable disk with `mke2fs`, as sparse lists of blocks, for
//! `src/disk.rs` to embed. See there for why there are two.
//!
//! A template file is: fs size in bytes (u64), then for each 4 KiB block that is not zero its
//! number (u32) and its content; all little-endian.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::SeekFrom;

const BLOCK: usize = 4096;

/// Settings both templates share: a 64 MiB journal; nothing left for the kernel to initialise in
/// the background; block groups' metadata together, so that an empty disk touches few host blocks.
const EXTENDED: &str =
    "assume_storage_prezeroed=1,nodiscard,hash_seed=76d72756-6e00-4000-8000-6469736b0002";
const COMMON: &[&str] = &["-q", "-F", "-t", "ext4", "-b", "4096", "-J", "size=64", "-m", "0"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    template(
        &out.join("disk-10g.template"),
        10 << 30,
        &["-O", "^resize_inode,sparse_super2", "-G", "4096"],
        ",num_backup_sb=0,packed_meta_blocks=1",
    );
    template(&out.join("disk-growable.template"), 256 << 20, &["-O", "^resize_inode,meta_bg"], "");
}

fn template(to: &Path, size: u64, options: &[&str], extended: &str) {
    let image = to.with_extension("ext4");
    let _ = fs::remove_file(&image);
    fs::File::create(&image).and_then(|file| file.set_len(size)).expect("a sparse file");
    // Fixed identity and time: every disk of one build is the same, and the build repeats.
    let status = Command::new("mke2fs")
        .env("PATH", format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default()))
        .env("E2FSPROGS_FAKE_TIME", "1")
        .args(COMMON)
        .args(options)
        .args(["-U", "76d72756-6e00-4000-8000-6469736b0001"])
        .args(["-E", &format!("{EXTENDED}{extended}")])
        .arg(&image)
        .status()
        .expect("mke2fs runs (package e2fsprogs)");
    assert!(status.success(), "mke2fs {status}");

    let mut out = Vec::new();
    out.extend(size.to_le_bytes());
    let file = fs::File::open(&image).expect("the image opens");
    let mut block = [0; BLOCK];
    let mut at = 0;
    while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        let number = data / BLOCK as u64;
        file.read_exact_at(&mut block, number * BLOCK as u64).expect("the image reads");
        if block.iter().any(|&byte| byte != 0) {
            out.extend(u32::try_from(number).expect("a small image").to_le_bytes());
            out.extend(block);
        }
        at = (number + 1) * BLOCK as u64;
    }
    fs::File::create(to).and_then(|mut file| file.write_all(&out)).expect("the template");
    fs::remove_file(&image).expect("the image goes");
}
