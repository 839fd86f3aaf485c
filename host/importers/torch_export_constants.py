# SPDX-License-Identifier: Apache-2.0
"""Constants that an exported program computes: weights that are transposed, reshaped, masked or normalised."""

from host.importers.chain_tracer import Dataflow
from host.importers.stored_tensor import masked, reshaped, transposed, weight_normed
from host.importers.torch_export_node import ValueName, Values

__all__ = ["IGNORED", "keep_constant"]

IGNORED = ("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "dropout_", "clone", "contiguous", "alias",
            "detach", "detach_", "lift_fresh_copy")
"""Operations that give what they take."""

_WIDE = (7, 8)
"""Number formats to which a weight may be converted without a loss."""


def keep_constant(operation: str, arguments: Values, output: str, sizes: list[int | str | None], flow: Dataflow,
                  names: dict[str, str]) -> None:
    """Records what a node without activations makes: a constant that is transposed, reshaped, masked or normalised.

    All others are ignored.

    Parameters
    ----------
    operation : str
        Its name in torch.ops.aten.
    arguments : dict
        Its arguments by name, from `host.importers.torch_export_node.argument`.
    output : str
        Name of the value that it makes.
    sizes : list
        Axes of that value, from `host.importers.torch_export_node.size_of`.
    flow : Dataflow
        Takes up the constant.
    names : dict
        Names of the tensors in the model, by the names of their values in the graph; it is added to.
    """
    sources = [value.name for value in arguments.values() if type(value) is ValueName]
    tensors = [flow.constants[source] for source in sources if source in flow.constants]
    if not tensors or len(tensors) != len(sources):
        return
    swaps = operation in ("t", "numpy_T") or (operation == "permute" and arguments.get("dims") == [1, 0]) \
        or (operation == "transpose" and {arguments.get("dim0"), arguments.get("dim1")} in ({0, 1}, {-1, -2}))
    copied = operation in IGNORED or (operation in ("to", "_to_copy") and arguments.get("dtype") in (None, *_WIDE))
    if len(tensors) == 1 and (swaps or copied):
        found = transposed(tensors[0]) if swaps else tensors[0]
    elif len(tensors) == 1 and operation in ("view", "reshape", "unsqueeze", "squeeze") \
            and not tensors[0].problem and all(type(size) is int for size in sizes):
        found = reshaped(tensors[0], tuple(size for size in sizes if type(size) is int))
    elif len(tensors) == 2 and operation == "mul" and tensors[0].shape == tensors[1].shape:
        found = masked(*tensors)
    elif len(tensors) == 2 and operation in ("_weight_norm", "_weight_norm_interface") and not arguments.get("dim"):
        found = weight_normed(*tensors)
    else:
        return
    flow.derive(output, found, *sources)
    names[output] = names.get(sources[0], sources[0])
