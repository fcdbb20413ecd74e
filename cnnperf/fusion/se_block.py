"""A Squeeze-and-Excitation block whose gating is one fused function."""

from torch import Tensor

from cnnperf.fusion.excitation import Excitation
from cnnperf.fusion.gate import gate_map
from cnnperf.models.squeeze_excitation import SEBlock


class FusedSEBlock(SEBlock):
    """`SEBlock`, with the same state_dict, as one fused function.

    On the CPU that is a C++ kernel for maps in fp32 and bf16, on a GPU Triton kernels, for fp16 too; everything else
    goes through torch.compile, with one compiled function for all blocks of a width. The block itself holds none of
    them, so it copies and pickles like any module. Within an outer torch.compile or torch.export it is part of the
    outer graph, and on meta and fake tensors, which hold no numbers, it is not compiled.

    Source: Hu et al., 2017, section 3, equations 2 to 4, https://arxiv.org/abs/1709.01507.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Gate a feature map.

        Args:
            x: N x C x H x W.

        Returns:
            N x C x H x W.
        """
        reduce, expand = self.reduce, self.expand
        return gate_map(x, Excitation(reduce.weight, expand.weight, reduce.bias, expand.bias))
