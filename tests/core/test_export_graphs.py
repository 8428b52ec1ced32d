import pytest
import torch
from conditional_models import Doubler, Filler, Painter

from aigc_lightning.core.export_graphs import ExportGraph, GraphInput, export_graphs
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.cnn import CNN
from aigc_lightning.models.cyclegan import CycleGAN
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.models.vae import VAE

CLASSES = ("a", "b", "c")


def graphs_of(model):
    return {name: graph for name, graph in export_graphs(model.eval()).items() if isinstance(graph, ExportGraph)}


def test_a_generator_decodes_latents_and_labels():
    graphs = graphs_of(DCGAN(ImageSpec(1, 8, 8, class_names=CLASSES), width=4, conditioning="projection"))
    assert graphs.keys() == {"decode"}
    inputs = graphs["decode"].inputs
    assert inputs["latents"].shape == ("batch", 100) and inputs["latents"].low is None
    assert inputs["labels"].integers and (inputs["labels"].low, inputs["labels"].high) == (0, 2)
    assert graphs_of(DCGAN(ImageSpec(1, 8, 8, class_names=CLASSES), width=4))["decode"].inputs.keys() == {"latents"}


def test_sizes_are_dynamic_where_the_model_takes_other_sizes():
    cnn = graphs_of(CNN(ImageSpec(1, 8, 8, class_names=CLASSES), width=4))
    assert cnn.keys() == {"embed", "classify"}
    assert cnn["classify"].inputs["images"].shape == ("batch", 1, "height", "width")
    vae = graphs_of(VAE(ImageSpec(1, 8, 8), width=4))
    assert vae.keys() == {"decode", "edit", "embed"}
    assert vae["edit"].inputs["images"].shape == vae["embed"].inputs["images"].shape == ("batch", 1, 8, 8)
    assert vae["edit"].dynamic == ["batch"]


def test_both_directions_of_a_translator():
    model = CycleGAN(ImageSpec(3, 24, 24, task="unpaired"), width=2, num_blocks=1, discriminator_width=2)
    graphs, images = graphs_of(model), torch.rand(1, 3, 24, 24)
    assert graphs.keys() == {"edit_AtoB", "edit_BtoA"}
    assert torch.equal(graphs["edit_BtoA"].call(images=images), model.edit(images, "BtoA"))


def test_masks_and_references_are_inputs_and_what_is_no_tensor_is_left_out():
    graph = graphs_of(Filler(ImageSpec(3, 8, 8, masks=True)))["edit"]
    assert list(graph.inputs) == ["images", "masks", "references"]
    assert graph.inputs["references"].shape == ("batch", 3, 8, 8)


def test_smaller_images_where_the_result_is_larger():
    graph = graphs_of(Doubler(ImageSpec(3, 16, 32, task="restoration", scale=2)))["edit"]
    assert graph.trials[0] == {"batch": 1, "height": 8, "width": 16}


def test_the_reason_why_something_cannot_be_exported():
    assert "random" in str(export_graphs(Painter(ImageSpec(3, 8, 8, captions=True)))["sample"])
    restorer = export_graphs(Autoencoder(ImageSpec(3, 8, 8, task="restoration"), width=2, num_halvings=1))
    assert "skip connections" in str(restorer["decode"]) and "skip connections" in str(restorer["encode"])
    assert isinstance(restorer["edit"], ExportGraph)


def test_trials_are_multiples_and_of_different_sizes():
    graph = graphs_of(Autoencoder(ImageSpec(3, 8, 8), width=2, num_halvings=1))["edit"]
    assert any(size % 2 for trial in graph.trials for size in trial.values())
    assert all(len(set(trial.values())) == 3 for trial in graph.trials[1:])


@pytest.mark.parametrize(("low", "high", "integers"), [(None, None, False), (-1.0, 1.0, False), (0, 2, True)])
def test_examples_cover_the_range_and_repeat(low, high, integers):
    given = GraphInput(("batch", 50), low, high, integers)
    values = given.example({"batch": 20}, torch.Generator().manual_seed(3))
    assert values.shape == (20, 50) and values.dtype == (torch.int64 if integers else torch.float32)
    assert torch.equal(values, given.example({"batch": 20}, torch.Generator().manual_seed(3)))
    if integers:
        assert set(values.unique().tolist()) == {0, 1, 2}
    elif low is not None:
        assert low <= values.min() < -0.9 and 0.9 < values.max() <= high
    else:
        assert abs(values.std() - 1) < 0.1
