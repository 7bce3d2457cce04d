"""Approximate: activations of an INT8 network take three codes; which ones is found by search."""

from sparseflow.compress.approximate.attention import AttentionWeights, attention_loss, taps_for
from sparseflow.compress.approximate.candidates import CandidateNet
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
from sparseflow.compress.approximate.count import code_shares, cost_of, stored_bits
from sparseflow.compress.approximate.dp import Optimum, optimal_codes, segment_error
from sparseflow.compress.approximate.energy import EnergyTable
from sparseflow.compress.approximate.evaluator import Evaluator, Scores, reference_scores
from sparseflow.compress.approximate.flow import Reading, follow
from sparseflow.compress.approximate.histogram import Histograms, TmaxRule, coverage, layer_states, percentile_codes
from sparseflow.compress.approximate.result import Metrics, TriSegResult, eval_report
from sparseflow.compress.approximate.reward import RewardConfig, distillation
from sparseflow.compress.approximate.select import Finalist, Selection, select
from sparseflow.compress.approximate.space import CodeSpace
from sparseflow.compress.approximate.top import Entry, Top

__all__ = [
    "CODE_MAX",
    "MASKS",
    "RELATIVE",
    "SEED",
    "AttentionWeights",
    "CandidateNet",
    "CodeSpace",
    "EnergyTable",
    "Entry",
    "Evaluator",
    "Finalist",
    "Histograms",
    "Machine",
    "Masks",
    "Metrics",
    "Optimum",
    "Reader",
    "Reading",
    "RewardConfig",
    "Scores",
    "Selection",
    "Stored",
    "TmaxRule",
    "Top",
    "TriSegCost",
    "TriSegResult",
    "attention_loss",
    "check_codes",
    "clamp_codes",
    "code_shares",
    "cost_of",
    "coverage",
    "distillation",
    "eval_report",
    "follow",
    "initial_codes",
    "layer_states",
    "masks_named",
    "optimal_codes",
    "percentile_codes",
    "reference_scores",
    "sample_codes",
    "segment_error",
    "select",
    "stored_bits",
    "taps_for",
]
