# SPDX-License-Identifier: Apache-2.0
"""Reads a pickle without running any of it.

A pickle is a program for a small stack machine; two of its instructions import an object and call it.
Here these only write down what was asked for: importing yields a `Name`, calling yields a `Record`.
No module is imported, no class is looked up and no constructor runs, so a file cannot do anything.

`torch.load(weights_only=True)` is not enough for files from strangers: it calls the functions that it
allows, with the file's arguments. 208 bytes make it hash a doubled tuple for ever, 3 MB of nested
tuples crash the interpreter, and 29 bytes allocate gigabytes.
"""

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

INSTRUCTION_LIMIT = 1 << 20
"""Instructions in one pickle. VGG-16 with its optimiser state has about 5,000."""

NAME_LIMIT = 500
"""Characters in the name of a class."""

KEY_LIMIT = 1 << 60
"""Integers below it have distinct hashes, so that no dictionary can be made slow by chosen keys."""


class DamagedPickleError(ValueError):
    """The bytes are not a pickle of tensors or arrays; the message says where and why."""


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle refers to by the name ``text``, for instance ``torch.Size``."""

    text: str


@dataclass(eq=False)
class Record:
    """An object that the pickle would have built by calling ``name(*args)``; ``state`` would be its attributes."""

    name: str
    args: tuple
    state: Any = None


@dataclass(eq=False)
class Persistent:
    """A reference to something outside the pickle, one of the tensors' storages, by its ``identity``."""

    identity: Any


@dataclass
class Pickle:
    """A pickle that was read.

    Attributes
    ----------
    root
        Its object.
    names : list of str
        The classes and functions that it refers to, in order.
    persistents : list of Persistent
        The storages that it refers to, in order.
    """

    root: Any = None
    names: list[str] = field(default_factory=list)
    persistents: list[Persistent] = field(default_factory=list)


def read_pickle(file: IO[bytes]) -> Pickle:
    """Reads one pickle (protocol 2 to 5) from ``file`` and leaves the position just after it.

    The object consists of dictionaries, lists, tuples, strings, numbers, `Name`, `Record` and
    `Persistent`; sets appear as lists, and byte strings of Python 2 as text in Latin-1. Nothing recurses,
    so nesting may be of any depth; it may also be cyclic. Dictionary entries whose key is neither a string
    nor a small integer are left out.

    Raises
    ------
    DamagedPickleError
        For instructions that neither torch.save nor a pickle of NumPy arrays has, and beyond `INSTRUCTION_LIMIT`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of odd escapes in garbled names
            return _run(file)
    except DamagedPickleError:
        raise
    except (ValueError, OverflowError) as error:
        raise DamagedPickleError(f"it is cut off or garbled ({str(error)[:80]})") from None


def _run(file: IO[bytes]) -> Pickle:
    machine = _Machine()
    for count, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        if count >= INSTRUCTION_LIMIT:
            raise DamagedPickleError(f"it has more than {INSTRUCTION_LIMIT:,} instructions")
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument, position)
    machine.result.root = machine.pop()
    return machine.result


class _Machine:
    def __init__(self) -> None:
        self.result = Pickle()
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any, position: int | None) -> None:
        if opcode in _LITERALS:
            self.push(argument)
        elif opcode in _CONSTANTS:
            self.push(_CONSTANTS[opcode]())
        elif opcode in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[opcode])]
            self.push(tuple(reversed(items)))
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            raise DamagedPickleError(f"it has the instruction {opcode} at byte {position}, "
                                     "which no pickle of tensors or arrays has")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise DamagedPickleError("it takes more from its stack than it put there")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.push(value)
        return value

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise DamagedPickleError("it takes more from its stack than it put there")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def pop_name(self) -> str:
        name = self.pop()
        if type(name) is not Name:
            raise DamagedPickleError("it calls something that is not a class or function")
        return name.text

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise DamagedPickleError("it refers to an object that it has not built")
        self.push(self.memo[index])

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.top()

    def name(self, argument: str) -> None:
        if len(argument) > NAME_LIMIT:
            raise DamagedPickleError(f"it names a class by more than {NAME_LIMIT} characters")
        module, _, name = argument.partition(" ")
        text = f"{'builtins' if module == '__builtin__' else module}.{name}"
        self.result.names.append(text)
        self.push(Name(text))

    def name_from_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise DamagedPickleError("it names a class by something that is not a string")
        self.name(f"{module[:NAME_LIMIT]} {name[:NAME_LIMIT]}")

    def persistent(self, _: Any) -> None:
        identity = self.pop()
        # Legacy files wrap the class of a module: ("module", class, source file, source code).
        if type(identity) is tuple and len(identity) == 4 and identity[0] == "module":
            self.push(identity[1])
            return
        reference = Persistent(identity)
        self.result.persistents.append(reference)
        self.push(reference)

    def call(self, _: Any) -> None:
        args, name = self.pop(), self.pop_name()
        if type(args) is not tuple:
            raise DamagedPickleError("it calls a function with something that is not a tuple")
        # The only call that is carried out, because dictionaries of tensors are OrderedDicts.
        plain = name == "collections.OrderedDict" and not args
        self.push({} if plain else Record(name, args))

    def call_with_keywords(self, _: Any) -> None:
        self.pop()
        self.call(None)

    def build(self, _: Any) -> None:
        state = self.pop()
        if type(target := self.top()) is Record:
            target.state = state

    def append(self, _: Any) -> None:
        self.extend([self.pop()])

    def extend(self, items: list[Any]) -> None:
        # Items of other targets (a deque, for instance) belong to entries that are not read.
        if type(target := self.top()) is list:
            target.extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def update(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise DamagedPickleError("it stores a key without a value")
        if type(target := self.top()) is dict:
            for key, value in zip(items[::2], items[1::2], strict=True):
                if type(key) is str or (type(key) is int and abs(key) < KEY_LIMIT):
                    if key in target:
                        raise DamagedPickleError(f"it stores the key {str(key)[:80]!r} twice")
                    target[key] = value


_LITERALS = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list,
}

_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": _Machine.mark,
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "FROZENSET": lambda machine, _: machine.push(machine.pop_to_mark()),
    "BINGET": _Machine.get, "LONG_BINGET": _Machine.get,
    "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put, "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.name, "STACK_GLOBAL": _Machine.name_from_stack,
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.call, "NEWOBJ": _Machine.call, "NEWOBJ_EX": _Machine.call_with_keywords,
    "BUILD": _Machine.build,
    "APPEND": _Machine.append,
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine, _: machine.update(machine.pop_to_mark()),
}
