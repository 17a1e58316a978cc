"""Follows the recipes of docs/extending.md, to the letter, in the tree that is the current folder.

A step is a line "N. `FILE`, WHERE" and the code block below it. WHERE is "at the end", "at the end of
`NAME`", a tuple, or "before the line `TEXT`", the first that begins so.
"""
import re
from pathlib import Path

STEP = re.compile(
    r"^\d\. `(?P<file>[^`]+)`, (?P<where>at the end of|at the end|before the line)(?: `(?P<text>[^`]+)`)?"
    r"(?:(?!\d\. |## ).*\n)*?   ```\w+\n(?P<code>(?:.*\n)*?)   ```$", re.M)


def place(lines, where, text):
    if where == "at the end":
        return len(lines)
    start = next(i for i, line in enumerate(lines) if line.startswith(text))
    return start if where == "before the line" else lines.index(")\n", start)


def main():
    recipes = Path("docs/extending.md").read_text()
    steps = list(STEP.finditer(recipes))
    if len(steps) != len(re.findall(r"^\d\. ", recipes, re.M)):
        raise SystemExit("docs/extending.md: a step that is not of the form above")
    for recipe in recipes.split("\n## ")[1:4]:
        if not 3 <= len(re.findall(r"^\d\. ", recipe, re.M)) <= 5:
            raise SystemExit("docs/extending.md: expected at most five places")
    for step in steps:
        path = Path(step["file"])
        lines = path.read_text().splitlines(keepends=True)
        code = "".join(line[3:] or "\n" for line in step["code"].splitlines(keepends=True))
        lines.insert(place(lines, step["where"], step["text"]), code)
        path.write_text("".join(lines))
        print(f"{path}: {len(code.splitlines())} lines {step['where']} {step['text'] or ''}")


if __name__ == "__main__":
    main()
