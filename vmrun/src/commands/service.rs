//! `vmrun system service`: containers that are wanted always start with the user's session, by a unit
//! of the user's systemd. There is no daemon: the unit starts what is to be started, and is done.

use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Host, kill, print, start};
use crate::cli::ServiceAction;

const UNIT: &str = "vmrun.service";

pub fn service(action: &ServiceAction) -> Result<u8> {
    match action {
        ServiceAction::Install => install().map(|()| 0),
        ServiceAction::Uninstall => uninstall().map(|()| 0),
        ServiceAction::Start => start_wanted(),
        ServiceAction::Stop => stop_all(),
    }
}

/// Writes the unit, and the link by which it starts with the user's session.
fn install() -> Result<()> {
    let folder = units()?;
    let program = env::current_exe().context("cannot find this program")?;
    let unit = folder.join(UNIT);
    let wants = folder.join("default.target.wants");
    let write = || {
        fs::create_dir_all(&wants)?;
        fs::write(&unit, text(&program))?;
        let link = wants.join(UNIT);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(Path::new("..").join(UNIT), link)
    };
    write().with_context(|| format!("cannot install {}", unit.display()))?;
    print(&format!(
        "{}\nIt starts with your next session; with 'loginctl enable-linger', when the machine \
         does.\n",
        unit.display()
    ))
}

fn uninstall() -> Result<()> {
    let folder = units()?;
    for path in [folder.join("default.target.wants").join(UNIT), folder.join(UNIT)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The folder of the user's units.
fn units() -> Result<PathBuf> {
    let config = match env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty()) {
        Some(config) => PathBuf::from(config),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".config"),
    };
    Ok(config.join("systemd/user"))
}

fn text(program: &Path) -> String {
    let program = program.display().to_string().replace('%', "%%");
    format!(
        "[Unit]\n\
         Description=Containers of vmrun with a restart policy\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         Delegate=yes\n\
         ExecStart=\"{program}\" system service start\n\
         ExecStop=\"{program}\" system service stop\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    )
}

/// Starts the containers whose policy wants it; all are tried, whatever becomes of each.
fn start_wanted() -> Result<u8> {
    let host = Host::open()?;
    host.containers.sweep()?;
    let mut failed = 0;
    for (container, status) in host.containers.list_with_status()? {
        let condition = container.condition()?;
        let was_started = status.word() != "created";
        if was_started && container.record.restart.wants_at_login(condition.stopped) {
            match start::start_one(&host, &container) {
                Ok(()) => print(&format!("{}\n", container.record.name))?,
                Err(error) => failed = crate::error::report(&error, 1),
            }
        }
    }
    Ok(failed)
}

/// Ends what runs, because the session does: what is wanted always starts with the next one.
fn stop_all() -> Result<u8> {
    let host = Host::open()?;
    std::thread::scope(|scope| {
        for (container, status) in host.containers.list_with_status()? {
            if status.is_running() {
                let host = &host;
                scope.spawn(move || {
                    kill::end(host, &container, kill::own_patience(&container), false);
                });
            }
        }
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names_the_program_whatever_it_is_called() {
        let text = text(Path::new("/opt/100% vm/vmrun"));
        assert!(text.contains("ExecStart=\"/opt/100%% vm/vmrun\" system service start\n"));
    }
}
