"""`python -m fastmlp.sklearn script.py`: a program with our estimators in the place of scikit-learn's."""
from __future__ import annotations

import os
import runpy
import sys

from fastmlp.sklearn import patch

USAGE = """usage: python -m fastmlp.sklearn SCRIPT [ARGUMENT ...]
       python -m fastmlp.sklearn -m MODULE [ARGUMENT ...]

Runs a Python program with fastmlp's MLPClassifier and MLPRegressor in sklearn.neural_network."""


def main() -> None:
    """Run what the command line names, as Python would."""
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return
    as_module = arguments[:1] == ["-m"]
    sys.argv = arguments[as_module:]
    if not sys.argv or not as_module and sys.argv[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    patch()
    if as_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return
    script = sys.argv[0]
    if not getattr(sys.flags, "safe_path", False):      # Python's own would be the folder this began in
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
