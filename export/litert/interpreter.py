"""`Interpreter`: ai-edge-litert's, with our delegate in it."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any, Literal

from ai_edge_litert import interpreter as litert

from ec2t_tf import files, quiet

from ..tflite.reader import read
from . import library
from .requirements import require_biases


def load_delegate(
    *,
    requant: Literal["fp32", "tflite"] = "fp32",
    claim_int8: bool | Literal["always"] = True,
    reference: bool = False,
    verbose: bool = False,
    profile: bool = False,
    num_threads: int | None = None,
) -> litert.Delegate:
    """Our delegate, for any interpreter's `experimental_delegates`.

    Args:
        requant: "fp32" rounds as XNNPACK (and so as Keras' fake quantisation) does, "tflite" as
            the reference kernels of TensorFlow Lite.
        claim_int8: also take plain int8 layers whose weights are ternary, where that is faster
            by the cost model; "always" takes them all.
        reference: run the plain reference kernels, to compare with.
        verbose: say on standard error which nodes are taken and which are left, and why.
        profile: print the shortest time of every layer on standard error when the interpreter goes.
        num_threads: at most so many threads; by default as many as the interpreter has.

    Raises:
        FileNotFoundError: the native library was not built.
        ValueError: an option the delegate does not have.
    """
    options = {
        "requant": requant,
        # Any other word goes through: the delegate names those it knows.
        "claim_int8": claim_int8 if isinstance(claim_int8, str) else int(claim_int8),
        "reference": int(reference),
        "verbose": int(verbose),
        "profile": int(profile),
        "num_threads": num_threads or 0,
    }
    return litert.load_delegate(str(library.path()), options)


class Interpreter(litert.Interpreter):
    """An `ai_edge_litert` interpreter that also runs `packed` files, and ternary layers faster.

        interpreter = Interpreter("model_packed.tflite")
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()

    Every method is the base class's, but that `reset_all_variables` resets all state. Layers that
    are not ternary, or that are faster dense, run in XNNPACK as always.

    State (of LSTMs, and the variables of streaming nets) survives `invoke`: call
    `reset_all_variables()` before an input that has nothing to do with the last one.

    Args:
        model_path: a .tflite file: `int8`, `sparse`, `int4` or `packed`.
        model_content: its bytes, instead of a path.
        num_threads: threads for our kernels and XNNPACK's; one by default.
        requant, claim_int8, reference, verbose, profile: as for `load_delegate`.
        others: as for `ai_edge_litert.interpreter.Interpreter`; `experimental_delegates` come
            before ours.

    Raises:
        ValueError: the file is damaged or not a .tflite file.
        FileNotFoundError: there is no such file, or the native library was not built.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None = None,
        *,
        model_content: bytes | None = None,
        num_threads: int | None = None,
        requant: Literal["fp32", "tflite"] = "fp32",
        claim_int8: bool | Literal["always"] = True,
        reference: bool = False,
        verbose: bool = False,
        profile: bool = False,
        experimental_delegates: list[litert.Delegate] | None = None,
        **others: Any,
    ) -> None:
        if (model_path is None) == (model_content is None):
            raise ValueError(
                "give a path or the bytes of one .tflite file. "
                f"Received: model_path={model_path!r}, model_content of "
                f"{'no' if model_content is None else len(model_content)} bytes"
            )
        given = model_path if model_path is not None else model_content
        assert given is not None
        content = files.content(given, needed_by="Interpreter")
        graph = read(content)  # checks it: the runtime itself trusts the file
        require_biases(graph)
        self._has_resources = any(tensor.dtype == "resource" for tensor in graph.tensors)
        # A file is mapped by the runtime rather than kept in memory.
        source = (
            {"model_content": content} if model_path is None else {"model_path": str(model_path)}
        )
        del content, graph
        others = {**source, "num_threads": num_threads, **others}
        options: dict[str, Any] = {
            "requant": requant,
            "claim_int8": claim_int8,
            "reference": reference,
        }
        options |= {"verbose": verbose, "profile": profile}
        self._is_allocated = False
        self._is_heard = verbose or profile

        def start() -> None:
            # Kept here: the base class lets go of its list before the runtime lets go of the
            # delegate.
            self._ec2t_delegate = load_delegate(**options)
            delegates = [*(experimental_delegates or []), self._ec2t_delegate]
            super(Interpreter, self).__init__(experimental_delegates=delegates, **others)

        self._start = start
        start()

    def allocate_tensors(self) -> None:
        """Gives every tensor its memory; after the constructor and `resize_tensor_input`.

        Raises:
            RuntimeError: the file has an operator that nobody can run, or shapes that do not fit.
        """
        # XNNPACK announces itself on the error stream of the process, which other threads may use.
        heard = self._is_heard or threading.active_count() > 1
        with contextlib.nullcontext() if heard else quiet.starting():
            super().allocate_tensors()
        self._is_allocated = True

    def reset_all_variables(self) -> None:
        """Sets all state to what it is before the first `invoke`.

        The base class leaves the variables of streaming nets (VAR_HANDLE) as they are. Here the
        runtime starts anew for them: inputs keep their shapes and values, what `tensor` and
        `get_signature_runner` returned before is of the old one.
        """
        if not self._has_resources:
            super().reset_all_variables()
            return
        details = self.get_input_details()
        values = [self.get_tensor(detail["index"]) for detail in details if self._is_allocated]
        old = self._interpreter, self._ec2t_delegate  # the runtime goes first
        self._start()
        del old
        for detail, new in zip(details, self.get_input_details(), strict=True):
            if list(detail["shape"]) != list(new["shape"]):
                self.resize_tensor_input(detail["index"], detail["shape"])
        if self._is_allocated:
            self.allocate_tensors()
        for detail, value in zip(details, values, strict=bool(values)):
            self.set_tensor(detail["index"], value)
