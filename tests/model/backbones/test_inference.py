from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from hpo.model.backbones.backbone import load_backbone
from hpo.model.backbones.inference import export, fastest_forward, onnx_forward, precision, torch_forward

CPU = torch.device("cpu")


def posters(n_posters: int, image_size: int = 64, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n_posters, image_size, image_size, 3), dtype=np.uint8)


class Fused(nn.Module):
    """Two backbones on posters of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = load_backbone("test_resnet", 64, "random"), load_backbone("test_vit", 96, "random")

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        return torch.cat([self.small(small), self.large(large)], 1)


class DeepestMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = load_backbone("test_efficientnet", 64, "random")

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone.represent(images)[1]


class SingularValues(nn.Module):
    """ONNX has no operator for it."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.linalg.svdvals(images.float().mean(3))[:, :4]


class LooksBeforeItDecides(nn.Module):
    """Tracing follows one of the two ways, and keeps to it for every poster."""

    def forward(self, images: Tensor) -> Tensor:
        brightness = images.float().mean((1, 2, 3))[:, None]
        return brightness if brightness.max() < 1 else -brightness


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit"])
def test_onnx_runtime_and_pytorch_agree(name):
    backbone = load_backbone(name, 64, "random")
    exported, plain = onnx_forward(backbone, 64), torch_forward(backbone, CPU, half=False)
    assert exported is not None
    for n_posters in (1, 2, 5):  # the graph is exported with two
        images = posters(n_posters)
        rows = exported.run(images)
        assert (rows.shape, rows.dtype) == ((n_posters, backbone.layout.width), np.float32)
        np.testing.assert_allclose(rows, plain.run(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("network", [SingularValues(), LooksBeforeItDecides()], ids=["no operator", "traced wrongly"])
def test_a_network_that_cannot_be_exported_runs_in_pytorch(network):
    assert onnx_forward(network, 32) is None
    images = posters(3, 32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(
        fastest_forward(network, 32).run(images), expected, rtol=1e-3 if precision() == "fp32" else 1e-2
    )


def test_the_exported_graph_names_its_inputs_and_output(tmp_path):
    export(Fused(), (64, 96), tmp_path / "network.onnx")
    graph = onnx.load(tmp_path / "network.onnx").graph
    assert [node.name for node in graph.input] == ["images_0", "images_1"]
    assert [node.name for node in graph.output] == ["rows"]


def test_the_fastest_way_stays_close_to_fp32():
    backbone = load_backbone("test_efficientnet", 64, "random")
    images = posters(4)
    plain = torch_forward(backbone, CPU, half=False).run(images)
    rows = fastest_forward(backbone, 64).run(images)
    tolerance = 1e-4 if precision() == "fp32" else 2e-2
    assert np.abs(rows - plain).max() <= tolerance * np.abs(plain).max()


def test_half_precision_answers_in_float32():
    backbone = load_backbone("test_efficientnet", 64, "random")
    images = posters(2)
    half, plain = (torch_forward(backbone, CPU, half=half).run(images) for half in (True, False))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - plain).max() <= 5e-2 * np.abs(plain).max()


def test_posters_are_run_in_batches_and_come_back_in_order():
    forward = onnx_forward(load_backbone("test_efficientnet", 64, "random"), 64)
    images = posters(3 * forward.batch_posters + 1)
    finished: list[int] = []
    rows = forward.over(images, finished.append)
    assert sum(finished) == len(images)
    np.testing.assert_allclose(rows, forward.run(images), atol=1e-5, rtol=1e-5)


def test_several_sizes_of_the_same_posters_go_through_together():
    network = Fused()
    small, large = posters(19, 64), posters(19, 96)
    with torch.inference_mode():
        expected = network(torch.from_numpy(small), torch.from_numpy(large)).numpy()
    for forward in (onnx_forward(network, 64, 96), torch_forward(network, CPU, half=False)):
        finished: list[int] = []
        rows = forward.over([small, large], finished.append)
        np.testing.assert_allclose(rows, expected, atol=1e-4, rtol=1e-4)
        assert sum(finished) == 19


def test_rows_may_be_maps():
    network, images = DeepestMap(), posters(11)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    assert expected.shape == (11, 64, 2, 2)
    np.testing.assert_allclose(onnx_forward(network, 64).over(images), expected, atol=1e-4, rtol=1e-4)


def test_a_failed_export_leaves_stdout_to_the_answer(capfd):
    assert onnx_forward(SingularValues(), 32) is None
    assert capfd.readouterr().out == ""
