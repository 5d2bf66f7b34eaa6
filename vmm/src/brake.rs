//! Stops the vCPUs and lets them go on.
//!
//! ```text
//!   vCPU thread                               the thread that runs the VM
//!   pass ──▶ KVM_RUN ──▶ exit served ──┐      pause:  signal to all that are in, until all are out
//!    ▲ └─ held: waits on a futex       │      resume: wake them
//!    └─────────────────────────────────┘
//! ```
//!
//! A vCPU looks at the brake before each entry to the guest. One that is in the guest already, or
//! sleeps in KVM because the guest halted, is fetched out by a signal whose handler does nothing:
//! `KVM_RUN` then returns `EINTR`. A signal that arrives between the look and the entry is lost, so
//! it is sent again until the vCPU stands.
//!
//! A VM with a CPU quota has the same brake: each vCPU's own CPU time raises the signal, at every
//! tick of [`Throttle`], and what it charges itself then may make all of them stand for a while. The
//! others see that at their next tick, if not before. A guest that does nothing uses no CPU time, and
//! is not woken.
//!
//! Only vCPUs stop. Device threads finish what is in flight, and then wait for kicks that do not
//! come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, mem, ptr};

use libc::{c_int, c_void, siginfo_t};
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};
use vmm_sys_util::errno;
use vmm_sys_util::signal::register_signal_handler;

use crate::throttle::Throttle;

/// No real-time signal: of those, processes of the same user could use up all that may wait.
const SIGNAL: c_int = libc::SIGUSR1;

/// How long a signalled vCPU has to come out before it is signalled again.
const SIGNAL_AGAIN: Duration = Duration::from_millis(2);

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
    /// Whether `state` may hold the vCPUs; what they look at each time.
    held: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    paused: bool,
    throttle: Option<Throttle>,
    /// Until when the vCPUs stand for what they have used.
    spent_until: Option<Instant>,
    /// By number of the vCPU: its thread while it may be in the guest.
    running: Vec<Option<Pid>>,
}

impl Brake {
    /// Makes ready to signal threads of this process.
    pub(crate) fn new(throttle: Option<Throttle>) -> Result<Arc<Self>, errno::Error> {
        register_signal_handler(SIGNAL, do_nothing)?;
        let state = State { paused: false, throttle, spent_until: None, running: Vec::new() };
        let (state, held) = (Mutex::new(state), AtomicBool::new(false));
        Ok(Arc::new(Self { held, state, changed: Condvar::new() }))
    }

    /// A place for one more vCPU.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        let mut state = self.lock();
        state.running.push(None);
        let tick = state.throttle.as_ref().map(Throttle::tick);
        let number = state.running.len() - 1;
        Seat { brake: self.clone(), number, running: false, tick, charged: Duration::ZERO }
    }

    /// Stops the vCPUs, and returns when all of them stand: true. Gives up on those that will never
    /// stand when `over` says that the VM has ended: false.
    pub(crate) fn pause(&self, over: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        state.paused = true;
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

    /// Lets them go on.
    pub(crate) fn resume(&self) {
        self.lock().paused = false;
        self.changed.notify_all();
    }

    /// Waits while vCPUs must stand; the first that may go on lets go of the brake for all.
    fn stand<'a>(&'a self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, Passed) {
        let mut passed = Passed::Straight;
        loop {
            let left = state.spent_until.map(|end| end.saturating_duration_since(Instant::now()));
            state = match left {
                _ if state.paused => {
                    passed = Passed::AfterPause;
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
                Some(left) if !left.is_zero() => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                _ => {
                    state.spent_until = None;
                    self.held.store(false, Ordering::SeqCst);
                    return (state, passed);
                }
            };
        }
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
    tick: Option<Duration>,
    /// CPU time of the thread that is in the accounts.
    charged: Duration,
}

impl Seat {
    /// CPU time of its thread after which the vCPU is to be interrupted each time: [`tick_each`].
    pub(crate) fn tick(&self) -> Option<Duration> {
        self.tick
    }

    /// Waits while vCPUs are held. Called before each entry to the guest, on the vCPU's thread.
    pub(crate) fn pass(&mut self) -> Passed {
        if self.running && !self.brake.held.load(Ordering::SeqCst) {
            return Passed::Straight;
        }
        let mut state = self.brake.lock();
        self.occupy(&mut state, None);
        let (mut state, passed) = self.brake.stand(state);
        self.occupy(&mut state, Some(rustix::thread::gettid()));
        self.running = true;
        passed
    }

    /// Accounts for what the vCPU has used. Called when a signal has interrupted it.
    pub(crate) fn charge(&mut self) {
        if self.tick.is_none() {
            return;
        }
        let total = clock_gettime(ClockId::ThreadCPUTime);
        let total = Duration::try_from(total).unwrap_or(self.charged);
        let used = total.saturating_sub(self.charged);
        self.charged = total;
        let mut state = self.brake.lock();
        let Some(throttle) = &mut state.throttle else { return };
        if let Some(until) = throttle.charge(Instant::now(), used) {
            state.spent_until = Some(until);
            self.brake.held.store(true, Ordering::SeqCst);
        }
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

/// From now on, interrupts the calling thread each time that it has used this much CPU time more.
pub(crate) fn tick_each(cpu_time: Duration) -> io::Result<()> {
    // The first look at a clock finds the vDSO, by calls that the thread's filter does not allow.
    let _ = clock_gettime(ClockId::ThreadCPUTime);
    let interval = libc::timespec {
        tv_sec: libc::time_t::try_from(cpu_time.as_secs()).map_err(io::Error::other)?,
        tv_nsec: cpu_time.subsec_nanos().into(),
    };
    let ticks = libc::itimerspec { it_interval: interval, it_value: interval };
    // SAFETY: all zeroes is a valid `sigevent`, a plain C struct, and no timer's name yet. The calls
    // are given pointers to values that live until they return, and names that the first one gave.
    unsafe {
        let mut event: libc::sigevent = mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = ptr::null_mut();
        let clock = libc::CLOCK_THREAD_CPUTIME_ID;
        if libc::timer_create(clock, &raw mut event, &raw mut timer) != 0
            || libc::timer_settime(timer, 0, &raw const ticks, ptr::null_mut()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// That the signal arrives is all that it is for.
extern "C" fn do_nothing(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;
    use crate::config::CpuQuota;

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
        let brake = Brake::new(None).unwrap();
        let counters = [vcpu(&brake, || ()), vcpu(&brake, halted)];
        for _ in 0..100 {
            assert!(brake.pause(|| false));
            let counts = counters.each_ref().map(|counter| counter.load(Ordering::SeqCst));
            thread::yield_now();
            for (counter, count) in counters.iter().zip(counts) {
                assert_eq!(counter.load(Ordering::SeqCst), count);
            }
            brake.resume();
            counters.iter().zip(counts).for_each(|(counter, count)| goes_on(counter, count));
        }
    }

    #[test]
    fn a_vcpu_learns_that_it_was_paused() {
        let brake = Brake::new(None).unwrap();
        let mut seat = brake.seat();
        assert!(brake.pause(|| false));
        let held = thread::spawn(move || [seat.pass(), seat.pass()]);
        thread::sleep(Duration::from_millis(20));
        assert!(!held.is_finished());
        brake.resume();
        assert_eq!(held.join().unwrap(), [Passed::AfterPause, Passed::Straight]);
    }

    #[test]
    fn a_vcpu_that_never_stands_is_given_up_on_when_the_vm_is_over() {
        let brake = Brake::new(None).unwrap();
        let mut seat = brake.seat();
        seat.pass();
        let over = AtomicBool::new(false);
        assert!(!brake.pause(|| over.swap(true, Ordering::SeqCst)));
    }

    #[test]
    fn a_vcpu_that_is_gone_is_not_waited_for() {
        let brake = Brake::new(None).unwrap();
        let mut seat = brake.seat();
        seat.pass();
        drop(seat);
        assert!(brake.pause(|| false));
    }

    #[test]
    fn a_thread_that_burns_under_a_quota_gets_its_share() {
        let quota = CpuQuota::try_from(300_000_000).unwrap();
        let brake = Brake::new(Some(Throttle::new(quota))).unwrap();
        let mut seat = brake.seat();
        let used = thread::spawn(move || {
            tick_each(seat.tick().unwrap()).unwrap();
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(3) {
                seat.pass();
                // What a vCPU does until its tick.
                let pass = clock_gettime(ClockId::ThreadCPUTime);
                while Duration::try_from(clock_gettime(ClockId::ThreadCPUTime) - pass).unwrap()
                    < Duration::from_millis(1)
                {}
                seat.charge();
            }
            Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap() / 3
        });
        let used = used.join().unwrap();
        assert!(used < Duration::from_millis(330), "{used:?} a second");
    }
}
