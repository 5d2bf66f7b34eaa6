# Adds up the kvm_entry and kvm_exit lines of a trace whose clock is the TSC (x86-tsc; one tick an
# instruction under -icount). With marked=1 it stops at the marker, a CPUID in user mode.
# Prints: exits, ticks inside the guest, and how often for which reason.
{
  # TASK-PID [CPU] FLAGS TIMESTAMP: EVENT: …
  for (i = 1; i < NF; i++) if ($i ~ /^kvm_(entry|exit):$/) break
  if (i == NF) next
  thread = $(i - 3); sub(/:$/, "", $(i - 1)); time = $(i - 1)
  match($0, /[^ ]+-[0-9]+ +\[/); thread = substr($0, RSTART, RLENGTH)
}
$i == "kvm_entry:" { entered[thread] = time; next }
(thread in entered) {
  guest += time - entered[thread]; delete entered[thread]
  reason = rip = ""
  for (j = i; j < NF; j++) {
    if ($j == "reason") reason = $(j + 1)
    if ($j == "rip") { rip = $(j + 1); break }
  }
  # A vCPU that comes up later has a CPUID too, below 1 MiB.
  if (marked && reason ~ /cpuid/ && length(rip) < 18 && strtonum(rip) > 0x100000 && high) { found = 1; exit }
  if (length(rip) == 18) high = 1
  exits++; by[reason]++
}
END {
  if (marked && !found) print "PID 1 was not reached" > "/dev/stderr"
  printf "%d %d", exits, guest
  n = asorti(by, names, "@val_num_desc")
  for (j = 1; j <= n && j <= 9; j++) printf " %s:%d", names[j], by[names[j]]
  print ""
}
