from __future__ import annotations

import pytest
import torch

from hpo.model.training.device import _onednn_is_faster, best_device


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="a CPU's libraries")
def test_matrices_are_multiplied_in_float32_whichever_library_does_it():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(256, 3000, generator=generator), torch.randn(3000, 512, generator=generator)
    exact = (a.double() @ b.double()).float()
    with best_device().matmul():
        product = a @ b
    assert (product - exact).abs().max() / exact.abs().max() < 3e-6  # bfloat16 would be 1e-3 away


@pytest.mark.skipif(not _onednn_is_faster(), reason="not an AMD processor with AVX-512")
def test_the_choice_of_library_ends_with_the_block():
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    with best_device().matmul():
        assert setting.fp32_precision != before
    assert setting.fp32_precision == before
    assert torch.get_float32_matmul_precision() == "highest"
