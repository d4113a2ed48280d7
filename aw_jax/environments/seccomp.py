"""The system calls that a sandbox refuses: those that reach past its namespaces or its limits.

Namespaces, rlimits and dropped capabilities hold most of what an agent may try. What they leave:
AF_VSOCK sockets reach the machine's hypervisor from any network namespace; System V objects and
message queues outlive the process that made them, and so its episode; they and memfds are memory
that no rlimit counts; the kernel's key rings and log belong to the host; prlimit and the calls of
the scheduler change other processes of the same user, the next episode's shell among them; io_uring
does work that no filter sees; new namespaces would bring a process rights of its own in them.
Refused calls fail with EPERM, as for anybody without permission.

The filter is a classic BPF program over `struct seccomp_data` (seccomp(2)).
"""

import errno
import platform
import struct

from aw_jax.environments.base import MissingProgramError

_ARCHITECTURES = {'x86_64': 0xC000003E, 'aarch64': 0xC00000B7}  # AUDIT_ARCH_*
_X32 = 0x40000000  # x86_64's numbers of another ABI begin here
# name -> number on x86_64, on aarch64
_REFUSED = {
    'shmget': (29, 194), 'semget': (64, 190), 'msgget': (68, 186), 'mq_open': (240, 180),
    'memfd_create': (319, 279), 'memfd_secret': (447, 447),
    'add_key': (248, 217), 'request_key': (249, 218), 'keyctl': (250, 219),
    'syslog': (103, 116), 'bpf': (321, 280), 'perf_event_open': (298, 241),
    'userfaultfd': (323, 282), 'io_uring_setup': (425, 425), 'ptrace': (101, 117),
    'process_vm_readv': (310, 270), 'process_vm_writev': (311, 271), 'pidfd_getfd': (438, 438),
    'unshare': (272, 97), 'setns': (308, 268)}
# A new process may share what it likes, but make no namespace. Where the flags of clone3 are no
# filter sees: it is as on a kernel without it, and programs take clone.
_CLONE, _CLONE3 = (56, 220), (435, 435)
_NEW_NAMESPACE = 0x7E020000  # any CLONE_NEW*
# Calls allowed where each argument has one of its values: name -> (numbers, argument -> values,
# error). A process id of 0 is the caller; AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK are families
# that every network namespace has to itself.
_FAMILIES = {0: (1, 2, 10, 16)}
_RESTRICTED = {
    'prlimit64': ((302, 261), {0: (0,)}, errno.EPERM),
    'setpriority': ((141, 140), {0: (0,), 1: (0,)}, errno.EPERM),
    'ioprio_set': ((251, 30), {0: (1,), 1: (0,)}, errno.EPERM),
    'sched_setaffinity': ((203, 122), {0: (0,)}, errno.EPERM),
    'sched_setscheduler': ((144, 119), {0: (0,)}, errno.EPERM),
    'sched_setparam': ((142, 118), {0: (0,)}, errno.EPERM),
    'sched_setattr': ((314, 274), {0: (0,)}, errno.EPERM),
    'socket': ((41, 198), _FAMILIES, errno.EAFNOSUPPORT),
    'socketpair': ((53, 199), _FAMILIES, errno.EAFNOSUPPORT)}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW = 0x7FFF0000
_ERROR = 0x00050000  # and the number of the error


def program(machine: str | None = None) -> bytes:
  """The filter for `machine` (this one where None), as `bwrap --seccomp` reads it.

  Raises:
    MissingProgramError: where the machine's system calls are not known.
  """
  machine = machine or platform.machine()
  if machine not in _ARCHITECTURES:
    raise MissingProgramError(
        f'the sandbox can filter system calls on {" and ".join(_ARCHITECTURES)}, not on {machine}: '
        'collect on one of those')
  column = list(_ARCHITECTURES).index(machine)
  unknown = _instruction(_RETURN, _ERROR | errno.ENOSYS)
  code = [_instruction(_LOAD, _ARCHITECTURE),
          _instruction(_EQUAL, _ARCHITECTURES[machine], 1, 0), unknown,
          _instruction(_LOAD, _NUMBER)]
  if machine == 'x86_64':
    code += [_instruction(_AT_LEAST, _X32, 0, 1), unknown]
  refuse = _instruction(_RETURN, _ERROR | errno.EPERM)
  for numbers in _REFUSED.values():
    code += [_instruction(_EQUAL, numbers[column], 0, 1), refuse]
  code += [_instruction(_EQUAL, _CLONE3[column], 0, 1), unknown]
  code += [_instruction(_EQUAL, _CLONE[column], 0, 4), _instruction(_LOAD, _ARGUMENTS),
           _instruction(_ANY_BIT, _NEW_NAMESPACE, 0, 1), refuse, _instruction(_RETURN, _ALLOW)]
  for numbers, allowed, error in _RESTRICTED.values():
    code += _restricted(numbers[column], allowed, error)
  return b''.join([*code, _instruction(_RETURN, _ALLOW)])


def _restricted(number: int, allowed: dict[int, tuple[int, ...]], error: int) -> list[bytes]:
  """Lets call `number` through where the low word of every argument is among its values.

  The kernel reads these arguments as 32 bits too.
  """
  checks = []
  for argument, values in allowed.items():
    checks.append(_instruction(_LOAD, _ARGUMENTS + 8 * argument))
    checks += [_instruction(_EQUAL, value, len(values) - i, 0) for i, value in enumerate(values)]
    checks.append(_instruction(_RETURN, _ERROR | error))
  checks.append(_instruction(_RETURN, _ALLOW))
  return [_instruction(_EQUAL, number, 0, len(checks)), *checks]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
  """One `struct sock_filter`; jumps count the instructions that they skip."""
  return struct.pack('=HBBI', code, if_true, if_false, value)
