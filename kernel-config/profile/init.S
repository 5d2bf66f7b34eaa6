/* The smallest PID 1: restarts the machine. Linked at an address nothing else uses. */
.globl _start
_start:
    mov $169, %eax        /* reboot(MAGIC1, MAGIC2, RESTART, -) */
    mov $0xfee1dead, %edi
    mov $672274793, %esi
    mov $0x1234567, %edx
    syscall
1:  jmp 1b
