"""Run in another runtime or machine: the delegate against the stock kernels, bit for bit.

    python other_runtime.py LIBRARY MODULE FILE...

MODULE is `ai_edge_litert.interpreter`, `tensorflow` or `tflite_runtime.interpreter`; each FILE
is INT8_FILE or INT8_FILE:PACKED_FILE. Needs NumPy and that module only. Prints a line a comparison
and ends with status 1 if one differs.
"""

import importlib
import sys

import numpy as np

INPUTS = 64


def outputs(interpreter, inputs):
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    results = []
    for sample in inputs:
        interpreter.set_tensor(source, sample)
        interpreter.invoke()
        results.append(interpreter.get_tensor(target).astype(np.int16))
    return np.stack(results)


def main(library, module_name, files, count):
    module = importlib.import_module(module_name)
    module = getattr(module, "lite", module)
    make = module.Interpreter
    load = getattr(module, "load_delegate", None) or module.experimental.load_delegate
    resolvers = getattr(module, "OpResolverType", None) or module.experimental.OpResolverType
    stock = {"fp32": resolvers.AUTO, "tflite": resolvers.BUILTIN_REF}
    differ = 0
    for pair in files:
        int8, _, packed = pair.partition(":")
        shape = make(model_path=int8).get_input_details()[0]["shape"]
        inputs = np.random.default_rng(7).integers(-128, 128, (count, *shape), dtype=np.int8)
        for requant, resolver in stock.items():
            options = {"num_threads": 1, "experimental_op_resolver_type": resolver}
            expected = outputs(make(model_path=int8, **options), inputs)
            # Every layer ours; and those that are faster dense given back to XNNPACK.
            runs = [(int8, "always")] + [(packed, claim) for claim in ("always", "1") if packed]
            for file, claim in runs:
                delegate = load(library, {"requant": requant, "claim_int8": claim})
                received = outputs(
                    make(model_path=file, experimental_delegates=[delegate], **options), inputs
                )
                wrong = int(np.count_nonzero(received != expected))
                differ += wrong
                print(
                    f"{file} {requant} {claim}: {wrong} of {expected.size} values differ",
                    flush=True,
                )
    return 1 if differ else 0


if __name__ == "__main__":
    _, library, module_name, *files = sys.argv
    count = INPUTS
    if files[0].isdigit():
        count = int(files.pop(0))
    sys.exit(main(library, module_name, files, count))
