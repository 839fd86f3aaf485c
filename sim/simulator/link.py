# SPDX-License-Identifier: Apache-2.0
"""The simulated engine as a link: packets in, responses out, as over a serial port."""

import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, overload

from amaranth.lib import wiring

from rtl.config import EngineConfig

from .running import log_tail, simulation_command, simulation_environment
from .verilate import Build, SimulationError, build

BLOCK_BYTES = 256
"""Bytes that the link port carries in one step."""


def build_link(engine: wiring.Component, *, capacity_bytes: int = 2048, waves: str = "",
               random_start: bool = True, record_acts: bool = False, record_pes: bool = False,
               long_runs: bool = False) -> Build:
    """Builds the simulation of an engine behind its link, or finds it in the cache.

    Parameters
    ----------
    engine : wiring.Component
        Has the byte streams ``rx`` and ``tx``, an output ``busy`` that is high from the first byte of a
        packet to the last of its response, and no other inputs.
    capacity_bytes : int
        Bytes of the longest request and of the longest response; rounded up to whole `BLOCK_BYTES`.
    waves, random_start, long_runs
        See `sim.simulator.verilate.build`.
    record_acts : bool
        The simulation notes all writes to the activation memory (`SimulationLink.act_writes`); only of an `Engine`.
    record_pes : bool
        The simulation notes what the PEs do (`SimulationLink.pe_lines`); only of an `Engine`.
    """
    names = ["link_port", *(["act_recorder"] if record_acts else []), *(["pe_recorder"] if record_pes else [])]
    return build(engine, name="engine", top="link_port",
                 sources=[Path(__file__).with_name(f"{name}.sv") for name in names],
                 appended=_pe_recorder(engine.config) if record_pes else "",
                 parameters={"blocks": -(-capacity_bytes // BLOCK_BYTES), "block_bytes": BLOCK_BYTES},
                 waves=waves, visible=None, random_start=random_start, long_runs=long_runs)


def _pe_recorder(config: EngineConfig) -> str:
    """Binds ``pe_recorder`` into the engine: by names of ports, and of registers before the performance counters."""
    each = config.cluster_pes
    pes = [(f"cluster_{pe // each}.pe_{pe % each}", f"cluster_{pe // each}", pe % each) for pe in range(config.pes)]

    def of_pes(expression: str) -> str:
        return f"{{{', '.join(expression.format(*names) for names in reversed(pes))}}}"

    ports = {
        "clk": "clk", "running": "running", "start": "sequencer.scan__start", "scanned": "scanner.done",
        "beat": "counter_bank.beats_0", "broadcast": "counter_bank.broadcasts_0",
        "stalled": "counter_bank.stall_cycles_0", "drain": "counter_bank.drain_cycles_0",
        "useful": of_pes("{}.walker.visits__valid"), "held": of_pes("{}.walker.hold"),
        "dropped": of_pes("{1}.lookup.dropped[{2}]"),
        "walks": of_pes("~{0}.walker.empty | ({0}.queue.level != 0)"), "level": of_pes("{}.queue.level"),
    }
    connections = ",\n    ".join(f".{port}({expression})" for port, expression in ports.items())
    return (f"\nbind engine pe_recorder #(.pes({config.pes}), .level_bits({config.queue_depth.bit_length()})) "
            f"recorder_of_pes (\n    {connections});\n")


class SimulationLink:
    """A simulation that runs in a process of its own, as a context manager.

    Simulated time passes only during the calls of its methods. ::

        with SimulationLink(build_link(Engine(config))) as link:
            response = link.exchange(pack(Opcode.IDENTIFY.value))

    Parameters
    ----------
    build : Build
        Result of `build_link`.
    idle, stall : float
        Probabilities, 0 to 0.9, that a byte is held back in a cycle on the way to the engine, and from it.
    patience_cycles : int
        Cycles without a byte in either direction after which an exchange ends. Must be longer
        than an inference.
    seed : int
        Decides the random contents at the start, and which bytes are held back.
    waves : Path, optional
        Write the waveforms there; ``build`` must have been made with ``waves``.
    bin_cycles : int
        Cycles of a bin of `pe_lines`.
    timeout_s : float
        Seconds of real time that one call may take.

    Attributes
    ----------
    process : subprocess.Popen
        The simulation.

    Raises
    ------
    SimulationError
        Raised by any method if the simulation died or exceeded its time; the message has the end of its log. The
        link is closed then.
    ValueError
        If a request exceeds the capacity, or a probability its range.
    """

    def __init__(self, build: Build, *, idle: float = 0.0, stall: float = 0.0,
                 patience_cycles: int = 10_000_000, seed: int = 1, waves: Path | None = None,
                 bin_cycles: int = 1, timeout_s: float = 600) -> None:
        for name, probability in (("idle", idle), ("stall", stall)):
            if not 0 <= probability <= 0.9:
                raise ValueError(f"{name} must be from 0 to 0.9, not {probability}")
        self.patience_cycles = patience_cycles
        self.timeout_s = timeout_s
        self._end_s = 60 if waves is not None else 5
        self._directory = tempfile.TemporaryDirectory(prefix="nonzero-")
        self._log = Path(self._directory.name) / "log"
        self._connection, theirs = Pipe()
        parameters = {"idle": idle, "stall": stall, "seed": seed, "socket": theirs.fileno()}
        environment = simulation_environment(build, "sim.simulator.server", parameters=parameters, seed=seed)
        environment["COCOTB_RESULTS_FILE"] = str(self._log.with_name("results.xml"))
        command = simulation_command(build, seed=seed, waves=waves, plusargs={"bin_cycles": bin_cycles})
        with theirs, self._log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=self._directory.name, env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()],
                process_group=0)  # Ctrl-C is for the process that opened it
        try:
            self.capacity_bytes = int(self._answer())
        except BaseException:
            self.abort()
            self.close()
            raise

    @overload
    def exchange(self, request: bytes) -> bytes: ...

    @overload
    def exchange(self, request: Sequence[bytes]) -> list[bytes]: ...

    def exchange(self, request: bytes | Sequence[bytes]) -> bytes | list[bytes]:
        """Sends a request and returns the response, or does so for each of a list, which takes less time.

        Parameters
        ----------
        request : bytes, or sequence of bytes
            Any bytes, at most the capacity. It need not be a packet.

        Returns
        -------
        bytes, or list of bytes
            All that the engine sent until it was no longer busy, or until ``patience_cycles`` passed without
            a byte. Empty if it sent nothing. In the second case the rest of the request is dropped, but for
            the byte that the engine does not take, which is on offer until it does, or until a reset.
        """
        requests = [request] if isinstance(request, bytes) else list(request)
        longest = max(map(len, requests), default=0)
        if longest > self.capacity_bytes:
            raise ValueError(f"a request may have {self.capacity_bytes} bytes, not {longest}")
        responses = self._call("exchange", requests, self.patience_cycles)
        return responses[0] if isinstance(request, bytes) else responses

    def interrupt(self, request: bytes, cycles: int) -> None:
        """Begins the request ``request`` and resets the engine after ``cycles`` clock cycles, at least 1."""
        self._call("interrupt", request, cycles)

    def reset(self) -> None:
        """Resets the engine."""
        self._call("reset")

    @property
    def cycles(self) -> int:
        """Clock cycles simulated since the start."""
        return int(self._call("cycles"))

    def act_writes(self) -> list[tuple[int, int, int]]:
        """Ends the simulation; the writes to the activation memory, in order: cycle of the inference, address, word.

        Cycle 0 stands for a time without an inference. The build must have been made with ``record_acts``.
        """
        self._connection.close()
        self._wait()
        with (Path(self._directory.name) / "acts.txt").open() as lines:
            parts = (line.split() for line in lines)
            return [(int(cycle), int(address, 16), int(word, 16)) for cycle, address, word in parts]

    def pe_lines(self) -> list[str]:
        """Ends the simulation; what ``pe_recorder.sv`` noted. The build must be one with ``record_pes``."""
        self._end_s = 60
        self._connection.close()
        self._wait()
        if self.process.returncode:
            raise SimulationError(log_tail("the simulation did not end as it should", self._log))
        with (Path(self._directory.name) / "pes.txt").open() as lines:
            return lines.readlines()

    def _call(self, *command: Any) -> Any:
        with suppress(OSError):  # the answer will not come either, and tells why
            self._connection.send(command)
        return self._answer()

    def _answer(self) -> Any:
        try:
            if self._connection.poll(self.timeout_s):
                return self._connection.recv()
            problem = f"the simulation did not answer within {self.timeout_s:g} s"
            self.process.kill()
        except (EOFError, OSError):
            problem = "the simulation has ended"
        self._connection.close()
        self._wait()
        message = log_tail(problem, self._log) if self._log.exists() else problem
        self.close()
        raise SimulationError(message)

    def _wait(self) -> None:
        try:
            # It ends by itself when the connection is closed, and writes the rest of what it has recorded.
            self.process.wait(timeout=self._end_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def abort(self) -> None:
        """Ends the simulation at once. Any thread may do so; one that waits for an answer gets a `SimulationError`."""
        self.process.kill()

    def close(self) -> None:
        """Ends the simulation; harmless when it has ended."""
        self._connection.close()
        self._wait()
        self._directory.cleanup()

    def __enter__(self) -> "SimulationLink":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if kind is KeyboardInterrupt:  # Ctrl-C must not wait for the end of an inference
            self.abort()
        self.close()
