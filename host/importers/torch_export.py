# SPDX-License-Identifier: Apache-2.0
"""Reads ``.pt2`` files of torch.export.save from their zip, without the pickles in it and without running anything.

The graph is JSON (torch's export schema, whose major version is checked), the weights are raw numbers.
"""

import zipfile
from collections.abc import Callable

import numpy as np

from host.importers.build_network import assemble_fitting
from host.importers.chain_tracer import Dataflow
from host.importers.known_networks import refuse_known
from host.importers.model_file import ModelFile, ModelFormat
from host.importers.source_layers import shown
from host.importers.stored_tensor import FLOAT_BYTES, StoredTensor, decode, dtype_problem, shape_problem, view_problem
from host.importers.torch_archive import EXPORT, ZIP_ERRORS, ZIP_START, open_zip
from host.importers.torch_export_node import GarbledError, Values, size_of
from host.importers.torch_export_operators import read_node
from host.network.layers import Network
from nonzero.errors import UserError
from nonzero.strict_json import parse_json

__all__ = ["TORCH_EXPORT", "read_exported"]

SCHEMA_MAJOR = 8
"""Major version of torch's export schema; torch 2.4 to 2.13 write it."""

ARCHIVE_VERSIONS = (b"0", b"1")

JSON_LIMIT = 1 << 26
"""Greatest size of the graph, and of the list of the weights, in bytes."""

EXPORT_AGAIN = f"export it again: {EXPORT}"

DTYPES = {6: "float16", 7: "float32", 8: "float64", 13: "bfloat16"}
"""Number formats of torch's schema."""


def _is_exported(model: ModelFile) -> bool:
    """Whether a file comes from torch.export.save: a zip file with entries of certain names."""
    return model.start.startswith(ZIP_START) and any(
        name.endswith("/archive_format") or name == "serialized_exported_program.json"
        for name in open_zip(model.file).namelist())


def read_exported(archive: zipfile.ZipFile) -> Dataflow:
    """The parts of the model in the .pt2 file ``archive``, and the shape of its input.

    Tensors are read as long as the file is open.

    Raises
    ------
    UserError
        For a file of another version, damaged or garbled.
    """
    entries = {entry.filename: entry for entry in archive.infolist()}
    folder = next((name.removesuffix("archive_format") for name in entries if name.endswith("/archive_format")), None)
    if folder is None:
        raise UserError("it is a .pt2 file of torch 2.7 or older, whose weights are pickled; with a newer torch, "
                        f"{EXPORT_AGAIN}")

    def read(name: str, most: int) -> bytes:
        entry = entries.get(folder + name)
        if entry is None:
            raise UserError(f"its part {shown(name)} is missing; {EXPORT_AGAIN}")
        if entry.file_size > most:
            raise UserError(f"its part {shown(name)} has {entry.file_size:,} bytes, more than {most:,}")
        try:
            return archive.read(entry)
        except ZIP_ERRORS as error:
            raise UserError(f"its part {shown(name)} is damaged ({error}); {EXPORT_AGAIN}") from None

    if read("archive_format", 16).strip() != b"pt2" or read("archive_version", 16).strip() not in ARCHIVE_VERSIONS:
        raise UserError("it is a .pt2 file of an unknown version of the archive; known are "
                        f"{', '.join(version.decode() for version in ARCHIVE_VERSIONS)}: {EXPORT_AGAIN}")
    if "byteorder" in {name.removeprefix(folder) for name in entries} and read("byteorder", 16) != b"little":
        raise UserError(f"it was written on a big-endian machine; there, {EXPORT_AGAIN}")
    models = [name.removeprefix(folder) for name in entries
              if name.startswith(f"{folder}models/") and name.endswith(".json")]
    if len(models) != 1:
        raise UserError(f"it holds {len(models)} models, not one; {EXPORT_AGAIN}")
    model = models[0].removeprefix("models/").removesuffix(".json")
    try:
        program = parse_json(read(models[0], JSON_LIMIT))
        version = program["schema_version"]["major"]
        if version != SCHEMA_MAJOR:
            raise UserError(f"its schema has the version {shown(version)}, but {SCHEMA_MAJOR} is known; "
                            f"{EXPORT_AGAIN} with a torch whose schema has that version")
        tensors = {}
        for kind in ("weights", "constants"):
            listed = parse_json(read(f"data/{kind}/model_{kind}_config.json".replace("/model_", f"/{model}_"),
                                     JSON_LIMIT))["config"]
            for name, one in listed.items():
                tensors[name] = _tensor(one, f"data/{kind}/", entries, folder, read)
        return _follow(program["graph_module"], tensors)
    except RecursionError:
        raise UserError(f"its JSON nests too deep; {EXPORT_AGAIN}") from None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise UserError(f"its description is garbled ({type(error).__name__}: {str(error)[:80]!r}); "
                        f"{EXPORT_AGAIN}") from None


def _tensor(one: Values, place: str, entries: dict[str, zipfile.ZipInfo], folder: str,
            read: Callable[[str, int], bytes]) -> StoredTensor:
    """A tensor of the archive as its list describes it."""
    if one["use_pickle"] is not False:
        return StoredTensor((), problem="is pickled, and pickles are not read; export it as a plain tensor, after "
                                        "model.float()")
    meta, path = one["tensor_meta"], place + one["path_name"]
    shape, strides = (tuple(_integer(size) for size in meta[key]) for key in ("sizes", "strides"))
    dtype, offset = DTYPES.get(meta["dtype"], f"number {meta['dtype']} of torch's schema"), \
        _integer(meta["storage_offset"])
    if problem := dtype_problem(dtype) or shape_problem(shape):
        return StoredTensor(shape, problem=problem)
    entry = entries.get(folder + path)
    bytes_each = FLOAT_BYTES[dtype]
    if entry is None or entry.file_size % bytes_each:
        return StoredTensor(shape, problem=f"is not in the file, or damaged; {EXPORT_AGAIN}")
    stored = entry.file_size // bytes_each
    if problem := view_problem(stored, offset, shape, strides):
        return StoredTensor(shape, problem=problem)

    def load() -> np.ndarray:
        flat = decode(read(path, entry.file_size), dtype)
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, [stride * flat.itemsize for stride in strides],
                                               writeable=False)
    return StoredTensor(shape, stored, load)


def _integer(value: Values) -> int:
    number = value["as_int"]
    if type(number) is not int or not 0 <= number < 1 << 48:
        raise GarbledError(f"a size of {number!r}")
    return number


def _follow(module: Values, tensors: dict[str, StoredTensor]) -> Dataflow:
    """Translates the graph, node by node."""
    graph, constants, names, inputs = module["graph"], {}, {}, []
    for spec in module["signature"]["input_specs"]:
        (kind, content), = spec.items()
        if kind in ("parameter", "buffer", "tensor_constant"):
            value, name = content["arg"]["name"], content[f"{kind}_name"]
            names[value] = name
            constants[value] = tensors.get(name, StoredTensor((), problem="has no values in the file"))
        elif kind == "user_input" and "as_tensor" in content["arg"]:
            inputs.append(content["arg"]["as_tensor"]["name"])
    if len(inputs) != 1:
        raise UserError(f"it takes {len(inputs)} inputs, not one; export a model whose forward() takes one tensor")
    flow = Dataflow(inputs[0], [size_of(size) for size in graph["tensor_values"][inputs[0]]["sizes"]], constants)
    for node in graph["nodes"]:
        read_node(node, flow, names, graph["tensor_values"])
    outputs = [one["as_tensor"]["name"] for one in graph["outputs"] if "as_tensor" in one]
    flow.end(outputs, "return tensors from forward() that it computes from its input")
    return flow


def _network(model: ModelFile) -> Network:
    refuse_known(model.known)
    flow = read_exported(open_zip(model.file))
    return assemble_fitting(model.path.stem, flow.steps, flow.shape, model.input_shape, flow.assumptions, flow.at)


TORCH_EXPORT = ModelFormat(_is_exported, _network)
