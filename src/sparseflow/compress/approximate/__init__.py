"""Approximate: activations of an INT8 network take three codes; which ones is found by search."""

from sparseflow.compress.approximate.codes import (
    CODE_MAX,
    MASKS,
    RELATIVE,
    SEED,
    Masks,
    check_codes,
    clamp_codes,
    initial_codes,
    masks_named,
    sample_codes,
)
from sparseflow.compress.approximate.cost import Machine, Reader, Stored, TriSegCost
from sparseflow.compress.approximate.count import code_shares, cost_of
from sparseflow.compress.approximate.dp import Optimum, optimal_codes, segment_error
from sparseflow.compress.approximate.energy import EnergyTable
from sparseflow.compress.approximate.flow import Reading, follow
from sparseflow.compress.approximate.histogram import Histograms, TmaxRule, coverage, layer_states, percentile_codes
from sparseflow.compress.approximate.result import Metrics, TriSegResult, eval_report
from sparseflow.compress.approximate.select import Finalist, Selection, select
from sparseflow.compress.approximate.space import CodeSpace
from sparseflow.compress.approximate.top import Entry, Top

__all__ = [
    "CODE_MAX",
    "MASKS",
    "RELATIVE",
    "SEED",
    "CodeSpace",
    "EnergyTable",
    "Entry",
    "Finalist",
    "Histograms",
    "Machine",
    "Masks",
    "Metrics",
    "Optimum",
    "Reader",
    "Reading",
    "Selection",
    "Stored",
    "TmaxRule",
    "Top",
    "TriSegCost",
    "TriSegResult",
    "check_codes",
    "clamp_codes",
    "code_shares",
    "cost_of",
    "coverage",
    "eval_report",
    "follow",
    "initial_codes",
    "layer_states",
    "masks_named",
    "optimal_codes",
    "percentile_codes",
    "sample_codes",
    "segment_error",
    "select",
]
