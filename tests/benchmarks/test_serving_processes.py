"""A server's processes are found, whatever becomes of their parents, and so is the time that they use."""

import os
import subprocess
import sys
import textwrap

from benchmarks.serving import processes


def python(script: str) -> str:
    """Run a script in a process of its own, which may end all its descendants; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_time_of_another_process_with_all_its_threads() -> None:
    script = """
        import threading, time
        def burn():
            while time.thread_time() < 0.1:
                pass
        threads = [threading.Thread(target=burn) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(time.process_time(), flush=True)
        input()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        own = float(child.stdout.readline())
        assert processes.tree_cpu_seconds(os.getpid())[child.pid] >= own >= 0.2
        assert processes.cpu_seconds(child.pid) < own + 0.1  # it waits now
        child.communicate("\n")
    assert processes.cpu_seconds(child.pid) == 0.0


def test_what_was_used_between_two_readings() -> None:
    before = {1: 5.0, 2: 1.0, 3: 7.0}
    after = {1: 5.5, 2: 1.0, 4: 0.25}  # 3 has ended, 4 is new
    assert processes.used(before, after) == 0.75


def test_the_machine_uses_time() -> None:
    before, own = processes.machine_cpu_seconds(), os.times()
    while os.times().user + os.times().system < own.user + own.system + 0.2:
        pass
    assert processes.machine_cpu_seconds() - before >= 0.15  # it counts in hundredths


def test_orphans_are_adopted_and_stubborn_processes_ended() -> None:
    said = python("""
        import os, subprocess, sys
        from benchmarks.serving import processes
        processes.adopt_orphans()
        # a child that ends and leaves a grandchild behind, which does not care for SIGTERM
        grandchild = (
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            "print(1, flush=True); time.sleep(600)"
        )
        child = (
            "import subprocess, sys;"
            f"g = subprocess.Popen([sys.executable, '-c', {grandchild!r}], stdout=subprocess.PIPE);"
            "g.stdout.readline(); print(g.pid)"
        )
        left = int(subprocess.run([sys.executable, "-c", child], stdout=subprocess.PIPE, check=True).stdout)
        print(processes.descendants(os.getpid()) == {left})
        processes.end_descendants(os.getpid(), 0.2)
        print(processes.descendants(os.getpid()) == set(), os.path.exists(f"/proc/{left}"))
    """)
    assert said.split() == ["True", "True", "False"]
