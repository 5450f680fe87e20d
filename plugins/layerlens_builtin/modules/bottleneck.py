"""The bottleneck adapter (Houlsby et al. 2019, arXiv 1902.00751): y + W_up · gelu(W_down · y + b_down) + b_up."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import gelu

from layerlens_core.plugin import Entry, ModelError, SideModule


class Bottleneck(SideModule):
    """Stands beside a module that writes to the residual stream, and adds a correction to that module's output.

    The output is a tensor [..., m], or a tuple that begins with one. W_up and b_up are zero at first.
    """

    child = "layerlens_bottleneck"
    places = (("out_features",), ("features",))
    adapter_layer_names = ("lora_down", "lora_up")

    def __init__(self, host: nn.Module, entry: Entry) -> None:
        super().__init__(host, entry)
        self.lora_down = nn.ModuleDict()
        self.lora_up = nn.ModuleDict()

    @classmethod
    def check(cls, host: nn.Module, name: str, entry: Entry) -> None:
        planned = entry.shape.get("out_features")
        # A linear module says how wide it is; a whole mixture of experts does not.
        width = getattr(host, "out_features", getattr(host, "nf", planned))
        if width != planned and "features" not in entry.shape:
            raise ModelError(f"the adapter planned for {name} is {planned} wide, but that module writes {width}")

    def add(self, adapter: str, entry: Entry) -> None:
        width = _width(entry)
        down, up = nn.Linear(width, entry.size), nn.Linear(entry.size, width)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.lora_down[adapter], self.lora_up[adapter] = self.beside_host(down), self.beside_host(up)

    def connect(self) -> None:
        self.host.register_forward_hook(_correct)

    def disconnect(self) -> None:
        hooks = self.host._forward_hooks
        for key in [key for key, hook in hooks.items() if hook is _correct]:
            del hooks[key]

    @classmethod
    def parameters_of(cls, entry: Entry) -> int:
        width = _width(entry)
        return 2 * entry.size * width + width + entry.size

    def forward(self, output: Tensor) -> Tensor:
        """The host's output [..., m] with the correction added; in its dtype."""
        dtype = output.dtype
        for adapter in self.running():
            down, up = self.lora_down[adapter], self.lora_up[adapter]
            assert isinstance(down, nn.Linear)
            output = output + up(gelu(down(output.to(down.weight.dtype))))
        return output.to(dtype)


def _width(entry: Entry) -> int:
    return entry.shape.get("features") or entry.shape["out_features"]


def _correct(host: nn.Module, _args: Any, output: Any) -> Any:
    """The forward hook; a function of the module, so that a copy of the model runs its own adapters."""
    side = host._modules[Bottleneck.child]
    assert side is not None
    if isinstance(output, tuple):
        return (side(output[0]), *output[1:])
    return side(output)
