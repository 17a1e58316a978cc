"""Writes the Cython text in which a code of ops.py becomes a constant; setup.py calls it.

ops.pxi         the codes, and what is true of each
dispatch.pxi    a branch for every code, which calls a formula written by hand

And it divides the C that Cython makes of the kernels into two parts.

No branch is a default: for a code that is not in the table nothing is computed. Python validates codes
(`activation_code`, `loss_code`, `rule_code`), so that there are none.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

UNREACHABLE = '''cdef extern from *:
    """
    static inline vec no_such_kind(void) {
    #if defined(__GNUC__)
        __builtin_unreachable();
    #else
        __assume(0);
    #endif
    }
    """
    vec no_such_kind() noexcept nogil


'''


def ops(table: Any) -> str:
    """ops.pxi"""
    acts = [*map(_act, table.ACTIVATIONS)]
    functions = [f"FUN_{name.upper()}" for name in table.FUNCTIONS]
    losses, rules = [*map(_loss, table.LOSSES)], [*map(_rule, table.RULES)]
    most_slots = max(rule.slots for rule in table.RULES)
    text = "# Written by _generate.py from ops.py.\n\n"
    text += _enum("Activation", [*acts, *functions, "ACT_SLOPE"])
    text += _enum("Loss", losses)
    text += _enum("Rule", rules)
    text += f"cdef enum:\n    MOST_SLOTS = {most_slots}\n\n\n"
    holds: Callable[[Any], bool]
    for name, holds in (("from_output", lambda f: f.from_output),
                        ("finishes_in_registers", lambda f: f.registers)):
        text += _predicate(name, [_act(f) for f in table.ACTIVATIONS if holds(f)])
    for name, holds in (("is_of_elements", lambda loss: loss.elements),
                        ("takes_labels", lambda loss: loss.labels),
                        ("takes_distributions", lambda loss: loss.distributions),
                        ("takes_rows", lambda loss: loss.distributions or loss.elements),
                        ("has_few_labels", lambda loss: loss.few),
                        ("has_pos_weight", lambda loss: loss.pos_weight)):
        text += _predicate(name, [_loss(loss) for loss in table.LOSSES if holds(loss)])
    text += _predicate("updates_in_registers", [_rule(rule) for rule in table.RULES if rule.registers])
    text += _predicate("ignores_zeros", [_rule(rule) for rule in table.RULES if rule.ignores_zeros])
    text += "cdef inline int slots_of(int code) noexcept nogil:\n"
    for slots in range(1, most_slots + 1):
        names = [_rule(rule) for rule in table.RULES if rule.slots == slots]
        text += f"    if {_any('code', names)}:\n        return {slots}\n" if names else ""
    text += "    return 0\n\n\n"
    for what, names in (("activation", acts), ("function", [*acts, *functions]), ("loss", losses),
                        ("rule", rules)):
        text += _validate(what, names)
    return text


def dispatch(table: Any) -> str:
    """dispatch.pxi"""
    acts, losses = table.ACTIVATIONS, table.LOSSES
    rules = [rule for rule in table.RULES if rule.name != "gradient"]
    functions = [(f"FUN_{name.upper()}", name) for name in table.FUNCTIONS]
    for rule in rules:
        if rule.registers and rule.slots > 1:
            raise ValueError(f"{rule.name}: the register tile has room for one slot")
    text = "# Written by _generate.py from ops.py: kinds are constants at every call below.\n\n"
    text += UNREACHABLE

    # Activations, of a vector.
    text += _constant(
        "vec function(int kind, vec alpha, vec x)", "cdef vec slope",
        [(_act(f), f"return {f.name}(alpha, x{'' if f.from_output else ', &slope'})") for f in acts]
        + [(constant, f"return {name}(alpha, x)") for constant, name in functions])
    text += _constant(
        "vec function_backward(int kind, vec alpha, vec dy, vec y)", "cdef vec slope",
        [(_act(f), f"return {f.name}_backward(alpha, dy, y)" if f.from_output else
          (f"{f.name}(alpha, y, &slope)", "return dy * slope")) for f in acts]
        + [("ACT_SLOPE", "return dy * y")])
    text += _constant(
        "vec function_with_slope(int kind, vec alpha, vec z, vec* slope)", "cdef vec y",
        [(_act(f), f"return {f.name}(alpha, z, slope)" if not f.from_output else
          (f"y = {f.name}(alpha, z)", f"slope[0] = {f.name}_backward(alpha, vset1(1), y)", "return y"))
         for f in acts])

    # Activations, of m rows of n numbers. y may be x; dx may be dy or y, which is f(x) or, where the
    # derivative needs it, x; the last is in place and leaves f'(z) for ACT_SLOPE in the backward pass, n a
    # multiple of VL.
    text += _ladder(
        "void map_rows(int kind, real alpha, real* y, Py_ssize_t y_row, const real* x, Py_ssize_t x_row, "
        "Py_ssize_t m, Py_ssize_t n)", "kind",
        [(name, f"map_as({name}, vset1(alpha), y, y_row, x, x_row, m, n)")
         for name in [*map(_act, acts), *(constant for constant, _ in functions)]])
    text += _ladder(
        "void map_backward_rows(int kind, real alpha, real* dx, Py_ssize_t dx_row, const real* dy, "
        "Py_ssize_t dy_row, const real* y, Py_ssize_t y_row, Py_ssize_t m, Py_ssize_t n)", "kind",
        [(name, f"map_backward_as({name}, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)")
         for name in [*map(_act, acts), "ACT_SLOPE"]])
    text += _ladder(
        "void activate_with_slope(int kind, real alpha, real* y, real* slope, Py_ssize_t n)", "kind",
        [(name, f"with_slope_as({name}, vset1(alpha), y, slope, n)") for name in map(_act, acts)])

    # Losses, of a number, a vector, a row, some rows.
    text += _constant(
        "bint target_fits(int kind, real t)", "",
        [(_loss(loss), f"return is_{loss.targets}(t)") for loss in losses])
    text += _constant(
        "vec element_loss(int kind, vec z, vec t, vec parameter, vec pos_weight, vec* gradient)", "",
        [(_loss(loss),
          f"return {loss.name}_loss(z, t, parameter, {'pos_weight, ' if loss.pos_weight else ''}gradient)")
         for loss in losses if loss.elements])
    text += _constant(
        "real label_loss(int kind, real* d, const real* z, Py_ssize_t label, Py_ssize_t n, real parameter, "
        "real scale)", "",
        [(_loss(loss), f"return {loss.name}_of_label(d, z, label, n, parameter, scale)")
         for loss in losses if loss.labels])
    text += _constant(
        "real distribution_loss(int kind, real* d, const real* z, const real* t, Py_ssize_t n, "
        "real parameter, real scale)", "",
        [(_loss(loss), f"return {loss.name}_of_distribution(d, z, t, n, parameter, scale)")
         for loss in losses if loss.distributions])
    text += _ladder(
        "inline void few_labels_loss(int kind, real* d, const real* z, Py_ssize_t row, "
        "const Py_ssize_t* labels, real* losses, Py_ssize_t rows, Py_ssize_t n, real parameter, "
        "const real* factors)", "kind",
        [(_loss(loss), f"{loss.name}_of_few_labels(d, z, row, labels, losses, rows, n, parameter, factors)")
         for loss in losses if loss.few])
    # The losses of rows r0..r1, without weights, and their gradients d, scaled by weight times scale; d may
    # be z. `weights` of the rows may be NULL: 1 everywhere.
    text += _ladder(
        "void loss_rows(const LossRule* rule, real* d, const real* z, Py_ssize_t row, "
        "const Targets* targets, real* losses, Py_ssize_t r0, Py_ssize_t r1, Py_ssize_t n, "
        "const double* weights, double scale)",
        "rule.code",
        [(name, f"loss_rows_as({name}, rule, d, z, row, targets, losses, r0, r1, n, weights, scale)")
         for name in map(_loss, losses)])

    # Update rules, of a vector; of an (m, n) block of parameters; of the tile of a gradient.
    text += _constant(
        "vec step_of(int kind, const Optimizer* o, vec g, vec* a, vec* b)", "",
        [(_rule(rule), f"return {rule.name}_step(o, g{', a, b'[:3 * rule.slots]})") for rule in rules])
    text += _ladder(
        "void update(const Optimizer* o, real* p, Py_ssize_t p_row, const real* g, Py_ssize_t g_row, "
        "Py_ssize_t m, Py_ssize_t n)", "o.rule",
        [("RULE_GRADIENT", "update_as(RULE_GRADIENT, BARE, o, p, p_row, g, g_row, m, n)")]
        + [(name, f"update_rule({name}, o, p, p_row, g, g_row, m, n)") for name in map(_rule, rules)])
    text += _ladder(
        "inline void update_tile(int mr, int nv, vec acc[12][NV], const Optimizer* o, real* c, "
        "Py_ssize_t c_row)",
        "o.rule",
        [(name, f"update_tile_rule({name}, mr, nv, acc, o, c, c_row)")
         for name in (_rule(rule) for rule in rules if rule.registers)])

    # What Python calls: functions without a parameter, so that no code has to be passed.
    for name, constant in [*((f.name, _act(f)) for f in acts if not f.alpha and f.name != "identity"),
                           *((name, constant) for constant, name in functions)]:
        text += f"def array_{name}(x, *, out=None):\n    return short_map(x, {constant}, 0, out)\n\n\n"
    return text


# In the C that Cython makes of the kernels: a function, its name, and what is declared for both parts.
NAME = r"(?:__pyx_fuse_\d+)?__pyx_f_\w+"
FUNCTION = re.compile(rf"^(?:static|KERNEL_INLINE) [^;\n(]*\b({NAME})\([^;\n]*\) \{{\n.*?^\}}\n",
                      re.MULTILINE | re.DOTALL)
PROTOTYPE = re.compile(rf"^static (?=[^;\n(]*\b({NAME})\()", re.MULTILINE)
VARIABLE = re.compile(r"^static (?=[^;\n]*\b(__pyx_(?:v_7fastmlp_7kernels_7kernels|"
                      r"f_7fastmlp_7kernels_5_team)_\w+))", re.MULTILINE)


def parts(text: str) -> str:
    """C of the kernels in two parts, to be compiled apart: with FASTMLP_KERNELS what computes, which must be
    fast, and with FASTMLP_GLUE what Python calls, which is as long and need not be.

    `cdef inline` means always for what computes: the register tile must disappear into its callers, or its
    accumulators do not stay in registers. What Cython adds of its own is left to the compiler.
    """
    text = re.sub("^static CYTHON_INLINE (.*__pyx_f_)", r"KERNEL_INLINE \1", text, flags=re.MULTILINE)
    text = re.sub("^(extern )?int (?=__pyx_module_is_main)", "static int ", text, flags=re.MULTILINE)
    text = text.replace('"fastmlp.kernels.kernels', 'FASTMLP_MODULE "')     # of classes and tracebacks
    start, end = (text.index(f"/* #### Code section: {name} ### */") for name in ("module_code", "end"))
    pieces: list[tuple[str, str]] = []          # name of a function that computes, or "", and text
    at = start
    for function in FUNCTION.finditer(text, start, end):
        if "__Pyx_" in function[0] or "PyObject" in function[0]:
            continue                            # it calls Python
        pieces += [("", text[at:function.start()]), (function[1], function[0])]
        at = function.end()
    pieces.append(("", text[at:end]))
    used = {name: {*re.findall(NAME, piece)} for name, piece in pieces if name}
    inline = {name for name, piece in pieces if piece.startswith("KERNEL_INLINE")}
    of_glue: set[str] = set()
    found = {*re.findall(NAME, "".join(piece for name, piece in pieces if not name))}
    while not found <= of_glue:                 # it needs what inline functions call, too
        of_glue |= found
        found = set().union(*(used[name] for name in of_glue & inline))
    of_kernels = set().union(*used.values())
    shared = (of_glue & of_kernels) - inline
    result = []
    for name, piece in pieces:
        both = name in inline & of_glue
        part = "FASTMLP_KERNELS || FASTMLP_GLUE" if both else "FASTMLP_KERNELS" if name else "FASTMLP_GLUE"
        result.append(f"#if {part}\n{piece}\n#endif\n")
    text = text[:start] + "".join(result) + text[end:]
    variables = {*re.findall(r"\b__pyx_[vf]_7fastmlp\w+", "".join(piece for name, piece in pieces if name))}
    text = VARIABLE.sub(lambda found: "FASTMLP_VARIABLE " if found[1] in variables else found[0], text)
    return PROTOTYPE.sub(lambda found: "FASTMLP_SHARED " if found[1] in shared else found[0], text)


def _act(entry: Any) -> str:
    return f"ACT_{entry.name.upper()}"


def _loss(entry: Any) -> str:
    return f"LOSS_{entry.name.upper()}"


def _rule(entry: Any) -> str:
    return f"RULE_{entry.name.upper()}"


def _enum(name: str, names: Sequence[str]) -> str:
    return f"cdef enum {name}:\n" + "".join(f"    {n} = {code}\n" for code, n in enumerate(names)) + "\n\n"


def _any(variable: str, names: Sequence[str]) -> str:
    return " or ".join(f"{variable} == {name}" for name in names)


def _predicate(name: str, names: Sequence[str]) -> str:
    return (f"cdef inline bint {name}(int code) noexcept nogil:\n"
            f"    return {_any('code', names) or 'False'}\n\n\n")


def _validate(what: str, names: Sequence[str]) -> str:
    """A function that raises ValueError for a code that is not in the table."""
    known = ", ".join(f"{code} ({name[name.index('_') + 1:].lower()})" for code, name in enumerate(names))
    return (f"cdef int {what}_code(int code) except -1:\n"
            f"    if {_any('code', names)}:\n"
            f"        return code\n"
            f"    raise ValueError(f\"{what} {{code}}: no such code; known: {known}\")\n\n\n")


def _branches(variable: str, branches: Iterable[tuple[str, Any]]) -> str:
    text, word = "", "if"
    for constant, statements in branches:
        text += f"    {word} {variable} == {constant}:\n"
        for statement in [statements] if isinstance(statements, str) else statements:
            text += f"        {statement}\n"
        word = "elif"
    return text or "    pass\n"


def _constant(signature: str, declaration: str, branches: Iterable[tuple[str, Any]]) -> str:
    """A function that returns something of a `kind`, a constant at every call."""
    return (f"cdef inline {signature} noexcept nogil:\n" + (f"    {declaration}\n" if declaration else "")
            + _branches("kind", branches)
            + f"    {'return ' if signature.startswith('vec') else ''}no_such_kind()\n\n\n")


def _ladder(signature: str, variable: str, branches: Iterable[tuple[str, Any]]) -> str:
    """A function that calls another one with a constant; for any other value it does nothing."""
    return f"cdef {signature} noexcept nogil:\n" + _branches(variable, branches) + "\n\n"
