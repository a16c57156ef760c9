"""`Interpreter`: ai-edge-litert's, with our delegate in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from ai_edge_litert import interpreter as litert

from ..tflite.reader import read
from . import library


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
        "claim_int8": claim_int8 if claim_int8 == "always" else int(claim_int8),
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

    Every method is the base class's. Layers that are not ternary, or that are faster dense, run
    in XNNPACK as always.

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
        content = Path(model_path).read_bytes() if model_path is not None else model_content
        assert content is not None
        read(content)  # checks it: the runtime itself trusts the file
        # A file is mapped by the runtime rather than kept in memory.
        source = (
            {"model_content": content} if model_path is None else {"model_path": str(model_path)}
        )
        del content
        # Kept here: the base class lets go of its list before the runtime lets go of the delegate.
        self._ec2t_delegate = load_delegate(
            requant=requant,
            claim_int8=claim_int8,
            reference=reference,
            verbose=verbose,
            profile=profile,
        )
        super().__init__(
            **source,
            num_threads=num_threads,
            experimental_delegates=[*(experimental_delegates or []), self._ec2t_delegate],
            **others,
        )
