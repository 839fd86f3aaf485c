# SPDX-License-Identifier: Apache-2.0
"""Runs a memory image on an engine, in simulation or on a board: ``python -m host.run model.img --data mnist``."""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from host.api import EngineNetwork, open_image
from host.datasets import SPECS, Dataset, load_dataset
from host.decoding.decode import Decoded
from host.device.device_error import DeviceError
from host.device.ports import simulator
from host.device.target import FORMS, Target, list_devices, parse_target
from host.image.image import read_image
from host.quantization.calibration import clipped_inputs
from host.reporting.engine_run import EngineRun
from host.reporting.image_report import output_scale_of_report, weights_of_report
from host.reporting.report_values import rtl_figures
from host.training.metrics import metrics
from host.verification.fit_data import fit_data
from host.view.recording import LARGEST_BYTES, MOST_IMAGES, recorded_image, recording
from nonzero.command_line import CommandParser
from nonzero.errors import UserError, check_all, check_range, end_with, say_notes
from nonzero.files import check_file, part_of, write_whole
from rtl.config import PRESETS
from rtl.image_file import preset_of
from rtl.protocol import Status

__all__ = ["main", "run_image", "table"]

LARGEST_SEED = 1 << 30
"""The simulator takes 31 bits, and each of several simulations gets a seed of its own."""

FEW_IMAGES = 4
"""Images to run where every cycle is written down and nothing else is said."""

EXAMPLES = """examples:
  python -m host.run build/model/model.img --data mnist --limit 100 --verify
  python -m host.run model.img --data idx:fashion/ --device sim:tiny --json
  python -m host.run model.img --data mnist --trace run.json --limit 4    # then: python -m host.view run.json
  python -m host.run model.img --data mnist --waves run.fst --limit 1
  python -m host.run model.img --data mnist --device sim:ulx3s-85f --limit 10
  python -m host.run model.img --data mnist --device "serial:/dev/ttyUSB0?board=ulx3s-85f"
  python -m host.run model.img --data mnist --device "serial:/dev/ttyUSB0?board=ulx3s-85f" --baked
  python -m host.run --list-devices"""


def run_image(network: EngineNetwork, target: Target, dataset: Dataset, images: int, *, verify: bool = True,
              seed: int = 1, baked: bool = False, traced: Path | None = None,
              report: Path | None = None) -> EngineRun:
    """Runs the first test images on a device.

    Parameters
    ----------
    network : EngineNetwork
    target : Target
        With its configuration.
    dataset : Dataset
    images : int
        Number of test images, 1 or more.
    verify : bool
        Read every layer that can be read, and compare it with the golden model and all counters with the cycle model.
    seed : int
        Decides what memories and registers without reset hold at the start of a simulation.
    baked : bool
        The engine has loaded the image by itself.
    traced : Path, optional
        Record what the PEs do, for `host.view`; only of the simulation of an engine alone, and with ``verify``. This is
        the image's file: the report beside it tells how many weights there were.
    report : Path, optional
        The compiler's report, which tells the scale of the outputs: without it they are not compared with targets.

    Raises
    ------
    UserError
        If the dataset does not fit the image or has fewer images, or the device fails.
    """
    decoded = network.decoded
    dataset = fit_data(network.image, dataset)
    say_notes(dataset.notes)
    if dataset.has_targets:
        dataset.require(dataset.input_count, decoded.network.layers[-1].outputs)
    check_range(f"--limit of '{dataset.name}'", images, 1, len(dataset.test_labels))
    chosen = dataset.test_images[:images]
    acts = network.quantize(chosen)
    say_notes(clipped_inputs(decoded.network, chosen))
    measured = network.measure(acts, target, verify=verify, seed=seed, baked=baked, record=traced is not None)
    outputs = network.activations(-1, measured.batch.outputs[-1])
    floats = network.image.floats(outputs)
    run = EngineRun(measured.target, network.config.pes, measured.batch,
                    _test_metrics(outputs, dataset, decoded, report),
                    "mse" if dataset.has_targets else "error", measured.seconds, measured.comparison,
                    None if measured.models is None else measured.models.prediction)
    if traced is None or measured.models is None:
        return run
    return replace(run, recording=_recording(run, decoded, traced, dataset, acts, measured.models.layers,
                                             (outputs if floats is None else floats).argmax(axis=1)))


def _test_metrics(outputs: np.ndarray, dataset: Dataset, decoded: Decoded, report: Path | None) -> dict[str, float]:
    """Figures of the first test images' outputs, int64 ``[n, outputs]``; of values only if their scale is known."""
    labels = dataset.test_labels[:len(outputs)]
    floats = decoded.image.floats(outputs)
    if floats is not None or not dataset.has_targets:
        return metrics(outputs if floats is None else floats, labels)
    scale = None if report is None else output_scale_of_report(report, decoded)
    if scale is None:
        say_notes([("the outputs are not compared with the targets: only the compiler's report of this image, "
                    "report.json beside it, tells their scale")])
        return {}
    return metrics(outputs * scale, labels)


def _recording(run: EngineRun, decoded: Decoded, file: Path, dataset: Dataset, acts: np.ndarray,
               golden: list[np.ndarray], winners: np.ndarray) -> dict[str, Any]:
    assert run.prediction is not None
    inputs = [acts[:, :decoded.network.inputs], *golden[:-1]]
    active = np.stack([(values != 0).sum(axis=1) for values in inputs], axis=1)
    labels = [None if dataset.has_targets else int(label) for label in dataset.test_labels[:len(winners)]]
    images = [recorded_image(number, labels[number], int(winners[number]),
                             {name: int(values[number]) for name, values in run.batch.counters.items()},
                             int(run.prediction.counters["cycles"][number]), active[number].tolist(), bins)
              for number, bins in enumerate(run.batch.bins)]
    return recording(decoded, run.target.name, file.name, dataset.name, run.target.bin_cycles,
                     weights_of_report(file.with_name("report.json"), decoded), images)


def table(figures: dict[str, Any]) -> str:
    """The ``figures`` of a run for a terminal."""
    rows = rtl_figures(figures)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _read(path: Path, target: Target | None) -> tuple[EngineNetwork, Target]:
    """The image and the target with a configuration. Without a target, the simulation of the image's engine; a serial
    port's configuration is the image's, if it is known."""
    if target is not None and target.config is not None:
        return open_image(path, target.config), target
    made_for = read_image(path).config_hash
    name = preset_of(made_for)
    if name is not None:
        found = parse_target(f"sim:{name}") if target is None else replace(target, config=PRESETS[name])
        return open_image(path), found
    problem = f"image '{path}' was made for configuration {made_for.hex()}, no preset's; "
    if target is None:
        raise UserError(f"{problem}name the --config file of its compilation: --device sim:FILE.toml")
    raise DeviceError(f"{problem}write '{target.name}' with config=FILE.toml", Status.WRONG_ENGINE)


def _check_target(name: str | None, trace: Path | None, waves: Path | None) -> Target | None:
    """The target, if one is named."""
    if name is None:
        return None
    target = parse_target(name)
    if trace is not None and not target.engine_alone:
        raise UserError(f"--trace needs the simulation of an engine alone, sim:PRESET or sim:FILE.toml, not '{name}'")
    if waves is not None and target.port is not None:
        raise UserError(f"--waves needs a simulation, sim:..., not '{name}'")
    return target


def _check_waves(waves: Path | None) -> None:
    if waves is None:
        return
    if waves.suffix not in (".fst", ".vcd"):
        raise UserError(f"--waves must name a file that ends in .fst or .vcd, not '{waves}'")
    check_file(waves)
    simulator().check_waves(waves)


class _ListDevices(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        sys.stdout.write("\n".join(f"{name:<20}  {what}" for name, what in list_devices()) + "\n")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> None:
    parser = CommandParser("python -m host.run", description=__doc__, epilog=EXAMPLES)
    parser.add_argument("image", type=Path, help="memory image that host.compile wrote")
    parser.add_argument("--data", required=True, metavar="SPEC", help=SPECS)
    parser.add_argument("--device", metavar="NAME", help=f"{FORMS} (sim:PRESET of the image's own preset)")
    parser.add_argument("--limit", type=int, help=f"test images to run (1000; with --trace or --waves {FEW_IMAGES})")
    parser.add_argument("--verify", action="store_true",
                        help="compare every layer with the golden model, and all counters with the cycle model")
    parser.add_argument("--baked", action="store_true", help="the board has loaded this image by itself (rtl.build "
                        "--bake): check that, and do not load it")
    parser.add_argument("--trace", type=Path, metavar="FILE.json", help="record what every PE does in each cycle, for "
                        f"python -m host.view; verifies, too; at most {MOST_IMAGES} images")
    parser.add_argument("--waves", type=Path, metavar="FILE.fst", help="write the waveforms of a simulation; FST, or "
                        "VCD if the file ends in .vcd")
    parser.add_argument("--seed", type=int, default=1, help="of the random contents of simulated memories (1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--list-devices", action=_ListDevices, nargs=0,
                        help="show the serial ports that there are, presets and boards")
    arguments = parser.parse_args(argv)
    trace, waves = arguments.trace, arguments.waves
    recorded = trace is not None or waves is not None
    limit = arguments.limit if arguments.limit is not None else FEW_IMAGES if recorded else 1000
    _, target, dataset, *_ = check_all(
        lambda: check_range("--seed", arguments.seed, 1, LARGEST_SEED),
        lambda: _check_target(arguments.device, trace, waves), lambda: load_dataset(arguments.data),
        lambda: _check_waves(waves),
        *([lambda: check_file(trace), lambda: check_range("--limit with --trace", limit, 1, MOST_IMAGES)]
          if trace is not None else []))
    network, target = _read(arguments.image, target)
    with ExitStack() as outputs:
        if waves is not None:
            target = replace(target, waves=outputs.enter_context(part_of(waves)))
        run = run_image(network, target, dataset, limit, verify=arguments.verify or trace is not None,
                        seed=arguments.seed, baked=arguments.baked,
                        traced=arguments.image if trace is not None else None,
                        report=arguments.image.with_name("report.json"))
    if trace is not None:
        content = json.dumps(run.recording, separators=(",", ":")).encode()
        if len(content) > LARGEST_BYTES:
            raise UserError(f"the recording would have {len(content)} bytes, and may have {LARGEST_BYTES}; give a "
                            "smaller --limit")
        write_whole(trace, content)
    figures = run.figures()
    sys.stdout.write((json.dumps(figures, indent=2, sort_keys=True) if arguments.json else table(figures)) + "\n")
    run.check()


if __name__ == "__main__":
    end_with(main)
