"""Modules that PyInstaller does not see: their names are made when they are imported, or are in binaries."""
from pathlib import Path
from pkgutil import iter_modules

hiddenimports = [
    module.name
    for package in ("backends", "kernels")
    for module in iter_modules([str(Path(__file__).parents[1] / package)], f"fastmlp.{package}.")
]
