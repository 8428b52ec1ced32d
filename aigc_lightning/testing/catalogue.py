"""The checks for each kind of plugin, in the order in which they are run."""

from aigc_lightning.testing import (
    average_checks,
    callback_checks,
    capability_checks,
    class_checks,
    condition_checks,
    data_checks,
    export_checks,
    model_checks,
    training_checks,
)
from aigc_lightning.testing.checks import Check

_OF_ANY_CLASS = (
    Check("resolves_without_torch", class_checks.resolves_without_torch),
    Check("states_its_api", class_checks.states_its_api),
    Check("has_typed_arguments", class_checks.has_typed_arguments),
    Check("has_docstrings", class_checks.has_docstrings),
)
MODEL_CHECKS = (
    *_OF_ANY_CLASS,
    Check("trains_with_its_preset", training_checks.trains_with_its_preset),
    Check("moves_every_player", training_checks.moves_every_player),
    Check("keeps_its_averages", average_checks.keeps_its_averages),
    Check("builds_with_defaults", model_checks.builds_with_defaults),
    Check("refuses_what_it_cannot_do", model_checks.refuses_what_it_cannot_do),
    Check("keeps_the_contract_of_its_output", model_checks.keeps_the_contract_of_its_output),
    Check("obeys_what_it_takes", condition_checks.obeys_what_it_takes),
    Check("keeps_what_masks_leave_out", condition_checks.keeps_what_masks_leave_out),
    Check("computes_log_likelihoods", capability_checks.computes_log_likelihoods),
    Check("embeds_texts", capability_checks.embeds_texts),
    Check("maps_its_attention", capability_checks.maps_its_attention),
    Check("looks_at_words", capability_checks.looks_at_words),
    Check("encodes_and_decodes", capability_checks.encodes_and_decodes),
    Check("inverts_images", capability_checks.inverts_images),
    Check("predicts", condition_checks.predicts),
    Check("survives_a_checkpoint", model_checks.survives_a_checkpoint),
    Check("trains_on_the_shapes_it_claims", training_checks.trains_on_the_shapes_it_claims),
    Check("resumes_exactly", training_checks.resumes_exactly),
    Check("trains_in_bf16", training_checks.trains_in_bf16),
    Check("can_be_exported", export_checks.can_be_exported),
    Check("exports_what_it_promises", export_checks.exports_what_it_promises),
    Check("can_be_pickled", model_checks.can_be_pickled),
    Check("gives_the_same_on_two_processes", training_checks.gives_the_same_on_two_processes, slow=True),
    Check("gives_the_same_in_micro_batches", training_checks.gives_the_same_in_micro_batches, slow=True),
    Check(
        "gives_the_same_with_recomputed_activations",
        training_checks.gives_the_same_with_recomputed_activations,
        slow=True,
    ),
)
CALLBACK_CHECKS = (
    *_OF_ANY_CLASS,
    Check("completes_a_run", callback_checks.completes_a_run),
    Check("resumes", callback_checks.resumes),
    Check("survives_a_signal", callback_checks.survives_a_signal),
    Check("runs_in_every_stage", callback_checks.runs_in_every_stage),
)
DATA_CHECKS = (
    *_OF_ANY_CLASS,
    Check("is_built", data_checks.is_built),
    Check("refuses_wrong_options", data_checks.refuses_wrong_options),
    Check("gives_keyed_batches", data_checks.gives_keyed_batches),
    Check("gives_each_sample_once", data_checks.gives_each_sample_once),
    Check("keeps_masks_as_they_are", data_checks.keeps_masks_as_they_are),
    Check("gives_the_same_sample_for_a_key", data_checks.gives_the_same_sample_for_a_key),
    Check("goes_on_after_a_resume", data_checks.goes_on_after_a_resume),
    Check("can_be_pickled", data_checks.data_can_be_pickled),
    Check("trains_a_model", data_checks.trains_a_model),
    Check("is_scored_in_every_stage", data_checks.is_scored_in_every_stage),
    Check("gives_the_same_with_workers", data_checks.gives_the_same_with_workers, slow=True),
    Check("is_scored_with_workers", data_checks.is_scored_with_workers, slow=True),
)
