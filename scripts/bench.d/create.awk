# From a trace (clock x86-tsc) of sched_process_exec, sched_process_fork, sched_switch and
# sys_enter_ftruncate: the CPU ticks of the first process that executes PROGRAM, from there to its
# first fork that is a process (the monitor), and of these since it gave the disk its size.
{
  for (i = 1; i < NF; i++) if ($i ~ /^(sched_process_exec|sched_process_fork|sched_switch|sys_ftruncate)[:(]/) break
  if (i == NF) next
  time = $(i - 1); sub(/:$/, "", time)
  match($0, /-[0-9]+ +\[/); task = substr($0, RSTART + 1, RLENGTH - 1) + 0
}
$i == "sched_process_exec:" && !pid && index($0, "filename=" program) { pid = task; since = time; next }
!pid { next }
$i == "sched_switch:" && task == pid && since { cpu += time - since; since = 0 }
$i == "sched_switch:" && index($0, "next_pid=" pid " ") { since = time }
task != pid { next }
$i ~ /^sys_ftruncate/ && !disk { disk = cpu + time - since }
$i == "sched_process_fork:" && disk { total = cpu + time - since; print int(total), int(total - disk); exit }
