//! Where things live on the host. One user, one store; `VMRUN_ROOT` moves all of it.
//!
//! ```text
//! data     $VMRUN_ROOT, else $XDG_DATA_HOME/vmrun, else ~/.local/share/vmrun
//!   containers/<id>/            see `container`
//!   blobs/ layers/ roots/ …     see `image_store`
//! config   $VMRUN_ROOT, else $XDG_CONFIG_HOME/vmrun, else ~/.config/vmrun
//!   registries.toml             see `registry`
//! runtime  $VMRUN_ROOT/run, else $XDG_RUNTIME_DIR/vmrun, else <data>/run
//!   <id>/{control,vsock}.sock
//! guest    $VMRUN_GUEST, else <bin>/../lib/vmrun, else <data>/kernel
//!   vmlinux initramfs
//! ```

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A folder of vmrun's could not be found or made.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error(
        "neither HOME, XDG_DATA_HOME nor VMRUN_ROOT is set, so there is no place for the store"
    )]
    NoHome,
    #[error("{variable} is the relative path '{path}'; an absolute one is needed")]
    Relative { variable: &'static str, path: PathBuf },
    #[error("cannot make the folder {path}")]
    Make { path: PathBuf, source: io::Error },
    #[error(
        "the guest's kernel and agent (vmlinux, initramfs) are in none of {searched}; \
         'scripts/build' makes them, VMRUN_GUEST names their folder"
    )]
    NoGuest { searched: String },
}

/// The folders of this user.
#[derive(Clone, Debug)]
pub struct Paths {
    data: PathBuf,
    runtime: PathBuf,
}

impl Paths {
    /// Finds the folders from the environment and makes those that are missing, mode 0700.
    pub fn from_env() -> Result<Self, PathError> {
        let paths = match absolute("VMRUN_ROOT")? {
            Some(root) => return Self::below(&root),
            None => {
                let data = match absolute("XDG_DATA_HOME")? {
                    Some(home) => home.join("vmrun"),
                    None => absolute("HOME")?.ok_or(PathError::NoHome)?.join(".local/share/vmrun"),
                };
                let runtime = match absolute("XDG_RUNTIME_DIR")? {
                    Some(runtime) if runtime.is_dir() => runtime.join("vmrun"),
                    _ => data.join("run"),
                };
                Self { data, runtime }
            }
        };
        paths.made()
    }

    /// All of them in one folder.
    pub fn below(root: &Path) -> Result<Self, PathError> {
        Self { runtime: root.join("run"), data: root.to_owned() }.made()
    }

    fn made(self) -> Result<Self, PathError> {
        make_durable(&self.data)?;
        for path in [&self.runtime, &self.containers()] {
            make_private(path)?;
        }
        Ok(self)
    }

    /// The image store's root.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The settings of registries, a file that need not be.
    pub fn registries(&self) -> Result<PathBuf, PathError> {
        let folder = match (absolute("VMRUN_ROOT")?, absolute("XDG_CONFIG_HOME")?) {
            (Some(root), _) => root,
            (None, Some(home)) => home.join("vmrun"),
            (None, None) => absolute("HOME")?.ok_or(PathError::NoHome)?.join(".config/vmrun"),
        };
        Ok(folder.join("registries.toml"))
    }

    /// The folder of all containers.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// The folder of one container's sockets; it exists while its monitor runs.
    pub fn runtime_of(&self, id: &str) -> PathBuf {
        self.runtime.join(id)
    }

    /// The folder of all of them where it is this store's own and outlasts a reboot; another store of
    /// the user may have containers in that of the session.
    pub fn lasting_runtime(&self) -> Option<&Path> {
        self.runtime.starts_with(&self.data).then_some(self.runtime.as_path())
    }

    /// Finds the guest's kernel and initramfs.
    pub fn guest(&self) -> Result<GuestFiles, PathError> {
        let mut folders = Vec::new();
        if let Some(folder) = absolute("VMRUN_GUEST")? {
            folders.push(folder);
        } else {
            let beside = env::current_exe()
                .ok()
                .and_then(|exe| Some(exe.parent()?.parent()?.join("lib/vmrun")));
            folders.extend(beside);
            folders.push(self.data.join("kernel"));
        }
        for folder in &folders {
            let files =
                GuestFiles { kernel: folder.join("vmlinux"), initramfs: folder.join("initramfs") };
            if files.kernel.is_file() && files.initramfs.is_file() {
                return Ok(files);
            }
        }
        let searched: Vec<_> = folders.iter().map(|path| path.display().to_string()).collect();
        Err(PathError::NoGuest { searched: searched.join(", ") })
    }
}

/// What the guest boots from.
#[derive(Clone, Debug)]
pub struct GuestFiles {
    /// Uncompressed ELF kernel.
    pub kernel: PathBuf,
    /// Uncompressed cpio that holds the agent as `/init`.
    pub initramfs: PathBuf,
}

/// Makes a folder and its parents, mode 0700; one that exists is left as it is.
pub fn make_private(path: &Path) -> Result<(), PathError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| PathError::Make { path: path.into(), source })
}

/// The same, and what was made is there after a power cut.
fn make_durable(path: &Path) -> Result<(), PathError> {
    let Some(above) = path.parent().filter(|_| !path.is_dir()) else { return Ok(()) };
    make_durable(above)?;
    make_private(path)?;
    let sync = fs::File::open(above).and_then(|above| above.sync_all());
    sync.map_err(|source| PathError::Make { path: path.into(), source })
}

fn absolute(variable: &'static str) -> Result<Option<PathBuf>, PathError> {
    match env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from) {
        Some(path) if path.is_relative() => Err(PathError::Relative { variable, path }),
        path => Ok(path),
    }
}
