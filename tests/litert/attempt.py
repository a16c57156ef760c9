"""Runs files, whatever they do to the process: one line of JSON for every attempt.

    python -m tests.litert.attempt FOLDER stock|ours

Every FOLDER/*.tflite is run by the stock interpreter, or by it with our delegate and by our
`Interpreter`; what ends the process ends it at the line that is missing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter as StockInterpreter

from ec2t_tf.export.litert import Interpreter, load_delegate


def with_delegate(content: bytes, **options: object) -> StockInterpreter:
    return StockInterpreter(
        model_content=content, experimental_delegates=[load_delegate(**options)], num_threads=1
    )


OURS = {
    "delegate": with_delegate,
    "delegate, all nodes": lambda content: with_delegate(content, claim_int8="always"),
    "Interpreter": lambda content: Interpreter(model_content=content),
    "Interpreter, all nodes": lambda content: Interpreter(
        model_content=content, claim_int8="always"
    ),
}
STOCK = {"stock": lambda content: StockInterpreter(model_content=content, num_threads=1)}


def outcome(make: object, content: bytes) -> dict[str, str]:
    try:
        interpreter = make(content)
        interpreter.allocate_tensors()
        rng = np.random.default_rng(5)
        for detail in interpreter.get_input_details():
            codes = rng.integers(-128, 128, detail["shape"], dtype=np.int8)
            interpreter.set_tensor(detail["index"], codes)
        interpreter.invoke()
        digest = hashlib.sha256()
        for detail in interpreter.get_output_details():
            digest.update(interpreter.get_tensor(detail["index"]).tobytes())
    except (ValueError, RuntimeError) as error:
        return {"refused": str(error)}
    return {"outputs": digest.hexdigest()}


def main() -> None:
    for file in sorted(Path(sys.argv[1]).glob("*.tflite")):
        for way, make in (STOCK if sys.argv[2] == "stock" else OURS).items():
            print(json.dumps([file.stem, way]), flush=True)
            print(json.dumps(outcome(make, file.read_bytes())), flush=True)


if __name__ == "__main__":
    main()
