/*
 * A PID 1 that makes one VM exit that can be told from all others, a CPUID at an address
 * of user mode, and restarts the machine.
 */
.globl _start
_start:
    cpuid
    mov $169, %eax        /* reboot(MAGIC1, MAGIC2, RESTART, -) */
    mov $0xfee1dead, %edi
    mov $672274793, %esi
    mov $0x1234567, %edx
    syscall
1:  jmp 1b
