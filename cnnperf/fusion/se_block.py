"""A Squeeze-and-Excitation block whose gating is one fused function."""

from torch import Tensor

from cnnperf.fusion.excitation import Excitation
from cnnperf.fusion.gate import gate_map
from cnnperf.fusion.modules import NotScriptable, is_traced
from cnnperf.models.squeeze_excitation import SEBlock


class FusedSEBlock(NotScriptable, SEBlock):
    """`SEBlock` as one fused function, with the same state_dict.

    It runs a C++ kernel on the CPU for maps in fp32 and bf16, and Triton kernels on a GPU, also for fp16. Other maps go
    through torch.compile, with one compiled function for all blocks of a width. The block holds no reference to any of
    these, so it can be copied and pickled. Within an outer torch.compile or torch.export it is part of the outer graph.
    On meta and fake tensors, which have no values, it is not compiled. It has no second derivative.

    Source: Hu et al., 2017, section 3, equations 2 to 4, https://arxiv.org/abs/1709.01507.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Gate a feature map.

        Args:
            x: N x C x H x W.

        Returns:
            N x C x H x W.

        Raises:
            RuntimeError: If C is not the number of channels of the block.
        """
        if is_traced(x):
            return super().forward(x)
        reduce, expand = self.reduce, self.expand
        return gate_map(x, Excitation(reduce.weight, expand.weight, reduce.bias, expand.bias))
