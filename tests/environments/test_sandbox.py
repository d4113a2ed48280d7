"""What the sandbox lets in, what it stops, and that it comes back."""

import contextlib
import os
import subprocess
import sys
import time

import pytest

from aw_jax.environments import sandbox, terminal_state
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.sandbox import Limits, Sandbox

SETUP = {'files': {'a.txt': 'alpha beta\ngamma\n', 'docs/b.txt': 'one\n'}}


@pytest.fixture(scope='module')
def box():
  with_limits = Sandbox(Limits(seconds=3, cpu_seconds=1, memory_bytes=256 << 20, processes=30,
                               file_bytes=1 << 20, disk_bytes=4 << 20))
  yield with_limits
  with_limits.close()


@pytest.fixture
def run(box):
  box.reset(SETUP, seed=3)
  return lambda command: box.run(command).output


@pytest.mark.requires('bwrap')
class TestIsolation:

  def test_there_is_no_network(self, run):
    code = 'import socket; print(socket.socket().connect_ex(("1.1.1.1", 80)))'
    assert run(f"python3 -c '{code}'").strip() == '101'  # ENETUNREACH
    assert run('cat /proc/net/dev | tail -n +3 | cut -d: -f1').split() == ['lo']

  def test_host_files_are_invisible(self, run, tmp_path):
    secret = tmp_path / 'secret'
    secret.write_text('secret')
    assert 'No such file' in run(f'cat {secret}')
    assert run('ls /').split() == sorted(run('ls /').split())
    assert not {'root', 'var', 'srv', 'mnt', 'work', 'run'} & set(run('ls /').split())
    assert run('ls /home /tmp') == '/home:\nagent\n\n/tmp:\n'
    assert run('cat /etc/passwd').startswith('agent:x:1000:')
    assert not run('cat /etc/passwd').startswith('root')

  @pytest.mark.parametrize('path', ['/x', '/usr/x', '/etc/x', '/dev/x', '/opt/bin/date', '/proc/x'])
  def test_nothing_outside_can_be_written(self, run, path):
    assert run(f'echo x > {path} && echo written') .count('written') == 0

  def test_agent_is_an_unprivileged_user(self, box, run):
    assert run('id -un; id -u').split() == ['agent', '1000']
    assert run('grep CapEff /proc/self/status').split()[1].strip('0') == ''
    with open(f'/proc/{box._process.pid}/status', encoding='utf-8') as status:
      uid = next(line for line in status if line.startswith('Uid:')).split()[1]
    assert uid != '0'

  def test_environment_and_host_processes_do_not_leak(self, run, monkeypatch):
    monkeypatch.setenv('AW_JAX_SECRET', 'secret')
    assert 'AW_JAX_SECRET' not in run('env')
    assert len(run('ls -d /proc/[0-9]*').split()) < 8
    assert run('cat /proc/1/environ').count('Permission denied') == 1  # the driver's

  def test_links_of_the_agent_are_not_followed(self, box, run):
    run('ln -s /etc/passwd link; ln -s /usr here; ln -s a.txt near')
    state = box.run('ls').state
    assert '== link -> /etc/passwd\n' in state and '== here -> /usr\n' in state
    assert 'agent:x' not in state
    assert box.reset(SETUP, seed=3) == terminal_state.render(
        terminal_state.setup_entries(SETUP['files']))


@pytest.mark.requires('bwrap')
class TestLimits:

  def test_wall_clock(self, box, run):
    run('cd docs; x=5')
    start = time.monotonic()
    result = box.run('echo before; sleep 60; echo after')
    assert time.monotonic() - start < 10
    assert result.killed_for == 'time' and result.output == 'before\n' and result.cwd == '~'
    assert run('echo $x; pwd; ls') == '\n/home/agent\na.txt\ndocs\n'

  def test_cpu_time(self):
    with contextlib.closing(Sandbox(Limits(seconds=60, cpu_seconds=1))) as busy:
      busy.reset(SETUP, seed=3)
      result = busy.run("python3 -c 'while True: pass'")
    assert not result.killed_for and 'Killed' in result.output

  def test_memory(self, run):
    assert 'MemoryError' in run("python3 -c 'x = bytearray(1 << 30)'")

  def test_file_size(self, run):
    run('head -c 3000000 /dev/zero > big')
    assert run('stat -c %s big') == '1048576\n'

  def test_disk(self, run):
    run('for i in 1 2 3 4 5 6 7 8; do head -c 1000000 /dev/zero > big$i; done')
    assert int(run('du -sb . | cut -f1')) <= 4 << 20
    assert 'No space left' in run('echo more > more; head -c 900000 /dev/zero > other')

  def test_fork_bomb(self, box, run):
    assert box.run('f() { f | f & }; f; sleep 60').killed_for == 'time'
    assert run('echo alive') == 'alive\n'
    box.reset(SETUP, seed=3)
    assert len(run('ls -d /proc/[0-9]*').split()) < 8

  def test_endless_output(self, box):
    box.reset(SETUP, seed=3)
    result = box.run('yes')  # ended by the wall clock or by a cap, whichever comes first
    assert 1000 < len(result.output) <= Limits().output_bytes
    assert box.run('echo alive').output == 'alive\n'


@pytest.mark.requires('bwrap')
class TestRecovery:

  def test_background_processes_end_with_the_episode(self, box, run):
    run('(while true; do echo x >> a.txt; sleep 0.01; done) & sleep 100 & :')
    box.reset(SETUP, seed=3)
    time.sleep(0.1)
    assert run('cat a.txt') == SETUP['files']['a.txt']
    assert 'sleep' not in run('cat /proc/[0-9]*/comm')

  def test_everything_written_is_gone_after_reset(self, box, run):
    run('echo x > y; echo x > /tmp/y; echo x > /dev/shm/y; echo x > /home/y; chmod 000 docs .')
    box.reset(SETUP, seed=3)
    assert run('ls -A /tmp /dev/shm /home . docs') == (
        '.:\na.txt\ndocs\n\n/dev/shm:\n\n/home:\nagent\n\n/tmp:\n\ndocs:\nb.txt\n')

  def test_a_killed_sandbox_is_marked_and_replaced(self, box, run):
    box._process.kill()
    with pytest.raises(BrokenEnvironmentError):
      run('ls')
    with pytest.raises(BrokenEnvironmentError, match='reset it first'):
      run('ls')
    box.reset(SETUP, seed=3)
    assert run('ls') == 'a.txt\ndocs\n'

  def test_a_reset_replaces_a_killed_sandbox_itself(self, box, run):
    run('ls')
    box._process.kill()
    box._process.wait()
    assert box.reset(SETUP, seed=3).startswith('== a.txt')
    assert run('ls') == 'a.txt\ndocs\n'

  def test_the_driver_cannot_be_killed_from_within(self, box, run):
    before = box._process.pid
    assert run('kill -9 -1; kill -9 1; echo alive') == 'alive\n'
    result = box.run('kill -9 $PPID $BASHPID')
    assert result.killed_for == 'shell' and result.output == ''
    assert run('kill -STOP 1; kill -INT 1; kill -ALRM 1; ls') == 'a.txt\ndocs\n'
    assert box._process.pid == before

  def test_a_killed_shell_is_replaced(self, run):
    assert run('kill -9 $BASHPID') == ''
    assert run('echo alive') == 'alive\n'

  @pytest.mark.parametrize('command', ['exit', 'exec true', 'exit 3; echo no', 'set -e; false'])
  def test_a_shell_that_ends_is_replaced(self, box, command):
    box.reset(SETUP, seed=3)
    box.run('cd docs')
    assert box.run(command).cwd == '~'
    assert box.run('pwd').output == '/home/agent\n'

  def test_close_twice_and_leave_nothing(self):
    other = Sandbox()
    other.reset(SETUP, seed=0)
    pid = other._process.pid
    other.close()
    other.close()
    assert not os.path.exists(f'/proc/{pid}')


  def test_it_dies_with_the_process_that_made_it(self):
    code = ('import sys, time; from aw_jax.environments.sandbox import Sandbox; s = Sandbox(); '
            's.reset({}, 0); print(s._process.pid, flush=True); time.sleep(60)')
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE) as owner:
      pid = int(owner.stdout.readline())
      assert os.path.exists(f'/proc/{pid}')
      owner.kill()
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
      time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid):
  try:
    with open(f'/proc/{pid}/stat', encoding='utf-8') as status:
      return status.read().split()[2] != 'Z'
  except FileNotFoundError:
    return False


@pytest.mark.requires('bwrap')
class TestDeterminism:

  def test_clock_identity_and_random_are_fixed(self, box):
    command = 'date; date +%s; hostname; echo $RANDOM; umask; ls -la; echo $TZ; stat -c %Y a.txt'
    outputs = []
    for _ in range(2):
      box.reset(SETUP, seed=3)
      outputs.append(box.run(command).output)
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith('Mon Jan 15 10:00:00 UTC 2024\n1705312800\nworld\n')
    box.reset(SETUP, seed=4)
    assert box.run(command).output != outputs[0]  # RANDOM

  def test_modification_times_are_fixed_after_every_command(self, run):
    run('echo new > new; mkdir d')
    assert set(run('stat -c %Y * .').split()) == {str(terminal_state.MTIME)}

  @pytest.mark.requires('git')
  def test_git_hashes_are_fixed(self, box):
    hashes = []
    for _ in range(2):
      box.reset(SETUP, seed=1)
      box.run('git init -q; git add .; git commit -qm first')
      hashes.append(box.run('git rev-parse HEAD').output)
    assert hashes[0] == hashes[1] and len(hashes[0]) == 41

  def test_setup_commands_run_once_and_are_restored(self, box):
    setup = SETUP | {'commands': ['echo run >> log', 'ln -s log link', 'mkdir -p e/f']}
    state = box.reset(setup, seed=1)
    assert '== link -> log\n== log\nrun' in state
    assert box.probe('cat log; rm -r *').output == 'run\n'
    assert box.probe('cat link; ls e').output == 'run\nf\n'


def test_missing_bwrap_says_what_to_install(monkeypatch):
  monkeypatch.setenv('PATH', '/nonexistent')
  with pytest.raises(MissingProgramError, match='bwrap not found: apt-get install -y bubblewrap'):
    Sandbox().reset(SETUP, seed=0)


def test_a_bwrap_that_may_not_start_says_so_at_once(tmp_path, monkeypatch):
  fake = tmp_path / 'bwrap'
  fake.write_text('#!/bin/sh\necho "bwrap: No permissions to create new namespace" >&2; exit 1\n')
  fake.chmod(0o755)
  monkeypatch.setattr(sandbox, '_unprivileged', dict)  # who could not read the fake
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  with pytest.raises(MissingProgramError, match='cannot start here.*No permissions to create'):
    Sandbox().reset(SETUP, seed=0)


def test_missing_python_says_what_to_install(monkeypatch):
  monkeypatch.setattr(sandbox.os.path, 'exists', lambda path: False)
  with pytest.raises(MissingProgramError, match='apt-get install -y python3'):
    sandbox.python_inside()
