"""Fields of few words: the stubs name exactly those that the engine has."""

from __future__ import annotations

import ast
from pathlib import Path

import tokenweir
from tokenweir import _native

STUBS = Path(tokenweir.__file__).with_name("_native.pyi")
WORDS = _native._WORDS


def literals() -> dict[str, list[str]]:
    """The words of each property whose type is a Literal, or the name of one, by class and name."""
    module = ast.parse(STUBS.read_text())
    aliases = {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = {}
    for of in (node for node in module.body if isinstance(node, ast.ClassDef)):
        for method in (node for node in of.body if isinstance(node, ast.FunctionDef)):
            returned = method.returns
            if isinstance(returned, ast.Name):
                returned = aliases.get(returned.id)
            if isinstance(returned, ast.Subscript) and ast.unparse(returned.value) == "Literal":
                words = ast.literal_eval(returned.slice)
                found[f"{of.name}.{method.name}"] = list(words) if isinstance(words, tuple) else [words]
    return found


def test_the_stubs_name_every_word() -> None:
    found = literals()
    assert {name: found.get(name) for name in WORDS} == WORDS


def test_every_literal_is_tested() -> None:
    # An admission is either; modes, moments and the ends of a response are tested where they come about.
    others = {"Permit.__bool__", "Permit.admitted", "Denial.__bool__", "Denial.admitted", "Policy.__bool__"}
    redis = ("RedisPermit", "AsyncRedisPermit", "Unavailable")
    others |= {f"{name}.{member}" for name in redis for member in ("__bool__", "admitted")}
    others |= {"Limit.algorithm", "Limit.mode", "Limit.until", "LimitView.mode", "Measured.ended"}
    assert literals().keys() - WORDS.keys() <= others
