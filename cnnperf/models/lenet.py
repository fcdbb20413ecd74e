"""LeNet-5 with max pooling or average pooling.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998,
section II.B and figure 2, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf.

As most current versions, it differs from the paper in five points: three input channels instead of one, a fully
connected C3 instead of a sparse one, ReLU instead of the scaled tanh, plain pooling instead of trainable subsampling,
and a linear last layer instead of radial basis functions.
"""

from torch import Tensor, nn

from cnnperf.errors import OptionError
from cnnperf.models.initialization import he_initialize

POOLINGS: dict[str, type[nn.MaxPool2d | nn.AvgPool2d]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
"""Pooling layers by the value of `pooling`; neither has parameters."""


class LeNet5(nn.Module):
    """Two convolutions and three linear layers for images of 3 x 32 x 32 (62,006 parameters).

    Source: LeCun et al., 1998, section II.B; the module lists the differences.
    """

    def __init__(self, pooling: str = "max") -> None:
        """Build the network.

        Args:
            pooling: `max` or `average`.

        Raises:
            OptionError: If `pooling` is neither.
        """
        super().__init__()
        if pooling not in POOLINGS:
            raise OptionError(f"pooling {pooling!r} is unknown; use one of: {', '.join(POOLINGS)}")
        pool = POOLINGS[pooling]
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, kernel_size=5),  # C1: 6 x 28 x 28
            nn.ReLU(),
            pool(kernel_size=2),  # S2: 6 x 14 x 14
            nn.Conv2d(6, 16, kernel_size=5),  # C3: 16 x 10 x 10
            nn.ReLU(),
            pool(kernel_size=2),  # S4: 16 x 5 x 5
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),  # C5
            nn.ReLU(),
            nn.Linear(120, 84),  # F6
            nn.ReLU(),
            nn.Linear(84, 10),
        )
        he_initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores, N x 10 and not normalized, of images, N x 3 x 32 x 32."""
        scores: Tensor = self.classifier(self.features(images))
        return scores
