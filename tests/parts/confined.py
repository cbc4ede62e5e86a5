"""Runs a program that may make some system calls only: all others fail with EPERM, as with SystemCallFilter= of systemd.

    python tests/parts/confined.py CALL,CALL,… PROGRAM ARGUMENT…

Source: seccomp_init(3), seccomp_rule_add(3).
"""

import ctypes
import errno
import os
import sys
from collections.abc import Sequence

_FAIL = 0x00050000 | errno.EPERM
_ALLOW = 0x7FFF0000


def main(calls: Sequence[str], command: list[str]) -> None:
    """Raises OSError if the kernel does not accept the filter."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_FAIL))
    # Systemd knows calls of newer kernels and other processors, too.
    numbers = (seccomp.seccomp_syscall_resolve_name(each.encode()) for each in calls)
    for number in numbers:
        if number >= 0:
            seccomp.seccomp_rule_add(context, _ALLOW, number, 0)
    status = seccomp.seccomp_load(context)
    if status:
        raise OSError(-status, "the filter was not accepted")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2:])
