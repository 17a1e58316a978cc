"""``python -m fastmlp.compat.dlfs script.py [arguments]``: run a program with ``common`` replaced."""
from __future__ import annotations

import runpy
import sys
from pathlib import Path

from fastmlp.compat.dlfs import patch


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__, file=sys.stdout if len(sys.argv) > 1 else sys.stderr)
        raise SystemExit(len(sys.argv) < 2)
    script = Path(sys.argv[1])
    if not script.is_file():
        raise SystemExit(f"script: expected the path of a Python program, got {sys.argv[1]!r}, no file")
    patch()
    sys.argv = sys.argv[1:]
    sys.path[0] = str(script.resolve().parent)
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
