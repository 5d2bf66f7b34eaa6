//! `-t`: a terminal for the command, and the user's own as it was afterwards.

use crate::support::{image, pty::Terminal, vmrun};

fn at_terminal(args: &[&str]) -> Terminal {
    Terminal::start(&vmrun(args).command())
}

#[test]
fn shell_is_interactive() {
    let mut terminal = at_terminal(&["run", "-it", "--rm", image("busybox"), "sh"]);
    terminal.shows("# ");
    terminal.types("tty; echo $TERM $((40+2))\r");
    terminal.shows("/dev/pts/0");
    terminal.shows("xterm 42");
    terminal.types("exit 5\r");
    assert_eq!(terminal.status(), 5);
}

#[test]
fn window_size_follows_the_user_s() {
    let mut terminal = at_terminal(&["run", "-it", "--rm", image("busybox"), "sh"]);
    terminal.shows("# ");
    terminal.types("stty size\r");
    terminal.shows("24 80");
    terminal.resize(51, 133);
    std::thread::sleep(std::time::Duration::from_secs(2));
    terminal.types("stty size\r");
    terminal.shows("51 133");
    terminal.types("exit\r");
    assert_eq!(terminal.status(), 0);
}

#[test]
fn control_c_interrupts_the_command_in_the_guest() {
    let mut terminal = at_terminal(&["run", "-it", "--rm", image("busybox"), "sh"]);
    terminal.shows("# ");
    terminal.types("sleep 1000\r");
    std::thread::sleep(std::time::Duration::from_secs(1));
    terminal.types("\x03");
    terminal.types("echo status=$?\r");
    terminal.shows("status=130");
    terminal.types("exit\r");
    assert_eq!(terminal.status(), 0);
}

#[test]
fn user_s_terminal_is_restored() {
    let mut terminal = at_terminal(&["run", "-it", "--rm", image("busybox"), "sh"]);
    let before = terminal.settings().local_modes;
    terminal.shows("# ");
    assert_ne!(terminal.settings().local_modes, before, "raw mode");
    terminal.types("exit\r");
    terminal.status();
    assert_eq!(terminal.settings().local_modes, before);
}

#[test]
fn busy_full_screen_program_works() {
    let mut terminal = at_terminal(&["run", "-it", "--rm", image("busybox"), "vi", "/tmp/file"]);
    terminal.shows("/tmp/file");
    terminal.types("ihello from vi");
    terminal.shows("hello from vi");
    terminal.types("\x1b");
    // An escape that more follows at once would be a key of the terminal's.
    std::thread::sleep(std::time::Duration::from_secs(2));
    terminal.types(":wq\r");
    assert_eq!(terminal.status(), 0);
}

#[test]
fn terminal_is_refused_where_there_is_none() {
    vmrun(["run", "-it", "--rm", image("busybox"), "sh"])
        .run()
        .fails(1, &["the input device is not a TTY"]);
}

#[test]
fn output_of_t_alone_is_a_terminal_s() {
    let out = vmrun(["run", "-t", "--rm", image("busybox"), "sh", "-c", "test -t 1 && echo tty"])
        .run()
        .succeeds();
    assert_eq!(out, "tty\r\n");
}
