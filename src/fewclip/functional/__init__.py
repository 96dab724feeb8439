"""Pure tensor mathematics: no state, no files, no logging.

Torch tensors in, torch tensors out, on the device of the inputs. Features are expected to be unit-norm and
labels to be int64 class indices; nothing is checked here.
"""

from fewclip.functional.ape_t import add_residual, ape_t_logits
from fewclip.functional.cache import affinity, cache_logits, class_sums, tip_adapter_logits
from fewclip.functional.calibration import (
    Calibration,
    best_calibration,
    best_temperature,
    held_to_range,
)
from fewclip.functional.calip import calip_logits
from fewclip.functional.channel_evidence import affinity_by_channel
from fewclip.functional.clip_adapter import clip_adapter_features, clip_adapter_logits
from fewclip.functional.gda import GDAHead, gda_head, gda_logits, gda_noise, shot_bias
from fewclip.functional.gda_left_out import gda_left_out
from fewclip.functional.leave_one_out import (
    balance_factors,
    fill_absent,
    leave_one_out_sums,
    shots_per_class,
)
from fewclip.functional.likelihood import best_scale, evened_rows, log_likelihood
from fewclip.functional.linear_heads import (
    clap_penalties,
    cosine_head_logits,
    linear_adapter_logits,
    lp_plus_plus_logits,
    task_res_weights,
    text_basis,
    text_pull,
)
from fewclip.functional.proker import (
    KernelPath,
    proker_coefficients,
    proker_kernel,
    proker_logits,
    proker_residuals,
)
from fewclip.functional.proker_large import proker_large
from fewclip.functional.refinement import (
    ape_logits,
    inter_class_similarity,
    inter_class_variance,
    key_divergence,
    refine_channels,
    refinement_criterion,
)
from fewclip.functional.search import best_alpha, best_of_intervals, spread, winning_intervals
from fewclip.functional.ss_text import ss_text_logits, ss_text_weights
from fewclip.functional.timo import guided_text, prompt_matches, text_samples, timo_logits
from fewclip.functional.tip_x import tip_x_affinity, tip_x_divergence
from fewclip.functional.zero_shot import unit, zero_shot_logits

__all__ = [
    "Calibration",
    "GDAHead",
    "KernelPath",
    "add_residual",
    "affinity",
    "affinity_by_channel",
    "ape_logits",
    "ape_t_logits",
    "balance_factors",
    "best_alpha",
    "best_calibration",
    "best_of_intervals",
    "best_scale",
    "best_temperature",
    "cache_logits",
    "calip_logits",
    "clap_penalties",
    "class_sums",
    "clip_adapter_features",
    "clip_adapter_logits",
    "cosine_head_logits",
    "evened_rows",
    "fill_absent",
    "gda_head",
    "gda_left_out",
    "gda_logits",
    "gda_noise",
    "guided_text",
    "held_to_range",
    "inter_class_similarity",
    "inter_class_variance",
    "key_divergence",
    "leave_one_out_sums",
    "linear_adapter_logits",
    "log_likelihood",
    "lp_plus_plus_logits",
    "proker_coefficients",
    "proker_kernel",
    "proker_large",
    "proker_logits",
    "proker_residuals",
    "prompt_matches",
    "refine_channels",
    "refinement_criterion",
    "shot_bias",
    "shots_per_class",
    "spread",
    "ss_text_logits",
    "ss_text_weights",
    "task_res_weights",
    "text_basis",
    "text_pull",
    "text_samples",
    "timo_logits",
    "tip_adapter_logits",
    "tip_x_affinity",
    "tip_x_divergence",
    "unit",
    "winning_intervals",
    "zero_shot_logits",
]
