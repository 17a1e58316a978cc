"""The worker team: how many threads and who limits them, forks, several callers at once, idling, and the end
of the process."""
from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from conftest import assert_same
from thread_scripts import BATCH, LAYERS, data, tasks, trained

import fastmlp
import fastmlp.functional as F
from fastmlp import MLP, SGD
from fastmlp._core import cgroups, threadpoolctl, threads
from fastmlp._core.network import Samples


@pytest.fixture(autouse=True)
def four_threads():
    before = fastmlp.get_num_threads()
    fastmlp.set_num_threads(4)
    yield
    fastmlp.set_num_threads(before)


# What a user's environment may say about threads, and the tests are not to inherit.
VARIABLES = ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "PYTHON_CPU_COUNT")


def run_plain(code, timeout=60, **environment):
    """Run a script in an environment that says no more about threads than it is given."""
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    options = ["-X", "faulthandler", "-W", "ignore:This process:DeprecationWarning"]
    process = subprocess.Popen([sys.executable, *options, "-c", code], env={**inherited, **environment},
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    try:
        output = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)      # a child that waits for ever, too
        process.kill()
        raise
    return subprocess.CompletedProcess(code, process.returncode, *output)


def run_python(code, timeout=60, **environment):
    """Run a script in which everything of tests/thread_scripts.py is known."""
    head = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\nfrom thread_scripts import *\n"
    return run_plain(head + code, timeout, **environment)


def succeeds(code, **environment):
    result = run_python(code, **environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def run_in_threads(functions):
    """Run all at once; their results, and the first exception raised here."""
    results = [None] * len(functions)
    start = threading.Barrier(len(functions))

    def run(i):
        try:
            start.wait(30)
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    workers = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive(), "a thread hangs"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


# How many -------------------------------------------------------------------------------------------------

def test_set_and_get():
    for n in (1, 2, 3, np.int64(5)):
        fastmlp.set_num_threads(n)
        assert fastmlp.get_num_threads() == n
        assert type(fastmlp.get_num_threads()) is int


@pytest.mark.parametrize("wrong, error", [(0, ValueError), (-1, ValueError), (1.0, TypeError),
                                          ("2", TypeError), (None, TypeError), (True, TypeError)])
def test_bad_number(wrong, error):
    with pytest.raises(error, match="^n: "):
        fastmlp.set_num_threads(wrong)
    assert fastmlp.get_num_threads() == 4


@pytest.mark.parametrize("many", [300, 2**31 - 1, 2**40, 2**70])
def test_more_than_anybody_has(many):
    """Either refused, or as good as any other number."""
    model, (X, y) = MLP(LAYERS, seed=0), data()
    expected = model.forward(X)
    try:
        fastmlp.set_num_threads(many)
    except ValueError:
        return
    np.testing.assert_array_equal(model.forward(X), expected)
    assert np.isfinite(model.train_step(X, y, SGD(0.1)))


REPORT = "print(fastmlp.get_num_threads())"


def test_environment():
    assert succeeds(REPORT, FASTMLP_NUM_THREADS="3") == "3\n"
    assert int(succeeds(REPORT, FASTMLP_NUM_THREADS="")) >= 1


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", "\u00b2"])
def test_bad_environment(wrong):
    result = run_python(REPORT, FASTMLP_NUM_THREADS=wrong)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTMLP_NUM_THREADS: expected an integer from 1 to 256, got")


@pytest.fixture
def eight_processors(monkeypatch):
    """An environment that says nothing, eight processors and no quota."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    monkeypatch.setattr(cgroups, "quota", lambda: math.inf)


@pytest.mark.parametrize("value, expected", [
    ("1", 1), ("3", 3), ("20", 20), ("256", 256), ("257", 256), ("9" * 5000, 256), (" 2 ", 2), ("+5", 5),
    ("007", 7), ("4,2", 4), ("3, 2 ,1", 3),
    ("", 8), ("0", 8), ("-1", 8), ("two", 8), ("1.5", 8), ("2x", 8), ("\u00b2", 8), ("\u0663", 8), ("4,", 8),
    (",4", 8), ("4,two", 8), ("0,4", 8), ("4,0", 8), ("4 2", 8)])
def test_openmp_variable(value, expected, eight_processors, monkeypatch):
    """A number or a list of them; anything else is ignored."""
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads._default() == expected


@pytest.mark.parametrize("environment, expected", [
    (dict(FASTMLP_NUM_THREADS="3", OMP_NUM_THREADS="2", OMP_THREAD_LIMIT="1"), 3),
    (dict(FASTMLP_NUM_THREADS="", OMP_NUM_THREADS="2"), 2),
    (dict(OMP_NUM_THREADS="20"), 20),
    (dict(OMP_NUM_THREADS="20", OMP_THREAD_LIMIT="10"), 10),
    (dict(OMP_NUM_THREADS="2", OMP_THREAD_LIMIT="10"), 2),
    (dict(OMP_THREAD_LIMIT="6"), 6), (dict(OMP_THREAD_LIMIT="0"), 8), (dict(OMP_THREAD_LIMIT="20"), 8)])
@pytest.mark.parametrize("quota", [math.inf, 8, 0.5])
def test_precedence(environment, expected, quota, eight_processors, monkeypatch):
    """FASTMLP_NUM_THREADS, then OMP_NUM_THREADS, then the quota."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cgroups, "quota", lambda: quota)
    named = "FASTMLP_NUM_THREADS" in environment or "OMP_NUM_THREADS" in environment
    assert threads._default() == (expected if named else min(expected, math.ceil(min(quota, 8))))


def test_openmp_variable_at_import():
    assert succeeds(REPORT, OMP_NUM_THREADS="3") == "3\n"
    assert succeeds(REPORT, OMP_NUM_THREADS="3", FASTMLP_NUM_THREADS="5") == "5\n"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="needs Python 3.13")
def test_processors_that_python_is_told_of():
    assert succeeds(REPORT, PYTHON_CPU_COUNT="1") == "1\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_default_respects_affinity():
    processors = sorted(os.sched_getaffinity(0))
    code = "import os; os.sched_setaffinity(0, {%d}); import fastmlp; print(fastmlp.get_num_threads())"
    for processor in (processors[0], processors[-1]):
        result = run_plain(code % processor)
        assert result.stdout == "1\n", result.stderr


@pytest.mark.parametrize("quota, expected", [(math.inf, 8), (0.5, 1), (1.0, 1), (1.5, 2), (3.0, 3),
                                             (100.0, 8)])
def test_default_respects_the_quota(quota, expected, eight_processors, monkeypatch):
    monkeypatch.setattr(cgroups, "quota", lambda: quota)
    assert threads._default() == expected


# Quotas: trees of files as a Linux system shows them.

V2 = "31 23 0:28 {top} {place} rw,nosuid,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {top} {place} rw,relatime - cgroup cgroup rw,{controllers}"
OTHERS = ["21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw", "24 21 0:21 / /proc rw - proc proc rw",
          "30 21 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755"]


def system(root, groups, mounts, files):
    """Write /proc/self/cgroup, /proc/self/mountinfo and the files of groups: {path: content} below `root`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in groups), "utf-8")
    (root / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in OTHERS + mounts), "utf-8")
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content + "\n")


def version_2(root, group, quotas, top="/", place="/sys/fs/cgroup", shown=None):
    """Quotas by folder below `place`."""
    place_shown = (shown or place).lstrip("/")
    files = {f"{place_shown}/{folder}/cpu.max": content for folder, content in quotas.items()}
    system(root, [f"0::{group}"], [V2.format(top=top, place=place)], files)


def version_1(root, group, quotas, top="/", place="/sys/fs/cgroup/cpu,cpuacct", controllers="cpu,cpuacct"):
    files = {}
    for folder, (quota, period) in quotas.items():
        files[f"{place.lstrip('/')}/{folder}/cpu.cfs_quota_us"] = str(quota)
        files[f"{place.lstrip('/')}/{folder}/cpu.cfs_period_us"] = str(period)
    system(root, ["12:cpuset:/elsewhere", f"4:{controllers}:{group}", "1:name=systemd:/", "0::/"],
           [V1.format(top="/", place="/sys/fs/cgroup/cpuset", controllers="cpuset"),
            V1.format(top=top, place=place, controllers=controllers),
            V2.format(top="/", place="/sys/fs/cgroup/unified")], files)


FREE = "max 100000"


@pytest.mark.parametrize("group, quotas, expected", [
    ("/", {}, math.inf),                                            # the root of a host has no quota
    ("/", {"": FREE}, math.inf),
    ("/", {"": "150000 100000"}, 1.5),                              # a container sees its group as the root
    ("/a", {"a": "50000 100000"}, 0.5),
    ("/a/b/c", {"a": FREE, "a/b": FREE, "a/b/c": "50000 20000"}, 2.5),
    ("/a/b/c", {"a": "100000 100000", "a/b": "50000 100000", "a/b/c": "200000 100000"}, 0.5),
    ("/a/b/c", {"a": "100000 100000", "a/b": FREE, "a/b/c": FREE}, 1.0),
    ("/a/b/c", {"a": "100000 100000"}, 1.0),                        # groups below that have no controller
    ("/a/b", {"": "300000 100000"}, 3.0),                           # and that are not shown at all
    ("/a/b", {"a/c": "50000 100000", "b": "50000 100000"}, math.inf),       # other groups
    ("/a:b/c d", {"a:b/c d": "200000 100000"}, 2.0),
    ("/\u00fc", {"\u00fc": "200000 100000"}, 2.0),
    ("/a", {"a": "garbage"}, math.inf), ("/a", {"a": ""}, math.inf), ("/a", {"a": "100000 0"}, math.inf),
    ("/a", {"a": "-1 100000"}, math.inf), ("/a", {"a": "1e5 100000"}, math.inf),
])
def test_quota_version_2(group, quotas, expected, tmp_path):
    version_2(tmp_path, group, quotas)
    assert cgroups.quota(tmp_path) == expected


UNLIMITED = (-1, 100000)


@pytest.mark.parametrize("controllers, place", [("cpu", "/sys/fs/cgroup/cpu"), ("cpuacct,cpu", "/dev/cpu"),
                                                ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct")])
@pytest.mark.parametrize("group, quotas, expected", [
    ("/", {"": UNLIMITED}, math.inf),
    ("/", {"": (200000, 100000)}, 2.0),
    ("/a/b", {"": UNLIMITED, "a": (50000, 100000), "a/b": UNLIMITED}, 0.5),
    ("/a/b", {"": UNLIMITED, "a": (300000, 100000), "a/b": (150000, 100000)}, 1.5),
    ("/a/b", {"": UNLIMITED, "a": (100000, 100000), "a/b": (150000, 100000)}, 1.0),
    ("/a/b", {"": (70000, 100000), "a": UNLIMITED, "a/b": UNLIMITED}, 0.7),
    ("/a", {"": UNLIMITED, "b": (50000, 100000)}, math.inf),
    ("/a", {"a": ("", "")}, math.inf), ("/a", {"a": (100000, 0)}, math.inf),
])
def test_quota_version_1(controllers, place, group, quotas, expected, tmp_path):
    version_1(tmp_path, group, quotas, place=place, controllers=controllers)
    assert cgroups.quota(tmp_path) == expected


@pytest.mark.parametrize("top, group, quotas, expected", [
    # A container without a namespace of its own shows its group alone, under the host's name.
    ("/docker/1", "/docker/1", {"": "150000 100000"}, 1.5),
    ("/docker/1", "/docker/1/task", {"": "150000 100000", "task": "50000 100000"}, 0.5),
    ("/docker/1", "/docker/1/task", {"": "150000 100000", "task": FREE, "docker/1": "10000 100000"}, 1.5),
    # Of a group that is not below what is mounted, that is all there is to see.
    ("/docker/1", "/docker/12", {"": "150000 100000", "2": "10000 100000"}, 1.5),
    ("/docker/1", "/", {"": "150000 100000"}, 1.5),
    # Out of the namespace: moved after it was made, or mounted before.
    ("/", "/../b", {"": "150000 100000", "b": "10000 100000"}, 1.5),
    ("/", "/../../b/c", {"": FREE, "b/c": "10000 100000"}, math.inf),
    ("/..", "/../b", {"": "300000 100000", "b": "50000 100000"}, 0.5),
    ("/../..", "/../../b/c", {"": FREE, "b": "50000 100000", "b/c": FREE}, 0.5),
    ("/..", "/", {"": "300000 100000", "b": "50000 100000"}, 3.0),
    ("/a", "/a/../b", {"": "300000 100000"}, 3.0),
])
def test_quota_in_a_container(top, group, quotas, expected, tmp_path):
    (tmp_path / "outside").mkdir()
    for folder in ("b", "sys/fs/b", "sys/b"):          # where nobody is to follow a /../
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "cpu.max").write_text("1000 100000\n")
    version_2(tmp_path, group, quotas, top=top)
    assert cgroups.quota(tmp_path) == expected
    root = tmp_path / "outside"
    version_1(root, group, {folder: (UNLIMITED if quota == FREE else tuple(map(int, quota.split())))
                            for folder, quota in quotas.items()}, top=top)
    assert cgroups.quota(root) == expected


def test_quota_of_the_group_and_no_other(tmp_path):
    """A mount that shows other groups says nothing, where there is one that shows ours."""
    system(tmp_path, ["0::/mine"],
           [V2.format(top="/other", place="/mnt/other"), V2.format(top="/", place="/sys")],
           {"mnt/other/cpu.max": "10000 100000", "sys/mine/cpu.max": "200000 100000"})
    assert cgroups.quota(tmp_path) == 2.0


def test_quota_of_both_versions(tmp_path):
    """Each hierarchy counts: who has moved the controller to the other is not asked."""
    system(tmp_path, ["4:cpu:/one", "0::/two"],
           [V1.format(top="/", place="/cpu", controllers="cpu"), V2.format(top="/", place="/unified")],
           {"cpu/one/cpu.cfs_quota_us": "200000", "cpu/one/cpu.cfs_period_us": "100000",
            "unified/two/cpu.max": "300000 100000"})
    assert cgroups.quota(tmp_path) == 2.0


def test_quota_at_a_place_with_blanks(tmp_path):
    r"""mountinfo writes them as \040, and a backslash as \134."""
    version_2(tmp_path, "/a", {"a": "50000 100000"}, place=r"/my\040groups\134\011", shown="/my groups\\\t")
    assert cgroups.quota(tmp_path) == 0.5


@pytest.mark.parametrize("content", ["", "\n", "nonsense\n", "0::\n", "::/\n", "- - -\n",
                                     "a b c / / d - cgroup2\n", "\udcff\udcfe - cgroup2 x y\n", "0::/\ud800"])
@pytest.mark.parametrize("name", ["cgroup", "mountinfo"])
def test_quota_of_what_cannot_be_read(name, content, tmp_path):
    version_2(tmp_path, "/a", {"": "50000 100000", "a": "50000 100000"})
    (tmp_path / "proc/self" / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    assert cgroups.quota(tmp_path) in (0.5, math.inf)
    (tmp_path / "proc/self" / name).unlink()
    assert cgroups.quota(tmp_path) == math.inf
    assert cgroups.quota(tmp_path / "missing") == math.inf


@pytest.mark.skipif(not os.path.exists("/proc/self/cgroup"), reason="needs cgroups")
def test_quota_of_this_process():
    """The same as by hand, from every file of every group that can be seen from here."""
    quotas = [math.inf]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        parts = PurePosixPath("." + line.split(":", 2)[2]).parts
        for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"):
            for depth in range(len(parts) + 1):
                folder = Path(place, *parts[:depth])
                for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
                    if all((folder / name).exists() for name in names):
                        quota, period = " ".join((folder / name).read_text() for name in names).split()
                        quotas.append(math.inf if quota in ("max", "-1") else int(quota) / int(period))
    assert min(quotas) <= cgroups.quota()


# Limits that others set -----------------------------------------------------------------------------------

def test_limits_of_joblib():
    """Its workers share the processors, or get as many threads as one says."""
    pytest.importorskip("joblib", minversion="1.3")
    result = run_plain("""
import joblib
def seen():
    import fastmlp
    return fastmlp.get_num_threads()
share = max(1, joblib.cpu_count() // 2)
assert joblib.Parallel(n_jobs=2)(joblib.delayed(seen)() for _ in range(2)) == [share] * 2
with joblib.parallel_config("loky", inner_max_num_threads=3):
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(seen)() for _ in range(2)) == [3] * 2
""")
    assert result.returncode == 0, result.stderr


@pytest.fixture
def no_limits(monkeypatch):
    """As in a process where nobody has limited a thread."""
    monkeypatch.setattr(threads, "_limited", False)
    monkeypatch.setattr(threads, "_thread", threading.local())


def test_limit_of_a_thread(no_limits):
    """Counts in the thread that set it, until it sets a number that limits nothing, or set_num_threads."""
    fastmlp.set_num_threads(4)
    for limit, expected in [(1, 1), (3, 3), (2, 2), (0, 1), (-5, 1), (4, 4), (2, 2), (300, 4)]:
        threads._limit_thread(limit)
        assert fastmlp.get_num_threads() == expected
        assert type(fastmlp.get_num_threads()) is int
        assert run_in_threads([fastmlp.get_num_threads]) == [4]
    fastmlp.set_num_threads(6)
    assert fastmlp.get_num_threads() == 6           # a limit that ended does not come back
    threads._limit_thread(1)
    fastmlp.set_num_threads(3)
    assert fastmlp.get_num_threads() == 3
    threads._limit_thread(2)
    run_in_threads([lambda: fastmlp.set_num_threads(5)])
    assert fastmlp.get_num_threads() == 2
    assert run_in_threads([fastmlp.get_num_threads]) == [5]


def test_limits_of_threads_that_overlap(no_limits):
    """Each restores what it found, in any order, and all are as before."""
    fastmlp.set_num_threads(4)
    step = [threading.Event() for _ in range(3)]

    def first():
        found = fastmlp.get_num_threads()
        threads._limit_thread(1)
        step[0].set()
        step[1].wait(30)
        threads._limit_thread(found)
        step[2].set()
        return found, fastmlp.get_num_threads()

    def second():
        step[0].wait(30)
        found = fastmlp.get_num_threads()
        threads._limit_thread(2)
        step[1].set()
        step[2].wait(30)
        limited = fastmlp.get_num_threads()
        threads._limit_thread(found)
        return found, limited, fastmlp.get_num_threads()

    assert run_in_threads([first, second]) == [(4, 4), (4, 2, 4)]
    assert fastmlp.get_num_threads() == 4


IMPORTS = {"fastmlp first": "import fastmlp, threadpoolctl",
           "threadpoolctl first": "import threadpoolctl, fastmlp"}


@pytest.mark.parametrize("order", IMPORTS)
def test_threadpoolctl(order):
    """It finds, shows and limits the library, whichever is imported first."""
    pytest.importorskip("threadpoolctl", minversion="3.2")
    result = run_plain(IMPORTS[order] + """
import os
import numpy as np
from fastmlp import get_num_threads
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits
def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0
fastmlp.set_num_threads(4)
(info,) = [info for info in threadpool_info() if info["user_api"] == "fastmlp"]
assert info["internal_api"] == "fastmlp" and info["num_threads"] == 4
assert info["version"] == fastmlp.__version__
assert "_team." in os.path.basename(info["filepath"])
model, X = fastmlp.MLP([64, 128, 128, 10], seed=0), np.ones((1000, 64), np.float32)
before = tasks()
with threadpool_limits(1):
    assert get_num_threads() == 1
    limited = model.forward(X)
    assert tasks() == before
    with threadpool_limits(2, user_api="fastmlp"):
        assert get_num_threads() == 2
    assert get_num_threads() == 1
    with threadpool_limits({"fastmlp": 3}):
        assert get_num_threads() == 3
with threadpool_limits(1, user_api="blas"):
    assert get_num_threads() == 4
with ThreadpoolController().limit(limits=2):
    assert get_num_threads() == 2
assert get_num_threads() == 4
assert np.array_equal(model.forward(X), limited)
threadpool_limits(2)
assert get_num_threads() == 2
""")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


FAKE = """
class LibController:
    pass
registered = []
"""


@pytest.mark.parametrize("register", [True, False], ids=["takes controllers", "from before 3.2"])
@pytest.mark.parametrize("order", IMPORTS)
def test_registered_with_threadpoolctl(order, register, tmp_path):
    """Once for each time that threadpoolctl is executed, where it takes controllers."""
    (tmp_path / "threadpoolctl.py").write_text(FAKE + ("register = registered.append" if register else ""))
    (tmp_path / "another.py").write_text("")
    result = run_plain(IMPORTS[order] + f"""
import importlib, inspect, sys, another
expected = {int(register)}
assert len(threadpoolctl.registered) == expected
for controller in threadpoolctl.registered:
    assert issubclass(controller, threadpoolctl.LibController) and controller.user_api == "fastmlp"
    assert controller().get_version() == fastmlp.__version__
    assert controller().get_num_threads() == fastmlp.get_num_threads()
    fastmlp.set_num_threads(4)
    controller().set_num_threads(2)
    assert fastmlp.get_num_threads() == 2
importlib.reload(threadpoolctl)
assert len(threadpoolctl.registered) == expected
del sys.modules["threadpoolctl"]
import threadpoolctl
assert len(threadpoolctl.registered) == expected
assert inspect.getsource(threadpoolctl).startswith(threadpoolctl.__loader__.get_source("threadpoolctl")[:10])
""", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert result.returncode == 0, result.stderr


def test_threadpoolctl_is_not_imported():
    """Nor looked for; and whoever does where it is missing gets the usual error."""
    result = run_plain("""
import sys
before = set(sys.modules)
import numpy, fastmlp
assert "threadpoolctl" not in sys.modules
sys.path[:] = []
sys.path_importer_cache.clear()
try:
    import threadpoolctl
except ModuleNotFoundError as error:
    assert error.name == "threadpoolctl"
    print("missing")
""")
    assert result.stdout == "missing\n", result.stderr


def test_finder_finds_nothing_else():
    finder = threadpoolctl._Finder(lambda module: None)
    assert finder.find_spec("fastmlp") is None
    assert finder.find_spec("threadpoolctl.more") is None


# Fork -----------------------------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

FORK = """
fastmlp.set_num_threads(3)
expected = trained()
for _ in range(3):
    child = os.fork()
    if child == 0:
        same = trained() == expected
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if trained() == expected else 2)
        same = same and os.waitpid(grandchild, 0)[1] == 0 and trained() == expected
        os._exit(0 if same else 1)
    assert trained() == expected            # at once with the child
    assert os.waitpid(child, 0)[1] == 0
    assert trained() == expected
print("done")
"""


@needs_fork
def test_fork():
    """Training goes on in the parent, the child and the grandchild, on teams of their own."""
    assert succeeds(FORK) == "done\n"


@needs_fork
def test_fork_before_the_first_training():
    code = """
child = os.fork()
if child == 0:
    trained()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
trained()
print("done")
"""
    assert succeeds(code) == "done\n"


@needs_fork
def test_fork_in_a_callback():
    """A model goes on training where it is, in parent and child."""
    code = """
fastmlp.set_num_threads(2)
X, y = data()
model = MLP(LAYERS, seed=0)
ids = []
def fork(model, epoch, logs):
    if epoch == 0:
        ids.append(os.fork())
model.fit(X, y, epochs=3, batch_size=BATCH, optimizer=SGD(0.05, momentum=0.9), callbacks=[fork],
          progress=False)
same = b"".join(w.tobytes() for w in model.weights) == trained()
if ids[0] == 0:
    os._exit(0 if same else 1)
assert os.waitpid(ids[0], 0)[1] == 0
assert same
print("done")
"""
    assert succeeds(code) == "done\n"


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_while_another_thread_trains():
    """The child has none of the other thread's calls, and a team of its own; also for the same model."""
    code = """
fastmlp.set_num_threads(2)
X, y = data(n=4000)
expected = trained()
model = MLP(LAYERS, seed=0)
stop = threading.Event()
thread = threading.Thread(target=model.fit, args=(X, y), daemon=True, kwargs=dict(
    epochs=10**6, optimizer=SGD(1e-6), progress=False, callbacks=[lambda *args: stop.is_set()]))
thread.start()
time.sleep(0.1)
for i in range(5):
    child = os.fork()
    if child == 0:
        ok = trained() == expected and np.isfinite(model.forward(X)).all()
        ok = ok and np.isfinite(model.train_step(X, y, SGD(1e-6)))
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    time.sleep(0.02)
stop.set()
thread.join(30)
assert not thread.is_alive()
print("done")
"""
    assert succeeds(code) == "done\n"


FORK_IN_LOSS = """
threads, what = int(sys.argv[1]), sys.argv[2]
layers, n = [64, 128, 128, 10], 1000
rng = np.random.default_rng(0)
X = rng.standard_normal((n, 64)).astype(np.float32)
y = rng.standard_normal((n, 10)).astype(np.float32)
calls, child, refused = 0, None, 0

def mean_squared_error(z, t):
    return float(((z - t) ** 2).mean()), 2 * (z - t) / z.size

def loss(z, t):
    global calls, child
    calls += 1
    if calls == 3 and what_now == "raise":
        raise KeyError
    if calls == 3 and what_now == "fork":
        child = os.fork()
        if child == 0:
            in_child()
    return mean_squared_error(z, t)

def in_child():
    global refused
    if "predict" in what:
        assert np.isfinite(model.forward(X)).all()
    if "other" in what:
        assert trained() == expected_other
    if "same" in what:
        for call in (lambda: model.fit(X, y, epochs=1, batch_size=64, shuffle=False, progress=False),
                     lambda: model.train_step(X, y, SGD(0.1)), lambda: model.loss_and_gradients(X, y)):
            try:
                call()
            except RuntimeError as error:
                assert "being trained" in str(error)
                refused += 1
        assert refused == 3
    if "exit" in what:
        os._exit(0)
    if "raise" in what:
        raise KeyError

def fitted(what):
    global model, calls, what_now, stopped
    calls, what_now, stopped = 0, what, False
    options = {"plain": {}, "clipped": dict(clip_norm=0.01), "dropout": dict(dropout=0.3),
               "normalised": dict(batch_norm=True)}[sys.argv[3]]
    optimizer = SGD(0.05, momentum=0.9, clip_norm=options.pop("clip_norm", None))
    model = MLP(layers, loss=loss, seed=0, **options)
    try:
        model.fit(X, y, epochs=2, batch_size=128, optimizer=optimizer, progress=False)
    except KeyError:
        pass
    except RuntimeError as error:
        assert child == 0 and "forked" in str(error)
        stopped = True
    return b"".join(w.tobytes() for w in [*model.weights, *model.biases])

fastmlp.set_num_threads(threads)
expected, expected_before, expected_other = fitted(""), fitted("raise"), trained()
assert fitted("fork") == (expected_before if child == 0 else expected)
assert stopped == (child == 0 and "return" in what)
calls = 3
assert np.isfinite(model.train_step(X, y, SGD(0.1)))
assert trained() == expected_other
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def forks_in_its_loss(threads, what, options="plain"):
    """The parent goes on as without a fork; the child stops, with the weights from before the step."""
    arguments = f"sys.argv = ['', '{threads}', '{what}', '{options}']\n"
    result = run_python(arguments + FORK_IN_LOSS, timeout=20)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


@needs_fork
@pytest.mark.parametrize("threads, what", [(2, "exit"), (1, "predict other exit"), (2, "predict other exit"),
                                           (4, "predict other exit")])
def test_fork_in_a_loss_and_leave(threads, what):
    """The child has a team of its own for whatever it does before it leaves."""
    forks_in_its_loss(threads, what)


@needs_fork
@pytest.mark.parametrize("what", ["other return", "raise"])
def test_fork_in_a_loss_on_one_thread(what):
    """The calls that the child inherited are counted as they end."""
    forks_in_its_loss(1, what)


@needs_fork
@pytest.mark.parametrize("threads, what", [(2, "return"), (4, "other return")])
def test_fork_in_a_loss_and_return(threads, what):
    """The child does not wait for the workers of its parent."""
    forks_in_its_loss(threads, what)


@needs_fork
@pytest.mark.parametrize("options", ["plain", "clipped", "dropout", "normalised"])
def test_fork_in_a_loss_and_raise(options):
    forks_in_its_loss(3, "raise", options)


@needs_fork
@pytest.mark.parametrize("threads", [1, 2])
def test_fork_in_a_loss_and_train_the_same_model(threads):
    """Refused, as it is without a fork: its workspace is in use."""
    forks_in_its_loss(threads, "same return")


@needs_fork
def test_fork_that_python_knows_nothing_of():
    """By an extension or an embedding server that forks itself: no hook of Python's runs in the child."""
    code = """
import ctypes
fastmlp.set_num_threads(2)
expected = trained()
child = ctypes.PyDLL(None).fork()
if child == 0:
    os._exit(0 if trained() == expected else 1)
assert os.waitpid(child, 0)[1] == 0
assert trained() == expected
"""
    succeeds(code)


@needs_fork
def test_training_in_a_hook_of_the_fork():
    """Also in one that was registered before the library was imported."""
    result = run_plain(f"""
import os, sys
def hook():
    global same
    same = trained() == expected
os.register_at_fork(after_in_child=hook)
sys.path.insert(0, {os.path.dirname(__file__)!r})
from thread_scripts import *
fastmlp.set_num_threads(2)
expected = trained()
child = os.fork()
if child == 0:
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
""")
    assert result.returncode == 0, result.stderr


@needs_fork
@pytest.mark.skipif(not tasks(), reason="needs /proc")
def test_a_child_counts_the_calls_of_its_own_thread_alone():
    """Not those of others: it gets all threads that it asks for."""
    code = """
fastmlp.set_num_threads(4)
X, y = data(n=4000)
stop = threading.Event()
options = dict(epochs=10**6, optimizer=SGD(1e-6), progress=False, callbacks=[lambda *args: stop.is_set()])
training = [threading.Thread(target=MLP(LAYERS, seed=0).fit, args=(X, y), daemon=True, kwargs=options)
            for _ in range(3)]
for thread in training:
    thread.start()
time.sleep(0.1)
for _ in range(5):
    child = os.fork()
    if child == 0:
        before = tasks()
        MLP(LAYERS, seed=0).forward(X)
        os._exit(tasks() - before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
stop.set()
for thread in training:
    thread.join(30)
"""
    succeeds(code)


@needs_fork
def test_multiprocessing():
    code = """
fastmlp.set_num_threads(2)
expected = [trained(seed) for seed in range(3)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(trained, range(3)) == expected
assert [trained(seed) for seed in range(3)] == expected
print("done")
"""
    assert succeeds(code) == "done\n"


# Several callers at once ----------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [2, 4, 9])
def test_different_models_at_once(n):
    """The same bits as one after another."""
    expected = [trained(seed) for seed in range(n)]
    for _ in range(2):
        assert run_in_threads([lambda seed=seed: trained(seed) for seed in range(n)]) == expected


def test_one_model_for_many_threads():
    model, (X, _) = MLP(LAYERS, seed=0), data()
    expected = model.forward(X)

    def predict(i):
        for _ in range(20):
            rows = slice(i * 10, 1000 - i * 7)
            if not np.array_equal(model.forward(X[rows]), expected[rows]):
                return False
        return True

    assert all(run_in_threads([lambda i=i: predict(i) for i in range(8)]))


def test_one_optimizer_for_many_models():
    """Its state belongs to each model; threads may share it."""
    def with_optimizer(seed, optimizer):
        X, y = data(seed)
        model = MLP(LAYERS, seed=seed)
        model.fit(X, y, epochs=2, batch_size=BATCH, optimizer=optimizer, progress=False)
        return b"".join(w.tobytes() for w in model.weights)

    expected = [with_optimizer(seed, SGD(0.05, momentum=0.9)) for seed in range(4)]
    shared = SGD(0.05, momentum=0.9)
    assert run_in_threads([lambda seed=seed: with_optimizer(seed, shared) for seed in range(4)]) == expected


@pytest.mark.parametrize("call", ["fit", "train_step"])
def test_second_training_of_one_model_is_refused(call, backend):
    """RuntimeError for whoever comes second, also between two epochs; the first goes on unhindered."""
    X, y = data()

    def first(model, callbacks=()):
        model.fit(X, y, epochs=2, batch_size=BATCH, optimizer=SGD(0.05), callbacks=callbacks, progress=False)
        return model.weights

    expected = first(MLP(LAYERS, seed=0))
    model = MLP(LAYERS, seed=0)
    in_fit, tried = threading.Event(), threading.Event()

    def wait(model, epoch, logs):
        in_fit.set()
        tried.wait(30)

    results = []
    thread = threading.Thread(target=lambda: results.append(first(model, [wait])), daemon=True)
    thread.start()
    try:
        assert in_fit.wait(30)
        with pytest.raises(RuntimeError, match="trained by another thread"):
            if call == "fit":
                model.fit(X, y, progress=False)
            else:
                model.train_step(X, y, SGD(0.05))
    finally:
        tried.set()
        thread.join(30)
    assert len(results) == 1
    assert_same(results[0], expected, backend, "float32")


def test_second_fit_at_any_moment():
    """Whenever a second fit comes while the first runs, it is the second that is refused."""
    X, y = data(n=4000)
    model, stop = MLP(LAYERS, seed=0), threading.Event()
    errors, refused = [], 0

    def first():
        try:
            model.fit(X, y, epochs=10**6, batch_size=BATCH, optimizer=SGD(1e-6), progress=False,
                      callbacks=[lambda *args: stop.is_set()])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    time.sleep(0.05)
    try:
        for _ in range(200):
            try:
                model.fit(X[:1], y[:1], epochs=1, optimizer=SGD(1e-6), progress=False)
            except RuntimeError:
                refused += 1
    finally:
        stop.set()
        thread.join(30)
    assert not errors
    assert refused == 200


def test_questions_while_it_trains():
    """Anything that only reads may be asked from another thread, and training takes no notice."""
    code = """
fastmlp.set_num_threads(2)
X, y = data()
options = dict(epochs=30, batch_size=BATCH, progress=False)
def bits(model):
    return b"".join(w.tobytes() for w in model.weights)
expected = MLP(LAYERS, seed=0)
expected.fit(X, y, **options)
for _ in range(3):
    model = MLP(LAYERS, seed=0)
    thread = threading.Thread(target=model.fit, args=(X, y), kwargs=options)
    thread.start()
    while thread.is_alive():
        model.workspace_nbytes(64)
        model.predict(X[:50])
        model.evaluate(X[:50], y[:50])
        repr(model)
    thread.join()
    assert bits(model) == bits(expected)
print("done")
"""
    assert succeeds(code) == "done\n"


def test_a_refused_call_leaves_the_model_usable():
    X, y = data()
    model = MLP(LAYERS, seed=0)
    with pytest.raises(TypeError):
        samples = Samples(X.astype(complex), y.astype(np.intp), batch_size=8)
        model.core.engine.begin(samples, SGD(0.1)).steps(0, 1, (0.0, 0.0), 2)
    assert np.isfinite(model.train_step(X, y, SGD(0.1)))


def test_dense_backward_in_threads(dtype):
    """Other sizes in every thread, growing and shrinking: nobody writes into another's scratch."""
    rng = np.random.default_rng(0)
    layers = [[rng.standard_normal(shape).astype(dtype) for shape in ((m, n), (m, k), (k, n), (m, n))]
              for m, k, n in [(70, 90, 50), (5, 3, 200), (130, 64, 64), (1, 300, 7)]]
    expected = [F.dense_backward(*layer, "tanh") for layer in layers]

    def run(first):
        for i in range(first, first + 200):
            for got, want in zip(F.dense_backward(*layers[i % 4], "tanh"), expected[i % 4], strict=True):
                np.testing.assert_array_equal(got, want)

    run_in_threads([partial(run, first) for first in range(4)])


# Workers --------------------------------------------------------------------------------------------------

def test_calls_at_any_distance():
    """Whether a worker is about to fall asleep when work comes, or asleep, or awake."""
    model, (X, _) = MLP(LAYERS, seed=0), data()
    expected, rng = model.forward(X), np.random.default_rng(0)
    for microseconds in rng.integers(0, 150, 600):
        end = time.perf_counter() + microseconds * 1e-6
        while time.perf_counter() < end:
            pass
        assert np.array_equal(model.forward(X), expected)


@pytest.mark.parametrize("size", [32768, 65536, 131072, 2**40])
def test_stack_size_of_the_process(size):
    """Workers have stacks of their own size, whatever Python's threads get."""
    code = f"""
fastmlp.set_num_threads(1)
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 64)).astype(np.float32), rng.integers(0, 10, 1000)
def fitted():
    model = MLP([64, 700, 513, 10], seed=0)
    model.fit(X, y, epochs=1, progress=False)
    return b"".join(w.tobytes() for w in model.weights)
expected, before = fitted(), tasks()
try:
    threading.stack_size({size})
except ValueError:
    sys.exit()              # no system takes all of these
fastmlp.set_num_threads(4)
assert fitted() == expected
assert tasks() in (0, before + 3)
assert threading.stack_size() == {size}
"""
    succeeds(code)


@pytest.mark.skipif(not tasks(), reason="needs /proc")
def test_no_threads_to_be_had():
    """Calls do with those that there are, keep nothing of an attempt, and have more when there are more."""
    code = """
import resource, tracemalloc
def calls(n):
    for _ in range(n):
        assert np.array_equal(model.forward(X), expected)
model, (X, _) = MLP(LAYERS, seed=0), data()
fastmlp.set_num_threads(1)
expected, before = model.forward(X), tasks()
nobody = 54321              # root is not limited, nor another's processes counted
if os.geteuid() == 0:
    try:
        os.setresuid(nobody, nobody, 0)
        os.setresuid(nobody, nobody, nobody)
    except OSError:
        print("skip")
        sys.exit()
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
try:
    threading.Thread(target=int).start()
except RuntimeError:
    pass
else:
    print("skip")
    sys.exit()
fastmlp.set_num_threads(4)
tracemalloc.start()
calls(20)
held = tracemalloc.get_traced_memory()[0]
calls(300)
grown = tracemalloc.get_traced_memory()[0] - held
assert grown < 300 * 8, grown
assert tasks() == before
resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
calls(2)
assert tasks() == before + 3
"""
    if succeeds(code):
        pytest.skip("the number of threads cannot be limited here")


# Idle, and the end ----------------------------------------------------------------------------------------

def test_no_processor_time_when_idle():
    trained()
    time.sleep(0.01)
    spent = []
    for _ in range(3):                          # other threads of the test run may wake now and then
        before = time.process_time()
        time.sleep(0.3)
        spent.append(time.process_time() - before)
    assert min(spent) < 0.02


def test_workers_are_reused():
    if not os.path.exists("/proc/self/task"):
        pytest.skip("needs /proc")
    code = """
fastmlp.set_num_threads(3)
trained()
before = len(os.listdir("/proc/self/task"))
for _ in range(5):
    trained()
    MLP(LAYERS, seed=0).forward(data()[0])
assert len(os.listdir("/proc/self/task")) == before
print("done")
"""
    assert succeeds(code) == "done\n"


@pytest.mark.skipif(not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2,
                    reason="needs Linux and two processors")
def test_workers_do_not_share_the_callers_processor():
    """A worker that sleeps where the caller runs goes elsewhere, and may run anywhere afterwards."""
    succeeds("""
fastmlp.set_num_threads(2)
def tasks():
    return {int(name) for name in os.listdir("/proc/self/task")}
def processor(task):
    return int(Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[36])
model, (X, y), before = MLP(LAYERS), data(), tasks()
model.forward(X)
(worker,) = tasks() - before
both, allowed, apart = (os.getpid(), worker), os.sched_getaffinity(0), 0
for _ in range(20):
    for task in both:
        os.sched_setaffinity(task, {min(allowed)})
    model.forward(X)
    time.sleep(0.01)
    for task in both:
        os.sched_setaffinity(task, allowed)
    model.forward(X)
    apart += processor(worker) != processor(os.getpid())
assert apart >= 15, apart
assert os.sched_getaffinity(worker) == allowed
""")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_more_threads_than_processors():
    """Four threads on one processor give way to each other."""
    code = """
fastmlp.set_num_threads(1)
expected = trained()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
fastmlp.set_num_threads(4)
assert trained() == expected
print("done")
"""
    assert succeeds(code) == "done\n"


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "os._exit(0)"])
def test_exit_right_after_training(end):
    for _ in range(2):
        assert succeeds(f"fastmlp.set_num_threads(4)\ntrained(epochs=1)\n{end}") == ""


def test_exit_while_a_daemon_thread_trains():
    code = """
fastmlp.set_num_threads(2)
X, y = data(n=4000)
thread = threading.Thread(target=MLP(LAYERS, seed=0).fit, args=(X, y), daemon=True,
                          kwargs=dict(epochs=10**6, progress=False))
thread.start()
time.sleep(0.2)
assert thread.is_alive()
"""
    for _ in range(2):
        assert succeeds(code) == ""


def test_exit_while_a_daemon_thread_trains_with_a_loss_of_its_own():
    """It waits for the interpreter, which goes away, and its workers wait for it."""
    code = """
fastmlp.set_num_threads(2)
X, y = data(n=4000)
def loss(z, targets):
    return float((z**2).mean()), 2 * z / z.size
model, y = MLP(LAYERS, loss=loss, seed=0), np.zeros((len(X), 10), np.float32)
thread = threading.Thread(target=model.fit, args=(X, y), daemon=True,
                          kwargs=dict(epochs=10**6, progress=False))
thread.start()
time.sleep(0.2)
assert thread.is_alive()
"""
    for _ in range(2):
        assert succeeds(code) == ""


@pytest.mark.parametrize("before", [True, False])
def test_training_at_exit(before):
    """With workers that are there, and with new ones."""
    code = f"""
import atexit
fastmlp.set_num_threads(3)
expected = trained() if {before} else None
def last():
    got = trained()
    print("done" if got == (expected or got) else "other bits")
atexit.register(last)
"""
    assert succeeds(code) == "done\n"


def test_other_interpreters():
    """They come and go beside the workers, whether they can import the library (NumPy allows one) or not."""
    code = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
fastmlp.set_num_threads(2)
expected = trained()
inside = chr(10).join([
    "try:", "    import fastmlp", "    fastmlp.MLP([64, 128, 10]).forward([[0.0] * 64] * 1000)",
    "except ImportError:", "    pass"])
for _ in range(2):
    interpreter = interpreters.create()
    interpreters.run_string(interpreter, inside)
    assert trained() == expected
    interpreters.destroy(interpreter)
    assert trained() == expected
print("done")
"""
    result = run_python(code)
    assert result.stdout == "done\n" or "_xxsubinterpreters" in result.stderr, result.stderr
