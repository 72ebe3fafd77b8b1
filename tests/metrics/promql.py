"""PromQL read by a parser: which metrics an expression names, and how.

Grafana's variables are put in first, as Grafana would: they are not PromQL.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser

EVERYTHING: Mapping[str, str] = {
    "job": ".+",
    "instance": ".+",
    "product": ".+",
    "__rate_interval": "1m",
    "__range": "6h",
    "__interval": "15s",
}
"""Every variable, as if "All" were chosen."""


@dataclass(frozen=True, slots=True)
class Selector:
    """One place where an expression reads a metric. `functions` are the calls around it, the nearest last."""

    metric: str
    labels: frozenset[str]
    is_range: bool
    functions: tuple[str, ...]


def substituted(expr: str, values: Mapping[str, str] = EVERYTHING) -> str:
    """The expression with each $name and ${name} replaced; KeyError for a variable that nobody declared."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: values[match[1] or match[2]], expr)


def selectors(expr: str) -> list[Selector]:
    """All of them. ValueError for what is no PromQL."""
    return list(_walk(promql_parser.parse(expr), ()))


def _walk(node: Any, functions: tuple[str, ...], is_range: bool = False) -> Iterator[Selector]:
    match node:
        case promql_parser.VectorSelector():
            yield Selector(node.name, frozenset(m.name for m in node.matchers.matchers), is_range, functions)
        case promql_parser.MatrixSelector():
            yield from _walk(node.vector_selector, functions, is_range=True)
        case promql_parser.Call():
            for argument in node.args:
                yield from _walk(argument, (*functions, node.func.name))
        case promql_parser.BinaryExpr():
            yield from _walk(node.lhs, functions)
            yield from _walk(node.rhs, functions)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from _walk(node.expr, functions)
        case promql_parser.SubqueryExpr():
            yield from _walk(node.expr, functions, is_range=True)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:
            raise TypeError(f"an expression of a kind that is not known here: {node!r}")
