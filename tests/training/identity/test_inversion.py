import pytest
import torch

from dgtalker.training.identity.frames import UNSURE_WEIGHT, TargetPictures
from dgtalker.training.identity.inversion import picture_loss


@pytest.mark.parametrize("ssim_weight", [0.0, 0.1])
def test_errors_where_the_matte_is_a_guess_count_a_tenth(ssim_weight):
    truth = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(1, 32, 32, 1)
    image, alpha = truth.clone(), ones.clone()
    image[:, 8:16, 8:16] = 0  # background kept as hair
    alpha[:, 8:16, 8:16] = 0
    sure = ones.clone()
    sure[:, 4:20, 4:20] = UNSURE_WEIGHT
    losses = [
        float(picture_loss(image, alpha, TargetPictures(truth, ones, ones, weight), ssim_weight, 0.3))
        for weight in (ones, sure)
    ]
    assert losses[0] > 0.05 and losses[1] < (0.11 if ssim_weight == 0 else 0.3) * losses[0]
