"""Without thinc: fastmlp does without, and its front says what to install."""
import subprocess
import sys


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


def test_front_names_the_extra():
    done = run("import sys; sys.modules['thinc'] = None; import fastmlp.compat.thinc")
    assert done.returncode == 1
    assert 'ImportError: fastmlp.compat.thinc needs thinc: pip install "fastmlp[thinc]"' in done.stderr


def test_nothing_of_it_is_imported_before():
    done = run("import sys, fastmlp.compat.dlfs, fastmlp.compat.cs231n.solver; print('thinc' in sys.modules)")
    assert done.stdout == "False\n", done.stderr
