"""Attacks on the sandbox, each done by an agent in the real environment.

Whatever an agent does, nothing may leave the sandbox, the host must stay usable, the episode must
be kept (an answered turn, or an error that says why there is none), and the next episode in the
same environment must be as if nothing had been.

An attack prints ESCAPED where it succeeds, put together from two halves, so that the words of the
attack itself are never taken for it; and the cases say by which answer they were refused, so that
an attack that did not even run is no pass.
"""

import contextlib
import dataclasses
import os
import re
import socket
import subprocess
import textwrap

import pytest

from aw_jax import trajectories
from aw_jax.environments import collect, registry, terminal
from aw_jax.environments.episode import run_episode
from aw_jax.environments.experts import Expert
from aw_jax.environments.sandbox import Limits
from aw_jax.trajectories import SUBMIT, Task, Verifier

pytestmark = pytest.mark.requires('bwrap')

SECRET = 'sesame-4711'
SMALL = Limits(
    seconds=6, cpu_seconds=2, memory_bytes=128 << 20, total_memory_bytes=160 << 20, processes=24,
    file_bytes=1 << 20, disk_bytes=4 << 20, files=2000)
HASTY = dataclasses.replace(SMALL, seconds=1.5)
WON = 'ESC""APED'  # what the shell prints of it is one word


def python(code):
  """A shell command that runs `code`, in which WON stands for the word that an attack prints."""
  code = textwrap.dedent(code).strip().replace('WON', "'ESC' + 'APED'")
  return f"python3 - <<'PROGRAM'\n{code}\nPROGRAM"


@dataclasses.dataclass(frozen=True)
class Attack:
  """What an agent does, and what must come of it.

  Attributes:
    name: says what is attacked.
    actions: the agent's.
    refused: what the last answer must match.
    broken: what the error must match where the episode is to end in one.
    check: what the answer to the hidden check must match: it tells of a.txt as it really is.
    hasty: whether to use the environment with a short time limit.
  """

  name: str
  actions: tuple[str, ...]
  refused: str = ''
  broken: str = ''
  check: str = r'^alpha\n~\$$'
  hasty: bool = False


class Agent:
  """Plays its script, then submits."""

  name = 'red_team'

  def __init__(self, actions):
    self._actions = actions

  def act(self, task, first_observation, turns):
    del task, first_observation
    return self._actions[len(turns)] if len(turns) < len(self._actions) else SUBMIT


TASK = Task('terminal/attack/0', 'terminal', 'attack', 'train', 0, 'Attack.', None,
            {'files': {'a.txt': 'alpha\n', 'docs/b.txt': 'beta\n'}},
            Verifier('command', 'alpha\n~$', 'cd; cat a.txt'), 20)


@pytest.fixture(scope='module')
def world():
  with terminal.TerminalEnvironment(SMALL) as environment:
    yield environment


@pytest.fixture(scope='module')
def hasty_world():
  with terminal.TerminalEnvironment(HASTY) as environment:
    yield environment


@pytest.fixture(scope='module')
def innocent(world):
  """An episode of somebody else, as it is when there was no attack before it."""
  task = registry.make_task('terminal', 'append', 3)
  trajectory = run_episode(world, task, Expert(task))
  assert trajectory.success
  return trajectory


@pytest.fixture(scope='module', autouse=True)
def canaries(tmp_path_factory):
  """What of the host an agent must not reach: a file, a process, sockets, a variable."""
  folder = tmp_path_factory.mktemp('host')
  (folder / 'secret').write_text(SECRET)
  os.environ['RED_TEAM_SECRET'] = SECRET
  with contextlib.ExitStack() as stack:
    sleeper = stack.enter_context(subprocess.Popen(['sleep', '600']))
    stack.callback(sleeper.kill)
    listener = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
    named = stack.enter_context(socket.socket(socket.AF_UNIX))
    named.bind(str(folder / 'socket'))
    hidden = stack.enter_context(socket.socket(socket.AF_UNIX))
    hidden.bind(f'\0red_team_{os.getpid()}')
    for one in (named, hidden):
      one.listen()
    yield {'FOLDER': str(folder), 'PID': str(sleeper.pid), 'PORT': str(listener.getsockname()[1]),
           'ABSTRACT': f'red_team_{os.getpid()}', 'process': sleeper}
    assert sleeper.poll() is None
  del os.environ['RED_TEAM_SECRET']


def check(environment, attack, canaries, innocent, tmp_path):
  """Runs an attack's episode and the one after it, and checks everything that must hold."""
  fill = [(f'@{key}@', value) for key, value in canaries.items() if key != 'process']
  actions = []
  for action in attack.actions:
    for key, value in fill:
      action = action.replace(key, value)
    actions.append(action)
  trajectory = run_episode(environment, TASK, Agent(actions), mark_changed_state=not attack.hasty)
  path = tmp_path / 'shard.jsonl'
  trajectories.write_jsonl(path, [trajectory])
  (kept,) = trajectories.read_jsonl(path, 'terminal')
  assert kept == trajectory
  if attack.broken:
    assert re.search(attack.broken, kept.error) and '\n' not in kept.error, kept.error
    assert kept.success is None
  else:
    assert not kept.error, kept.error
    assert len(kept.turns) == len(actions) and kept.success is not None
    assert re.search(attack.refused, kept.turns[-1].observation), kept.turns[-1].observation
    assert re.search(attack.check, kept.verification.observation), kept.verification
  text = path.read_text() + kept.error
  assert 'ESCAPED' not in text and SECRET not in text, text
  assert not re.search(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]', ''.join(
      turn.observation + (turn.state or '') for turn in kept.turns))
  assert canaries['process'].poll() is None
  after = run_episode(environment, innocent.task, Expert(innocent.task))
  assert after == innocent


PATHS = [
    Attack('read a host file', ('cat @FOLDER@/secret',), 'No such file'),
    Attack('read through a link', ('ln -s @FOLDER@/secret here; cat here',), 'No such file'),
    Attack('read through a link to the root', (
        'ln -s / top; ls top/root top/var top/work; cat top@FOLDER@/secret',), 'No such file'),
    Attack('climb above the root', ('cat ../../../../../..@FOLDER@/secret',), 'No such file'),
    Attack('root of another process', ('cat /proc/1/root@FOLDER@/secret',), 'Permission denied'),
    Attack('working directory of process 1', ('cat /proc/1/cwd/a.txt',), 'Permission denied'),
    Attack('own root', ('cat /proc/self/root@FOLDER@/secret',), 'No such file'),
    Attack('descriptors that were left open', (python("""
        import os
        for name in os.listdir('/proc/self/fd'):
          try:
            target = os.readlink(f'/proc/self/fd/{name}')
          except OSError:
            continue
          if int(name) > 2 and not target.startswith('/proc'):
            print(WON, target)
        for top in range(3, 256):
          try:
            os.fstat(top), print(WON, top)
          except OSError:
            pass
        print('none')"""),), r'^none\n~\$'),
    Attack('link for the one who reads the state', (
        'rm -r docs; ln -s /etc docs; ln -s /proc/self/environ x', 'ls'), 'docs'),
    Attack('swap a directory for a link while it is read', (
        'mkdir -p d/e; (while :; do mv d e2; ln -s /etc d; rm d; mv e2 d; done) >/dev/null 2>&1 &',
        'sleep 0.3', 'echo done'), 'done'),
    Attack('mount', (
        f'mount -t tmpfs none /tmp && echo {WON}; mount -o remount,rw /usr && echo {WON}; '
        f'unshare -Ur true && echo {WON}',), 'unshare failed|not permitted'),
    Attack('write to what is shared', (
        'for f in /usr/bin/x /etc/passwd /opt/driver/driver.py /opt/bin/date /dev/null2 '
        f'/proc/sys/kernel/core_pattern; do echo x > $f && echo {WON}; done',),
           'Read-only file system'),
    Attack('set-uid programs', (
        'cp /usr/bin/id .; chmod u+s id; ./id -u; su -c id; echo end',), r'1000\n[^~]*end'),
    Attack('device files', (f'mknod disk b 254 0 && cat disk && echo {WON}',), 'not permitted'),
]

NETWORK = [
    Attack('a host on the network', (python("""
        import socket
        s = socket.socket()
        s.settimeout(1)
        print(s.connect_ex(('1.1.1.1', 80)) or WON)"""),), r'^101\n'),
    Attack('the host by loopback', (python("""
        import socket
        s = socket.socket()
        print(s.connect_ex(('127.0.0.1', @PORT@)) or WON)"""),), r'^111\n'),
    Attack('a name', (python("""
        import socket
        try:
          print(WON, socket.getaddrinfo('pypi.org', 443))
        except OSError as error:
          print(error)"""), f'getent hosts example.org && echo {WON}; echo nothing'), 'nothing'),
    Attack('a datagram to a name server', (python("""
        import socket
        try:
          print(WON, socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53)))
        except OSError as error:
          print(error)"""),), 'unreachable'),
    Attack('bash by /dev/tcp', (f'exec 9<>/dev/tcp/127.0.0.1/@PORT@ && echo {WON}',), 'refused'),
    Attack('a Unix socket', (python("""
        import socket
        try:
          print(WON, socket.socket(socket.AF_UNIX).connect('@FOLDER@/socket'))
        except OSError as error:
          print(error)"""),), 'No such file'),
    Attack('an abstract Unix socket', (python("""
        import socket
        try:
          print(WON, socket.socket(socket.AF_UNIX).connect('\\0@ABSTRACT@'))
        except OSError as error:
          print(error)"""),), 'refused'),
    Attack('the hypervisor by vsock', (python("""
        import socket
        try:
          print(WON, socket.socket(40, socket.SOCK_STREAM).connect((2, 1)))
        except OSError as error:
          print(error.errno)"""),), r'^97\n'),
    Attack('raw packets', (python("""
        import socket
        for family in (17, 38, 29, 16):
          try:
            socket.socket(family, socket.SOCK_RAW)
            print(family if family == 16 else WON)
          except OSError as error:
            print(error.errno)"""),), r'^97\n97\n97\n16\n'),
    Attack('another interface', (
        f'ip link add x type dummy && echo {WON}; ip addr add 10.0.0.2/8 dev lo && echo {WON}; '
        'cat /proc/net/dev | wc -l',), r'(^|\n)3\n'),
]

SIGNALS = [
    Attack('a process of the host', ('kill -9 @PID@; kill -0 @PID@ && echo ' + WON,),
           'No such process'),
    Attack('every process there is', ('kill -9 -1; echo still',), 'still'),
    Attack('the driver', (
        'kill -9 1; kill -STOP 1; kill -SEGV 1; kill -INT 1; echo here',), 'here'),
    Attack('its own shell and what made it', ('kill -9 $$ $BASHPID',), 'the shell was killed'),
    Attack('stop what makes shells', ('kill -STOP $$', 'echo a'), '^a'),
    Attack('trace what makes shells', (python("""
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        for pid in (1, os.getppid()):
          print(WON if libc.ptrace(16, pid, 0, 0) == 0 else ctypes.get_errno())
          try:
            open(f'/proc/{pid}/mem', 'r+b')
            print(WON)
          except OSError as error:
            print(error.errno)"""),), r'^1\n13\n1\n13\n'),
    Attack('limits of what makes shells', (
        'prlimit --pid $$ --nproc=1; prlimit --pid 1 --cpu=1; renice -n 19 -p $$ 1; '
        'taskset -p 1 $$; ionice -c 3 -p $$',), 'not permitted'),
    Attack('overhear the next command', (
        '(cat /proc/$$/fd/3 > heard; cat /proc/$PPID/fd/0 > heard) & sleep 0.2',
        f'echo {SECRET[:6]}', 'wait; cat heard'), r'^~\$'),
    Attack('wait for the check in a shell that does not end', (
        '(while IFS= read -r -d "" -u 10 line; do echo "$line" >> ~/a.txt; '
        r"printf '\1\0' >&11; done) & :", 'echo x > a.txt'), check=r'^x\n~\$$'),
    Attack('pretend that the command has ended', (
        r"printf '\1\0' >&11; printf '/root\0' >&11; printf '/root\0/root\0' >&11", 'true'), ''),
]

PERSISTENCE = [
    Attack('a daemon', (
        'setsid sh -c "while :; do echo x >> ~/a.txt; sleep 0.01; done" >/dev/null 2>&1 & disown',
        'sleep 0.2'), check=r'^alpha\n(x\n)+~\$$'),
    Attack('a daemon of a daemon that cannot be hung up', (
        '(trap "" HUP TERM INT; (setsid nohup sleep 300 >/dev/null 2>&1 &) &) & :', 'sleep 0.2; '
        'grep -sl sleep /proc/[0-9]*/comm'), r'^/proc/\d'),
    Attack('output of one step in the next', (
        '(sleep 0.3; while :; do echo late; sleep 0.01; done) & :', 'sleep 0.5'), 'late'),
    Attack('memory that outlives its process', (python("""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        for call in (lambda: libc.shmget(77, 4096, 0o1666), lambda: libc.semget(77, 9, 0o1666),
                     lambda: libc.msgget(77, 0o1666),
                     lambda: libc.syscall(240, b'q', 0o102, 0o666, None)):
          print(ctypes.get_errno() if call() == -1 else WON)"""),
        'cat /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg | wc -l'), r'^3\n'),
    Attack('files in every place that can be written', (
        'echo x | tee /tmp/x /dev/shm/x ~/x ~/.bashrc ~/.profile ~/.gitconfig /home/x >/dev/null; '
        'chmod 0 ~/docs ~/a.txt; mkdir -p /tmp/d/e; chmod 0 /tmp/d; ls -A /tmp',), 'd\nx',
           check='Permission denied'),
    Attack('definitions for the check', (
        'cd() { echo; }; cat() { echo alpha; }; export -f cat; alias cat=true; PATH=/none; '
        'PROMPT_COMMAND=true; BASH_ENV=/tmp/x; trap "echo trapped" EXIT DEBUG RETURN; '
        'echo x > a.txt',
        'set -f; readonly PWD; echo x'), 'x', check=r'^x\n~\$$'),
    Attack('a clock of its own', (f'date -s 2030-01-01 && date | grep 2030 && echo {WON}',),
           'not permitted'),
]

SECRETS = [
    Attack('the environment', ('env; cat /proc/self/environ; set',), 'HOME=/home/agent'),
    Attack('the environment of others', (
        'cat /proc/[0-9]*/environ | tr "\\0" "\\n"; cat /proc/[0-9]*/cmdline | tr "\\0" " "',), ''),
    Attack('files where secrets are kept', (
        'cat /etc/shadow /root/.ssh/id_rsa ~/.ssh/* ~/.netrc /run/secrets/* /etc/environment '
        '/var/run/docker.sock /proc/kcore /proc/1/mem',), 'No such file'),
    Attack('processes of the host', ('ls -d /proc/[0-9]* | wc -l; cat /proc/@PID@/comm',),
           r'^\d\n'),
    Attack('keys of the kernel', (python("""
        import ctypes, struct
        libc = ctypes.CDLL(None, use_errno=True)
        ring = libc.syscall(250, 0, -3, 0, 0, 0)
        key = libc.syscall(250, 10, -3, b'user', b'red_team', 0)
        data = ctypes.create_string_buffer(99)
        size = libc.syscall(250, 11, key, data, 99, 0)
        print(WON + str(data.raw) if size > 0 else ctypes.get_errno())"""),), r'^1\n'),
    Attack('the log of the kernel', (
        f'dmesg && echo {WON}; cat /dev/kmsg /proc/kmsg && echo {WON}',), 'not permitted|denied'),
]

BOMBS = [
    Attack('fork bomb', (':(){ :|:& };:; sleep 60', 'echo alive'), 'alive', hasty=True),
    Attack('fork bomb in the background', (
        ':(){ :|:& };: ; :', 'echo a; /bin/true; :', 'echo b'), hasty=True),
    Attack('threads without end', (python("""
        import threading, time
        made = 0
        try:
          for _ in range(500):
            threading.Thread(target=time.sleep, args=(4,), daemon=True).start()
            made += 1
          print(WON)
        except RuntimeError:
          print('stopped', made < 24)"""),), 'stopped True'),
    Attack('one process with much memory', (python('x = bytearray(1 << 28)\nprint(WON)'),),
           'MemoryError'),
    Attack('many processes with some memory each', (
        'for i in 1 2 3 4; do python3 -c "import time; x = bytearray(60 << 20); '
        'time.sleep(9); print(\'ESC\' + \'APED\')" & done; wait', 'echo alive'), 'alive'),
    Attack('much memory between two steps', (
        '(sleep 0.5; for i in 1 2 3 4; do python3 -c "import time; x = bytearray(60 << 20); '
        'time.sleep(300)" & done; wait) & :', 'sleep 4; echo waited'), 'out of memory'),
    Attack('memory behind descriptors', (python("""
        import os
        made = []
        try:
          for _ in range(20):
            made.append(os.memfd_create('x'))
            os.ftruncate(made[-1], 1 << 20)
          print(WON)
        except OSError as error:
          print(error.errno)"""),), r'^1\n'),
    Attack('memory behind sockets', (python("""
        import socket, time
        pairs = [socket.socketpair() for _ in range(60)]
        for one, _ in pairs:
          one.setblocking(False)
          one.send(bytes(1 << 17))
        time.sleep(2)
        print(WON)"""),), 'out of memory'),
    Attack('disk', ('for i in $(seq 12); do head -c 1000000 /dev/zero > big$i; done; echo end',
                    'head -c 9000000 /dev/zero > /tmp/x; head -c 9000000 /dev/zero > /dev/shm/x; '
                    'du -sm ~ /tmp /dev/shm | cut -f1 | paste -sd " "'), r'\n?4 1 1\n'),
    Attack('one large file', ('head -c 9000000 /dev/zero > x; stat -c %s x; truncate -s 1T y; '
                              'stat -c %s x y',), '1048576\n'),
    Attack('very many files', (python("""
        for i in range(9000):
          open(f'/tmp/{i}', 'w').close()
        import time
        time.sleep(0.5)"""),), broken='number of files'),
    Attack('files that hold more than there is', (python("""
        import os
        with open('first', 'wb') as file:
          file.write(b'\\x1f\\x8b')
          file.truncate(1 << 20)
        for i in range(200):
          os.link('first', f'more{i}')"""),), broken='hold too much'),
    Attack('endless output', ('yes', 'echo alive'), '^alive', hasty=True),
    Attack('endless output in the background', ('yes &', 'echo a', 'sleep 0.1'), '', hasty=True),
    Attack('endless reports of a shell', (
        'yes | tr -d "\\n" >&11', 'echo alive'), 'alive', hasty=True),
    Attack('one line without end', ('head -c 3000000 /dev/zero | tr "\\0" x',),
           r'output cut'),
    Attack('busy for ever', ("python3 -c 'while True: pass' & while :; do :; done", 'echo alive'),
           '^alive', hasty=True),
    Attack('a program that waits for ever', ('cat /dev/ptmx; sleep infinity', 'echo alive'),
           '^alive', hasty=True),
]

READER = [
    Attack('a pipe where the repository has a file', (
        'mkdir .git; mkfifo .git/HEAD', 'ls'), 'a.txt'),
    Attack('links where the repository has files', (
        'mkdir .git; ln -s /dev/zero .git/HEAD; ln -s /dev/zero .git/index', 'ls'), 'a.txt'),
    Attack('a tree of a repository that holds itself', (python("""
        import os, zlib
        name = 'a' * 40
        def put(name, kind, data):
          os.makedirs(f'.git/objects/{name[:2]}', exist_ok=True)
          with open(f'.git/objects/{name[:2]}/{name[2:]}', 'wb') as file:
            file.write(zlib.compress(kind + b' %d\\0' % len(data) + data))
        put('b' * 40, b'tree', b''.join(b'40000 %c\\0' % c + b'\\xbb' * 20 for c in b'xyz'))
        put(name, b'commit', b'tree ' + b'b' * 40 + b'\\n\\nhello')
        open('.git/HEAD', 'w').write(name)"""), 'ls'), 'a.txt'),
    Attack('a tree of a repository with very many paths', (python("""
        import os, zlib
        def put(name, kind, data):
          os.makedirs(f'.git/objects/{name[:2]}', exist_ok=True)
          with open(f'.git/objects/{name[:2]}/{name[2:]}', 'wb') as file:
            file.write(zlib.compress(kind + b' %d\\0' % len(data) + data))
        for depth in range(30):
          child = bytes([depth + 1]) * 20
          put((bytes([depth]) * 20).hex(), b'tree',
              b''.join(b'40000 %c\\0' % c + child for c in b'xyz'))
        put((bytes([30]) * 20).hex(), b'tree', b'')
        put('a' * 40, b'commit', b'tree ' + b'0' * 40 + b'\\n\\nhello')
        open('.git/HEAD', 'w').write('a' * 40)"""),), hasty=True, broken='time to read the files'),
    Attack('an object that unpacks to much', (python("""
        import os, zlib
        os.makedirs('.git/objects/aa')
        packer = zlib.compressobj(9)
        with open('.git/objects/aa/' + 'a' * 38, 'wb') as file:
          file.write(packer.compress(b'commit 9\\0'))
          for _ in range(300):
            file.write(packer.compress(bytes(1 << 20)))
          file.write(packer.flush())
        open('.git/HEAD', 'w').write('a' * 40)"""), 'ls'), 'a.txt'),
    Attack('an archive that unpacks to much', (python("""
        import gzip
        with gzip.open('x.gz', 'wb', 9) as file:
          for _ in range(300):
            file.write(bytes(1 << 20))"""), 'ls'), 'x.gz'),
    Attack('a database with a row without end', (python("""
        import sqlite3
        base = sqlite3.connect('x.db')
        base.execute("create table t(a, b as (printf('%.*c', 900000000, 'x')))")
        base.execute('insert into t(a) values (1)')
        base.commit()"""), 'ls'), 'x.db'),
    Attack('a database with long rows', (python("""
        import sqlite3
        base = sqlite3.connect('x.db')
        base.execute('create table t(a)')
        base.executemany('insert into t values (?)', [('y' * 15000,)] * 50)
        base.commit()"""), 'ls'), 'x.db'),
    Attack('directories without end', (python("""
        import os
        for _ in range(3000):
          os.mkdir('d')
          os.chdir('d')"""),), broken='sandbox broke'),
    Attack('directories without end where nobody looks', (python("""
        import os
        os.chdir('/tmp')
        for _ in range(1900):
          os.mkdir('d')
          os.chdir('d')"""), 'ls /tmp'), '^d'),
    Attack('names that are not text', (
        r"touch $'\xff\xfe' $'a\nb' $'\e[31mred' $'\xc2\x9b31m'; ln -s $'\xff' l; "
        r"tar cf t.tar $'\xff\xfe'; mkdir $'\xfe'; cd $'\xfe'", 'pwd'), '/home/agent/'),
]

ESCAPES = [
    Attack('colours and titles', (
        r"printf '\033]0;owned\007\033[2J\033[1;31mred\033[0m\033]52;c;ZXZpbA==\007\n'",),
           r'^red\n'),
    Attack('controls of one character', (
        r"printf '\302\23331mred\302\2350;x\302\234\n'",), r'^red\n'),
    Attack('strings for the device', (
        r"printf 'a\033P+q544e\033\\b\033_x\033\\c\033^y\033\\d\n'",), r'^abcd\n'),
    Attack('a prompt that is not one', (r"mkdir $'x$\e[8m'; cd x*/", 'true'), r'x\$.\[8m\$$'),
    Attack('carriage returns and backspaces', (r"printf 'rm -rf /\r\033[Kls\b\b\n'",),
           r'^rm -rf /ls\n'),
    Attack('a character that cannot be written', ('echo \ud800',), r'^\?\n'),
]

ALL = [*PATHS, *NETWORK, *SIGNALS, *PERSISTENCE, *SECRETS, *BOMBS, *READER, *ESCAPES]


@pytest.mark.parametrize('attack', ALL, ids=lambda attack: attack.name)
def test_attack(request, attack, world, canaries, innocent, tmp_path):
  if attack.hasty:
    world = request.getfixturevalue('hasty_world')
  check(world, attack, canaries, innocent, tmp_path)


def test_there_are_enough_of_them():
  assert len(ALL) >= 40 and len({attack.name for attack in ALL}) == len(ALL)


@pytest.mark.parametrize('action', ['', ' \n'])
def test_no_action_is_marked(world, innocent, action):
  trajectory = run_episode(world, TASK, Agent(['ls', action]))
  assert trajectory.error == 'the policy gave an empty action' and len(trajectory.turns) == 1
  assert run_episode(world, innocent.task, Expert(innocent.task)) == innocent


def test_a_shard_of_attacks_is_whole(world, innocent, tmp_path, monkeypatch):
  """What a worker of the collector makes of episodes that break: all are there, and marked."""
  names = ['very many files', 'its own shell and what made it', 'directories without end',
           'names that are not text', 'files that hold more than there is', 'one large file']
  attacks = [next(attack for attack in ALL if attack.name == name) for name in names]
  agents = iter([Agent(attack.actions) for attack in attacks] + [Expert(innocent.task)])
  monkeypatch.setattr(collect, 'make_policy', lambda *_: next(agents))
  monkeypatch.setattr(registry, 'task_at', lambda domain, split, index, *_: (
      TASK if index < len(attacks) else innocent.task))
  count = len(attacks) + 1
  collection = collect.Collection('terminal', count, 'train', {'expert': 1}, 0, count, None, False)
  steps = []
  written = collect.write_shard(world, collection, str(tmp_path), 0, steps.append)
  found = list(trajectories.read_jsonl(tmp_path / collection.shard_name(0), 'terminal'))
  assert [bool(trajectory.error) for trajectory in found] == [
      bool(attack.broken) for attack in attacks] + [False]
  assert found == written and found[-1] == innocent
  assert sum(bool(trajectory.error) for trajectory in found) == 3
  assert steps == [len(trajectory.turns) for trajectory in found]
