# What the benches share that run in the test host, as root there; sourced by them.
# vmrun, kernel and tools are measured from memory, the containers are on ext4.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
work=/run/bench
export VMRUN_ROOT=/scratch/bench IMAGES
group=/sys/fs/cgroup/bench-$$

rm -rf $work && mkdir -p $work/bin $work/lib $work/marker
cp "$repository/build/bin/vmrun" $work/bin/
cp -r "$repository/build/lib/vmrun" $work/lib/
cp "$repository/build/bench/charge" $work/
cp "$repository/build/lib/vmrun/vmlinux" "$repository/build/bench/marker/initramfs" $work/marker/
vmrun=$work/bin/vmrun

# as_user COMMAND…
as_user() {
  setpriv --reuid 1000 --regid 1000 --groups "$(stat -c %g /dev/kvm)" --no-new-privs \
    env HOME=/scratch/home XDG_RUNTIME_DIR=/run/user/1000 "$@"
}

# charged COMMAND…: runs it as the user, in a cgroup of its own, until all of it is over;
# sets cpu (µs), wall (µs) and status.
charged() {
  read -r cpu wall _ status < <($work/charge -u -c "$group" "$@" 3>&1 >/dev/null 2>$work/stderr)
}

# spread NUMBER…: "least (… most)", in millions of instructions from microseconds.
spread() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END {
  printf "%.1f M (of %d runs: median %.1f, most %.1f)", v[1] / 1e3, NR, v[int((NR + 1) / 2)] / 1e3, v[NR] / 1e3 }'; }
least() { printf '%s\n' "$@" | sort -n | head -n 1; }
millions() { awk -v v="$1" 'BEGIN { printf "%.1f M", v / 1e3 }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

as_user mkdir -p $VMRUN_ROOT
as_user "$vmrun" images | grep -q '^busybox ' || as_user "$vmrun" load -q -i "$IMAGES/busybox.tar" >&2
