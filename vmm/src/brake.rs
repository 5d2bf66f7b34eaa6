//! Stops the vCPUs and lets them go on.
//!
//! ```text
//!   vCPU thread                               the thread that runs the VM
//!   pass ──▶ KVM_RUN ──▶ exit served ──┐      hold:    signal to all that are in, until all are out
//!    ▲ └─ held: waits on a futex       │      release: wake them
//!    └─────────────────────────────────┘
//! ```
//!
//! A vCPU looks at the brake before each entry to the guest. One that is in the guest already, or
//! sleeps in KVM because the guest halted, is fetched out by a signal whose handler does nothing:
//! `KVM_RUN` then returns `EINTR`. A signal that arrives between the look and the entry is lost, so
//! it is sent again until the vCPU stands.
//!
//! Only vCPUs stop. Device threads finish what is in flight, and then wait for kicks that do not
//! come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libc::{c_int, c_void, siginfo_t};
use rustix::process::Pid;
use vmm_sys_util::signal::register_signal_handler;

/// No real-time signal: of those, processes of the same user could use up all that may wait.
const SIGNAL: c_int = libc::SIGUSR1;

/// How long a signalled vCPU has to come out before it is signalled again.
const SIGNAL_AGAIN: Duration = Duration::from_millis(2);

/// Why vCPUs are held. They go on when no reason is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The VM's owner wants it.
    Pause,
}

/// What a vCPU finds at the brake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// An open way.
    Straight,
    /// It stood still because its owner paused the VM.
    AfterPause,
}

/// One for all vCPUs of a VM.
#[derive(Debug)]
pub(crate) struct Brake {
    /// Whether `state` holds the vCPUs; what they look at each time.
    held: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    paused: bool,
    /// By number of the vCPU: its thread while it may be in the guest.
    running: Vec<Option<Pid>>,
}

impl State {
    fn holds(&self) -> bool {
        self.paused
    }

    fn set(&mut self, hold: Hold, to: bool) {
        match hold {
            Hold::Pause => self.paused = to,
        }
    }
}

impl Brake {
    /// Makes ready to signal threads of this process.
    pub(crate) fn new() -> Result<Arc<Self>, vmm_sys_util::errno::Error> {
        register_signal_handler(SIGNAL, do_nothing)?;
        let state = Mutex::new(State { paused: false, running: Vec::new() });
        Ok(Arc::new(Self { held: AtomicBool::new(false), state, changed: Condvar::new() }))
    }

    /// A place for one more vCPU.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        let mut state = self.lock();
        state.running.push(None);
        Seat { brake: self.clone(), number: state.running.len() - 1, running: false }
    }

    /// Stops the vCPUs, and returns when all of them stand: true. Gives up on those that will never
    /// stand when `over` says that the VM has ended: false.
    pub(crate) fn hold(&self, hold: Hold, over: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        state.set(hold, true);
        self.held.store(true, Ordering::SeqCst);
        while state.running.iter().any(Option::is_some) {
            if over() {
                return false;
            }
            state.running.iter().flatten().for_each(|thread| interrupt(*thread));
            let waited = self.changed.wait_timeout(state, SIGNAL_AGAIN);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Takes one reason away.
    pub(crate) fn release(&self, hold: Hold) {
        let mut state = self.lock();
        state.set(hold, false);
        self.held.store(state.holds(), Ordering::SeqCst);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A vCPU's place at the brake, used by its thread alone. A vCPU that is gone stands for ever.
#[derive(Debug)]
pub(crate) struct Seat {
    brake: Arc<Brake>,
    number: usize,
    running: bool,
}

impl Seat {
    /// Waits while vCPUs are held. Called before each entry to the guest, on the vCPU's thread.
    pub(crate) fn pass(&mut self) -> Passed {
        if self.running && !self.brake.held.load(Ordering::SeqCst) {
            return Passed::Straight;
        }
        let mut state = self.brake.lock();
        let mut passed = Passed::Straight;
        self.occupy(&mut state, None);
        while state.holds() {
            passed = if state.paused { Passed::AfterPause } else { passed };
            let woken = self.brake.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        self.occupy(&mut state, Some(rustix::thread::gettid()));
        self.running = true;
        passed
    }

    /// Says whether the vCPU is in.
    fn occupy(&self, state: &mut State, thread: Option<Pid>) {
        if let Some(place) = state.running.get_mut(self.number) {
            *place = thread;
        }
        self.brake.changed.notify_all();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.occupy(&mut self.brake.lock(), None);
    }
}

/// Fetches a thread of this process out of a system call.
fn interrupt(thread: Pid) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: the call passes numbers only. Its handler does nothing, and `Brake::new` has
    // registered it. A thread that is gone meanwhile is an error that nobody needs to hear of.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGNAL) };
}

/// That the signal arrives is all that it is for.
extern "C" fn do_nothing(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    /// A thread that passes the brake again and again, as a vCPU does; `guest` is what it runs.
    /// Gives how often it has.
    fn vcpu(brake: &Arc<Brake>, guest: fn()) -> Arc<AtomicU64> {
        let mut seat = brake.seat();
        let counter = Arc::new(AtomicU64::new(0));
        let count = counter.clone();
        thread::spawn(move || {
            loop {
                seat.pass();
                count.fetch_add(1, Ordering::SeqCst);
                guest();
            }
        });
        goes_on(&counter, 0);
        counter
    }

    fn goes_on(counter: &AtomicU64, from: u64) {
        while counter.load(Ordering::SeqCst) == from {
            thread::yield_now();
        }
    }

    /// What only a signal ends, as `KVM_RUN` of a guest that halted.
    fn halted() {
        // SAFETY: the call takes nothing and touches no memory.
        unsafe { libc::pause() };
    }

    #[test]
    fn held_vcpus_stand_and_released_ones_go_on() {
        let brake = Brake::new().unwrap();
        let counters = [vcpu(&brake, || ()), vcpu(&brake, halted)];
        for _ in 0..100 {
            assert!(brake.hold(Hold::Pause, || false));
            let counts = counters.each_ref().map(|counter| counter.load(Ordering::SeqCst));
            thread::yield_now();
            for (counter, count) in counters.iter().zip(counts) {
                assert_eq!(counter.load(Ordering::SeqCst), count);
            }
            brake.release(Hold::Pause);
            counters.iter().zip(counts).for_each(|(counter, count)| goes_on(counter, count));
        }
    }

    #[test]
    fn a_vcpu_learns_that_it_was_paused() {
        let brake = Brake::new().unwrap();
        let mut seat = brake.seat();
        assert!(brake.hold(Hold::Pause, || false));
        let held = thread::spawn(move || [seat.pass(), seat.pass()]);
        thread::sleep(Duration::from_millis(20));
        assert!(!held.is_finished());
        brake.release(Hold::Pause);
        assert_eq!(held.join().unwrap(), [Passed::AfterPause, Passed::Straight]);
    }

    #[test]
    fn a_vcpu_that_never_stands_is_given_up_on_when_the_vm_is_over() {
        let brake = Brake::new().unwrap();
        let mut seat = brake.seat();
        seat.pass();
        let over = AtomicBool::new(false);
        assert!(!brake.hold(Hold::Pause, || over.swap(true, Ordering::SeqCst)));
    }

    #[test]
    fn a_vcpu_that_is_gone_is_not_waited_for() {
        let brake = Brake::new().unwrap();
        let mut seat = brake.seat();
        seat.pass();
        drop(seat);
        assert!(brake.hold(Hold::Pause, || false));
    }
}
